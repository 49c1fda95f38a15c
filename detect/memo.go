package detect

import (
	"hash/maphash"
	"math/bits"
)

// memo remembers values by a hash, the latest of them: beyond limit the oldest is
// forgotten for each new one. It grows to its limit by doubling and allocates
// nothing from then on. Values hold no pointers, so that the collector passes it
// over.
//
// Two names with one hash of 64 bits would be taken for each other: one lookup in
// 10^13 of a memo of a million.
type memo[T any] struct {
	slots []slot[T]
	heads []uint32 // first slot of each chain, by the low bits of the hash; 0: none
	at    int      // the oldest slot, once all are taken
	limit int
	// dropped is called for a value before it is overwritten; nil: nothing is.
	dropped func(*T)
}

type slot[T any] struct {
	hash  uint64
	next  uint32 // in the chain; 0: the last
	value T
}

// memoStart is how many slots are made first.
const memoStart = 1024

func newMemo[T any](limit int) memo[T] { return memo[T]{limit: max(1, limit)} }

// get is the value of a hash, or nil. It is good until the next put.
func (m *memo[T]) get(hash uint64) *T {
	if len(m.heads) == 0 {
		return nil
	}
	for i := m.heads[hash&uint64(len(m.heads)-1)]; i != 0; i = m.slots[i-1].next {
		if s := &m.slots[i-1]; s.hash == hash {
			return &s.value
		}
	}
	return nil
}

// put is the value of a hash, made new if there is none; fresh says so. It is good
// until the next put.
func (m *memo[T]) put(hash uint64) (value *T, fresh bool) {
	if v := m.get(hash); v != nil {
		return v, false
	}
	i := len(m.slots)
	switch {
	case i < m.limit:
		if i == cap(m.slots) {
			m.grow()
		}
		m.slots = m.slots[:i+1]
	default:
		i = m.at
		m.at = (m.at + 1) % m.limit
		m.unlink(i)
		if m.dropped != nil {
			m.dropped(&m.slots[i].value)
		}
	}
	m.slots[i] = slot[T]{hash: hash}
	m.link(i)
	return &m.slots[i].value, true
}

// oldest is the value that will be forgotten first, or nil.
func (m *memo[T]) oldest() *T {
	if len(m.slots) == 0 {
		return nil
	}
	return &m.slots[m.at].value
}

// full reports whether values were, or are about to be, forgotten.
func (m *memo[T]) full() bool { return len(m.slots) >= m.limit }

func (m *memo[T]) grow() {
	n := min(m.limit, max(memoStart, 2*cap(m.slots)))
	slots := make([]slot[T], len(m.slots), n)
	copy(slots, m.slots)
	m.slots = slots
	m.heads = make([]uint32, 1<<bits.Len(uint(n-1)))
	for i := range m.slots {
		m.link(i)
	}
}

func (m *memo[T]) link(i int) {
	s := &m.slots[i]
	head := &m.heads[s.hash&uint64(len(m.heads)-1)]
	s.next, *head = *head, uint32(i+1)
}

func (m *memo[T]) unlink(i int) {
	s := &m.slots[i]
	for p := &m.heads[s.hash&uint64(len(m.heads)-1)]; *p != 0; p = &m.slots[*p-1].next {
		if *p == uint32(i+1) {
			*p = s.next
			return
		}
	}
}

// hasher makes the hashes of memos: of a kind of name, in a network.
type hasher struct{ seed maphash.Seed }

func newHasher() hasher { return hasher{maphash.MakeSeed()} }

func (h hasher) of(network, name string) uint64 {
	return bits.RotateLeft64(maphash.String(h.seed, network), 29) ^ maphash.String(h.seed, name)
}

// symbols gives names short numbers for as long as they are used, so that many
// values share one copy. 0 is the empty name.
type symbols struct {
	numbers map[string]uint32
	names   []symbol
	free    []uint32
}

type symbol struct {
	name string
	uses int
}

func newSymbols() symbols {
	return symbols{numbers: map[string]uint32{}, names: make([]symbol, 1)}
}

// use is the number of a name, which is kept until as many calls of drop.
func (s *symbols) use(name string) uint32 {
	if name == "" {
		return 0
	}
	n, ok := s.numbers[name]
	if !ok {
		name = string([]byte(name))
		if last := len(s.free) - 1; last >= 0 {
			n, s.free = s.free[last], s.free[:last]
			s.names[n] = symbol{name: name}
		} else {
			n = uint32(len(s.names))
			s.names = append(s.names, symbol{name: name})
		}
		s.numbers[name] = n
	}
	s.names[n].uses++
	return n
}

func (s *symbols) drop(n uint32) {
	if n == 0 {
		return
	}
	if s.names[n].uses--; s.names[n].uses == 0 {
		delete(s.numbers, s.names[n].name)
		s.names[n] = symbol{}
		s.free = append(s.free, n)
	}
}

func (s *symbols) name(n uint32) string { return s.names[n].name }
