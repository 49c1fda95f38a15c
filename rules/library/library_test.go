package library_test

import (
	"testing"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/rules"
	"github.com/keysentry/keysentry/rules/library"
)

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
