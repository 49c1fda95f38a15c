package rules

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// modifiers is what the modifiers of one field amount to.
type modifiers struct {
	all, neq, cased, windash, expand bool
	// op is the comparison: empty (equality), or one of the names below.
	op string
	// affix is contains, startswith, endswith or empty.
	affix string
	// part is minute, hour, day, week, month, year or empty.
	part string
	// encode are the encodings, in order: utf16le, utf16be, utf16, base64, base64offset.
	encode []string
	reI    bool
	reM    bool
	reS    bool
}

// Modifier names by group.
var (
	numericOps = []string{"lt", "lte", "gt", "gte"}
	affixes    = []string{"contains", "startswith", "endswith"}
	timeParts  = []string{"minute", "hour", "day", "week", "month", "year"}
	encodings  = []string{"base64", "base64offset", "utf16le", "utf16be", "utf16", "wide"}
)

// modifiersOf splits a key of a mapping into field and modifiers.
func (d *docParser) modifiersOf(k *yaml.Node) (string, modifiers, bool) {
	parts := strings.Split(k.Value, "|")
	var m modifiers
	seen := map[string]bool{}
	for _, name := range parts[1:] {
		if seen[name] {
			d.report(k, CodeModifierMix, "remove one", "modifier %q is given twice", name)
			return "", m, false
		}
		seen[name] = true
		if fault := m.add(name); fault != "" {
			code := CodeModifierMix
			if strings.HasPrefix(fault, "unknown") {
				code = CodeModifier
			}
			hint := ""
			if code == CodeModifier {
				hint = modifierHint(name)
			}
			d.report(k, code, hint, "%s", fault)
			return "", m, false
		}
	}
	if fault := m.conflict(parts[0] == ""); fault != "" {
		d.report(k, CodeModifierMix, "", "%s", fault)
		return "", m, false
	}
	if parts[0] != "" && m.has("base64offset") && m.affix != "contains" {
		d.report(k, CodeOffsetAlone, "write `base64offset|contains`", "`base64offset` without `contains` compares with the whole value")
	}
	return parts[0], m, true
}

// modifierHint names the modifier that was meant, or all of them.
func modifierHint(name string) string {
	lower := strings.ToLower(name)
	var names []string
	begun, cut := "", ""
	for _, m := range Modifiers() {
		names = append(names, m.Name)
		switch {
		case m.Name == lower || len(lower) > 2 && begun == "" && strings.HasPrefix(m.Name, lower):
			begun = m.Name
		case len(m.Name) > max(2, len(cut)) && strings.HasPrefix(lower, m.Name):
			cut = m.Name
		}
	}
	if best := cmp.Or(begun, cut); best != "" {
		return "did you mean `" + best + "`?"
	}
	return "known modifiers: " + strings.Join(names, ", ")
}

// add takes one modifier in; the text says what is wrong with it.
func (m *modifiers) add(name string) string {
	switch {
	case name == "all":
		m.all = true
	case name == "neq":
		m.neq = true
	case name == "cased":
		m.cased = true
	case name == "windash":
		m.windash = true
	case name == "expand":
		m.expand = true
	case slices.Contains(affixes, name):
		if m.affix != "" {
			return fmt.Sprintf("%q and %q cannot be used together", m.affix, name)
		}
		m.affix = name
	case slices.Contains(timeParts, name):
		if m.part != "" {
			return fmt.Sprintf("%q and %q cannot be used together", m.part, name)
		}
		m.part = name
	case slices.Contains(encodings, name):
		if name == "wide" {
			name = "utf16le"
		}
		return m.addEncoding(name)
	case name == "i" || name == "m" || name == "s":
		if m.op != "re" {
			return fmt.Sprintf("%q must follow `re`", name)
		}
		m.reI, m.reM, m.reS = m.reI || name == "i", m.reM || name == "m", m.reS || name == "s"
	case slices.Contains(numericOps, name), name == "re", name == "cidr", name == "exists", name == "fieldref":
		if m.op != "" {
			return fmt.Sprintf("%q and %q cannot be used together", m.op, name)
		}
		m.op = name
	default:
		return fmt.Sprintf("unknown modifier %q", name)
	}
	return ""
}

