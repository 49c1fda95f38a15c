package detect

import (
	"fmt"
	"testing"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

var coverageStart = event.At(time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC))

func numbered(network, host, boot string, seq uint64, after time.Duration) *event.Event {
	e := &event.Event{Network: network, Host: host, Boot: boot, Seq: seq, TS: coverageStart.Add(after)}
	e.Present = e.Present.Set(event.FieldSeq)
	return e
}

func TestCoverageOfAWindow(t *testing.T) {
	t.Parallel()
	type said struct {
		host, boot string
		seq        uint64
		minute     int
	}
	for name, tc := range map[string]struct {
		said     []said
		from, to int
		want     string // seen over expected, or why it is not known
	}{
		"nothing missing":                      {[]said{{"a", "b", 1, 0}, {"a", "b", 2, 1}}, 0, 1, "2/2"},
		"numbers before the first are unknown": {[]said{{"a", "b", 500, 0}, {"a", "b", 501, 1}}, 0, 1, "2/2"},
		"a gap counts where it ends":           {[]said{{"a", "b", 1, 0}, {"a", "b", 5, 30}}, 30, 30, "1/4"},
		"a late number fills its gap":          {[]said{{"a", "b", 1, 0}, {"a", "b", 3, 1}, {"a", "b", 2, 1}}, 0, 1, "3/3"},
		"a new process lost its first numbers": {[]said{{"a", "b", 1, 0}, {"c", "b", 4, 20}}, 20, 20, "1/4"},
		"two processes of a host in turn":      {[]said{{"a", "b", 1, 0}, {"a", "x", 1, 0}, {"a", "b", 2, 1}, {"a", "x", 2, 1}}, 0, 1, "4/4"},
		"a restart does not count as a gap":    {[]said{{"a", "b", 7, 0}, {"a", "x", 1, 20}}, 0, 20, "2/2"},
		"silence is no number":                 {[]said{{"a", "b", 1, 0}}, 5, 9, "unknown"},
		"an event without a number":            {[]said{{"a", "b", 0, 0}}, 0, 0, "unknown"},
		"before anything was counted":          {[]said{{"a", "b", 1, 10}}, 5, 10, "1/1, in part"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCoverage(10)
			for _, s := range tc.said {
				c.saw(numbered("n", s.host, s.boot, s.seq, time.Duration(s.minute)*time.Minute))
			}
			c.saw(numbered("other", "a", "b", 1, 0))
			c.saw(numbered("other", "a", "b", 900, 30*time.Minute))
			from, to := coverageStart.Add(time.Duration(tc.from)*time.Minute), coverageStart.Add(time.Duration(tc.to)*time.Minute)
			share, whole, ok := c.of("n", from, to)
			var seen, expected float64
			rest := ""
			if n, _ := fmt.Sscanf(tc.want, "%f/%f%s", &seen, &expected, &rest); n < 2 {
				if ok {
					t.Errorf("got %v, want it to be unknown", share)
				}
				return
			}
			if !ok || share != seen/expected || whole != (rest == "") {
				t.Errorf("got %v, whole %v, known %v, want %s", share, whole, ok, tc.want)
			}
			f := finding.Finding{Subject: finding.Subject{Network: "n"}, First: to, Last: to, Window: int64(to.Sub(from))}
			if got := c.ofFinding(&f); (got != nil) != whole || got != nil && *got != share {
				t.Errorf("a finding says %v, want %v only if the whole time is known", got, share)
			}
		})
	}
}

func TestCoverageIsBounded(t *testing.T) {
	t.Parallel()
	c := newCoverage(10)
	for i := range 12 {
		c.saw(numbered("n", "h", fmt.Sprint("b", i), 1, time.Duration(i)*time.Second))
	}
	if len(c.lines) != 10 || c.lost() != 2 {
		t.Errorf("%d processes kept, %d events left out, want 10 and 2", len(c.lines), c.lost())
	}
	c.saw(numbered("n", "h", "new", 1, 2*time.Hour)) // the others are forgotten
	if len(c.lines) != 1 || c.lost() != 2 {
		t.Errorf("%d processes kept, %d events left out, want 1 and 2", len(c.lines), c.lost())
	}
	c = newCoverage(2 * maxCovered)
	for i := range maxCovered + 3 {
		c.saw(numbered(fmt.Sprint("n", i), "h", "b", 1, 0))
	}
	if len(c.nets) != maxCovered || c.lost() != 3 {
		t.Errorf("%d networks kept, %d events left out", len(c.nets), c.lost())
	}
}

func BenchmarkCoverage(b *testing.B) {
	const hosts = 500
	c := newCoverage(100_000)
	events := make([]*event.Event, hosts)
	for i := range events {
		events[i] = numbered(fmt.Sprint("network-", i%3), fmt.Sprint("api-", i), fmt.Sprintf("%016x", i*7919), 1, 0)
	}
	b.Run("500_hosts/event", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			e := events[i%hosts]
			c.saw(e)
			e.Seq++
			e.TS += event.Instant(time.Millisecond)
			i++
		}
	})
}
