package rules

import (
	"fmt"
	"path"
	"strings"

	"go.yaml.in/yaml/v3"
)

// cond is a parsed condition: a leaf names an identifier, an inner node joins
// its arguments.
type cond struct {
	op   string // and, or, not; empty for a leaf
	name string
	args []*cond
}

// condScope answers which names a condition may use.
type condScope struct {
	has    func(name string) bool
	names  []string
	them   bool // identifiers with _ stay out of "them"
	what   string
	legacy bool // hint at correlations for aggregations
}

// maxCondDepth bounds nesting, so that no condition can exhaust the stack.
const maxCondDepth = 100

// conditionsOf parses the condition of a detection: one text, or a list of them
// joined by or.
func (d *docParser) conditionsOf(n *yaml.Node, det *detection) []*cond {
	scope := condScope{names: det.order, them: true, what: "identifier", legacy: true,
		has: func(s string) bool { return det.idents[s] != nil }}
	var out []*cond
	used := map[string]bool{}
	for _, c := range items(n) {
		if !isText(c) {
			d.report(c, CodeCondition, "", "a condition must be a text")
			continue
		}
		if d.failed {
			// Identifiers may be missing because they were broken; a pipe is wrong anyway.
			if strings.Contains(c.Value, "|") {
				d.parseCond(c, scope)
			}
			break
		}
		if e := d.parseCond(c, scope); e != nil {
			out = append(out, e)
			e.uses(used)
		}
	}
	if len(out) == 0 && !d.failed {
		d.report(n, CodeCondition, "", "the condition is empty")
	}
	if !d.failed {
		for _, name := range det.order {
			if !used[name] {
				d.reportAt(det.idents[name].pos, CodeUnused, "name it in the condition, or remove it",
					fmt.Sprintf("identifier %q is not used by the condition", name))
			}
		}
	}
	return out
}

func (c *cond) uses(into map[string]bool) {
	if c.op == "" {
		into[c.name] = true
	}
	for _, a := range c.args {
		a.uses(into)
	}
}

// negates reports whether anything in the condition is negated.
func (c *cond) negates() bool {
	if c.op == "not" {
		return true
	}
	for _, a := range c.args {
		if a.negates() {
			return true
		}
	}
	return false
}

// condError is a fault at a byte offset of the condition's text.
type condError struct {
	code   Code
	offset int
	text   string
	hint   string
}

// parseCond parses n's text and reports what is wrong with it.
func (d *docParser) parseCond(n *yaml.Node, scope condScope) *cond {
	e, fault := parseCondition(n.Value, scope)
	if fault == nil {
		return e
	}
	p := d.at(n)
	if n.Style == 0 { // a plain scalar starts at its column; quotes and blocks do not
		p.col += fault.offset
	}
	d.reportAt(p, fault.code, fault.hint, fault.text)
	return nil
}

// parseCondition parses the grammar
//
//	or   = and { "or" and }
//	and  = not { "and" not }
//	not  = "not" not | "(" or ")" | selector | name
//	selector = ( "1" | "any" | "all" ) "of" ( "them" | pattern )
//
// with keywords in upper or lower case.
func parseCondition(text string, scope condScope) (*cond, *condError) {
	p := &condParser{toks: lexCond(text), scope: scope, end: len(text)}
	for _, t := range p.toks {
		if t.text == "|" {
			return nil, &condError{CodeLegacyPipe, t.at, "aggregations after a pipe are not supported",
				"write a second document with `correlation: {type: event_count, rules: [this rule], group-by: [...], timespan: 5m, condition: {gte: N}}` (value_count for count(field))"}
		}
	}
	e := p.or(0)
	if p.err == nil && p.i < len(p.toks) {
		p.fail("%q is not expected here", p.toks[p.i].text)
	}
	if p.err != nil {
		return nil, p.err
	}
	return e, nil
}

type condTok struct {
	text string
	at   int
}

// lexCond splits at white space, parentheses and pipes.
func lexCond(s string) []condTok {
	var out []condTok
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case strings.IndexByte(" \t\r\n", c) >= 0:
			i++
		case strings.IndexByte("()|", c) >= 0:
			out = append(out, condTok{string(c), i})
			i++
		default:
			j := i
			for j < len(s) && strings.IndexByte(" \t\r\n()|", s[j]) < 0 {
				j++
			}
			out = append(out, condTok{s[i:j], i})
			i = j
		}
	}
	return out
}

