package rules

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzLoad: no input makes a load panic; what loads can be matched; an error has
// a place; loading twice says the same.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(benchRuleText))
	f.Add([]byte("title: t\nlogsource: {a: b}\ndetection:\n  s: {f|re: '(', g: [1, null, true]}\n  condition: 1 of s*\n---\ntitle: c\ncorrelation: {type: temporal, rules: [t], timespan: 1m, condition: t and not t}\n"))
	f.Add([]byte("a: &x [*x]\n---\n\xff\x00: {\n---\nfilter: {rules: any, condition: s, s: [a]}\ntitle: f\nlogsource: {x: y}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		files := []File{{"f.yml", data}}
		set, diags := Load(files, Options{})
		_, again := Load(files, Options{})
		if !slices.Equal(diags, again) {
			t.Errorf("two loads differ: %v, %v", diags, again)
		}
		for _, d := range diags {
			if d.Severity == Error && (d.Line < 1 || d.Message == "" || d.Code == "") {
				t.Errorf("a diagnostic without a place: %+v", d)
			}
		}
		m := NewMatcher(set.Program())
		if _, err := m.MatchJSON([]byte(`{"f":"x","g":[1,null,{"h":true}]}`), nil); err != nil {
			t.Error(err)
		}
	})
}

const benchRuleText = "title: t\nid: 0e95725d-7320-415d-80f7-004da920fc11\nlogsource: {product: x}\ndetection:\n  sel: {f|contains|all: [a, 'b*']}\n  kw: [x]\n  condition: sel or not kw\nlevel: high\n"

// FuzzCondition: the grammar never panics, and what it accepts uses names of the
// scope only.
func FuzzCondition(f *testing.F) {
	for _, s := range []string{"sel", "1 of them and not (sel or all of _*)", "((((", "not not sel", "1 of", "sel | count() > 3"} {
		f.Add(s)
	}
	names := []string{"sel", "filter_a", "_x"}
	scope := condScope{names: names, them: true, what: "identifier", has: func(s string) bool { return slices.Contains(names, s) }}
	f.Fuzz(func(t *testing.T, s string) {
		c, fault := parseCondition(s, scope)
		if (c == nil) == (fault == nil) {
			t.Fatalf("%q: condition %v, fault %v", s, c, fault)
		}
		if fault != nil {
			if fault.offset < 0 || fault.offset > len(s) {
				t.Errorf("%q: the fault is outside the text", s)
			}
			return
		}
		used := map[string]bool{}
		c.uses(used)
		for n := range used {
			if !slices.Contains(names, n) {
				t.Errorf("%q uses %q", s, n)
			}
		}
	})
}

// scanRules refers to places of every kind: plain, nested, dotted keys, an
// object, one below another, keywords.
const scanRules = `title: t
logsource: {p: x}
detection:
  s: {f: x, g.h|contains: y, g.h.i: 1, é|exists: true, g.h.i.j.k: z}
  k: [word]
  condition: s or k
`

// FuzzScan: the scanner accepts exactly the objects that encoding/json accepts,
// up to its depth, and reads the same values of every field and the same texts;
// of what it refuses, nothing stays visible. What it learned from the record
// before changes nothing.
func FuzzScan(f *testing.F) {
	for _, s := range []string{`{"f":"x\u00e9\ud83d\ude00\n","g":{"h":[1,2.5e3,-0]}}`, `{"f":"\ud800"}`, `{"f":01}`, `{"f":[]}{`, ` {"f" : null , "g":true}`, `{"f":"a` + "\x01" + `"}`, `{}`,
		`{"g.h":1,"g":{"h":2,"h.i":{"j.k":"z"}},"g.h.i":[[{"j":{"k":null}}]],"g.h.i.j.k":"deep"}`, `{"a":1,"f":"x","f":["y",{}],"\u0066":3}`,
		`{"":"e","é":"\"\\\/\b\f\r\t","x":{"y":{"z":["word",{"w":"WORD"}]}},"eight by":"tes\" after"}`, `{"f":{"a":1},"g":[{"h":1},{"h":"two"},3]}`, "{\"f\":\"\xe5\xe5\"}"} {
		f.Add([]byte(s))
	}
	set, diags := Load([]File{{"r.yml", []byte(scanRules)}}, Options{})
	if len(set.Rules) != 1 {
		f.Fatal(diags)
	}
	worn := NewMatcher(set.Program()) // has read every record before
	f.Fuzz(func(t *testing.T, data []byte) {
		sameReading(t, NewMatcher(set.Program()), data)
		sameReading(t, worn, data)
		sameReading(t, worn, fmt.Appendf(nil, `{"g":%s}`, data)) // the same keys in other places
		sameReading(t, worn, data)
	})
}

