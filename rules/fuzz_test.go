package rules

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
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

// FuzzScan: the scanner accepts exactly the objects that encoding/json accepts,
// up to its depth, and reads the same values.
func FuzzScan(f *testing.F) {
	for _, s := range []string{`{"f":"x\u00e9\ud83d\ude00\n","g":{"h":[1,2.5e3,-0]}}`, `{"f":"\ud800"}`, `{"f":01}`, `{"f":[]}{`, ` {"f" : null , "g":true}`, `{"f":"a` + "\x01" + `"}`, `{}`} {
		f.Add([]byte(s))
	}
	set, _ := Load([]File{{"r.yml", []byte("title: t\nlogsource: {p: x}\ndetection: {s: {f: x}, k: [y], condition: s or k}")}}, Options{Fields: []string{"g.h"}})
	slot := set.Program().Slot("f")
	f.Fuzz(func(t *testing.T, data []byte) {
		m := NewMatcher(set.Program())
		_, err := m.MatchJSON(data, nil)
		valid := json.Valid(data) && strings.HasPrefix(strings.TrimLeft(string(data), " \t\r\n"), "{")
		if (err == nil) != valid {
			if err != nil && err.Error() == errTooDeep.Error() {
				return
			}
			t.Fatalf("valid %t, error %v", valid, err)
		}
		if !valid {
			return
		}
		rec := decodeRecord(t, data)
		got, ok := m.Text(slot)
		want, isText := rec["f"].(string)
		if strings.Count(string(data), `"f"`) == 1 && !strings.Contains(string(data), `\u0066`) && isText && validText(got) && (!ok || got != want) {
			t.Errorf("got %q, %t, want %q", got, ok, want)
		}
	})
}

// validText leaves out texts that encoding/json repairs and the scanner keeps.
func validText(s string) bool { return strings.ToValidUTF8(s, "") == s }
