package posture

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

type fakeCheck struct {
	name string
	run  func(now time.Time) ([]Result, error)
}

func (c fakeCheck) Name() string   { return c.name }
func (c fakeCheck) Title() string  { return "Title of " + c.name }
func (c fakeCheck) Target() string { return "< 2" }
func (c fakeCheck) Run(_ context.Context, now time.Time) ([]Result, error) {
	return c.run(now)
}

type history struct {
	mu   sync.Mutex
	last map[string]event.Instant
	runs []journal.PostureRun
	fs   []finding.Finding
	err  error
}

func (h *history) LastRun(check string) (event.Instant, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t, ok := h.last[check]
	return t, ok
}

func (h *history) Record(_ context.Context, run journal.PostureRun, fs []finding.Finding) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return h.err
	}
	h.last[run.Check] = run.Due
	h.runs = append(h.runs, run)
	h.fs = append(h.fs, fs...)
	return nil
}

func (h *history) recorded() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.runs)
}

// coverage is the share of network n's events that is held; below zero nobody
// knows.
type coverage float64

func (c coverage) Coverage(context.Context, time.Time) (Held, error) {
	if c < 0 {
		return Held{}, errors.New("not measured")
	}
	return Held{Networks: []NetworkCoverage{{Network: "n", Expected: 1000, Held: uint64(1000 * c)}, {Network: "other", Expected: 9, Held: 1}}}, nil
}

type held Held

func (h held) Coverage(context.Context, time.Time) (Held, error) { return Held(h), nil }

func one(s Status) fakeCheck {
	return fakeCheck{"one", func(time.Time) ([]Result, error) {
		r := Result{Subject: finding.Subject{Network: "n", Field: "key_id", Value: "k"}, Status: s, Value: "3", Severity: finding.Ticket, Since: 5}
		if s != Pass {
			r.Stage, r.Summary = "2", "Too many."
		}
		return []Result{r}, nil
	}}
}

func TestRunCatchesUpOnceAndThenFollowsTheSchedule(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now().UTC()
		h := &history{last: map[string]event.Instant{"one": event.At(start.Add(-72 * time.Hour))}}
		r, err := New(Config{Timeout: time.Second, Schedules: map[string]string{"one": "0 */6 * * *"}},
			Deps{Checks: []Check{one(Fail)}, History: h, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		if h.recorded() != 1 {
			t.Fatalf("missed runs are made up for once, not %d times", h.recorded())
		}
		time.Sleep(24*time.Hour + time.Minute)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(h.runs) != 5 {
			t.Errorf("%d runs in a day, want the missed one and 4", len(h.runs))
		}
		for _, run := range h.runs[1:] {
			if d := run.Due.Time(); d.Hour()%6 != 0 || d.Minute() != 0 {
				t.Errorf("ran at %s", d)
			}
		}
		ids := map[string]bool{}
		for _, f := range h.fs {
			ids[f.ID] = true
		}
		if len(ids) != 1 {
			t.Errorf("one stage of one key is %d findings", len(ids))
		}
	})
}

func TestRunThatCannotBeRecordedIsRepeated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &history{last: map[string]event.Instant{}, err: errors.New("no leader")}
		r, err := New(DefaultConfig(), Deps{Checks: []Check{one(Pass)}, History: h, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		r.runDue(t.Context())
		h.err = nil
		r.runDue(t.Context())
		r.runDue(t.Context())
		if len(h.runs) != 1 {
			t.Errorf("%d recorded runs, want 1", len(h.runs))
		}
	})
}

