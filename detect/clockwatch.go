package detect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/event"
)

// clockWatch looks at the clocks of hosts that mint, so that a person hears of one
// before its tokens are refused.
type clockWatch struct {
	looked event.Instant
	today  event.Instant
	told   map[hostName]bool // today
}

const (
	// clocksEvery is how often clocks are looked at: estimates change once a minute.
	clocksEvery = time.Minute
	// clockAge is how old an estimate may be.
	clockAge = 15 * time.Minute
	// clocksPerDay bounds the findings of a day.
	clocksPerDay = 100
	// shownClocks bounds the hosts that the metrics name: those farthest off.
	shownClocks = 100
)

// hostClock is the clock of one host.
type hostClock struct {
	hostName
	est offset.Estimate
}

// clocksOff looks at the clocks and returns findings about those that are beyond the
// leeway, or drift so that they will be within clock_warning. The caller holds mu.
func (e *Engine) clocksOff(now event.Instant) []finding.Finding {
	known, ok := e.clocks.(Estimates)
	if !ok || now.Sub(e.clockWatch.looked) < clocksEvery {
		return nil
	}
	e.clockWatch.looked = now
	var all []hostClock
	for n, h := range e.hosts.hosts {
		if h.firstMint == 0 || h.stopped != 0 {
			continue
		}
		if est, ok := known.Estimate(n.network, n.host); ok && now.Sub(est.AsOf) <= clockAge {
			all = append(all, hostClock{n, est})
		}
	}
	slices.SortFunc(all, func(a, b hostClock) int {
		return cmp.Or(cmp.Compare(b.est.Offset.Abs(), a.est.Offset.Abs()), cmp.Compare(a.network, b.network), cmp.Compare(a.host, b.host))
	})
	e.m.showClocks(all, e.cfg.TokenLeeway)
	var out []finding.Finding
	for _, c := range all {
		in, ok := c.est.Reaches(e.cfg.TokenLeeway)
		if !ok || in > e.cfg.ClockWarning || !e.clockWatch.tell(c.hostName, now) {
			continue
		}
		f := e.clockFinding(c, in, now)
		e.m.firings.WithLabelValues(f.RuleTitle).Inc()
		out = append(out, f)
	}
	return out
}

// tell reports whether a host's clock is to be told of: once a day.
func (w *clockWatch) tell(n hostName, now event.Instant) bool {
	if today := now / day * day; today != w.today || w.told == nil {
		w.today, w.told = today, map[hostName]bool{}
	}
	if w.told[n] || len(w.told) >= clocksPerDay {
		return false
	}
	w.told[n] = true
	return true
}

// clockFinding is the finding about a clock that is off by the leeway in so long.
func (e *Engine) clockFinding(c hostClock, in time.Duration, now event.Instant) finding.Finding {
	group := []finding.Pair{{Field: "network", Value: c.network}, {Field: "host", Value: c.host}}
	fail, when := "its tokens are refused now", "now"
	if in > 0 {
		at := now.Add(in.Round(time.Minute))
		when = at.Time().Format(time.RFC3339)
		fail = "its tokens will be refused from " + when + " on"
	}
	leeway := seconds(e.cfg.TokenLeeway)
	facts := append([]finding.Pair{{Field: "network", Value: c.network}, {Field: "host", Value: c.host}}, clockFacts(c.est)...)
	facts = append(facts, finding.Pair{Field: "token_leeway", Value: leeway}, finding.Pair{Field: "tokens_fail_at", Value: when})
	return finding.Finding{
		ID: finding.MakeID(finding.RuleClockOff, group, e.clockWatch.today), RuleID: finding.RuleClockOff, RuleName: "clock_will_fail",
		RuleTitle: "A host's clock is leaving the leeway of tokens", Level: "medium", Kind: finding.ClockSkew, Severity: finding.Ticket,
		Subject: finding.Subject{Network: c.network, Field: "host", Value: c.host}, Group: group,
		First: c.est.AsOf, Last: now, Fired: now, Count: c.est.Records, Value: c.est.Offset.Seconds(), Threshold: "offset gte " + leeway + " within " + span(e.cfg.ClockWarning),
		Summary:    fmt.Sprintf("The clock of a host that mints is %s; %s. The platform tolerates %s.", figure(c.est), fail, leeway),
		Resolution: fmt.Sprintf("Sync NTP on the host: it is %s. When its offset is below %s again, its tokens are accepted.", figure(c.est), leeway),
		Facts:      facts,
	}
}

// showClocks sets the metrics of clocks, which are sorted with the farthest off first.
func (m *engineMetrics) showClocks(all []hostClock, leeway time.Duration) {
	m.clockOffset.Reset()
	m.clockError.Reset()
	m.clockDrift.Reset()
	beyond := 0
	for i, c := range all {
		if c.est.Confident && c.est.Offset.Abs()-c.est.Error >= leeway {
			beyond++
		}
		if i >= shownClocks {
			continue
		}
		known := "confident"
		switch {
		case c.est.SlowOrDelayed:
			known = "slow_or_delayed"
		case !c.est.Confident:
			known = "unsure"
		}
		labels := []string{strings.ToValidUTF8(c.network, "?"), strings.ToValidUTF8(c.host, "?")}
		m.clockOffset.WithLabelValues(append(labels, known)...).Set(c.est.Offset.Seconds())
		m.clockError.WithLabelValues(labels...).Set(c.est.Error.Seconds())
		m.clockDrift.WithLabelValues(labels...).Set(c.est.Slope)
	}
	m.clocks.Set(float64(len(all)))
	m.clocksBeyond.Set(float64(beyond))
}
