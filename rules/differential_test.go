package rules

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// wild makes rules and records of what is hard: texts that fold to another
// length, bytes of zero, broken UTF-8, keys that are escaped or stand twice,
// numbers out of range, deep nesting.
type wild struct{ gen }

var wildParts = []string{"abc", "ABC", "foo", "Foobar", "k", "\u212a", "ſ", "s", "S", "İ", "i", "ı", "ß", "ẞ", "ǅ", "é", "É", "日本", "\x00", "\x00\x00\x00\x00", "\x00ab", "a", "b",
	" ", "-", "/x", ".", "\\", "*", "?", "10", "zz", "cmd.exe", "qqqq", "\u00ff", "\U0001f600", "\t", "\n", "@", "`", "[", "{"}

func (g wild) words(n int) string {
	var b strings.Builder
	for range n {
		b.WriteString(g.pick(wildParts...))
	}
	return b.String()
}

// line is one line of a selection.
func (g wild) line() string {
	f := g.field()
	switch g.IntN(8) {
	case 0:
		return g.item()
	case 1, 2:
		return fmt.Sprintf("%s|re%s: %s", f, g.pick("", "|i", "|s", "|m", "|i|m"), quote(g.pick("abc+", "(?i)abc", "foo(bar|baz)", "a{2}b", "(abc)?foo", "z*foo", "a.b", `\bcmd\b`, "[aA]bc", "(?i)k", "(?i)s", "é", "(?i)É",
			`\Qcmd.exe\E`, "abc|foo", "(ab|ac)k", "(?i:ab)C", "ab(?i)CF", "(abc)+", "(?:foo|foobar)", `\x00`, `a\x00{2}`, "^$", "(?i)ß", "(?i)kA", "zz|", "q{4}", "[^a]bc", `\pLbc`)))
	case 3:
		return fmt.Sprintf("%s%s: %s", f, g.pick("", "|gt", "|lte", "|contains"), g.pick("1e400", "0", "-0", "123456789012345678901234567890", "10", "0.1"))
	}
	mods := g.pick("", "|contains", "|contains", "|startswith", "|endswith") + g.pick("", "", "", "|cased", "|windash")
	list := []string{}
	for range 1 + g.IntN(4) {
		list = append(list, quote(g.words(1+g.IntN(3))))
	}
	return fmt.Sprintf("%s%s%s: [%s]", f, mods, g.pick("", "", "|all", "|neq"), strings.Join(list, ", "))
}

func (g wild) document(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "title: r%d\nname: r%d\nlogsource: {product: x}\ndetection:\n", i, i)
	for _, id := range []string{"one", "two"} {
		if g.IntN(4) == 0 {
			fmt.Fprintf(&b, "  %s: [%s, %s]\n", id, quote(g.words(1+g.IntN(3))), quote(g.words(2)))
			continue
		}
		fmt.Fprintf(&b, "  %s:\n    - {%s}\n", id, g.line())
		if g.IntN(2) == 0 {
			fmt.Fprintf(&b, "    - {%s}\n", g.line())
		}
	}
	fmt.Fprintf(&b, "  condition: %s\n", g.pick("one", "one and two", "one or two", "not one", "one and not two", "all of them", "two"))
	return b.String()
}

// str is a JSON string; with plain it has whole characters only.
func (g wild) str(plain bool) string {
	s := quote(g.words(g.IntN(6)))
	if g.IntN(4) == 0 {
		s = strings.NewReplacer("a", `\u0061`, "K", `\u004b`, "f", `\u0066`).Replace(s)
	}
	if !plain && g.IntN(3) == 0 {
		s = s[:len(s)-1] + g.pick("\xff", "\xe2\x84", "\\ud800", "\xc3") + `abc"`
	}
	return s
}

func (g wild) any(depth int, plain bool) string {
	switch n := g.IntN(14); {
	case n == 0:
		return g.pick("null", "true", "false")
	case n == 1:
		return g.pick("1e400", "-0", "0", "10", "10.0", "123456789012345678901234567890", "1E+2", "0.1e-400", "7")
	case n == 2 && depth > 0:
		return "[" + g.any(depth-1, plain) + " ," + g.any(depth-1, plain) + "]"
	case n == 3 && depth > 0:
		return g.object(depth-1, plain, "b", "c", "b.c", "y")
	case n == 4 && depth > 0:
		d := 1 + g.IntN(40)
		return strings.Repeat("[", d) + g.any(0, plain) + strings.Repeat("]", d)
	}
	return g.str(plain)
}

func (g wild) object(depth int, plain bool, keys ...string) string {
	var parts []string
	for _, k := range keys {
		times := g.IntN(3)
		if plain {
			times = min(times, 1)
		}
		for range times {
			key := quote(k)
			if g.IntN(5) == 0 {
				key = strings.NewReplacer("a", `\u0061`, ".", `\u002e`, "f", `\u0066`, "b", `\u0062`).Replace(key)
			}
			parts = append(parts, key+g.pick(":", " : ", ": ")+g.any(depth, plain))
		}
	}
	if !plain || g.IntN(2) == 0 {
		g.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	}
	return "{" + strings.Join(parts, g.pick(",", ", ", "\n,")) + "}"
}

// FuzzDifferential: hard rules on hard records give the same verdicts with the
// index, without it, by a matcher that has read other records before, and, where
// a record has no key twice and no broken text, by the reference.
func FuzzDifferential(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, one, two uint64) {
		g := wild{gen{rand.New(rand.NewPCG(one, two))}}
		var text strings.Builder
		for i := range 24 {
			text.WriteString(g.document(i) + "---\n")
		}
		files := []File{{"r.yml", []byte(text.String())}}
		on, _ := Load(files, Options{})
		off, _ := Load(files, Options{NoIndex: true})
		ref := refParse(files, Mapping{})
		worn, bare := NewMatcher(on.Program()), NewMatcher(off.Program())
		for range 40 {
			plain := g.IntN(2) == 0
			raw := []byte(g.object(3, plain, "f", "g", "h", "a", "a.b", "a.b.c", "x", "x.y", "z"))
			got, err := worn.MatchJSON(raw, nil)
			if err != nil {
				t.Fatalf("%q: %v", raw, err)
			}
			want, _ := bare.MatchJSON(raw, nil)
			if !slices.Equal(got, want) {
				t.Fatalf("index on %v, off %v on %q\n%s", got, want, raw, text.String())
			}
			if fresh, _ := NewMatcher(on.Program()).MatchJSON(raw, nil); !slices.Equal(got, fresh) {
				t.Fatalf("worn %v, fresh %v on %q", got, fresh, raw)
			}
			if !plain {
				continue
			}
			rec := decodeRecord(t, raw)
			for _, r := range on.Rules {
				if want := ref[r.ID].match(rec); slices.Contains(got, int32(r.Index)) != want {
					t.Fatalf("reference %t on %q\n%s", want, raw, ruleText(text.String(), r.Name))
				}
			}
		}
	})
}
