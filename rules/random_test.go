package rules

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// gen makes random rules and records from a small stock, so that they meet
// often.
type gen struct{ *rand.Rand }

func (g gen) pick(list ...string) string { return list[g.IntN(len(list))] }

var genTexts = []string{"a", "ab", "abc", "B", "", "Äb", "äB", "ſs", "K", "10", "10.0", "7", "-7", "1e1", "true", "null", "a*", "*", "a?c", "*b*", `a\*`, `a\\*`, `\`, `a\b`,
	"cmd -x", "cmd /x", "cmd –x", "10.1.2.3", "::ffff:10.1.2.3", "fe80::1", "2026-03-09T14:05:00+02:00", "2026-01-01 00:00:00", "YWJj", "Zm9v", "a\nb", "日本", "\xff"}

func (g gen) text() string { return genTexts[g.IntN(len(genTexts))] }

func (g gen) field() string { return g.pick("f", "g", "a.b", "a.b.c", "h", "x.y") }

func quote(s string) string {
	b, _ := json.Marshal(strings.ToValidUTF8(s, "?"))
	return string(b)
}

// item is one line of a selection.
func (g gen) item() string {
	f := g.field()
	switch g.IntN(16) {
	case 0:
		return fmt.Sprintf("%s|exists: %s", f, g.pick("true", "false"))
	case 1:
		return fmt.Sprintf("%s%s: null", f, g.pick("", "|neq"))
	case 2:
		return fmt.Sprintf("%s%s: %s", f, g.pick("", "|lt", "|lte", "|gt", "|gte", "|neq", "|contains"), g.pick("7", "10", "-7", "10.5", "0x0a"))
	case 3:
		return fmt.Sprintf("%s|cidr: %s", f, g.pick("10.0.0.0/8", "fe80::/10", "0.0.0.0/0", "10.1.2.3"))
	case 4:
		return fmt.Sprintf("%s|%s%s: %s", f, g.pick("minute", "hour", "day", "week", "month", "year"), g.pick("", "|gte", "|lt"), g.pick("0", "1", "3", "9", "14", "2026"))
	case 5:
		return fmt.Sprintf("%s|fieldref%s: %s", f, g.pick("", "|cased", "|startswith", "|endswith", "|contains", "|neq"), g.field())
	case 6:
		return fmt.Sprintf("%s|re%s: %s", f, g.pick("", "|i", "|s", "|m", "|i|s"), quote(g.pick("a.b", "^a", "b$", "[A-Z]", "^$", `\d+`)))
	case 7:
		return fmt.Sprintf("%s|%s%s: %s", f, g.pick("base64", "base64offset", "utf16le|base64", "wide|base64offset", "utf16be|base64", "utf16|base64"), g.pick("|contains", ""), quote(g.pick("abc", "foo", "a")))
	case 8:
		return fmt.Sprintf("%s: %s", f, g.pick("true", "false"))
	}
	mods := g.pick("", "", "|contains", "|startswith", "|endswith") + g.pick("", "", "", "|cased", "|windash")
	list := []string{}
	for range 1 + g.IntN(5) {
		list = append(list, quote(g.text()))
	}
	if len(list) > 1 && g.IntN(3) == 0 {
		mods += "|all"
	} else if g.IntN(6) == 0 {
		mods += "|neq"
	}
	return fmt.Sprintf("%s%s: [%s]", f, mods, strings.Join(list, ", "))
}

// rule is one document.
func (g gen) rule(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "title: r%d\nname: r%d\nlogsource: {product: x}\ndetection:\n", i, i)
	for _, id := range []string{"one", "two", "_three"} {
		fmt.Fprintf(&b, "  %s:\n", id)
		switch g.IntN(5) {
		case 0:
			fmt.Fprintf(&b, "    - %s\n    - %s\n", quote("k"+g.text()), quote("k"+g.text()))
		case 1:
			fmt.Fprintf(&b, "    - {%s}\n    - {%s}\n", g.item(), g.item())
		default:
			seen := map[string]bool{}
			for range 1 + g.IntN(2) {
				it := g.item()
				if key, _, _ := strings.Cut(it, ": "); !seen[key] {
					seen[key] = true
					fmt.Fprintf(&b, "    %s\n", it)
				}
			}
		}
	}
	fmt.Fprintf(&b, "  condition: %s\n", g.pick("one", "one and two", "one or two", "not one", "one and not two", "1 of them", "all of them", "not 1 of t*", "not (one or _three)", "one or two and not _three"))
	return b.String()
}

// value is a random JSON value as text.
func (g gen) value(depth int) string {
	switch n := g.IntN(12); {
	case n == 0:
		return "null"
	case n == 1:
		return g.pick("true", "false")
	case n <= 3:
		return g.pick("7", "10", "-7", "10.0", "1e1", "10.5", "1773065100", "1773065100000", "0")
	case n == 4 && depth > 0:
		return "[" + g.value(depth-1) + "," + g.value(depth-1) + "]"
	case n == 5 && depth > 0:
		return "[]"
	case n == 6 && depth > 0:
		return g.record(depth-1, "b", "c", "b.c", "y")
	}
	return quote(g.pick("", "k", "xx") + g.text())
}

// record is a random JSON object without repeated keys.
func (g gen) record(depth int, keys ...string) string {
	var parts []string
	for _, k := range keys {
		if g.IntN(3) > 0 {
			parts = append(parts, quote(k)+":"+g.value(depth))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// TestRandom: random rules on random records, with the index, without it and by
// the reference. A run is short; -count repeats it with other seeds.
func TestRandom(t *testing.T) {
	rounds, pairs, matches := 6, 0, 0
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		seed := rand.Uint64()
		g := gen{rand.New(rand.NewPCG(seed, uint64(round)))}
		var text strings.Builder
		for i := range 200 {
			text.WriteString(g.rule(i) + "---\n")
		}
		files := []File{{"r.yml", []byte(text.String())}}
		on, diags := Load(files, Options{})
		off, _ := Load(files, Options{NoIndex: true})
		ref := refParse(files, Mapping{})
		if len(on.Rules) < 100 {
			t.Fatalf("seed %d: only %d rules compiled, the first of %d diagnostics: %v", seed, len(on.Rules), len(diags), diags[0])
		}
		mOn, mOff := NewMatcher(on.Program()), NewMatcher(off.Program())
		for range 200 {
			raw := []byte(g.record(3, "f", "g", "h", "a", "a.b", "a.b.c", "x", "x.y", "z"))
			a, err := mOn.MatchJSON(raw, nil)
			if err != nil {
				t.Fatalf("%s: %v", raw, err)
			}
			b, _ := mOff.MatchJSON(raw, nil)
			if !slices.Equal(a, b) {
				t.Fatalf("seed %d: index on %v, off %v on %s", seed, a, b, raw)
			}
			rec := decodeRecord(t, raw)
			for _, rule := range on.Rules {
				pairs++
				want := ref[rule.ID].match(rec)
				if want {
					matches++
				}
				if got := slices.Contains(a, int32(rule.Index)); got != want {
					t.Fatalf("seed %d: got %t, reference %t\n%s\n%s\n", seed, got, want, raw, ruleText(text.String(), rule.Name))
				}
			}
		}
	}
	t.Logf("%d pairs, %d matches", pairs, matches)
}

func ruleText(all, name string) string {
	for _, doc := range strings.Split(all, "---\n") {
		if strings.Contains(doc, "name: "+name+"\n") {
			return doc
		}
	}
	return ""
}
