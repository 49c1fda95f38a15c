package quality

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/simulate"
)

var day0 = event.At(start)

func after(d time.Duration) event.Instant { return day0.Add(d) }

func key(k string) finding.Subject {
	return finding.Subject{Network: "demo", Field: "key_id", Value: k}
}

// played is a play of ten days with one theft on the ninth.
func played(change func(p *play)) *play {
	at := after(8 * 24 * time.Hour)
	p := &play{seed: 1, vis: simulate.VisibilityPlatform, opt: simulate.Options{Start: start, Duration: 10 * 24 * time.Hour},
		labels:   []simulate.Label{{Index: 0, Scenario: "key-theft", Kind: "key_compromise", Field: "key_id", Value: "k1", First: at, Hostile: 9, Theft: true}},
		first:    map[int]event.Instant{0: at},
		spans:    map[string][]span{simulate.LookAlikeRotation: {{after(24 * time.Hour), after(26 * time.Hour)}}},
		matrix:   map[[2]event.Cause]int{{event.CauseClockSkew, event.CauseClockSkew}: 60},
		activity: []event.Instant{at}}
	change(p)
	return p
}

func (p *play) wake(after time.Duration, k finding.Kind, s finding.Subject) {
	at := p.labels[0].First.Add(after)
	p.woken = append(p.woken, wake{at, 0, k, s})
	p.pages = append(p.pages, alarm{at: at, kind: k, subject: s, attacks: []int{0}})
}

func (p *play) plan(after time.Duration, s finding.Subject, attacks ...int) {
	p.plans = append(p.plans, alarm{at: p.labels[0].First.Add(after), subject: s, attacks: attacks})
}

func TestScore(t *testing.T) {
	t.Parallel()
	caught := func(p *play) {
		p.wake(3*time.Second, finding.KeyCompromise, key("k1"))
		p.plan(4*time.Second, key("k1"), 0)
	}
	for name, tc := range map[string]struct {
		change func(p *play)
		failed []string
		misses []string
	}{
		"all is well":     {caught, nil, nil},
		"nobody was told": {func(p *play) {}, []string{"every visible attack", "a rotation is proposed in every theft"}, []string{"nobody was told", "no rotation"}},
		"a ticket only": {func(p *play) { p.tickets = []alarm{{at: p.labels[0].First, rule: "r", attacks: []int{0}}} },
			[]string{"every visible attack", "a rotation is proposed in every theft"}, []string{"a ticket only (r)", "no rotation"}},
		"another subject": {func(p *play) {
			p.wake(time.Second, finding.KeyCompromise, key("k2"))
			p.plan(time.Second, key("k2"), 0)
		},
			[]string{"every visible attack", "a rotation is proposed in every theft"}, []string{"a page, but of kind key_compromise about key_id k2", "no rotation"}},
		"another kind": {func(p *play) { p.wake(time.Second, finding.Other, key("k1")); p.plan(time.Second, key("k1"), 0) },
			[]string{"every visible attack"}, []string{"a page, but of kind other"}},
		"too late": {func(p *play) {
			p.wake(61*time.Second, finding.KeyCompromise, key("k1"))
			p.plan(5*time.Minute+time.Second, key("k1"), 0)
		},
			[]string{"every visible attack", "a rotation is proposed in every theft"}, []string{"only 1m1s after", "no rotation"}},
		"blind": {func(p *play) { p.labels[0].Hostile = 0; p.first = map[int]event.Instant{} },
			[]string{"no attack is invisible"}, []string{"blind"}},
		"false pages": {func(p *play) {
			caught(p)
			p.pages = append(p.pages, alarm{at: after(time.Hour), rule: "a"}, alarm{at: after(25 * time.Hour), rule: "a"})
		}, []string{"at most one false page", "no page by a rotation"}, nil},
		"tickets": {func(p *play) { caught(p); p.tickets = make([]alarm, 31) }, []string{"at most three tickets"}, nil},
		"a benign proposal": {func(p *play) { caught(p); p.plans = append(p.plans, alarm{at: after(time.Hour)}) },
			[]string{"on a benign day"}, nil},
		"an attack laid to a clock": {func(p *play) { caught(p); p.skew = 1 }, []string{"laid to a clock"}, nil},
		"causes": {func(p *play) { caught(p); p.matrix[[2]event.Cause{event.CauseUserBanned, event.CauseUnknown}] = 50 },
			[]string{"98 %", "recall of each cause"}, nil},
		"a rare cause has no bar of its own": {func(p *play) {
			caught(p)
			p.matrix[[2]event.Cause{event.CauseClockSkew, event.CauseClockSkew}] = 6000
			p.matrix[[2]event.Cause{event.CauseUserBanned, event.CauseUnknown}] = 49
		}, nil, nil},
		"precision": {func(p *play) {
			caught(p)
			p.matrix[[2]event.Cause{event.CauseClockSkew, event.CauseClockSkew}] = 6000
			p.matrix[[2]event.Cause{event.CauseUserBanned, event.CauseUserBanned}] = 50
			p.matrix[[2]event.Cause{event.CauseClockSkew, event.CauseUserBanned}] = 10
		}, []string{"precision of each cause"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tl := newTally(simulate.VisibilityPlatform)
			tl.add(played(tc.change))
			l := tl.line()
			compare(t, "failed bars", l.Failed, tc.failed)
			var whys []string
			for _, m := range l.Missed {
				whys = append(whys, m.Why)
			}
			compare(t, "misses", whys, tc.misses)
			if l.Incidents != 1 || l.BenignDays != 9 {
				t.Errorf("%d attacks and %d benign days, want 1 and 9", l.Incidents, l.BenignDays)
			}
		})
	}
}

