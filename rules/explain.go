package rules

import (
	"fmt"
	"io"
	"strings"
)

// Tree is a condition with the verdict of every part of it on one record.
type Tree struct {
	Op      string   `json:"op"` // and, or, not, is; const for a condition that is always or never true
	Text    string   `json:"text,omitempty"`
	Verdict bool     `json:"verdict"`
	Values  []string `json:"values,omitempty"` // of the field that a predicate looks at, as the record has them
	Parts   []Tree   `json:"parts,omitempty"`
}

// Explain is the tree of a rule on the record that m matched last. Every part is
// evaluated, also those that the verdict did not need.
func (m *Matcher) Explain(r *Rule) Tree { return m.explain(r.root) }

func (m *Matcher) explain(n node) Tree {
	e := &m.p.exprs[n]
	t := Tree{Verdict: m.eval(n), Op: [...]string{opConst: "const", opLeaf: "is", opNot: "not", opAnd: "and", opOr: "or"}[e.op]}
	for _, k := range e.kids {
		t.Parts = append(t.Parts, m.explain(k))
	}
	if e.leaf == nil {
		return t
	}
	t.Text = e.leaf.string
	const most = 5
	for i, c := 0, m.cell(e.leaf.slot); i < len(c.vals); i++ {
		if i == most {
			t.Values = append(t.Values, fmt.Sprintf("and %d more", len(c.vals)-most))
			break
		}
		v := &c.vals[i]
		switch v.kind {
		case fieldNull:
			t.Values = append(t.Values, "null")
		case fieldObject:
			t.Values = append(t.Values, "(object)")
		default:
			t.Values = append(t.Values, strings.Clone(v.text))
		}
	}
	return t
}

// Write prints the tree, one line per part, indented by depth.
func (t Tree) Write(w io.Writer) error { return t.write(w, 0) }

func (t Tree) write(w io.Writer, depth int) error {
	mark := "no "
	if t.Verdict {
		mark = "yes"
	}
	line := t.Op
	if t.Op == "is" {
		line = t.Text
		if t.Values == nil {
			line += "   [absent]"
		} else {
			line += fmt.Sprintf("   %q", t.Values)
		}
	}
	if _, err := fmt.Fprintf(w, "%s %s%s\n", mark, strings.Repeat("  ", depth), line); err != nil {
		return err
	}
	for _, p := range t.Parts {
		if err := p.write(w, depth+1); err != nil {
			return err
		}
	}
	return nil
}