func TestFindingOfAResult(t *testing.T) {
	t.Parallel()
	h := &history{last: map[string]event.Instant{}}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r, err := New(DefaultConfig(), Deps{Checks: []Check{one(Warn)}, History: h, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	r.runDue(t.Context())
	if len(h.fs) != 1 {
		t.Fatalf("%d findings, want 1", len(h.fs))
	}
	f := h.fs[0]
	want := finding.Subject{Network: "n", Field: "key_id", Value: "k"}
	if f.Kind != finding.Posture || f.Severity != finding.Ticket || f.Subject != want || f.RuleID != "posture/one" || f.Fired != event.At(at) {
		t.Errorf("%+v", f)
	}
	if diff := cmp.Diff([]string{f.ID}, h.runs[0].Findings); diff != "" {
		t.Error(diff)
	}
}

func TestScorecardIsNeverCleanOverWhatItCannotSee(t *testing.T) {
	t.Parallel()
	none := fakeCheck{"one", func(time.Time) ([]Result, error) { return nil, nil }}
	broken := fakeCheck{"one", func(time.Time) ([]Result, error) { return nil, errors.New("no route to host") }}
	for name, tc := range map[string]struct {
		check    fakeCheck
		coverage Coverage
		want     Status
		detail   string
	}{
		"all there":              {one(Pass), coverage(1), Pass, "1 pass"},
		"no coverage to ask":     {one(Pass), nil, Pass, "1 pass"},
		"partial data":           {one(Pass), coverage(0.5), Unknown, "only 50.0 %"},
		"coverage not known":     {one(Pass), coverage(-1), Unknown, "not measured"},
		"partial data and a bad": {one(Fail), coverage(0.5), Fail, "only 50.0 %"},
		"nearly all":             {one(Pass), coverage(0.9999), Unknown, "only 99.9 % of the data is there (999 of 1000 events)"},
		"a silent host":          {one(Pass), held{Networks: []NetworkCoverage{{Network: "n", Expected: 5, Held: 5, Silent: []string{"api-1"}}}}, Unknown, "silent: api-1"},
		"offsets lost":           {one(Pass), held{Lost: []string{"auth.events/0 5-11 lost"}}, Unknown, "not stored: auth.events/0 5-11 lost"},
		"nobody numbers":         {one(Pass), held{}, Pass, "1 pass"},
		"nothing to judge":       {none, coverage(1), Unknown, "nothing is known"},
		"cannot be judged":       {broken, coverage(1), Unknown, "no route"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := New(DefaultConfig(), Deps{Checks: []Check{tc.check}, Coverage: tc.coverage, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			card := r.Scorecard(t.Context())
			if got := card.Rows[0]; got.Status != tc.want || !strings.Contains(got.Detail, tc.detail) {
				t.Errorf("got %s, %q", got.Status, got.Detail)
			}
			if card.Status() != tc.want {
				t.Errorf("the card says %s", card.Status())
			}
		})
	}
	if s := (Scorecard{}).Status(); s != Unknown {
		t.Errorf("an empty card is %s", s)
	}
}

func TestWriteScorecard(t *testing.T) {
	t.Parallel()
	card := Scorecard{At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Rows: []Row{{Check: "one", Title: "Age", Target: "< 2", Status: Fail, Detail: "1 fail",
		Results: []Result{{Subject: finding.Subject{Network: "n\x1b[2J", Field: "key_id", Value: "k"}, Status: Fail, Value: "3", Summary: "Too many."}}}}}
	card.Coverage = Held{Networks: []NetworkCoverage{{Network: "n\x1b", Expected: 4, Held: 3, Silent: []string{"a", "b", "c", "d", "e", "f"}}}, Lost: []string{"t/0 5-11 lost"},
		Blind: []BlindNetwork{{Network: "n\x1b", Rules: []string{"Session without a mint: no events of origin backend"}}}, BlindError: "no leader"}
	var text, js strings.Builder
	if err := errors.Join(card.WriteText(&text), card.WriteJSON(&js)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Posture at 2026-01-02 03:04 UTC", "fail    Age", "key_id k of network n\\x1b[2J", "3: Too many.",
		"Coverage of the last 24 hours", `network n\x1b: only 75.0 % of the data is there (3 of 4 events), silent: a, b, c, d, e and 1 more`, "not stored: t/0 5-11 lost",
		"network n\\x1b: 1 rules are blind\n  Session without a mint: no events of origin backend\n", "blind rules: not known: no leader"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is missing in\n%s", want, text.String())
		}
	}
	if strings.Contains(text.String(), "\x1b") {
		t.Error("a control character reached the terminal")
	}
	var back struct {
		Status Status
		Rows   []Row
	}
	if err := json.Unmarshal([]byte(js.String()), &back); err != nil || back.Status != Fail || len(back.Rows) != 1 {
		t.Errorf("%v %+v", err, back)
	}
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		schedules map[string]string
		want      string
	}{
		"unknown check": {map[string]string{"two": "@daily"}, "schedules.two: there is no such check"},
		"not cron":      {map[string]string{"one": "soon"}, "schedules.one: not a cron expression"},
		"six fields":    {map[string]string{"one": "0 0 0 * * *"}, "schedules.one: not a cron expression"},
		"a time zone":   {map[string]string{"one": "TZ=Europe/Rome 0 6 * * *"}, "in UTC"},
		"empty":         {map[string]string{"one": ""}, "schedules.one"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := New(Config{Timeout: time.Second, Schedules: tc.schedules}, Deps{Checks: []Check{one(Pass)}, Now: time.Now})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := New(DefaultConfig(), Deps{Checks: []Check{one(Pass), one(Pass)}, Now: time.Now}); err == nil {
		t.Error("two checks of one name were taken")
	}
	if _, err := New(Config{}, Deps{}); err == nil {
		t.Error("a runner without a clock and a timeout was taken")
	}
}
