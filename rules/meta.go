package rules

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"go.yaml.in/yaml/v3"
)

var (
	uuidForm = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
	dateForm = regexp.MustCompile(`^\d{4}[-/]\d{1,2}[-/]\d{1,2}$`)
	tagForm  = regexp.MustCompile(`^[a-z0-9_-]+\.[a-z0-9._-]+$`)
)

var (
	statuses = []string{"stable", "test", "experimental", "deprecated", "unsupported"}
	// relations includes obsolete, the older word of the specification.
	relations = []string{"correlation", "derived", "merged", "obsolete", "renamed", "similar"}
	levels    = []string{"informational", "low", "medium", "high", "critical"}
	families  = []string{"possession", "place", "volume", "sequence", "lifecycle"}
)

// defaultSuppress is the episode timespan of a standalone detection rule.
const defaultSuppress = time.Hour

// metaOf reads what every document carries, Sigma's keys and the extensions.
func (d *docParser) metaOf() Meta {
	r := d.doc.root
	m := Meta{
		File: d.doc.file, Line: d.doc.base + r.Line,
		ID: d.str(r, "id"), Name: d.str(r, "name"), Title: d.str(r, "title"),
		Status: d.str(r, "status"), Level: strings.ToLower(d.str(r, "level")),
		Description: d.str(r, "description"), Author: strings.Join(d.strs(r, "author"), ", "),
		References: d.strs(r, "references"), Tags: d.strs(r, "tags"), FalsePositives: d.strs(r, "falsepositives"),
		Suppress: defaultSuppress, Kind: finding.Other, Hash: hashOf(nodeParts(d.doc.root)...), Logic: d.logic(),
	}
	if strings.TrimSpace(m.Title) == "" && !d.failed {
		d.report(r, CodeMissingKey, "add `title: ...`", "the title is missing")
	}
	d.checkMeta(&m)
	if m.ID == "" {
		m.ID = m.Name
	}
	if m.ID == "" {
		m.ID = slug(m.Title)
	}
	d.extensions(&m)
	return m
}

// nodeParts identify the content of a part of a document, whatever its comments
// and layout.
func nodeParts(n *yaml.Node) []string {
	if n == nil {
		return []string{""}
	}
	parts := []string{fmt.Sprint(n.Kind, len(n.Content)), n.Tag, n.Value}
	for _, c := range n.Content {
		parts = append(parts, nodeParts(c)...)
	}
	return parts
}

// logicKeys are the keys of a document that decide when a rule fires, beside the
// subject of its risk, by which a single rule is grouped. The mode is one: what
// was found in the shadow is no reason to keep quiet once the rule is live.
var logicKeys = []string{"logsource", "detection", "correlation", "filter", "cause", "suppress", "mode"}

// logic identifies what decides when the document's rule fires.
func (d *docParser) logic() string {
	parts := nodeParts(get(get(d.doc.root, "risk"), "subject"))
	for _, k := range logicKeys {
		parts = append(parts, nodeParts(get(d.doc.root, k))...)
	}
	return hashOf(parts...)
}

