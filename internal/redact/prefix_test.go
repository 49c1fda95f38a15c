package redact

import (
	"os"
	"strings"
	"testing"
)

// made is a credential by the table.
func (p *prefix) made() string {
	n := max(p.tail, p.solid, minRun)
	body := strings.Repeat("a1b2c3d4e5f60718", 8)
	if p.only == upper|digit {
		body = strings.ToUpper(body)
	}
	if p.form != anyTail {
		n = p.solid
	}
	return p.text + body[:n]
}

// TestEveryPrefix: each credential of the table is found alone, in words, and glued
// to what stands before it; less of it is none.
func TestEveryPrefix(t *testing.T) {
	t.Parallel()
	if len(prefixes) > 250 {
		t.Fatal("a hit is a byte")
	}
	for i := range prefixes {
		p := &prefixes[i]
		v := p.made()
		for _, before := range []string{"", "x ", "/", "\"", "token", "x_", "gh", "s"} {
			if p.form == exactHex && before != "" && class[before[len(before)-1]]&run != 0 {
				continue
			}
			got, hit := New().String(before + v + " y")
			if want := before + "[redacted:" + string(p.kind) + "] y"; !hit || got != want {
				t.Errorf("%s (%s): got %q, want %q", p.vendor, p.text, got, want)
			}
		}
		if got, hit := New().String("see " + p.text + "abc for it"); hit {
			t.Errorf("%s (%s): a word is masked: %q", p.vendor, p.text, got)
		}
	}
}

// naive is what the automaton is instead of.
func naive(s string, i, j int) (int, *prefix) {
	for k := i; k < j; k++ {
		for n := range prefixes {
			if p := &prefixes[n]; strings.HasPrefix(s[k:j], p.text) && p.fits(s[k+len(p.text):j], k == i) {
				return k, p
			}
		}
	}
	return 0, nil
}

// FuzzPrefixes: the automaton finds something exactly when trying each prefix at each
// place does.
func FuzzPrefixes(f *testing.F) {
	for i := range prefixes {
		f.Add("x" + prefixes[i].made())
	}
	f.Add("ghp_sk-ant-sk_live_SKSK")
	f.Fuzz(func(t *testing.T, s string) {
		j := runOnly(s)
		_, got := prefixFinder.find(s, 0, j)
		_, want := naive(s, 0, j)
		if (got == nil) != (want == nil) {
			t.Fatalf("%q: got %+v, want %+v", s, got, want)
		}
	})
}

// BenchmarkPrefixes compares both on a run of 40 characters without a prefix.
func BenchmarkPrefixes(b *testing.B) {
	s := "arn-aws-iam-user-somebody-of-the-shop-42"
	b.Run("automaton", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			prefixFinder.find(s, 0, len(s))
		}
	})
	b.Run("each_at_each_place", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			naive(s, 0, len(s))
		}
	})
}

// TestPrefixesAreDocumented: the page lists every prefix of the table.
func TestPrefixesAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/explanation/redaction.md")
	if err != nil {
		t.Fatal(err)
	}
	for i := range prefixes {
		if p := &prefixes[i]; !strings.Contains(string(page), p.vendor) || !strings.Contains(string(page), "`"+p.text+"`") {
			t.Errorf("%s (%s) is not on the page", p.vendor, p.text)
		}
	}
}
