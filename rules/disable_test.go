package rules

import "testing"

func TestDisableLeavesOutByIDAndName(t *testing.T) {
	t.Parallel()
	files := []File{{Name: "a.yml", Data: []byte(`title: One
name: one
logsource: {product: x}
detection: {s: {a: 1}, condition: s}
---
title: Two
id: 5f8c7c7e-9d3d-4a55-9b53-37b0c3c1f0aa
logsource: {product: x}
detection: {s: {a: 2}, condition: s}
---
title: Many
correlation: {type: event_count, rules: [one], timespan: 5m, condition: {gte: 2}}
`)}}
	for name, tc := range map[string]struct {
		disable                   []string
		rules, correlations, errs int
	}{
		"nothing":              {nil, 2, 1, 0},
		"by id":                {[]string{"5f8c7c7e-9d3d-4a55-9b53-37b0c3c1f0aa"}, 1, 1, 0},
		"what others refer to": {[]string{"one"}, 1, 0, 0},
		"an unknown name":      {[]string{"three"}, 2, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, diags := Load(files, Options{Disable: tc.disable})
			errs := 0
			for _, d := range diags {
				if d.Severity == Error {
					errs++
				}
			}
			if len(set.Rules) != tc.rules || len(set.Correlations) != tc.correlations || errs != tc.errs {
				t.Errorf("got %d rules, %d correlations, %d errors (%v); want %d, %d, %d", len(set.Rules), len(set.Correlations), errs, diags, tc.rules, tc.correlations, tc.errs)
			}
		})
	}
}
