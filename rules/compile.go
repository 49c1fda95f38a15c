package rules

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/keysentry/keysentry/event"
	"go.yaml.in/yaml/v3"
)

// loader is the state of one load.
type loader struct {
	opt   Options
	diags []Diagnostic

	detections   []*detectionDoc
	correlations []*correlationDoc
	filters      []*filterDoc

	ids, names map[string]pos

	low   *lowerer
	set   *Set
	byRef map[string]*Rule        // rules that compiled, by id and by name
	corr  map[string]*Correlation // correlations that compiled
	left  map[string]bool         // ids and names of documents left out for an error
	off   map[string]bool         // ids and names of documents that Options.Disable leaves out
}

// filterDoc is the AST of a filter document.
type filterDoc struct {
	p         *docParser
	meta      Meta
	logsource map[string]string
	refs      []ref
	any       bool
	detection detection
}

// Load compiles files. A document with an error is left out and the rest load:
// the set is never nil, and holds whatever is right. Diagnostics come in the
// order of files and lines. Files with tests (TestSuffix) are passed over.
func Load(files []File, opt Options) (*Set, []Diagnostic) {
	g := newGraph()
	l := &loader{opt: opt, ids: map[string]pos{}, names: map[string]pos{}, set: &Set{},
		low:   &lowerer{g: g, slots: newSlots(opt), opt: opt},
		byRef: map[string]*Rule{}, corr: map[string]*Correlation{}, left: map[string]bool{}, off: map[string]bool{}}
	for _, f := range files {
		if isTestFile(f.Name) {
			continue
		}
		for _, doc := range parseDocs(f, func(d Diagnostic) { l.diags = append(l.diags, d) }) {
			l.parse(doc)
		}
	}
	l.compileDetections()
	l.applyFilters()
	l.compileCorrelations()
	for _, f := range opt.Fields {
		l.low.slots.of(f)
	}
	l.set.program = compile(l.set, g, l.low.slots, opt)
	sortDiagnostics(files, l.diags)
	return l.set, l.diags
}

// sortDiagnostics puts diagnostics in the order of files and places.
func sortDiagnostics(files []File, diags []Diagnostic) {
	order := map[string]int{}
	for i, f := range files {
		order[f.Name] = i
	}
	slices.SortStableFunc(diags, func(a, b Diagnostic) int {
		return cmp.Or(order[a.File]-order[b.File], a.Line-b.Line, a.Col-b.Col)
	})
}

// disabled reports whether a document is left out on request, and remembers it
// under both of its names.
func (l *loader) disabled(m *Meta) bool {
	if !slices.ContainsFunc(l.opt.Disable, func(s string) bool { return s != "" && (s == m.ID || s == m.Name) }) {
		return false
	}
	l.turnOff(m)
	return true
}

func (l *loader) turnOff(m *Meta) {
	for _, k := range []string{m.ID, m.Name} {
		if k != "" {
			l.off[k] = true
		}
	}
}

// flush takes over the diagnostics of a document and remembers when it is left
// out.
func (l *loader) flush(p *docParser, m *Meta) bool {
	l.diags = append(l.diags, p.diags...)
	p.diags = nil
	if p.failed {
		for _, k := range []string{m.ID, m.Name} {
			if k != "" {
				l.left[k] = true
			}
		}
	}
	return !p.failed
}

// parse turns one document into its AST by its kind.
func (l *loader) parse(doc rawDoc) {
	p := &docParser{doc: doc}
	p.checkKeys(doc.root)
	kinds := 0
	for _, k := range []string{"detection", "correlation", "filter"} {
		if get(doc.root, k) != nil {
			kinds++
		}
	}
	if a := get(doc.root, "action"); a != nil && isText(a) {
		p.report(a, CodeLegacyAction, "give every document its own title and logsource; for `action: correlation` write a `correlation:` document",
			"action %q belongs to old Sigma collections", a.Value)
		l.flush(p, &Meta{})
		return
	}
	if kinds != 1 {
		p.report(doc.root, CodeKind, "", "a document has exactly one of detection, correlation and filter; this one has %d", kinds)
		l.flush(p, &Meta{})
		return
	}
	switch {
	case get(doc.root, "detection") != nil:
		l.parseDetection(p)
	case get(doc.root, "filter") != nil:
		l.parseFilter(p)
	default:
		c := p.correlationOf(get(doc.root, "correlation"))
		l.unique(p, &c.meta)
		if l.flush(p, &c.meta) && !l.disabled(&c.meta) {
			l.correlations = append(l.correlations, c)
		}
	}
}

// unique reports an id or a name that another document has.
func (l *loader) unique(p *docParser, m *Meta) {
	if p.failed {
		return
	}
	check := func(seen map[string]pos, key, what string, code Code) {
		if key == "" {
			return
		}
		if first, ok := seen[key]; ok {
			p.report(get(p.doc.root, what), code, "", "%s %q is taken by %s:%d", what, key, first.file, first.line)
			// The first document keeps the name: only this one is left out.
			return
		}
		seen[key] = p.at(get(p.doc.root, what))
	}
	check(l.names, m.Name, "name", CodeDuplicateName)
	what := "id" // the name, else the title, stands for it
	switch {
	case p.failed:
		return
	case get(p.doc.root, "id") != nil:
	case m.Name != "":
		what = "name"
	default:
		what = "title"
	}
	check(l.ids, m.ID, what, CodeDuplicateID)
}

