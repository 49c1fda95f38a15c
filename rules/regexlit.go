package rules

import (
	"regexp"
	"regexp/syntax"
	"strings"
)

// requiredLiteral is a text, folded, that the folded form of every text holds in
// which re is found; empty when there is none worth having. It is the longest of
// the parts that must follow one another.
func requiredLiteral(re *regexp.Regexp) string {
	tree, err := syntax.Parse(re.String(), syntax.Perl)
	if err != nil {
		return "" // it was compiled from the same text
	}
	return required(tree)
}

func required(e *syntax.Regexp) string {
	switch e.Op {
	case syntax.OpLiteral:
		// What is not ASCII stands for broken bytes too. Ignoring case, s is also the
		// long s, which folding keeps.
		s := string(e.Rune)
		if !isASCII(s) || e.Flags&syntax.FoldCase != 0 && strings.ContainsAny(s, "sS") {
			return ""
		}
		return fold(s)
	case syntax.OpCapture, syntax.OpPlus:
		return required(e.Sub[0])
	case syntax.OpRepeat:
		if e.Min > 0 {
			return required(e.Sub[0])
		}
	case syntax.OpConcat:
		best := ""
		for _, sub := range e.Sub {
			if s := required(sub); len(s) > len(best) {
				best = s
			}
		}
		return best
	}
	return ""
}
