package correlate

import (
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// values of a benchmark: a group and a value, no copies.
type benchValues struct{ group, value string }

func (v *benchValues) Text(slot int) (string, bool) {
	if slot == 0 {
		return v.group, true
	}
	return v.value, true
}

func (v *benchValues) Number(int) (float64, bool) { return 1, true }

func names(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = prefix + strconv.Itoa(i)
	}
	return out
}

// run feeds b.N observations, 5 ms apart in time, one Advance in a thousand.
func run(b *testing.B, c *Correlator, groups, vals []string) {
	b.ReportAllocs()
	matched := []int32{0}
	var v benchValues
	in := Input{Matched: matched, Values: &v, Ref: event.Ref{Topic: "auth.events"}}
	ts := event.Instant(1e18)
	var fs []Firing
	i := 0
	b.ResetTimer()
	for b.Loop() {
		v.group, v.value = groups[i%len(groups)], vals[(i*7)%len(vals)]
		ts += 3e6
		in.TS, in.Ref.Offset = ts, int64(i)
		fs = c.Observe(in, fs[:0])
		if i%1000 == 0 {
			fs = c.Advance(ts-1e10, fs[:0])
		}
		i++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "obs/s")
}

func BenchmarkObserve(b *testing.B) {
	b.Run("value_count/30_groups/10m", func(b *testing.B) {
		c := New(newSet(corr(rules.ValueCount, 10*time.Minute, gte(50)), 1), quiet())
		run(b, c, names("key-", 30), names("user-", 10_000))
	})
	b.Run("event_count/30_groups/10m", func(b *testing.B) {
		c := New(newSet(corr(rules.EventCount, 10*time.Minute, gte(50)), 1), quiet())
		run(b, c, names("key-", 30), []string{"x"})
	})
	b.Run("event_ratio/30_groups/15m", func(b *testing.B) {
		c := New(newSet(corr(rules.EventRatio, 15*time.Minute, gte(2)), 2), quiet())
		run(b, c, names("key-", 30), []string{"x"})
	})
	for _, n := range []int{1000, 1_000_000} {
		b.Run("event_count/"+strconv.Itoa(n)+"_groups", func(b *testing.B) {
			cfg := quiet()
			cfg.MaxBytes = 4 << 30
			c := New(newSet(corr(rules.EventCount, 24*time.Hour, gte(50)), 1), cfg)
			groups := names("198.51.100.", n)
			warm(c, groups)
			run(b, c, groups, []string{"x"})
		})
	}
}

// warm makes every group once.
func warm(c *Correlator, groups []string) {
	v := benchValues{value: "x"}
	for i, g := range groups {
		v.group = g
		c.Observe(Input{Matched: []int32{0}, Values: &v, TS: event.Instant(1e18) - 1e12, Ref: event.Ref{Topic: "auth.events", Offset: int64(-i)}}, nil)
	}
	c.Advance(event.Instant(1e18)-1e11, nil)
}

// BenchmarkBytesPerGroup states what a live group of event_count costs: as the
// correlator estimates it, and as the heap grows.
func BenchmarkBytesPerGroup(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		cfg := quiet()
		cfg.MaxBytes = 4 << 30
		groups := names("198.51.100.", n)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		c := New(newSet(corr(rules.EventCount, 24*time.Hour, gte(50)), 1), cfg)
		warm(c, groups)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if got := c.Stats().Groups; got != n {
			b.Fatalf("%d groups live", got)
		}
		b.ReportMetric(float64(c.Stats().Bytes)/n, "estimated-B/group")
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "heap-B/group")
		runtime.KeepAlive(groups)
	}
}
