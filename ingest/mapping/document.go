package mapping

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// document is the YAML of a mapping. The doc tags are the reference page.
type document struct {
	Mapping     string              `yaml:"mapping" doc:"name of the mapping: that of the file, without .yml"`
	Description string              `yaml:"description" doc:"what the source is, in a few words"`
	Format      string              `yaml:"format" doc:"json (a record is a JSON object), text (a record is text) or mixed (an object when it begins with a brace, else text) or otlp (JSON, or the logs of OpenTelemetry in protobuf, which read as their JSON would)"`
	Line        string              `yaml:"line" doc:"text and mixed: expression that a text must match; its named groups are the fields of the record. The whole text is the field line; of more than 64 KiB the middle of its long parts is left out"`
	Wrapped     list                `yaml:"wrapped" doc:"mixed: paths at which a JSON record may hold the text; the first that matches line is split like one"`
	RecordStart string              `yaml:"record_start" doc:"text and mixed: expression that the first line of a record matches; lines that do not match belong to the record before. For files only: in Kafka one message is one record"`
	Each        list                `yaml:"each" doc:"json and mixed: path of the records inside a message, from its root; arrays on the way are gone through, one object is one record. Of several paths the first whose first name exists counts; without one the message itself is the record. A name that a record does not have is looked for in the objects around it, from the inside out; of arrays there only 64 members count"`
	Attributes  list                `yaml:"attributes" doc:"json and mixed: paths, from the root, of lists of keys and values ({key, value} or {name, value}), or of values that OpenTelemetry wraps by type; they read as plain objects and values"`
	Pairs       string              `yaml:"pairs" doc:"field whose text is key=value, key=\"value\", ...; the values read as FIELD.key, and of a key given twice the first counts"`
	Absent      list                `yaml:"absent" doc:"texts by which the source says that there is no value"`
	Detect      [][]conditionDoc    `yaml:"detect" doc:"how mapping: auto recognises a record: a list of alternatives, each a list of conditions. They see the first record of a message. Without it the mapping is chosen by name only"`
	Fields      map[string]fieldDoc `yaml:"fields" doc:"canonical field: where its value comes from; for every case"`
	Cases       []caseDoc           `yaml:"cases" doc:"tried in order; the first whose conditions hold makes the event. A record that no case takes goes to quarantine as not_mapped"`
}

type caseDoc struct {
	Name   string              `yaml:"name" doc:"name of the case"`
	When   []conditionDoc      `yaml:"when" doc:"conditions, all of which must hold; without any the case takes what is left and must be the last"`
	Type   string              `yaml:"type" doc:"type of the event"`
	Fields map[string]fieldDoc `yaml:"fields" doc:"fields of this case; they win over the common ones"`
}

type conditionDoc struct {
	Field    list   `yaml:"field" doc:"path, or several of which one must do"`
	Equals   list   `yaml:"equals" doc:"the text is this, or one of these"`
	In       list   `yaml:"in" doc:"the same as equals"`
	Prefix   list   `yaml:"prefix" doc:"the text begins with this, or one of these"`
	Suffix   list   `yaml:"suffix" doc:"the text ends with this, or one of these"`
	Contains list   `yaml:"contains" doc:"the text holds this, or one of these"`
	Regex    string `yaml:"regex" doc:"the text matches; named groups become fields of the record"`
	Exists   *bool  `yaml:"exists" doc:"there is a value (true) or none (false); null is none"`
	Not      bool   `yaml:"not" doc:"the condition must not hold; without a value it does not"`
}

type fieldDoc struct {
	From        list              `yaml:"from" doc:"path, or several: the first that has a value counts"`
	Value       string            `yaml:"value" doc:"a constant"`
	Template    list              `yaml:"template" doc:"text with ${path}, or several: the first without a hole counts"`
	Regex       string            `yaml:"regex" doc:"takes a part of the text: the first group, or all that matched; no match is no value"`
	Map         map[string]string `yaml:"map" doc:"rewrites the text; others pass, and the empty text is no value"`
	Case        string            `yaml:"case" doc:"upper or lower"`
	Default     string            `yaml:"default" doc:"when there is no value"`
	Time        list              `yaml:"time" doc:"how the source writes times, or several ways, tried in order"`
	Fingerprint bool              `yaml:"fingerprint" doc:"store the keyed fingerprint instead of the value; a must for key_id, token_id, session_id and device_id"`
	Lenient     bool              `yaml:"lenient" doc:"a value that does not fit the field is left out; without it the record is refused. Text that a caller may choose (user_id, actor, service, method, code, cert_cn, endpoint, reason, user_agent, request_id) is cut to the length of the field in any case"`
}

// Key is one key of the language, for the reference page.
type Key struct{ Name, Doc string }

// Language lists the keys of a mapping, a case, a condition and a field.
func Language() map[string][]Key {
	return map[string][]Key{"mapping": keysOf(document{}), "case": keysOf(caseDoc{}), "condition": keysOf(conditionDoc{}), "field": keysOf(fieldDoc{})}
}

func keysOf(v any) []Key {
	var out []Key
	for t, i := reflect.TypeOf(v), 0; i < t.NumField(); i++ {
		out = append(out, Key{t.Field(i).Tag.Get("yaml"), t.Field(i).Tag.Get("doc")})
	}
	return out
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
	// A nested decoder does not know that unknown keys are faults.
	var known []string
	for _, k := range keysOf(fieldDoc{}) {
		known = append(known, k.Name)
	}
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		if k := n.Content[i]; !slices.Contains(known, k.Value) {
			return fmt.Errorf("line %d: unknown key %q: want one of %s", k.Line, k.Value, strings.Join(known, ", "))
		}
	}
	type plain fieldDoc
	return n.Decode((*plain)(f))
}

// lineOf finds the line of a path such as cases[0].when[1].field: that of the
// deepest part of the path that exists.
func lineOf(n *yaml.Node, path string) int {
	line := n.Line
	for _, step := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		next, at := child(n, step)
		if next == nil {
			break
		}
		n, line = next, at
	}
	return line
}

func child(n *yaml.Node, step string) (*yaml.Node, int) {
	if n.Kind == yaml.SequenceNode {
		var i int
		if _, err := fmt.Sscanf(step, "%d", &i); err == nil && i < len(n.Content) {
			return n.Content[i], n.Content[i].Line
		}
		return nil, 0
	}
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == step {
			return n.Content[i+1], n.Content[i].Line
		}
	}
	return nil, 0
}