func (l *loader) parseDetection(p *docParser) {
	doc := &detectionDoc{p: p, meta: p.metaOf()}
	doc.logsource = p.logSource()
	doc.generated = p.boolean(p.doc.root, "generate")
	n := get(p.doc.root, "detection")
	if n.Kind != yaml.MappingNode {
		p.report(n, CodeDetectionShape, "", "detection must be a mapping")
	} else {
		doc.detection = p.detectionOf(n)
	}
	l.unique(p, &doc.meta)
	if l.flush(p, &doc.meta) && !l.disabled(&doc.meta) {
		l.detections = append(l.detections, doc)
	}
}

// logSource reads the required logsource.
func (d *docParser) logSource() map[string]string {
	n := get(d.doc.root, "logsource")
	if n == nil || isNull(n) {
		d.report(d.doc.root, CodeMissingKey, "add `logsource: {product: ...}`", "the logsource is missing")
		return nil
	}
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		d.report(n, CodeBadValue, "", "logsource must be a mapping with category, product or service")
		return nil
	}
	out := map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i].Value
		if slices.Contains([]string{"category", "product", "service"}, k) {
			if v := d.str(n, k); v != "" {
				out[k] = v
			}
		}
	}
	return out
}

func (l *loader) parseFilter(p *docParser) {
	f := &filterDoc{p: p, meta: p.metaOf(), logsource: p.logSource()}
	n := get(p.doc.root, "filter")
	if n.Kind != yaml.MappingNode {
		p.report(n, CodeFilter, "", "filter must be a mapping")
		l.flush(p, &f.meta)
		return
	}
	rules := get(n, "rules")
	if rules == nil || isNull(rules) || len(items(rules)) == 0 {
		p.report(n, CodeFilter, "add `rules: any`, or ids or names", "rules is missing")
	} else {
		for _, r := range items(rules) {
			switch {
			case !isText(r):
				p.report(r, CodeFilter, "", "rules must be ids, names or any")
			case strings.EqualFold(r.Value, "any"):
				f.any = true
			default:
				f.refs = append(f.refs, ref{r.Value, r})
			}
		}
	}
	f.detection = p.detectionOf(n, "rules")
	if !p.failed && !slices.ContainsFunc(f.detection.conditions, (*cond).negates) {
		p.report(get(n, "condition"), CodeFilterNoNot, "write `condition: not selection` to leave out what the selection matches",
			"the filter negates nothing: rules will match only what it selects")
	}
	l.unique(p, &f.meta)
	if l.flush(p, &f.meta) && !l.disabled(&f.meta) {
		l.filters = append(l.filters, f)
	}
}

// compileDetections lowers every detection rule.
func (l *loader) compileDetections() {
	for _, doc := range l.detections {
		l.low.p = doc.p
		root := l.low.detection(&doc.detection)
		root = l.restrict(root, doc.meta.Causes)
		if l.opt.Layout == LayoutEvent && !l.opt.AnyLogSource && len(eventTypesOf(doc.logsource)) == 0 {
			doc.p.report(get(doc.p.doc.root, "logsource"), CodeNeverMatches, "canonical events have `product: keysentry`",
				"no event has this log source, so the rule never matches")
		}
		if !l.flush(doc.p, &doc.meta) {
			continue
		}
		r := &Rule{Meta: doc.meta, Index: len(l.set.Rules), LogSource: doc.logsource, root: root, generated: doc.generated}
		l.set.Rules = append(l.set.Rules, r)
		for _, k := range []string{r.ID, r.Name} {
			if k != "" && l.byRef[k] == nil {
				l.byRef[k] = r
			}
		}
	}
}

// restrict ANDs a list of causes.
func (l *loader) restrict(root node, causes []event.Cause) node {
	if len(causes) == 0 {
		return root
	}
	sl, ok := l.low.slots.of("cause")
	if !ok {
		return root
	}
	var alts []node
	for _, c := range causes {
		alts = append(alts, l.low.g.addLeaf(&leaf{kind: leafExact, slot: sl, text: c.String(), string: fmt.Sprintf("cause = %q", c.String())}))
	}
	return l.low.g.and(root, l.low.g.or(alts...))
}

// eventTypesOf lists the event types that a rule with this log source can see.
func eventTypesOf(want map[string]string) []event.Type {
	var out []event.Type
	for _, t := range event.Types() {
		if logSourceFits(want, LogSourceOf(t)) {
			out = append(out, t)
		}
	}
	return out
}

// applyFilters ANDs every filter to the rules it names.
func (l *loader) applyFilters() {
	for _, f := range l.filters {
		l.low.p = f.p
		root := l.low.detection(&f.detection)
		var rules []*Rule
		for _, r := range f.refs {
			rule := l.byRef[r.name]
			if rule == nil && l.off[r.name] {
				continue // nothing to filter
			}
			if rule == nil {
				l.unresolved(f.p, r)
				continue
			}
			rules = append(rules, rule)
		}
		if f.any {
			rules = l.set.Rules
		}
		if !l.flush(f.p, &f.meta) {
			continue
		}
		for _, rule := range rules {
			if logSourceCovers(f.logsource, rule.LogSource) {
				rule.root = l.low.g.and(rule.root, root)
				rule.Hash, rule.Logic = hashOf(rule.Hash, f.meta.Hash), hashOf(rule.Logic, f.meta.Logic)
			}
		}
	}
}

// unresolved reports a reference, and whether its target exists but is broken.
func (l *loader) unresolved(p *docParser, r ref) {
	switch {
	case l.left[r.name]:
		p.report(r.node, CodeReference, "correct that document first", "rule %q was left out because it has an error", r.name)
		return
	case slices.ContainsFunc(l.correlations, func(c *correlationDoc) bool { return r.name == c.meta.ID || r.name == c.meta.Name }):
		p.report(r.node, CodeReference, "name the detection rules that it counts", "%q is a correlation; filters change detection rules", r.name)
		return
	}
	p.report(r.node, CodeReference, "", "there is no rule with the id or name %q", r.name)
}
