package rules

import "go.yaml.in/yaml/v3"

// detectionDoc is the AST of a detection document.
type detectionDoc struct {
	p         *docParser
	meta      Meta
	generated bool
	logsource map[string]string
	detection detection
}

// detection is the detection part of a rule, or the filter part of a filter.
type detection struct {
	idents     map[string]*search
	order      []string
	conditions []*cond // joined by or
}

// search is one search identifier or a part of one.
type search struct {
	pos  pos
	all  bool // and instead of or
	subs []*search
	item *item // a leaf
}

// item is one field with its modifiers and values; an empty field means
// keywords.
type item struct {
	pos    pos
	field  string
	mods   modifiers
	values []value
}

// value is one value of an item.
type value struct {
	pos  pos
	kind valueKind
	text string // as written, or the canonical form of a number
	num  float64
	b    bool
}

type valueKind uint8

const (
	valString valueKind = iota
	valNumber
	valBool
	valNull
)

// valueOf reads a YAML scalar.
func (d *docParser) valueOf(n *yaml.Node) (value, bool) {
	v := value{pos: d.at(n), text: n.Value}
	if n.Kind != yaml.ScalarNode {
		d.report(n, CodeDetectionShape, "", "a value must be a text, a number, true, false or null")
		return v, false
	}
	switch n.Tag {
	case "!!null":
		v.kind, v.text = valNull, ""
	case "!!bool":
		v.kind = valBool
		if err := n.Decode(&v.b); err != nil {
			d.report(n, CodeDetectionShape, "", "%q is not a truth value", n.Value)
			return v, false
		}
		v.text = "false"
		if v.b {
			v.text = "true"
		}
	case "!!int", "!!float":
		num, ok := numberOf(n)
		if !ok {
			v.kind = valString // .inf and .nan are texts to us
			break
		}
		v.kind, v.num = valNumber, num
		v.text = numberText(n.Value, num)
	}
	return v, true
}

// detectionOf parses the identifiers and the condition of a detection or filter
// mapping; skip names the keys that are neither.
func (d *docParser) detectionOf(m *yaml.Node, skip ...string) detection {
	det := detection{idents: map[string]*search{}}
	var condNode *yaml.Node
next:
	for i := 0; i+1 < len(m.Content); i += 2 {
		k, v := m.Content[i], m.Content[i+1]
		for _, s := range skip {
			if k.Value == s {
				continue next
			}
		}
		switch k.Value {
		case "condition":
			condNode = v
		case "timeframe":
			d.report(k, CodeLegacyTimeframe, "write a second document with `correlation: {type: event_count, rules: [this rule], group-by: [...], timespan: "+
				v.Value+", condition: {gte: N}}`", "timeframe is not part of a detection")
		default:
			if s := d.searchOf(v, 0); s != nil {
				det.idents[k.Value] = s
				det.order = append(det.order, k.Value)
			}
		}
	}
	if condNode == nil || isNull(condNode) {
		d.report(m, CodeMissingKey, "add `condition: selection`", "the condition is missing")
		return det
	}
	det.conditions = d.conditionsOf(condNode, &det)
	return det
}

// searchOf parses a search identifier: a mapping is and, a list is or, a scalar
// is a keyword.
func (d *docParser) searchOf(n *yaml.Node, depth int) *search {
	s := &search{pos: d.at(n)}
	switch {
	case depth > 8:
		d.report(n, CodeDetectionShape, "", "lists are nested too deep")
		return nil
	case n.Kind == yaml.MappingNode:
		s.all = true
		for i := 0; i+1 < len(n.Content); i += 2 {
			if it := d.itemOf(n.Content[i], n.Content[i+1]); it != nil {
				s.subs = append(s.subs, &search{pos: it.pos, item: it})
			}
		}
	case n.Kind == yaml.SequenceNode:
		for _, c := range n.Content {
			if sub := d.searchOf(c, depth+1); sub != nil {
				s.subs = append(s.subs, sub)
			}
		}
	case isNull(n):
		d.report(n, CodeEmptyList, "", "the identifier is empty")
		return nil
	default:
		v, ok := d.valueOf(n)
		if !ok {
			return nil
		}
		s.item = &item{pos: s.pos, values: []value{v}}
		return s
	}
	if len(s.subs) == 0 && !d.failed {
		d.report(n, CodeEmptyList, "", "the identifier is empty")
		return nil
	}
	return s
}

// itemOf parses one field and its values.
func (d *docParser) itemOf(k, v *yaml.Node) *item {
	it := &item{pos: d.at(k)}
	var ok bool
	if it.field, it.mods, ok = d.modifiersOf(k); !ok {
		return nil
	}
	if v.Kind == yaml.MappingNode {
		d.report(v, CodeDetectionShape, "write the path with dots, as `"+k.Value+".sub: value`", "a field's value cannot be a mapping")
		return nil
	}
	list := items(v)
	if len(list) == 0 {
		d.report(v, CodeEmptyList, "give at least one value, or use null", "field %q has an empty list of values", it.field)
		return nil
	}
	for _, c := range list {
		val, ok := d.valueOf(c)
		if !ok {
			return nil
		}
		it.values = append(it.values, val)
	}
	if it.mods.all && len(it.values) == 1 && it.field != "" {
		d.report(k, CodeAllSingle, "remove `all`", "`all` on a single value has no effect")
	}
	if !d.checkValues(k, it) {
		return nil
	}
	return it
}