// hashOf is a short identity of several texts.
func hashOf(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// checkMeta checks the standard keys; what only advises is a warning.
func (d *docParser) checkMeta(m *Meta) {
	r := d.doc.root
	if m.ID == "" {
		d.report(r, CodeNoID, "add `id:` with a random UUID", "the document has no id")
	} else if !uuidForm.MatchString(m.ID) {
		d.report(get(r, "id"), CodeStyle, "", "id %q is not a UUID", m.ID)
	}
	if m.Status != "" && !slices.Contains(statuses, m.Status) {
		d.report(get(r, "status"), CodeStyle, "use one of "+strings.Join(statuses, ", "), "unknown status %q", m.Status)
	}
	if m.Level != "" && !slices.Contains(levels, m.Level) {
		d.report(get(r, "level"), CodeBadValue, "use one of "+strings.Join(levels, ", "), "unknown level %q", m.Level)
	}
	for _, key := range []string{"date", "modified"} {
		if s := d.str(r, key); s != "" && !dateForm.MatchString(s) {
			d.report(get(r, key), CodeStyle, "write YYYY-MM-DD", "%s %q is not a date", key, s)
		}
	}
	for _, t := range m.Tags {
		if !tagForm.MatchString(t) {
			d.report(get(r, "tags"), CodeStyle, "write namespace.name in lower case", "tag %q has no namespace", t)
		}
	}
	for _, key := range []string{"taxonomy", "license"} {
		d.str(r, key)
	}
	for _, key := range []string{"fields", "scope"} {
		d.strs(r, key)
	}
	d.related(get(r, "related"))
}

// related checks the list of related rules.
func (d *docParser) related(n *yaml.Node) {
	if n == nil || isNull(n) {
		return
	}
	for _, x := range items(n) {
		if n.Kind != yaml.SequenceNode || x.Kind != yaml.MappingNode {
			d.report(x, CodeBadValue, "", "related must be a list of {id, type}")
			return
		}
		if id := d.str(x, "id"); id == "" {
			d.report(x, CodeStyle, "", "a related rule needs an id")
		}
		if t := d.str(x, "type"); !slices.Contains(relations, t) {
			d.report(x, CodeStyle, "use one of "+strings.Join(relations, ", "), "unknown relation %q", t)
		}
	}
}

// extensions reads the keys that only Keysentry knows.
func (d *docParser) extensions(m *Meta) {
	r := d.doc.root
	d.risk(m, get(r, "risk"))
	for _, s := range d.strs(r, "cause") {
		c, ok := event.ParseCause(s)
		if !ok || c == event.CauseNone {
			d.report(get(r, "cause"), CodeExtensionValue, "", "unknown cause %q", s)
			continue
		}
		m.Causes = append(m.Causes, c)
	}
	m.Playbook, m.Resolution, m.Summary = d.str(r, "playbook"), d.str(r, "resolution"), d.str(r, "summary")
	switch mode := d.str(r, "mode"); mode {
	case "", "live":
	case "shadow":
		m.Shadow = true
	default:
		d.report(get(r, "mode"), CodeExtensionValue, "use live or shadow", "unknown mode %q", mode)
	}
	if v, ok := d.span(r, "suppress"); ok {
		m.Suppress = v
	}
	m.Refire, _ = d.span(r, "refire")
	if s := d.str(r, "incident"); s != "" {
		m.Kind = finding.Kind(s)
		if !slices.Contains(finding.Kinds(), m.Kind) {
			d.report(get(r, "incident"), CodeExtensionValue, "", "unknown kind of incident %q", s)
		}
	}
	m.Severity = defaultSeverity(m.Level)
	if s := d.str(r, "severity"); s != "" {
		if err := m.Severity.UnmarshalText([]byte(s)); err != nil {
			d.report(get(r, "severity"), CodeExtensionValue, "", "%s", err)
		}
	}
	d.needs(m, get(r, "needs"))
	d.portability()
}

// extensionKeys are the keys that only Keysentry knows.
var extensionKeys = []string{"risk", "cause", "playbook", "mode", "suppress", "refire", "incident", "severity", "resolution", "summary", "needs", "tests"}

// portability names the extension keys that the document uses.
func (d *docParser) portability() {
	var used []string
	for _, k := range extensionKeys {
		if get(d.doc.root, k) != nil {
			used = append(used, k)
		}
	}
	if len(used) > 0 {
		d.report(get(d.doc.root, used[0]), CodeNotPortable, "", "other Sigma tools do not know: %s", strings.Join(used, ", "))
	}
}

func (d *docParser) risk(m *Meta, n *yaml.Node) {
	if n == nil {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.report(n, CodeExtensionValue, "", "risk must be {subject: FIELD, score: N}")
		return
	}
	m.Risk.Subject, m.Risk.Family = d.str(n, "subject"), d.str(n, "family")
	m.Risk.Score, _ = d.number(n, "score")
	if m.Risk.Subject == "" {
		d.report(n, CodeExtensionValue, "", "risk needs a subject")
	}
	if m.Risk.Family != "" && !slices.Contains(families, m.Risk.Family) {
		d.report(get(n, "family"), CodeExtensionValue, "use one of "+strings.Join(families, ", "), "unknown family %q", m.Risk.Family)
	}
	d.onlyKeys(n, CodeExtensionValue, "subject", "score", "family")
}

func (d *docParser) needs(m *Meta, n *yaml.Node) {
	if n == nil {
		return
	}
	for _, s := range d.strs(n, "origins") {
		o, ok := event.ParseOrigin(s)
		if !ok || o == event.OriginNone {
			d.report(n, CodeExtensionValue, "", "unknown origin %q", s)
		}
		m.Origins = append(m.Origins, o)
	}
	for _, s := range d.strs(n, "fields") {
		f, ok := event.ParseField(s)
		if !ok {
			d.report(n, CodeExtensionValue, "", "unknown field %q", s)
		}
		m.Fields = append(m.Fields, f)
	}
	for _, s := range d.strs(n, "settings") {
		if !slices.Contains(Settings(), Setting(s)) {
			d.report(n, CodeExtensionValue, "", "unknown setting %q", s)
		}
		m.Settings = append(m.Settings, Setting(s))
	}
	d.onlyKeys(n, CodeExtensionValue, "origins", "fields", "settings")
}

// onlyKeys reports keys of a mapping that are not in the list, and whether there
// are none.
func (d *docParser) onlyKeys(n *yaml.Node, code Code, known ...string) bool {
	if n.Kind != yaml.MappingNode {
		d.report(n, code, "", "must be a mapping")
		return false
	}
	good := true
	for i := 0; i < len(n.Content); i += 2 {
		if k := n.Content[i]; !slices.Contains(known, k.Value) {
			d.report(k, code, "known keys: "+strings.Join(known, ", "), "unknown key %q", k.Value)
			good = false
		}
	}
	return good
}

func defaultSeverity(level string) finding.Severity {
	switch level {
	case "critical":
		return finding.Page
	case "high", "medium":
		return finding.Ticket
	}
	return finding.Digest
}

// span is the duration of a key: a number and a unit, as 90m.
func (d *docParser) span(m *yaml.Node, key string) (time.Duration, bool) {
	n := get(m, key)
	if n == nil || isNull(n) {
		return 0, false
	}
	v, ok := parseSpan(n.Value)
	if !ok {
		d.report(n, CodeTimespan, "write a number and one of s, m, h, d, w, as 90m", "%s %q is not a timespan", key, n.Value)
	}
	return v, ok
}

// parseSpan reads Sigma's timespans. The unit is in lower case: M would be taken
// for months elsewhere.
func parseSpan(s string) (time.Duration, bool) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	if len(s) < 2 || len(s) > 10 {
		return 0, false
	}
	unit, ok := units[s[len(s)-1]]
	if !ok {
		return 0, false
	}
	var v time.Duration
	for _, c := range []byte(s[:len(s)-1]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		v = v*10 + time.Duration(c-'0')
	}
	if v == 0 || v > 10*365*24*time.Hour/unit {
		return 0, false
	}
	return v * unit, true
}

// slug derives an identity from a title.
func slug(s string) string {
	var b strings.Builder
	for _, c := range []byte(strings.ToLower(s)) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			b.WriteByte(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}
