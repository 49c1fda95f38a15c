package library_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
	"github.com/keysentry/keysentry/rules/library"
)

// reason is how a description says why the rule has its severity.
func reason(s finding.Severity) string {
	if s == finding.Page {
		return "pages"
	}
	return s.String()
}

// TestLoads: every shipped rule compiles against canonical events and says what
// a person needs.
func TestLoads(t *testing.T) {
	t.Parallel()
	set, diags := rules.Load(library.Files(), rules.Options{Layout: rules.LayoutEvent})
	for _, d := range diags {
		if d.Severity > rules.Note {
			t.Errorf("%s:%d:%d %s %s", d.File, d.Line, d.Col, d.Code, d.Message)
		}
	}
	check := func(m rules.Meta, speaks bool) {
		if m.ID == "" || m.Name == "" || m.Level == "" || m.Description == "" || len(m.Tags) == 0 || len(m.FalsePositives) == 0 {
			t.Errorf("%s: id, name, level, description, tags and falsepositives are needed", m.Title)
		}
		if speaks && (m.Resolution == "" || m.Summary == "" || m.Risk.Subject == "" || m.Risk.Family == "" || len(m.Fields) == 0) {
			t.Errorf("%s: a rule that fires needs resolution, summary, risk and needs", m.Title)
		}
		if speaks && !strings.Contains(m.Description, reason(m.Severity)) {
			t.Errorf("%s: the description says not why it is a %s (with the words %q)", m.Title, m.Severity, reason(m.Severity))
		}
		if speaks && !slices.ContainsFunc(m.Tags, func(tag string) bool { return strings.HasPrefix(tag, "attack.") || tag == "keysentry.operations" }) {
			t.Errorf("%s: neither an ATT&CK tag nor keysentry.operations", m.Title)
		}
	}
	for _, r := range set.Rules {
		check(r.Meta, !r.Inner)
	}
	severity := map[string]finding.Severity{}
	for _, c := range set.Correlations {
		check(c.Meta, !c.Inner)
		severity[c.Name] = c.Severity
	}
	for _, r := range set.Rules {
		severity[r.Name] = r.Severity
	}
	for name, want := range map[string]finding.Severity{"unauthorized_attempt": finding.Ticket, "unauthorized_spike_source": finding.Page,
		"unauthorized_spike_key": finding.Page, "retired_key_foreign": finding.Page, "retired_key_straggler": finding.Ticket, "token_failure_ratio": finding.Ticket} {
		if got, ok := severity[name]; !ok || got != want {
			t.Errorf("%s: severity %v, %t, want %v", name, got, ok, want)
		}
	}
	if len(library.TestFiles()) != len(library.Files()) {
		t.Error("every rule file needs a test file")
	}
}

var update = flag.Bool("update", false, "rewrite the reference page")

// TestReference: the page about the shipped rules is made from their files.
func TestReference(t *testing.T) {
	t.Parallel()
	const name = "../../docs/reference/rules-library.md"
	want := page(t)
	if *update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(name); err != nil || string(got) != want {
		t.Errorf("%s is out of date (%v); refresh it with: go test ./rules/library -run TestReference -update", name, err)
	}
}

