package posture

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
)

// published is a Publisher that records runs as the real one does.
type published struct {
	h     *history
	cards []Scorecard
	due   []time.Time
	ch    string
	err   error
}

func (p *published) Publish(_ context.Context, due event.Instant, channel string, card Scorecard, run journal.PostureRun) error {
	if p.err != nil {
		return p.err
	}
	p.cards, p.due, p.ch = append(p.cards, card), append(p.due, due.Time()), channel
	return p.h.Record(context.Background(), run, nil)
}

type notes struct{ err error }

func (n notes) Notes(context.Context, time.Time) ([]Note, error) {
	return []Note{{Title: "Journal head", Values: []string{"7:abc"}}}, n.err
}

// digesting is a runner without checks whose digest goes out at 07:00 on weekdays.
func digesting(t *testing.T, h *history, p *published, more ...Notes) *Runner {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Digest = Digest{Schedule: "0 7 * * 1-5", Channel: "C1"}
	r, err := New(cfg, Deps{History: h, Publish: p, Now: time.Now, Notes: more})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func runFor(t *testing.T, r *Runner, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := r.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestDigestFollowsItsSchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // begins on Saturday, 2000-01-01 00:00
		h := &history{last: map[string]event.Instant{}}
		p := &published{h: h}
		runFor(t, digesting(t, h, p, notes{}), 4*24*time.Hour) // to Wednesday 00:00
		want := []time.Time{time.Date(2000, 1, 3, 7, 0, 0, 0, time.UTC), time.Date(2000, 1, 4, 7, 0, 0, 0, time.UTC)}
		if len(p.due) != 2 || !p.due[0].Equal(want[0]) || !p.due[1].Equal(want[1]) || p.ch != "C1" {
			t.Fatal(p.due, p.ch)
		}
		if n := p.cards[0].Notes; len(n) != 1 || n[0].Values[0] != "7:abc" {
			t.Error(n)
		}
		if r := h.runs[0]; r.Check != "digest" || r.Status != "unknown" || r.Due.Time() != want[0] {
			t.Errorf("%+v", r)
		}
	})
}

func TestMissedDigestsAreOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &history{last: map[string]event.Instant{"digest": event.At(time.Now().Add(-30 * 24 * time.Hour))}}
		p := &published{h: h}
		runFor(t, digesting(t, h, p), time.Hour)
		if len(p.due) != 1 || !p.due[0].Equal(time.Date(1999, 12, 31, 7, 0, 0, 0, time.UTC)) {
			t.Fatal(p.due)
		}
		runFor(t, digesting(t, h, p), time.Hour) // another start
		if len(p.due) != 1 {
			t.Error("sent again after a start", p.due)
		}
	})
}

func TestNoDigestBeforeTheFirstIsDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &history{last: map[string]event.Instant{}}
		p := &published{h: h}
		runFor(t, digesting(t, h, p), time.Hour)
		if len(p.due) != 0 {
			t.Error(p.due)
		}
	})
}

func TestDigestThatIsNotRecordedIsMadeAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &history{last: map[string]event.Instant{"digest": event.At(time.Now().Add(-30 * 24 * time.Hour))}}
		p := &published{h: h, err: errors.New("no broker")}
		r := digesting(t, h, p)
		runFor(t, r, 10*time.Minute)
		p.err = nil
		runFor(t, r, 10*time.Minute)
		if len(p.due) != 1 {
			t.Error(p.due)
		}
	})
}

func TestNotesThatFailAreTold(t *testing.T) {
	t.Parallel()
	r, err := New(DefaultConfig(), Deps{Now: time.Now, Notes: []Notes{notes{errors.New("no journal")}}})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := r.Scorecard(t.Context()).WriteText(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Journal head", "7:abc", "Not known", "no journal"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not told:\n%s", want, b.String())
		}
	}
}

// own is a check with a schedule, outside of the data.
type own struct{ fakeCheck }

func (own) Schedule() string { return "@hourly" }
func (own) Outside() bool    { return true }

func TestOwnScheduleAndReplace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &history{last: map[string]event.Instant{}}
		c := own{fakeCheck{"mine", func(time.Time) ([]Result, error) { return []Result{{Status: Pass}}, nil }}}
		r, err := New(DefaultConfig(), Deps{Checks: []Check{c}, History: h, Now: time.Now, Coverage: coverage(0.5)})
		if err != nil {
			t.Fatal(err)
		}
		runFor(t, r, 5*time.Hour-time.Minute)
		if n := h.recorded(); n != 5 {
			t.Errorf("%d runs of an hourly check in 5 hours", n)
		}
		if s := h.runs[0].Status; s != "pass" {
			t.Errorf("a gap in the data made a check that does not read it %s", s)
		}
		for name, bad := range map[string][]Check{"twice": {c, c}, "taken": {fakeCheck{name: "digest"}}} {
			if r.Replace(bad) == nil {
				t.Errorf("%s: replaced", name)
			}
		}
		other := c
		other.name = "other"
		if err := r.Replace([]Check{other}); err != nil {
			t.Fatal(err)
		}
		if rows := r.Scorecard(t.Context()).Rows; len(rows) != 1 || rows[0].Check != "other" {
			t.Error(rows)
		}
	})
}

func TestPassOverAllNetworksNeedsAllData(t *testing.T) {
	t.Parallel()
	row := Row{Results: []Result{{Status: Pass}}}
	row.sum(Held{Networks: []NetworkCoverage{{Network: "x", Expected: 2, Held: 1}}}, nil)
	if row.Status != Unknown {
		t.Error(row.Status)
	}
}

func TestManyResultsAreRecordedInPart(t *testing.T) {
	t.Parallel()
	all := make([]Result, maxRecorded+100)
	for i := range all {
		all[i].Status = Pass
	}
	all[len(all)-1].Status = Fail
	got := recorded(all)
	if len(got) != maxRecorded || got[0].Status != Fail || all[0].Status != Pass {
		t.Error(len(got), got[0].Status)
	}
}

func TestConfigFaultsOfProbesAndDigest(t *testing.T) {
	t.Parallel()
	c := DefaultConfig()
	c.Digest = Digest{Channel: "C1"}
	c.Probes = []Probe{{Name: "A", Address: "x"}, {Name: "b", Address: "h:1"}, {Name: "b", Address: ":1"}}
	c.Checks = make([]string, maxPaths+1)
	all := errors.Join(c.Validate()...)
	for _, want := range []string{"digest.schedule: a channel", "probes[0].name", "probes[0].address", `probes[2].name: "b" is given twice`, "probes[2].address", "checks: at most"} {
		if all == nil || !strings.Contains(all.Error(), want) {
			t.Errorf("got %v, want %q", all, want)
		}
	}
	c = DefaultConfig()
	c.Digest.Schedule = "often"
	if errs := c.Validate(); len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "digest.schedule") {
		t.Error(errs)
	}
}