// compare wants each text to hold the one at its place.
func compare(t *testing.T, what string, got, want []string) {
	t.Helper()
	ok := len(got) == len(want)
	for i := range want {
		ok = ok && strings.Contains(got[i], want[i])
	}
	if !ok {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestLineAddsPlaysUp(t *testing.T) {
	t.Parallel()
	tl := newTally(simulate.VisibilityPlatform)
	for i, delay := range []time.Duration{9 * time.Second, 2 * time.Second, 5 * time.Second} {
		p := played(func(p *play) { p.wake(delay, finding.KeyCompromise, key("k1")) })
		p.seed = uint64(i + 1)
		tl.add(p)
	}
	l := tl.line()
	if l.Seeds != "1-3" || l.Days != 30 || l.Caught != 3 || l.Recall != 1 || l.TTDP50 != 5 || l.TTDMax != 9 || l.Thefts != 3 || l.Proposed != 0 {
		t.Errorf("got %+v", l)
	}
}

func TestParseSeeds(t *testing.T) {
	t.Parallel()
	for in, want := range map[string][]uint64{"7": {7}, "1-3": {1, 2, 3}, "0-0": {0}} {
		got, err := ParseSeeds(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
	for _, in := range []string{"", "a", "3-1", "1-", "-1", "1-2-3", "0-10000"} {
		if got, err := ParseSeeds(in); err == nil {
			t.Errorf("%q was read as %v", in, got)
		}
	}
	if got := seedRange([]uint64{3, 1, 2, 9, 2}); got != "1-3,9" {
		t.Errorf("got %s", got)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(o *Options){
		"seeds":       func(o *Options) { o.Seeds = nil },
		"days":        func(o *Options) { o.Days = 7 },
		"benign days": func(o *Options) { o.BenignDays = -1 },
		"hosts":       func(o *Options) { o.Hosts = 9 },
		"rate":        func(o *Options) { o.Rate = 0 },
		"workers":     func(o *Options) { o.Workers = 0 },
		"visibility":  func(o *Options) { o.Visibilities = []simulate.Visibility{"all"} },
	} {
		o := DefaultOptions()
		if err := o.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
}

func TestWriteTable(t *testing.T) {
	t.Parallel()
	tl := newTally(simulate.VisibilityPlatform)
	tl.add(played(func(p *play) {
		p.pages = []alarm{{rule: "A rule"}}
		p.matrix[[2]event.Cause{event.CauseUserBanned, event.CauseUnknown}] = 3
	}))
	var b strings.Builder
	if err := WriteTable(&b, "keysentry quality --seeds 1-1", []Line{tl.line()}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"    keysentry quality --seeds 1-1\n", "| figure | bar | platform |\n|---|---|---|\n", "| attacks |  | 1 |",
		"| `user_banned` | 3 | 0 | 0.00 % | 100.00 % | `unknown` 3 |", "- seed 1, key-theft: nobody was told", "- 1 x page: A rule"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
}
