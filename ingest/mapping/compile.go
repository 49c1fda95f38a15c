package mapping

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keysentry/keysentry/event"
)

// document is the YAML of a mapping.
type document struct {
	Mapping     string              `yaml:"mapping"`
	Description string              `yaml:"description"`
	Format      string              `yaml:"format"` // json, text
	Line        string              `yaml:"line"`   // text: expression with named groups
	Each        string              `yaml:"each"`   // json: path of an array of records
	Fields      map[string]fieldDoc `yaml:"fields"`
	Cases       []caseDoc           `yaml:"cases"`
}

type caseDoc struct {
	Name   string              `yaml:"name"`
	When   []conditionDoc      `yaml:"when"`
	Type   string              `yaml:"type"`
	Fields map[string]fieldDoc `yaml:"fields"`
}

type conditionDoc struct {
	Field    string `yaml:"field"`
	Equals   list   `yaml:"equals"`
	In       list   `yaml:"in"`
	Prefix   list   `yaml:"prefix"`
	Suffix   list   `yaml:"suffix"`
	Contains list   `yaml:"contains"`
	Regex    string `yaml:"regex"`
	Exists   *bool  `yaml:"exists"`
	Not      bool   `yaml:"not"`
}

type fieldDoc struct {
	From        list              `yaml:"from"`
	Value       string            `yaml:"value"`
	Template    string            `yaml:"template"`
	Map         map[string]string `yaml:"map"`
	Default     string            `yaml:"default"`
	Time        string            `yaml:"time"`
	Fingerprint bool              `yaml:"fingerprint"`
	Lenient     bool              `yaml:"lenient"`
}

// list is one text or several.
type list []string

// UnmarshalYAML takes a scalar for a list of one.
func (l *list) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*l = list{n.Value}
		return nil
	}
	var s []string
	if err := n.Decode(&s); err != nil {
		return err
	}
	*l = s
	return nil
}

// UnmarshalYAML takes a plain text or a list of texts for paths of the source.
func (f *fieldDoc) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode || n.Kind == yaml.SequenceNode {
		return n.Decode(&f.From)
	}
	known := []string{"from", "value", "template", "map", "default", "time", "fingerprint", "lenient"}
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		if k := n.Content[i]; !slices.Contains(known, k.Value) {
			return fmt.Errorf("line %d: unknown key %q: want one of %s", k.Line, k.Value, strings.Join(known, ", "))
		}
	}
	type plain fieldDoc
	return n.Decode((*plain)(f))
}

// compiler collects every fault of a document.
type compiler struct {
	m    *Mapping
	errs []error
}

func (c *compiler) fault(path, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
}

func (c *compiler) document(d *document) {
	if d.Mapping != c.m.name {
		c.fault("mapping", "says %q, but the file is named %q", d.Mapping, c.m.name)
	}
	switch d.Format {
	case "json":
		if d.Line != "" {
			c.fault("line", "is for text only")
		}
	case "text":
		c.m.text = true
		if d.Each != "" {
			c.fault("each", "is for json only")
		}
	default:
		c.fault("format", "want json or text, not %q", d.Format)
	}
	c.m.each = d.Each
	if d.Line != "" {
		c.m.line = c.regex("line", d.Line)
	}
	c.m.fields = c.assignments("fields", d.Fields)
	if len(d.Cases) == 0 {
		c.fault("cases", "give at least one case")
	}
	for i := range d.Cases {
		c.m.cases = append(c.m.cases, c.kase(fmt.Sprintf("cases[%d]", i), &d.Cases[i]))
	}
}

func (c *compiler) kase(path string, d *caseDoc) kase {
	k := kase{name: d.Name, fields: c.assignments(path+".fields", d.Fields)}
	if d.Name == "" {
		c.fault(path+".name", "give the case a name")
	}
	typ, ok := event.ParseType(d.Type)
	if !ok {
		c.fault(path+".type", "%q is no event type", d.Type)
	}
	k.typ = typ
	for i := range d.When {
		k.when = append(k.when, c.condition(fmt.Sprintf("%s.when[%d]", path, i), &d.When[i]))
	}
	return k
}

func (c *compiler) condition(path string, d *conditionDoc) condition {
	out := condition{field: d.Field, equals: append(d.Equals, d.In...), prefix: d.Prefix, suffix: d.Suffix,
		contains: d.Contains, exists: d.Exists, not: d.Not}
	if d.Field == "" {
		c.fault(path+".field", "name the source field")
	}
	if d.Regex != "" {
		out.regex = c.regex(path+".regex", d.Regex)
	}
	tests := 0
	for _, given := range []bool{len(out.equals) > 0, len(d.Prefix) > 0, len(d.Suffix) > 0, len(d.Contains) > 0, d.Regex != "", d.Exists != nil} {
		if given {
			tests++
		}
	}
	if tests != 1 {
		c.fault(path, "want exactly one of equals, in, prefix, suffix, contains, regex, exists")
	}
	return out
}

func (c *compiler) regex(path, expr string) *regexp.Regexp {
	re, err := regexp.Compile(expr)
	if err != nil {
		c.fault(path, "%v", err)
		return nil
	}
	return re
}

// assignments compiles the fields in the order of the canonical event.
func (c *compiler) assignments(path string, docs map[string]fieldDoc) []assignment {
	var out []assignment
	for name, d := range docs {
		f, ok := event.ParseField(name)
		if !ok || f >= event.FieldOrigin || f == event.FieldType {
			c.fault(path+"."+name, "is no field that a message may carry")
			continue
		}
		out = append(out, c.assignment(path+"."+name, f, d))
	}
	slices.SortFunc(out, func(a, b assignment) int { return int(a.field) - int(b.field) })
	return out
}

func (c *compiler) assignment(path string, f event.Field, d fieldDoc) assignment {
	a := assignment{field: f, from: d.From, constant: d.Value, values: d.Map, fallback: d.Default,
		fingerprint: d.Fingerprint, lenient: d.Lenient}
	sources := 0
	for _, given := range []bool{len(d.From) > 0, d.Value != "", d.Template != ""} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		c.fault(path, "want exactly one of from, value, template")
	}
	layout, ok := layouts[d.Time]
	if !ok {
		c.fault(path+".time", "want rfc3339, syslog, clf, epoch or epoch_ms, not %q", d.Time)
	}
	a.layout = layout
	c.m.needsYear = c.m.needsYear || layout == layoutSyslog
	if f.Spec().Fingerprint && !d.Fingerprint {
		c.fault(path, "holds a secret's identity: add fingerprint: true")
	}
	if d.Fingerprint && f.Kind() != event.KindString {
		c.fault(path+".fingerprint", "is for text fields")
	}
	c.m.fingerprint = c.m.fingerprint || d.Fingerprint
	if d.Template != "" {
		a.template = c.template(path+".template", d.Template)
	}
	return a
}

// template splits "a ${path} b".
func (c *compiler) template(path, text string) []segment {
	var out []segment
	for text != "" {
		i := strings.Index(text, "${")
		if i < 0 {
			return append(out, segment{literal: text})
		}
		j := strings.IndexByte(text[i:], '}')
		if j < 3 {
			c.fault(path, "want ${path}")
			return nil
		}
		out = append(out, segment{literal: text[:i], path: text[i+2 : i+j]})
		text = text[i+j+1:]
	}
	return out
}
