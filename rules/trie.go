package rules

import "strings"

// trieNode is one place of the tree of paths that the set refers to.
type trieNode struct {
	edges map[string]trieEdge
	ends  []trieEnd
}

// trieEdge is a key that leads on. A key may hold dots, and then stands for
// several segments of a path at once.
type trieEdge struct {
	to   int32
	segs uint8
}

// trieEnd is a slot whose path ends at a node. rank is the place of the path
// among the slot's.
type trieEnd struct {
	slot int32
	rank uint8
}

// buildTrie makes the tree of all paths of all slots.
func buildTrie(slots []slot) []trieNode {
	b := &trieBuilder{nodes: []trieNode{{}}, byPath: map[string]int32{"": 0}}
	for i, s := range slots {
		for rank, path := range s.paths {
			n := b.node(strings.Split(path, "."))
			b.nodes[n].ends = append(b.nodes[n].ends, trieEnd{int32(i), uint8(min(rank, 255))})
		}
	}
	return b.nodes
}

type trieBuilder struct {
	nodes  []trieNode
	byPath map[string]int32
}

// node is the place of a path; from every prefix of it an edge leads there.
func (b *trieBuilder) node(segs []string) int32 {
	key := strings.Join(segs, "\x00")
	if len(segs) == 0 {
		return 0
	}
	if n, ok := b.byPath[key]; ok {
		return n
	}
	n := int32(len(b.nodes))
	b.nodes = append(b.nodes, trieNode{})
	b.byPath[key] = n
	for i := range segs {
		from := b.node(segs[:i])
		if b.nodes[from].edges == nil {
			b.nodes[from].edges = map[string]trieEdge{}
		}
		b.nodes[from].edges[strings.Join(segs[i:], ".")] = trieEdge{n, uint8(min(len(segs)-i, 15))}
	}
	return n
}
