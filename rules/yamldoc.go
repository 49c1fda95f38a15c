package rules

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// rawDoc is one YAML document of a file: its root mapping, and how many lines
// precede it, because a file is split before it is parsed so that a broken
// document costs only itself.
type rawDoc struct {
	file string
	base int // lines before the document
	root *yaml.Node
}

// splitDocs cuts a file at its document markers. A marker is three dashes at the
// start of a line, which YAML allows nowhere else.
func splitDocs(data []byte) (parts [][]byte, bases []int) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	start, base, line := 0, 0, 0
	for pos := 0; pos < len(data); {
		end := len(data)
		if i := bytes.IndexByte(data[pos:], '\n'); i >= 0 {
			end = pos + i + 1
		}
		text := bytes.TrimRight(data[pos:end], "\r\n")
		if bytes.HasPrefix(text, []byte("---")) && (len(text) == 3 || text[3] == ' ' || text[3] == '\t') {
			parts, bases = append(parts, data[start:pos]), append(bases, base)
			start, base = pos, line
		}
		pos = end
		line++
	}
	return append(parts, data[start:]), append(bases, base)
}

var (
	yamlLine   = regexp.MustCompile(`line (\d+)`)
	yamlPrefix = regexp.MustCompile(`^(yaml: )?(line \d+: )?`)
)

// parseDocs parses every document of f. Empty documents are skipped.
func parseDocs(f File, report func(Diagnostic)) []rawDoc {
	var out []rawDoc
	parts, bases := splitDocs(f.Data)
	for i, part := range parts {
		root, err := parseDoc(part)
		if err != nil {
			report(Diagnostic{Code: CodeYAML, Severity: Error, File: f.Name, Line: bases[i] + errLine(err), Col: 1,
				Message: yamlPrefix.ReplaceAllString(err.Error(), "")})
			continue
		}
		if root != nil {
			out = append(out, rawDoc{file: f.Name, base: bases[i], root: root})
		}
	}
	return out
}

func errLine(err error) int {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		n, _ := strconv.Atoi(m[1])
		return n
	}
	return 1
}

// parseDoc parses one document; nil for an empty one.
func parseDoc(part []byte) (root *yaml.Node, err error) {
	defer func() {
		// The YAML parser panics on a few malformed inputs; a rule file must not
		// stop the daemon.
		if p := recover(); p != nil {
			root, err = nil, fmt.Errorf("line 1: cannot be parsed: %v", p)
		}
	}()
	var doc yaml.Node
	if err := yaml.Unmarshal(part, &doc); err != nil {
		return nil, err
	}
	if doc.Kind == 0 || len(doc.Content) == 0 {
		return nil, nil
	}
	root = doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: a rule document must be a mapping", root.Line)
	}
	if hasAlias(root, 0) {
		return nil, errors.New("line 1: YAML anchors and aliases are nested too deep or refer to themselves")
	}
	return root, nil
}

// hasAlias resolves aliases in place and reports whether that was refused: they
// may blow a document up, so that only a flat use is allowed.
func hasAlias(n *yaml.Node, depth int) bool {
	if depth > 64 {
		return true
	}
	for i, c := range n.Content {
		if c.Kind == yaml.AliasNode {
			if c.Alias == nil || containsAlias(c.Alias, 0) {
				return true
			}
			n.Content[i] = c.Alias
			continue
		}
		if hasAlias(c, depth+1) {
			return true
		}
	}
	return false
}

func containsAlias(n *yaml.Node, depth int) bool {
	if depth > 64 || n.Kind == yaml.AliasNode {
		return true
	}
	for _, c := range n.Content {
		if containsAlias(c, depth+1) {
			return true
		}
	}
	return false
}

// get is the value of a key of a mapping, or nil.
func get(m *yaml.Node, key string) *yaml.Node {
	if m == nil || m.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i+1]
		}
	}
	return nil
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// isText reports whether n is a scalar that is not null; numbers and dates count,
// because people write unquoted titles.
func isText(n *yaml.Node) bool { return n != nil && n.Kind == yaml.ScalarNode && n.Tag != "!!null" }

// items are the elements of a list, or the node itself when it is not one.
func items(n *yaml.Node) []*yaml.Node {
	if n.Kind == yaml.SequenceNode {
		return n.Content
	}
	return []*yaml.Node{n}
}
