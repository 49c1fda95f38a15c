package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestExtensionKeysOfCorrelations: the keys that absence and rate_anomaly take, and
// what is wrong with them.
func TestExtensionKeysOfCorrelations(t *testing.T) {
	t.Parallel()
	const base = "title: b\nname: b\nid: b\nlogsource: {product: keysentry}\ndetection: {s: {type: auth_token.issued}, condition: s}\n---\n" +
		"title: c\nname: c\nid: c\nlogsource: {product: keysentry}\ndetection: {s: {type: session.created}, condition: s}\n---\ntitle: x\nid: x\ncorrelation: {%s}\n"
	for keys, want := range map[string]string{
		"type: absence, rules: [b, c], within: 12m, wait: 30s":                        "",
		"type: absence, rules: [b, c], within: 12m, order: before, wait: 30s":         "",
		"type: absence, rules: [b, c], within: 12m, order: after, wait: 30s":          "wait goes with order: before",
		"type: absence, rules: [b, c], within: 12m, wait: soon":                       "is not a timespan",
		"type: event_count, rules: [b], timespan: 1m, condition: {gte: 1}, wait: 30s": "unknown key \"wait\"",
		"type: rate_anomaly, rules: [b], floor: 100, ratio: 3":                        "",
		"type: rate_anomaly, rules: [b], field: user_id":                              "",
		"type: rate_anomaly, rules: [b], field: [user_id, key_id]":                    "takes one field",
		"type: rate_anomaly, rules: [b], direction: down, ratio: 0.2":                 "",
		"type: rate_anomaly, rules: [b], direction: down, ratio: 3":                   "between 0 and 1 with direction down",
		"type: rate_anomaly, rules: [b], ratio: 0.5":                                  "ratio is above 1 with direction up",
		"type: rate_anomaly, rules: [b], direction: both, ratio: 2":                   "ratio is above 1",
		"type: rate_anomaly, rules: [b], ratio: 0":                                    "ratio is above 1",
		"type: rate_anomaly, rules: [b], floor: -1":                                   "floor is a number of events",
	} {
		set, diags := Load([]File{{"x.yml", fmt.Appendf(nil, base, keys)}}, Options{Layout: LayoutEvent})
		var faults []string
		for _, d := range diags {
			if d.Severity == Error {
				faults = append(faults, d.Message+" "+d.Hint)
			}
		}
		switch got := strings.Join(faults, "; "); {
		case want == "" && (got != "" || len(set.Correlations) != 1):
			t.Errorf("%s: %s", keys, got)
		case want != "" && !strings.Contains(got, want):
			t.Errorf("%s: got %q, want an error with %q", keys, got, want)
		}
	}
}

// TestNeedsSettings: a rule names the settings that it compares with.
func TestNeedsSettings(t *testing.T) {
	t.Parallel()
	const text = "title: b\nid: b\nlogsource: {product: keysentry}\ndetection: {s: {type: auth_token.issued}, condition: s}\nneeds: {settings: [%s]}\n"
	set, diags := Load([]File{{"x.yml", fmt.Appendf(nil, text, "declared_egress")}}, Options{Layout: LayoutEvent})
	if len(set.Rules) != 1 || !slices.Equal(set.Rules[0].Settings, []Setting{DeclaredEgress}) {
		t.Errorf("got %v, %v", set.Rules, diags)
	}
	_, diags = Load([]File{{"x.yml", fmt.Appendf(nil, text, "nonsense")}}, Options{Layout: LayoutEvent})
	if !slices.ContainsFunc(diags, func(d Diagnostic) bool { return d.Severity == Error && strings.Contains(d.Message, "nonsense") }) {
		t.Errorf("an unknown setting: %v", diags)
	}
}
