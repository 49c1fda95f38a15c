package stage

import (
	"strings"
	"testing"
)

func TestSumMetric(t *testing.T) {
	t.Parallel()
	const text = "# HELP a_total Things.\n# TYPE a_total counter\na_total{x=\"1 2\"} 3\na_total{x=\"y\"} 4.5\na_total_more 100\nb 7\nbad x\n"
	for name, want := range map[string]float64{"a_total": 7.5, "b": 7, "a_total_more": 100, "c": 0, "a": 0} {
		if got, err := sumMetric(strings.NewReader(text), name); err != nil || got != want {
			t.Errorf("%s: got %v, %v; want %v", name, got, err, want)
		}
	}
	if _, err := sumMetric(strings.NewReader(text), "bad"); err == nil {
		t.Error("a sample that is no number was read")
	}
}
