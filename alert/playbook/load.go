package playbook

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Load reads every *.yml file at the top of each source. A playbook of a later
// source replaces one of the same name of an earlier source, so that a user can
// change a shipped one. Each error begins with file:line. The library holds the
// playbooks without a fault.
func Load(sources ...fs.FS) (*Library, []error) {
	lib := &Library{byName: map[string]*Playbook{}}
	var errs []error
	for _, fsys := range sources {
		here, faults := loadOne(fsys)
		errs = append(errs, faults...)
		for name, p := range here {
			lib.byName[name] = p
		}
	}
	return lib, errs
}

func loadOne(fsys fs.FS) (map[string]*Playbook, []error) {
	byName := map[string]*Playbook{}
	files, err := fs.Glob(fsys, "*.yml")
	if err != nil {
		return nil, []error{fmt.Errorf("list playbooks: %w", err)}
	}
	var errs []error
	for _, f := range files {
		text, err := fs.ReadFile(fsys, f)
		if err != nil {
			errs = append(errs, fmt.Errorf("read playbook: %w", err))
			continue
		}
		p, faults := Parse(path.Base(f), text)
		if p != nil && byName[p.Name] != nil {
			faults = append(faults, fmt.Errorf("%s:1: another file has a playbook named %s", f, p.Name))
		}
		if len(faults) > 0 {
			errs = append(errs, faults...)
			continue
		}
		byName[p.Name] = p
	}
	return byName, errs
}

