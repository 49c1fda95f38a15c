package ingest

import (
	"testing"

	"github.com/keysentry/keysentry/internal/metrics"
)

// counted sums the series of a counter or gauge whose labels hold all the given
// values, and counts those series.
func counted(t testing.TB, r *metrics.Registry, name string, labels ...string) (sum float64, series int) {
	t.Helper()
	families, err := r.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "keysentry_ingest_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			have := map[string]bool{}
			for _, l := range m.GetLabel() {
				have[l.GetValue()] = true
			}
			matches := true
			for _, l := range labels {
				matches = matches && have[l]
			}
			if matches {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
				series++
			}
		}
	}
	return sum, series
}