func page(t *testing.T) string {
	t.Helper()
	set, _ := rules.Load(library.Files(), rules.Options{Layout: rules.LayoutEvent})
	var b strings.Builder
	b.WriteString(`# Shipped rules

<!-- Made from rules/library by: go test ./rules/library -run TestReference -update -->

A *page* wakes somebody: it is for what an outsider with the secret causes and ordinary life does not. A *ticket* waits for the next working day, a *digest* is
read once a day. *Risk* is what a finding adds to the evidence about its subject: family and weight. What a rule *needs* must be seen in a network; else the rule is blind there, and says so in ` + "`rules list --config`, `doctor`, `posture`" + ` and in incidents:
of the origins one is enough, fields and settings are needed all. *Ordinary events* are those that the rule takes in day by day; where there are none, it costs next to nothing. ` + "`go test ./detect -bench Engine`" + ` measures each file.
Facts of the registries that rules ask for (` + "`traits`" + `) are listed with the [events](events.md); the language is in [rules](rules.md).

| rule | severity | risk | needs | ordinary events | tells |
|---|---|---|---|---|---|
`)
	ordinary := ordinaryMatches(set)
	var list []row
	for _, r := range set.Rules {
		if !r.Inner {
			list = append(list, row{&r.Meta, ordinary[r.ID]})
		}
	}
	for _, c := range set.Correlations {
		if !c.Inner {
			list = append(list, row{&c.Meta, takenIn(c, ordinary)})
		}
	}
	slices.SortStableFunc(list, func(a, b row) int {
		if a.meta.Severity != b.meta.Severity {
			return int(b.meta.Severity) - int(a.meta.Severity)
		}
		return strings.Compare(a.meta.Name, b.meta.Name)
	})
	for _, r := range list {
		m := r.meta
		fmt.Fprintf(&b, "| `%s` | %s | %s on `%s`, %g | %s | %s | %s |\n", m.Name, m.Severity, m.Risk.Family, m.Risk.Subject, m.Risk.Score, needs(m), strings.Join(r.ordinary, ", "), strings.ReplaceAll(m.Summary, "|", "/"))
	}
	return b.String()
}

type row struct {
	meta     *rules.Meta
	ordinary []string
}

func needs(m *rules.Meta) string {
	var out []string
	var origins []string
	for _, o := range m.Origins {
		origins = append(origins, o.String())
	}
	if len(origins) > 0 {
		out = append(out, strings.Join(origins, " or "))
	}
	var fields []string
	for _, f := range m.Fields {
		fields = append(fields, "`"+f.String()+"`")
	}
	out = append(out, strings.Join(fields, " "))
	for _, s := range m.Settings {
		out = append(out, "`detect."+string(s)+"`")
	}
	return strings.Join(out, "; ")
}

// takenIn are the ordinary events that a correlation takes in.
func takenIn(c *rules.Correlation, ordinary map[string][]string) []string {
	var out []string
	for _, in := range c.Inputs {
		more := []string{}
		if in.Rule != nil {
			more = ordinary[in.Rule.ID]
		} else {
			more = takenIn(in.Correlation, ordinary)
		}
		for _, x := range more {
			if !slices.Contains(out, x) {
				out = append(out, x)
			}
		}
	}
	return out
}

// ordinaryMatches are, by rule, the kinds of event of an ordinary day that match.
func ordinaryMatches(set *rules.Set) map[string][]string {
	out := map[string][]string{}
	m := rules.NewMatcher(set.Program())
	add := func(name string, typ event.Type, origin event.Origin, fields ...event.Field) {
		e := event.Event{Type: typ, Origin: origin, Status: 200, SourceIP: netip.MustParseAddr("10.0.0.1"), SourceNet: "10.0.0.0/24", Mode: event.ModeSecure}
		for _, f := range append(fields, event.FieldNetwork, event.FieldHost, event.FieldService, event.FieldEndpoint) {
			e.SetString(f, "x")
		}
		e.Present = e.Present.Set(event.FieldType).Set(event.FieldSourceIP).Set(event.FieldAuthMode).Set(event.FieldStatus)
		for _, i := range m.MatchEvent(&e, nil) {
			out[set.Rules[i].ID] = append(out[set.Rules[i].ID], name)
		}
	}
	add("mints", event.TypeAuthTokenIssued, event.OriginBackend, event.FieldUserID, event.FieldKeyID, event.FieldTokenID)
	add("sessions", event.TypeSessionCreated, event.OriginGateway, event.FieldUserID, event.FieldTokenID, event.FieldDeviceID)
	add("requests of sessions", event.TypeRequestAllowed, event.OriginGateway, event.FieldUserID, event.FieldSessionID, event.FieldDeviceID)
	add("calls with a key", event.TypeRequestAllowed, event.OriginGateway, event.FieldKeyID)
	add("heartbeats", event.TypeHeartbeat, event.OriginBackend, event.FieldKeyID)
	return out
}
