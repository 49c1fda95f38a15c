package rules

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// pos is a place in a file.
type pos struct {
	file      string
	line, col int
}

// docParser turns one YAML document into its AST and collects what is wrong with
// it. The first error decides that the document is left out; the others are still
// reported.
type docParser struct {
	doc    rawDoc
	diags  []Diagnostic
	failed bool
}

func (d *docParser) at(n *yaml.Node) pos {
	if n == nil {
		n = d.doc.root
	}
	return pos{d.doc.file, d.doc.base + n.Line, n.Column}
}

// report adds a diagnostic at n with the severity of its code.
func (d *docParser) report(n *yaml.Node, code Code, hint, format string, args ...any) {
	d.reportAt(d.at(n), code, hint, fmt.Sprintf(format, args...))
}

func (d *docParser) reportAt(p pos, code Code, hint, message string) {
	sev := severityOf(code)
	if sev == Error {
		d.failed = true
	}
	d.diags = append(d.diags, Diagnostic{Code: code, Severity: sev, File: p.file, Line: p.line, Col: p.col, Message: message, Hint: hint})
}

// checkKeys reports keys that are given twice, anywhere in the document.
func (d *docParser) checkKeys(n *yaml.Node) {
	if n.Kind == yaml.MappingNode {
		seen := make(map[string]bool, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k := n.Content[i]
			if seen[k.Value] {
				d.report(k, CodeDuplicateKey, "merge the two, or put them into two identifiers", "key %q is given twice", k.Value)
			}
			seen[k.Value] = true
		}
	}
	for _, c := range n.Content {
		d.checkKeys(c)
	}
}

// str is the text of a key, "" when absent; another kind is an error.
func (d *docParser) str(m *yaml.Node, key string) string {
	n := get(m, key)
	if n == nil || isNull(n) {
		return ""
	}
	if !isText(n) {
		d.report(n, CodeBadValue, "", "%s must be text", key)
		return ""
	}
	return n.Value
}

// strs is the texts of a key that holds a list or one text.
func (d *docParser) strs(m *yaml.Node, key string) []string {
	n := get(m, key)
	if n == nil || isNull(n) {
		return nil
	}
	var out []string
	for _, c := range items(n) {
		if !isText(c) {
			d.report(c, CodeBadValue, "", "%s must be a list of texts", key)
			continue
		}
		out = append(out, c.Value)
	}
	return out
}

// boolean is the truth of a key, false when absent.
func (d *docParser) boolean(m *yaml.Node, key string) bool {
	n := get(m, key)
	if n == nil || isNull(n) {
		return false
	}
	var b bool
	if n.Tag != "!!bool" || n.Decode(&b) != nil {
		d.report(n, CodeBadValue, "", "%s must be true or false", key)
	}
	return b
}

// number is the number of a key and whether it is there.
func (d *docParser) number(m *yaml.Node, key string) (float64, bool) {
	n := get(m, key)
	if n == nil || isNull(n) {
		return 0, false
	}
	v, ok := numberOf(n)
	if !ok {
		d.report(n, CodeBadValue, "", "%s must be a number", key)
	}
	return v, ok
}

// numberOf is the value of a numeric YAML scalar that is finite.
func numberOf(n *yaml.Node) (float64, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" && n.Tag != "!!float" {
		return 0, false
	}
	var v float64
	if err := n.Decode(&v); err != nil || v != v || v-v != 0 {
		return 0, false
	}
	return v, true
}
