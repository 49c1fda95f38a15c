package alert

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var part = event.Partition{Topic: "auth.events", ID: 3}

// live runs a manager in a bubble of its own time.
func live(t *testing.T, lead bool, f func(ctx context.Context, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.People = people()
		r := &rig{t: t, cfg: cfg, journal: &memJournal{}, positions: &memPositions{at: map[event.Partition]int64{}}}
		r.messenger = &messenger{now: time.Now}
		m, err := New(cfg, Deps{Journal: r.journal, Notifier: r.messenger, Positions: r.positions, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		r.m, r.journal.readers = m, []*Manager{m}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		if lead {
			m.Lead(ctx, 0)
		}
		f(ctx, r)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func deliver(t *testing.T, ctx context.Context, r *rig, pos int64, fs ...finding.Finding) {
	t.Helper()
	if err := r.m.Deliver(ctx, fs, part, pos); err != nil {
		t.Fatal(err)
	}
}

func TestPositionFollowsTheJournal(t *testing.T) {
	t.Parallel()
	live(t, true, func(ctx context.Context, r *rig) {
		deliver(t, ctx, r, 10, found(finding.Other, finding.Page, "host", "a", 1))
		time.Sleep(3 * time.Second)
		if got := r.positions.get(); got != 10 {
			t.Fatalf("position: got %d, want 10", got)
		}
		if n := len(r.messenger.roots()); n != 1 {
			t.Errorf("%d messages", n)
		}
		r.journal.mu.Lock()
		r.journal.fail = errDown
		r.journal.mu.Unlock()
		deliver(t, ctx, r, 20, found(finding.Other, finding.Page, "host", "a", 2))
		time.Sleep(time.Minute)
		if got := r.positions.get(); got != 10 {
			t.Fatalf("position %d was saved before its findings were durable", got)
		}
		r.journal.mu.Lock()
		r.journal.fail = nil
		r.journal.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if got := r.positions.get(); got != 20 {
			t.Errorf("position: got %d, want 20", got)
		}
	})
}

func TestPositionsWithoutFindingsCostNoRecord(t *testing.T) {
	t.Parallel()
	live(t, true, func(ctx context.Context, r *rig) {
		for i := range int64(1000) {
			deliver(t, ctx, r, i+1)
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		if got := r.positions.get(); got != 1000 {
			t.Errorf("position: got %d, want 1000", got)
		}
		if n := r.positions.saved(); n < 5 || n > 13 {
			t.Errorf("%d saves in 12 s, want one a second", n)
		}
		if n := len(r.journal.all()); n != 0 {
			t.Errorf("%d records", n)
		}
	})
}

func TestDeliveriesWaitForTheLead(t *testing.T) {
	t.Parallel()
	live(t, false, func(ctx context.Context, r *rig) {
		deliver(t, ctx, r, 10, found(finding.Other, finding.Page, "host", "a", 1))
		time.Sleep(time.Minute)
		if n := len(r.journal.all()); n != 0 {
			t.Fatalf("a standby wrote %d records", n)
		}
		r.m.Lead(ctx, 0)
		time.Sleep(2 * time.Second)
		if r.journal.count(journal.KindFinding) != 1 || r.positions.get() != 10 {
			t.Errorf("%d findings, position %d", r.journal.count(journal.KindFinding), r.positions.get())
		}
	})
}

// TestJournalWaitsForTheRecord: through a journal that fails and a change of
// leadership, until the finding is there, or the caller's time is up.
func TestJournalWaitsForTheRecord(t *testing.T) {
	t.Parallel()
	live(t, true, func(ctx context.Context, r *rig) {
		setFail := func(err error) {
			r.journal.mu.Lock()
			r.journal.fail = err
			r.journal.mu.Unlock()
		}
		gap := []finding.Finding{found(finding.DataGap, finding.Ticket, "topic", "auth.events", 1)}
		setFail(errDown)
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		if err := r.m.Journal(short, gap); err == nil || r.journal.count(journal.KindFinding) != 0 {
			t.Fatalf("Journal returned %v with %d findings journaled", err, r.journal.count(journal.KindFinding))
		}
		done := make(chan error, 1)
		go func() { done <- r.m.Journal(ctx, gap) }()
		time.Sleep(time.Minute)
		r.m.StepDown()
		setFail(nil)
		time.Sleep(time.Minute)
		select {
		case err := <-done:
			t.Fatalf("Journal returned %v although nobody leads", err)
		default:
		}
		r.m.Lead(ctx, 0)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if n := r.journal.count(journal.KindFinding); n != 1 {
			t.Errorf("%d findings are journaled, want 1", n)
		}
	})
}

func TestDeliveriesOfALostLeadAreVoid(t *testing.T) {
	t.Parallel()
	live(t, true, func(ctx context.Context, r *rig) {
		deliver(t, ctx, r, 100)
		time.Sleep(2 * time.Second)
		r.journal.mu.Lock()
		r.journal.fail = errDown
		r.journal.mu.Unlock()
		deliver(t, ctx, r, 110, found(finding.Other, finding.Page, "host", "a", 1))
		time.Sleep(3 * time.Second)
		r.m.StepDown()
		r.journal.mu.Lock()
		r.journal.fail = nil
		r.journal.mu.Unlock()
		time.Sleep(10 * time.Second)
		r.m.Lead(ctx, 0)
		deliver(t, ctx, r, 50)
		time.Sleep(3 * time.Second)
		if n := r.journal.count(journal.KindFinding); n != 0 {
			t.Errorf("%d findings of a lost lead were journaled", n)
		}
		if got := r.positions.get(); got != 50 {
			t.Errorf("position: got %d, want the new lead's 50", got)
		}
	})
}

func TestFullQueueBlocks(t *testing.T) {
	t.Parallel()
	live(t, false, func(ctx context.Context, r *rig) {
		short, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		n := 0
		for ; r.m.Deliver(short, nil, part, int64(n)) == nil; n++ {
		}
		// As many again may be in the hands of the one who waits for the lead.
		if n < r.cfg.Queue || n > 2*r.cfg.Queue {
			t.Errorf("%d deliveries fit, the queue holds %d", n, r.cfg.Queue)
		}
	})
}

func TestQueueIsJournaledAtTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j, pos := &memJournal{}, &memPositions{at: map[event.Partition]int64{}}
		m, err := New(DefaultConfig(), Deps{Journal: j, Positions: pos, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		j.readers = []*Manager{m}
		m.Lead(t.Context(), 0)
		for i := range 100 {
			if err := m.Deliver(t.Context(), []finding.Finding{found(finding.Other, finding.Ticket, "host", "a", i)}, part, int64(i+1)); err != nil {
				t.Fatal(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := m.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if pos.get() != 100 {
			t.Errorf("position: got %d, want 100", pos.get())
		}
	})
}

func TestNoPositionPassesFindingsThatWereGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j, pos := &memJournal{}, &memPositions{at: map[event.Partition]int64{}}
		m, err := New(DefaultConfig(), Deps{Journal: j, Positions: pos, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		j.readers = []*Manager{m}
		m.Lead(t.Context(), 0)
		j.fail = errDown
		if err := m.Deliver(t.Context(), []finding.Finding{found(finding.Other, finding.Ticket, "host", "a", 1)}, part, 7); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		time.Sleep(3 * time.Second)
		begin := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > drainTime {
			t.Errorf("the end took %v", took)
		}
		if len(pos.at) != 0 {
			t.Errorf("positions %v were saved", pos.at)
		}
	})
}
