package mapping

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keysentry/keysentry/event"
)

// yamlLine is how the YAML library says where a fault is.
var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)

// Parse compiles the text of a mapping and reports all its faults, each with
// file and line.
func Parse(name string, text []byte) (*Mapping, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	var doc document
	if err := dec.Decode(&doc); err != nil {
		return nil, yamlFault(name, err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil || len(root.Content) == 0 {
		return nil, fmt.Errorf("%s.yml:1: is no YAML document", name)
	}
	c := compiler{m: &Mapping{name: name}, root: root.Content[0]}
	c.document(&doc)
	if len(c.errs) > 0 {
		return nil, errors.Join(c.errs...)
	}
	return c.m, nil
}

// yamlFault puts file and line before what the YAML library says.
func yamlFault(name string, err error) error {
	var te *yaml.TypeError
	list := []string{err.Error()}
	if errors.As(err, &te) {
		list = te.Errors
	}
	var out []error
	for _, s := range list {
		at := ":1"
		if m := yamlLine.FindStringSubmatch(s); m != nil {
			at, s = ":"+m[1], s[len(m[0]):]
		}
		before, _, _ := strings.Cut(s, " in type ")
		out = append(out, fmt.Errorf("%s.yml%s: %s", name, at, before))
	}
	return errors.Join(out...)
}

// compiler collects every fault of a document.
type compiler struct {
	m    *Mapping
	root *yaml.Node
	errs []error
	// known are the fields that a text has; nil when a record may be JSON, whose
	// fields nobody can list.
	known map[string]bool
}

func (c *compiler) fault(path, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s.yml:%d: %s: %s", c.m.name, lineOf(c.root, path), path, fmt.Sprintf(format, args...)))
}

func (c *compiler) document(d *document) {
	if d.Mapping != c.m.name {
		c.fault("mapping", "says %q, but the file is named %q", d.Mapping, c.m.name)
	}
	c.m.description = d.Description
	c.m.pairs, c.m.absent, c.m.paths = d.Pairs, map[string]bool{}, map[string]bool{}
	for _, a := range d.Absent {
		c.m.absent[a] = true
	}
	c.format(d)
	for i, alternative := range d.Detect {
		path := fmt.Sprintf("detect[%d]", i)
		if len(alternative) == 0 {
			c.fault(path, "give at least one condition")
		}
		c.m.detect = append(c.m.detect, c.conditions(path, alternative))
	}
	if len(d.Cases) == 0 {
		c.fault("cases", "give at least one case")
	}
	for i := range d.Cases {
		k := &d.Cases[i]
		if len(k.When) == 0 && i < len(d.Cases)-1 {
			c.fault(fmt.Sprintf("cases[%d]", i), "has no conditions, so the cases after it are never tried")
		}
		c.m.cases = append(c.m.cases, c.kase(fmt.Sprintf("cases[%d]", i), k))
	}
	c.m.fields = c.assignments("fields", d.Fields)
}

// format compiles what says how a record looks.
func (c *compiler) format(d *document) {
	only := func(key string, given bool, formats ...string) {
		if given && !slices.Contains(formats, d.Format) {
			c.fault(key, "is for %s only", strings.Join(formats, " and "))
		}
	}
	switch d.Format {
	case "json":
	case "text":
		c.m.format, c.known = formatText, map[string]bool{"line": true}
	case "mixed":
		c.m.format = formatMixed
	case "otlp":
		c.m.format = formatOTLP
	default:
		c.fault("format", "want json, text, mixed or otlp, not %q", d.Format)
		return
	}
	only("line", d.Line != "", "text", "mixed")
	only("record_start", d.RecordStart != "", "text", "mixed")
	only("wrapped", len(d.Wrapped) > 0, "mixed")
	only("each", len(d.Each) > 0, "json", "mixed", "otlp")
	only("attributes", len(d.Attributes) > 0, "json", "mixed", "otlp")
	if len(d.Wrapped) > 0 && d.Line == "" {
		c.fault("wrapped", "needs line, which says what the text looks like")
	}
	for i, w := range d.Wrapped {
		c.path(fmt.Sprintf("wrapped[%d]", i), w)
	}
	c.m.wrapped, c.m.each, c.m.attributes = d.Wrapped, c.steps("each", d.Each), c.steps("attributes", d.Attributes)
	if d.Line != "" {
		c.m.line = c.regex("line", d.Line)
		c.learn(c.m.line)
	}
	if d.Pairs != "" {
		c.path("pairs", d.Pairs)
	}
	if d.RecordStart != "" {
		c.m.recordStart = c.regex("record_start", d.RecordStart)
	}
}

// learn adds the named groups of an expression to the fields that a text has.
func (c *compiler) learn(re *regexp.Regexp) {
	if c.known == nil || re == nil {
		return
	}
	for _, n := range re.SubexpNames() {
		c.known[n] = true
	}
}

// steps splits paths into their names.
func (c *compiler) steps(key string, paths []string) [][]string {
	var out [][]string
	for i, p := range paths {
		s := strings.Split(p, ".")
		if slices.Contains(s, "") {
			c.fault(fmt.Sprintf("%s[%d]", key, i), "%q has an empty name", p)
			continue
		}
		out = append(out, s)
	}
	return out
}

// path checks a path of the source.
func (c *compiler) path(at, path string) {
	base, _, deeper := strings.Cut(path, ".")
	switch {
	case path == "":
		c.fault(at, "name the source field")
	case c.known != nil && !c.known[path] && !(deeper && base == c.m.pairs):
		c.fault(at, "no expression names a group %q", path)
	}
	c.m.paths[path] = true
}

func (c *compiler) kase(path string, d *caseDoc) kase {
	k := kase{name: d.Name, when: c.conditions(path+".when", d.When)}
	if d.Name == "" {
		c.fault(path+".name", "give the case a name")
	}
	typ, ok := event.ParseType(d.Type)
	if !ok {
		c.fault(path+".type", "%q is no event type", d.Type)
	}
	k.typ = typ
	k.fields = c.assignments(path+".fields", d.Fields)
	return k
}

func (c *compiler) conditions(path string, docs []conditionDoc) []condition {
	var out []condition
	for i := range docs {
		out = append(out, c.condition(fmt.Sprintf("%s[%d]", path, i), &docs[i]))
	}
	return out
}

func (c *compiler) condition(path string, d *conditionDoc) condition {
	out := condition{fields: d.Field, equals: append(d.Equals, d.In...), prefix: d.Prefix, suffix: d.Suffix,
		contains: d.Contains, exists: d.Exists, not: d.Not}
	if len(d.Field) == 0 {
		c.fault(path+".field", "name the source field")
	}
	for _, f := range d.Field {
		c.path(path+".field", f)
	}
	if d.Regex != "" {
		out.regex = c.regex(path+".regex", d.Regex)
		c.learn(out.regex)
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
		fingerprint: d.Fingerprint, lenient: d.Lenient, toCase: d.Case}
	sources := 0
	for _, given := range []bool{len(d.From) > 0, d.Value != "", len(d.Template) > 0} {
		if given {
			sources++
		}
	}
	if sources != 1 {
		c.fault(path, "want exactly one of from, value, template")
	}
	for _, p := range d.From {
		c.path(path, p)
	}
	if d.Regex != "" {
		a.regex = c.regex(path+".regex", d.Regex)
	}
	if d.Case != "" && d.Case != "upper" && d.Case != "lower" {
		c.fault(path+".case", "want upper or lower, not %q", d.Case)
	}
	c.times(path, f, d, &a)
	if f.Spec().Fingerprint && !d.Fingerprint {
		c.fault(path, "holds a secret's identity: add fingerprint: true")
	}
	if f.Kind() == event.KindFloat {
		c.fault(path, "is for heartbeats of canonical producers and cannot be mapped")
	}
	if d.Fingerprint && f.Kind() != event.KindString {
		c.fault(path+".fingerprint", "is for text fields")
	}
	c.m.fingerprint = c.m.fingerprint || d.Fingerprint
	for _, t := range d.Template {
		a.templates = append(a.templates, c.template(path+".template", t))
	}
	return a
}

func (c *compiler) times(path string, f event.Field, d fieldDoc, a *assignment) {
	if len(d.Time) > 0 && f.Kind() != event.KindInstant {
		c.fault(path+".time", "%s is no time", f)
	}
	for _, name := range d.Time {
		layout, ok := layoutByName(name)
		if !ok {
			c.fault(path+".time", "want one of %s, not %q", strings.Join(layoutNames(), ", "), name)
		}
		a.layouts = append(a.layouts, layout)
		c.m.needsYear = c.m.needsYear || layout == layoutSyslog
	}
	if len(a.layouts) == 0 {
		a.layouts = []timeLayout{layoutRFC3339}
	}
}

// template splits "a ${path} b".
func (c *compiler) template(at, text string) []segment {
	var out []segment
	for text != "" {
		i := strings.Index(text, "${")
		if i < 0 {
			return append(out, segment{literal: text})
		}
		j := strings.IndexByte(text[i:], '}')
		if j < 3 {
			c.fault(at, "want ${path}")
			return nil
		}
		path := text[i+2 : i+j]
		c.path(at, path)
		out = append(out, segment{literal: text[:i], path: path})
		text = text[i+j+1:]
	}
	return out
}
