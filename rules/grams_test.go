package rules

import (
	"strings"
	"testing"
)

// TestGramsPass: a text that holds a literal passes, wherever it stands, and
// whatever bytes the two are made of.
func TestGramsPass(t *testing.T) {
	t.Parallel()
	for _, lit := range []string{"abc", "abcd", "cmd.exe", "\x00\x00\x00", "\x00\x00\x00\x00", "a\x00\x00\x00\x00", "\x00\x00\x00\x00b", "{\x00\x00\x00\x00", "    ", "@@@@"} {
		g := newGrams([]string{lit})
		for before := range 10 {
			for after := range 10 {
				text := strings.Repeat("x", before) + lit + strings.Repeat("y", after)
				if !g.pass(text) {
					t.Errorf("%q is held back, and holds %q", text, lit)
				}
				if zeros := strings.Repeat("\x00", before) + lit + strings.Repeat("\x00", after); !g.pass(zeros) {
					t.Errorf("%q is held back, and holds %q", zeros, lit)
				}
			}
		}
	}
}