func (m *modifiers) addEncoding(name string) string {
	wide := strings.HasPrefix(name, "utf16")
	switch {
	case m.affix != "":
		return fmt.Sprintf("%q must come before %q", name, m.affix)
	case m.has("base64") || m.has("base64offset"):
		return fmt.Sprintf("%q cannot follow a base64 encoding", name)
	case wide && len(m.encode) > 0:
		return fmt.Sprintf("%q and %q cannot be used together", m.encode[0], name)
	}
	m.encode = append(m.encode, name)
	return ""
}

func (m *modifiers) has(encoding string) bool { return slices.Contains(m.encode, encoding) }

// conflict says which modifiers do not go together.
func (m *modifiers) conflict(keyword bool) string {
	str := m.affix != "" || m.windash || len(m.encode) > 0
	switch {
	case m.op == "exists" && (str || m.all || m.neq || m.cased || m.expand || m.part != ""):
		return "`exists` takes no other modifier"
	case m.op == "cidr" && (str || m.cased || m.part != ""):
		return "`cidr` compares addresses: only `all`, `neq` and `expand` go with it"
	case m.op == "re" && (m.affix != "" || m.windash || len(m.encode) > 0 || m.part != "" || m.expand):
		return "`re` is a substring search over the text as it is: anchor with ^ and $ instead of another modifier"
	case m.op == "re" && m.cased:
		return "`re` is case-sensitive already; use `re|i` for the opposite"
	case slices.Contains(numericOps, m.op) && (str || m.cased):
		return fmt.Sprintf("%q compares numbers: text modifiers do not go with it", m.op)
	case m.op == "fieldref" && (m.windash || len(m.encode) > 0 || m.part != "" || m.expand):
		return "`fieldref` names a field: only `startswith`, `endswith`, `contains`, `cased`, `neq` and `all` go with it"
	case m.part != "" && (str || m.cased):
		return fmt.Sprintf("%q is a number: text modifiers do not go with it", m.part)
	case len(m.encode) == 1 && strings.HasPrefix(m.encode[0], "utf16"):
		return fmt.Sprintf("%q must be followed by `base64` or `base64offset`", m.encode[0])
	case len(m.encode) > 0 && m.windash:
		return "`windash` and encodings cannot be used together"
	case m.neq && m.all:
		return "`neq` and `all` cannot be used together: use `not` in the condition"
	case keyword && (m.neq || m.part != "" || m.op != "" && m.op != "re"):
		return "keywords take only `all`, `re`, `cased`, `windash`, `expand`, `contains` and encodings"
	case keyword && (m.affix == "startswith" || m.affix == "endswith"):
		return "keywords are searched anywhere: `startswith` and `endswith` need a field"
	}
	return ""
}

// checkValues reports values that the modifiers cannot take.
func (d *docParser) checkValues(k *yaml.Node, it *item) bool {
	if it.mods.op == "exists" && len(it.values) > 1 {
		d.report(k, CodeModifierValue, "", "`exists` takes one value, true or false")
		return false
	}
	for _, v := range it.values {
		if code, fault := it.mods.fault(v, it.field == ""); fault != "" {
			d.reportAt(v.pos, code, "", fault)
			return false
		}
		if it.mods.op == "cidr" && !it.mods.expand {
			if p, err := netip.ParsePrefix(v.text); err == nil && p != p.Masked() {
				d.reportAt(v.pos, CodeHostBits, "write "+p.Masked().String(), v.text+" has bits set beyond its prefix")
			}
		}
		if !it.mods.expand && v.kind == valString && it.mods.op == "" && placeholder.MatchString(v.text) && looksPlaceholder(v.text) {
			d.reportAt(v.pos, CodeEscapedDollar, "add the modifier `expand`, if a placeholder is meant", v.text+" looks like a placeholder")
		}
	}
	return true
}