type condParser struct {
	toks  []condTok
	i     int
	end   int
	scope condScope
	err   *condError
}

// peek is the current token in lower case, "" at the end.
func (p *condParser) peek() string {
	if p.i < len(p.toks) {
		return strings.ToLower(p.toks[p.i].text)
	}
	return ""
}

func (p *condParser) fail(format string, args ...any) *cond {
	p.failAs(CodeCondition, "", format, args...)
	return nil
}

func (p *condParser) failAs(code Code, hint, format string, args ...any) {
	if p.err != nil {
		return
	}
	at := p.end
	if p.i < len(p.toks) {
		at = p.toks[p.i].at
	}
	p.err = &condError{code, at, fmt.Sprintf(format, args...), hint}
}

func (p *condParser) or(depth int) *cond {
	return p.chain("or", depth, func() *cond { return p.and(depth) })
}

func (p *condParser) and(depth int) *cond {
	return p.chain("and", depth, func() *cond { return p.not(depth) })
}

func (p *condParser) chain(op string, _ int, next func() *cond) *cond {
	first := next()
	if p.err != nil || p.peek() != op {
		return first
	}
	e := &cond{op: op, args: []*cond{first}}
	for p.err == nil && p.peek() == op {
		p.i++
		e.args = append(e.args, next())
	}
	return e
}

func (p *condParser) not(depth int) *cond {
	if depth > maxCondDepth {
		return p.fail("the condition is nested too deep")
	}
	switch tok := p.peek(); tok {
	case "":
		return p.fail("the condition ends where an identifier is expected")
	case "not":
		p.i++
		return &cond{op: "not", args: []*cond{p.not(depth + 1)}}
	case "(":
		p.i++
		e := p.or(depth + 1)
		if p.err == nil && p.peek() != ")" {
			return p.fail("a parenthesis is not closed")
		}
		p.i++
		return e
	case ")", "and", "or":
		return p.fail("%q is not expected here", p.toks[p.i].text)
	case "1", "any", "all":
		if p.i+1 < len(p.toks) && strings.EqualFold(p.toks[p.i+1].text, "of") {
			p.i += 2
			return p.selector(tok == "all")
		}
	}
	return p.name()
}

func (p *condParser) name() *cond {
	name := p.toks[p.i].text
	if !p.scope.has(name) {
		hint := ""
		if p.scope.legacy && p.i+1 < len(p.toks) && p.toks[p.i+1].text == "(" {
			hint = "aggregations are not supported: write a correlation document"
		} else if strings.ContainsAny(name, "*") {
			hint = "write `1 of " + name + "` or `all of " + name + "`"
		}
		p.failAs(CodeIdentifier, hint, "there is no %s %q", p.scope.what, name)
		return nil
	}
	p.i++
	return &cond{name: name}
}

// selector expands "them" or a pattern over the names of the scope.
func (p *condParser) selector(all bool) *cond {
	if p.i >= len(p.toks) {
		return p.fail("`of` needs `them` or a pattern")
	}
	pat := p.toks[p.i].text
	if strings.ContainsAny(pat, "()") {
		return p.fail("`of` needs `them` or a pattern")
	}
	e := &cond{op: "or"}
	if all {
		e.op = "and"
	}
	for _, name := range p.scope.names {
		if p.selects(pat, name) {
			e.args = append(e.args, &cond{name: name})
		}
	}
	if len(e.args) == 0 {
		p.failAs(CodeSelector, "", "%q matches no %s", pat, p.scope.what)
		return nil
	}
	p.i++
	if len(e.args) == 1 {
		return e.args[0]
	}
	return e
}

func (p *condParser) selects(pat, name string) bool {
	hidden := p.scope.them && strings.HasPrefix(name, "_")
	if strings.EqualFold(pat, "them") {
		return !hidden
	}
	if hidden && !strings.HasPrefix(pat, "_") {
		return false
	}
	// Only * is special: path.Match knows more, and stops at slashes.
	esc := strings.NewReplacer(`\`, `\\`, `?`, `\?`, `[`, `\[`, `/`, "\x00").Replace(pat)
	ok, err := path.Match(esc, strings.ReplaceAll(name, "/", "\x00"))
	return err == nil && ok
}
