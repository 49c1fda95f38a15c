package correlate

import (
	"math"
	"testing"
	"time"

	"github.com/keysentry/keysentry/rules"
)

// TestChartBefore1970: times before 1970 are counted like any others.
func TestChartBefore1970(t *testing.T) {
	t.Parallel()
	c := New(newSet(corr(rules.EventCount, time.Minute, gte(3)), 1), quiet())
	n := 0.0
	for i := range 200 {
		feed(c, rec(float64(i*5-500), int64(i), ""))
	}
	fs := c.Advance(math.MaxInt64, nil)
	c = New(newSet(corr(rules.EventCount, time.Minute, gte(40)), 1), quiet())
	for i := range 40 {
		fs = append(fs, feed(c, rec(float64(i-100), int64(i), ""))...)
	}
	if len(fs) != 1 {
		t.Fatalf("%d firings", len(fs))
	}
	for _, v := range fs[0].Series.Counts {
		n += v
	}
	if n != 40 {
		t.Errorf("the chart counts %v of 40 events", n)
	}
}
