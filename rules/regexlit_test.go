package rules

import (
	"regexp"
	"strings"
	"testing"
)

func TestRequiredLiteral(t *testing.T) {
	t.Parallel()
	for re, want := range map[string]string{
		`^evil-\d+`:          "evil-",
		`a|b`:                "",
		`(?i)POWERhell`:      "powerhell",
		`(?i)Shell`:          "", // ſhell
		`Shell`:              "shell",
		`x*abc?d{2,3}(long)`: "long",
		`(abc)+`:             "abc",
		`(abc){0,2}`:         "",
		`(abc)?`:             "",
		`h\x{fffd}llo`:       "",
		`[a]bc`:              "abc",
		`.*`:                 "",
		``:                   "",
	} {
		if got := requiredLiteral(regexp.MustCompile(re)); got != want {
			t.Errorf("%s: got %q, want %q", re, got, want)
		}
	}
}

// FuzzRequiredLiteral: whatever an expression is found in, holds its literal.
func FuzzRequiredLiteral(f *testing.F) {
	f.Add(`(?i)ab+c|d`, "xABBC")
	f.Add(`k(\x{212a}|K)`, "k\u212a")
	f.Add(`(?i)kelvin`, "\u212aelvin")
	f.Add(`(?i)sos`, "\u017fo\u017f")
	f.Add(`(?:long(?i:er))+`, "longER\xff")
	f.Fuzz(func(t *testing.T, expr, text string) {
		if len(expr) > 100 {
			return
		}
		re, err := regexp.Compile(expr)
		if err != nil || !re.MatchString(text) {
			return
		}
		if lit := requiredLiteral(re); !strings.Contains(fold(text), lit) {
			t.Errorf("%s is found in %q, which does not hold %q", expr, text, lit)
		}
	})
}