func sameReading(t *testing.T, m *Matcher, data []byte) {
	t.Helper()
	want := readObject(m.p.slots, data)
	_, err := m.MatchJSON(data, nil)
	switch {
	case err == errTooDeep:
		want = nil
	case (err == nil) != (want != nil):
		t.Fatalf("%q: encoding/json reads it: %t; error %v", data, want != nil, err)
	}
	if want == nil {
		want = make([][]string, len(m.p.slots)) // nothing is visible
	}
	if d := cmp.Diff(want, m.visible()); d != "" {
		t.Errorf("%q: %s", data, d)
	}
}

// visible is what the matcher holds of every slot, in words. Bytes that are not
// UTF-8, which it keeps, are told as encoding/json reads them.
func (m *Matcher) visible() [][]string {
	out := make([][]string, len(m.cells))
	for slot := range m.cells {
		c := m.cell(slot)
		if c.exists && len(c.vals) == 0 {
			out[slot] = append(out[slot], "empty")
		}
		for _, v := range c.vals {
			out[slot] = append(out[slot], fmt.Sprintf("%d %q", v.kind, string([]rune(v.text))))
		}
	}
	return out
}

// readObject is what visible must be, read by encoding/json's tokens; nil when
// data is no object.
func readObject(slots []slot, data []byte) [][]string {
	if !json.Valid(data) || !strings.HasPrefix(strings.TrimLeft(string(data), " \t\r\n"), "{") {
		return nil
	}
	r := objectReader{dec: json.NewDecoder(bytes.NewReader(data)), slots: slots, best: make([]string, len(slots)), out: make([][]string, len(slots))}
	r.dec.UseNumber()
	r.value(nil)
	return r.out
}

type objectReader struct {
	dec   *json.Decoder
	slots []slot
	best  []string // by slot: how the keys of its path were cut, as letters
	out   [][]string
}

// value reads the value that stands below the keys.
func (r *objectReader) value(keys []string) {
	tok, err := r.dec.Token()
	if err != nil {
		panic(err) // json.Valid said otherwise
	}
	switch v := tok.(type) {
	case json.Delim:
		if v == '{' && keys != nil {
			r.put(keys, fmt.Sprintf(`%d ""`, fieldObject))
		}
		if v == '[' {
			r.put(keys, "")
		}
		for r.dec.More() {
			below := keys
			if v == '{' {
				key, _ := r.dec.Token()
				below = append(slices.Clip(keys), key.(string))
			}
			r.value(below)
		}
		_, _ = r.dec.Token() // the closing one
	case string:
		r.out[keywordSlot] = append(r.out[keywordSlot], fmt.Sprintf("%d %q", fieldText, v))
		r.put(keys, fmt.Sprintf("%d %q", fieldText, v))
	case json.Number:
		r.put(keys, fmt.Sprintf("%d %q", fieldNumber, v))
	case bool:
		r.put(keys, fmt.Sprintf(`%d "%t"`, fieldBool, v))
	case nil:
		r.put(keys, fmt.Sprintf(`%d ""`, fieldNull))
	}
}

// put gives a value to the slots whose path the keys spell. Of two ways to spell
// it the one with more segments in its first key wins, then in its second.
func (r *objectReader) put(keys []string, value string) {
	cut := ""
	for _, k := range keys {
		cut += string(rune('a' + strings.Count(k, ".")))
	}
	for i, s := range r.slots {
		if len(s.paths) == 0 || s.paths[0] != strings.Join(keys, ".") || cut < r.best[i] {
			continue
		}
		if cut > r.best[i] {
			r.best[i], r.out[i] = cut, nil
		}
		if len(r.out[i]) == 1 && r.out[i][0] == "empty" {
			r.out[i] = nil
		}
		switch {
		case value != "":
			r.out[i] = append(r.out[i], value)
		case r.out[i] == nil:
			r.out[i] = []string{"empty"}
		}
	}
}