// Parse reads one playbook. With any error the playbook is nil.
func Parse(file string, text []byte) (*Playbook, []error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	var p Playbook
	if err := dec.Decode(&p); err != nil {
		return nil, yamlFaults(file, err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, []error{fmt.Errorf("%s:1: one playbook per file", file)}
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, yamlFaults(file, err)
	}
	c := checker{file: file, p: &p, root: doc.Content[0], types: stepTypes()}
	c.check()
	if len(c.errs) > 0 {
		return nil, c.errs
	}
	return &p, nil
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): `)

// yamlFaults turns the YAML library's errors into file:line ones.
func yamlFaults(file string, err error) []error {
	texts := []string{err.Error()}
	var many *yaml.TypeError
	if errors.As(err, &many) {
		texts = many.Errors
	}
	var out []error
	for _, t := range texts {
		line := "1"
		if m := yamlLine.FindStringSubmatch(t); m != nil {
			line, t = m[1], t[len(m[0]):]
		}
		out = append(out, fmt.Errorf("%s:%s: %s", file, line, strings.TrimPrefix(t, "yaml: ")))
	}
	return out
}

// checker finds what is wrong with a playbook that decoded.
type checker struct {
	file  string
	p     *Playbook
	root  *yaml.Node
	types map[string]stepType
	errs  []error
}

// at returns the node of a path of keys and indexes, or the nearest above it.
func (c *checker) at(keys ...any) *yaml.Node {
	n := c.root
	for _, k := range keys {
		next := child(n, k)
		if next == nil {
			return n
		}
		n = next
	}
	return n
}

func child(n *yaml.Node, key any) *yaml.Node {
	switch k := key.(type) {
	case int:
		if n.Kind == yaml.SequenceNode && k < len(n.Content) {
			return n.Content[k]
		}
	case string:
		for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
			if n.Content[i].Value == k {
				return n.Content[i+1]
			}
		}
	}
	return nil
}

func (c *checker) fail(n *yaml.Node, format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf("%s:%d:%d: %s", c.file, n.Line, n.Column, fmt.Sprintf(format, args...)))
}

var (
	nameForm  = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	identForm = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
)

func (c *checker) check() {
	if !nameForm.MatchString(c.p.Name) {
		c.fail(c.at("name"), "name: use lower-case letters, digits and hyphens")
	}
	if len(c.p.Trigger.Kinds) == 0 {
		c.fail(c.at("trigger"), "trigger: name at least one incident kind")
	}
	for i, k := range c.p.Trigger.Kinds {
		if !slices.Contains(incidentKinds(), k) {
			c.fail(c.at("trigger", "kinds", i), "unknown incident kind %q", k)
		}
	}
	c.checkInputs()
	outputs := map[string]bool{}
	if len(c.p.Steps) == 0 {
		c.fail(c.root, "steps: a playbook needs at least one")
	}
	comps := map[string]bool{}
	for _, s := range c.p.Compensations {
		comps[s.ID] = false
	}
	ids := map[string]bool{}
	for i := range c.p.Steps {
		s := &c.p.Steps[i]
		c.checkStep(s, c.at("steps", i), outputs)
		c.checkPlace(s, i, ids)
		for j, id := range s.Compensation {
			if _, known := comps[id]; !known {
				c.fail(c.at("steps", i, "compensation", j), "no compensation is named %q", id)
			}
			comps[id] = true
		}
	}
	for i := range c.p.Compensations {
		s := &c.p.Compensations[i]
		n := c.at("compensations", i)
		if ids[s.ID] {
			c.fail(n, "id %q is used twice", s.ID)
		}
		ids[s.ID] = true
		c.checkStep(s, n, outputs)
		if !comps[s.ID] {
			c.fail(n, "unreachable: no step names the compensation %q", s.ID)
		}
		if len(s.Compensation) > 0 || s.Type == typeApprove {
			c.fail(n, "a compensation neither asks for approval nor has a compensation")
		}
	}
	c.checkTemplate(c.p.Title, c.at("title"), nil)
}

// checkPlace checks what depends on where a step stands.
func (c *checker) checkPlace(s *StepDef, i int, ids map[string]bool) {
	n := c.at("steps", i)
	if ids[s.ID] {
		c.fail(n, "id %q is used twice", s.ID)
	}
	ids[s.ID] = true
	if (s.Type == typeApprove) != (i == 0) {
		if i == 0 {
			c.fail(n, "the first step must be of type approve: nothing runs without a person")
		} else {
			c.fail(n, "only the first step may be of type approve")
		}
	}
	if t, ok := c.types[s.Type]; ok && t.onlyCompensate {
		c.fail(n, "type %s makes sense as a compensation only", s.Type)
	}
}

func (c *checker) checkInputs() {
	for _, name := range sortedKeys(c.p.Inputs) {
		in, n := c.p.Inputs[name], c.at("inputs", name)
		if !identForm.MatchString(name) {
			c.fail(n, "input %q: use lower-case letters, digits and underscores", name)
		}
		if (in.Type == TypeEnum) != (len(in.Values) > 0) {
			c.fail(n, "input %s: values belong to type enum, and an enum needs them", name)
		}
		if in.Max != "" && in.Type != TypeDuration {
			c.fail(n, "input %s: max belongs to type duration", name)
		}
		if in.Required && in.Default != "" {
			c.fail(n, "input %s: a required input has no default", name)
		}
		if in.Max != "" {
			if _, err := time.ParseDuration(in.Max); err != nil {
				c.fail(n, "input %s: max: %v", name, err)
				continue
			}
		}
		if err := in.check(in.Default); in.Default != "" && err != nil {
			c.fail(n, "input %s: default: %v", name, err)
		} else if !slices.Contains([]InputType{TypeString, TypeEnum, TypeDuration, TypeInt, TypeKeyID}, in.Type) {
			c.fail(n, "input %s: unknown type %q", name, in.Type)
		}
	}
}

// check reports whether v is a value of the input.
func (in Input) check(v string) error {
	switch in.Type {
	case TypeEnum:
		if !slices.Contains(in.Values, v) {
			return fmt.Errorf("%q is none of %s", v, strings.Join(in.Values, ", "))
		}
	case TypeDuration:
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return fmt.Errorf("%q is no duration such as 30m", v)
		}
		if limit, err := time.ParseDuration(in.Max); err == nil && in.Max != "" && d > limit {
			return fmt.Errorf("%s is above the maximum of %s", v, in.Max)
		}
	case TypeInt:
		if n, err := strconv.Atoi(v); err != nil || n < 0 {
			return fmt.Errorf("%q is no whole number", v)
		}
	}
	if strings.Contains(v, "${") {
		return errors.New("a value may hold no template")
	}
	return nil
}

// checkStep checks one step and adds its outputs to those that later ones see.
func (c *checker) checkStep(s *StepDef, n *yaml.Node, outputs map[string]bool) {
	if !identForm.MatchString(s.ID) {
		c.fail(n, "id: use lower-case letters, digits and underscores")
	}
	t, ok := c.types[s.Type]
	if !ok {
		c.fail(n, "unknown step type %q: there are %s", s.Type, strings.Join(sortedKeys(c.types), ", "))
		return
	}
	for _, name := range sortedKeys(s.Inputs) {
		in, known := t.inputs[name]
		if !known {
			c.fail(c.sub(n, "inputs", name), "type %s has no input %q", s.Type, name)
			continue
		}
		c.checkValue(s.Inputs[name], in, c.sub(n, "inputs", name), outputs)
	}
	for _, name := range sortedKeys(t.inputs) {
		if _, given := s.Inputs[name]; t.inputs[name].required && !given {
			c.fail(n, "type %s needs the input %q", s.Type, name)
		}
	}
	for _, list := range [][]string{s.Precondition, s.Verification} {
		for _, name := range list {
			if !slices.Contains(checkNames(), name) {
				c.fail(n, "unknown check %q: there are %s", name, strings.Join(checkNames(), ", "))
			}
		}
	}
	if s.Timeout < 0 || s.Retry.Attempts < 0 || s.Retry.Delay < 0 {
		c.fail(n, "timeout and retry must not be negative")
	}
	c.checkWhen(s, n)
	for _, o := range t.outputs {
		outputs[s.ID+"."+o] = true
	}
}

func (c *checker) sub(n *yaml.Node, keys ...any) *yaml.Node {
	for _, k := range keys {
		if next := child(n, k); next != nil {
			n = next
		}
	}
	return n
}

// checkValue checks an input's text: either one template whose type fits, or a
// literal, or for strings a mixture.
func (c *checker) checkValue(v string, in stepInput, n *yaml.Node, outputs map[string]bool) {
	refs := c.checkTemplate(v, n, outputs)
	switch {
	case len(refs) == 0 && !strings.Contains(v, "${"):
		lit := Input{Type: in.typ, Values: in.values}
		if err := lit.check(v); err != nil {
			c.fail(n, "%v", err)
		}
	case in.typ == TypeString:
	case len(refs) != 1 || v != "${"+refs[0]+"}":
		c.fail(n, "an input of type %s takes a value or exactly one template", in.typ)
	default:
		if name, ok := strings.CutPrefix(refs[0], "inputs."); ok && c.p.Inputs[name].Type != in.typ {
			c.fail(n, "input %s has type %s, wanted %s", name, c.p.Inputs[name].Type, in.typ)
		}
	}
}

// checkTemplate reports unknown references and returns all of them.
func (c *checker) checkTemplate(v string, n *yaml.Node, outputs map[string]bool) []string {
	refs, err := references(v)
	if err != nil {
		c.fail(n, "%v", err)
	}
	for _, ref := range refs {
		kind, name, _ := strings.Cut(ref, ".")
		ok := false
		switch kind {
		case "inputs":
			_, ok = c.p.Inputs[name]
		case "run":
			ok = slices.Contains(runRefs(), name)
		case "steps":
			ok = outputs[name]
		}
		if !ok {
			c.fail(n, "${%s} names nothing that is known here", ref)
		}
	}
	return refs
}

var whenForm = regexp.MustCompile(`^inputs\.([a-z][a-z0-9_]*) (==|!=) ([a-z0-9_-]+)$`)

// checkWhen finds conditions that can never hold.
func (c *checker) checkWhen(s *StepDef, n *yaml.Node) {
	if s.When == "" {
		return
	}
	n = c.sub(n, "when")
	m := whenForm.FindStringSubmatch(s.When)
	if m == nil {
		c.fail(n, "when: write it as \"inputs.NAME == VALUE\" or with !=")
		return
	}
	in, ok := c.p.Inputs[m[1]]
	switch {
	case !ok || in.Type != TypeEnum:
		c.fail(n, "when: inputs.%s is no input of type enum", m[1])
	case m[2] == "==" && !slices.Contains(in.Values, m[3]):
		c.fail(n, "unreachable: inputs.%s is never %q", m[1], m[3])
	case m[2] == "!=" && len(in.Values) == 1 && in.Values[0] == m[3]:
		c.fail(n, "unreachable: inputs.%s is always %q", m[1], m[3])
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