// looksPlaceholder leaves out Windows environment variables, which rules name
// literally.
func looksPlaceholder(s string) bool {
	return strings.HasPrefix(s, "%") && strings.HasSuffix(s, "%") && strings.Count(s, "%") == 2 && strings.Contains(s, "_")
}

// fault says why v does not suit the modifiers.
func (m *modifiers) fault(v value, keyword bool) (Code, string) {
	numeric := slices.Contains(numericOps, m.op)
	switch {
	case keyword && v.kind == valNull:
		return CodeModifierValue, "a keyword cannot be null"
	case m.op == "exists":
		if v.kind != valBool {
			return CodeModifierValue, "`exists` takes true or false"
		}
	case m.expand:
		if v.kind != valString {
			return CodeModifierValue, "`expand` needs a text with %name%"
		}
	case numeric || m.part != "":
		if v.kind != valNumber {
			return CodeModifierValue, fmt.Sprintf("%q needs a number, not %q", m.op+m.part, v.text)
		}
		if m.part != "" && v.num != float64(int64(v.num)) {
			return CodeModifierValue, fmt.Sprintf("%q needs a whole number", m.part)
		}
	case m.op == "cidr":
		if _, ok := parseNet(v.text); !ok {
			return CodeModifierValue, fmt.Sprintf("%q is not a network such as 10.0.0.0/8 or fe80::/10", v.text)
		}
	case m.op == "fieldref":
		if v.kind != valString || v.text == "" {
			return CodeModifierValue, "`fieldref` needs the name of a field"
		}
	case m.op == "re":
		if v.kind == valNull || v.kind == valBool {
			return CodeModifierValue, "`re` needs a text"
		}
		if _, err := m.regex(v.text); err != nil {
			return CodeRegex, regexFault(err)
		}
	case v.kind == valNull && (m.affix != "" || m.windash || m.cased || len(m.encode) > 0):
		return CodeModifierValue, "null goes only with equality and `neq`"
	case len(m.encode) > 0:
		if _, ok := parsePattern(v.text).plain(); !ok || v.kind != valString {
			return CodeModifierValue, "an encoded value must be a text without wildcards"
		}
	case m.windash && v.kind != valString:
		return CodeModifierValue, "`windash` needs a text"
	}
	return "", ""
}

func regexFault(err error) string {
	s := strings.TrimPrefix(err.Error(), "error parsing regexp: ")
	if strings.Contains(s, "(?=") || strings.Contains(s, "(?!") || strings.Contains(s, "(?<") || strings.Contains(s, "(?>") {
		return "the regular expression uses lookaround or an atomic group, which RE2 and the Sigma specification lack: " + s
	}
	return "the regular expression is not valid RE2: " + s
}

// regex compiles a pattern with the flags of the modifiers.
func (m *modifiers) regex(s string) (*regexp.Regexp, error) {
	return regexp.Compile(m.regexText(s))
}

// regexText is the pattern with its flags in front. Without flags a capital or a
// dot means what RE2 means by it.
func (m *modifiers) regexText(s string) string {
	flags := ""
	for _, f := range []struct {
		on   bool
		name string
	}{{m.reI, "i"}, {m.reM, "m"}, {m.reS, "s"}} {
		if f.on {
			flags += f.name
		}
	}
	if flags != "" {
		return "(?" + flags + ")" + s
	}
	return s
}

// parseNet reads a network, or one address as the network of itself.
func parseNet(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
			return netip.PrefixFrom(a.Unmap(), p.Bits()-96).Masked(), true
		}
		return p.Masked(), true
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), true
}

// numberText is the decimal text of a YAML number: as written when that is
// decimal already, else in its shortest form.
func numberText(written string, v float64) string {
	if s := strconv.FormatFloat(v, 'f', -1, 64); s != written && !plainDecimal(written) {
		return s
	}
	return written
}

func plainDecimal(s string) bool {
	s = strings.TrimPrefix(s, "-")
	if len(s) > 1 && s[0] == '0' && s[1] != '.' {
		return false
	}
	dot := false
	for i := 0; i < len(s); i++ {
		if s[i] == '.' && !dot {
			dot = true
		} else if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}
