package torture

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/store"
)

// TestCountSees: the oracle says so when a row is missing, is there twice, or a
// finding lies about a gap. One trial without any fault is tampered with.
func TestCountSees(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	o := Options{Broker: "kfake", Rounds: 1, Events: 1000, Seed: 3, Progress: logWriter{t}}
	tr, err := newTrial(ctx, o, needs{})
	devstacktest.Check(t, err)
	t.Cleanup(func() {
		if err := tr.close(); err != nil {
			t.Error(err)
		}
	})
	running, stop := context.WithCancel(ctx)
	defer stop()
	produced := make(chan error, 1)
	go func() { produced <- tr.flow.run(running) }()
	quiet := fault{name: "none", daemons: 1, play: func(context.Context, *trial, *Result) error { return nil }}
	r := Result{RecoveryBarS: 1}
	if err := tr.playAndCount(ctx, quiet, &r); err != nil {
		t.Fatal(err)
	}
	if err := <-produced; err != nil {
		t.Fatal(err)
	}
	if r.judge(); !r.OK || r.Events != o.Events {
		t.Fatalf("nothing was broken: %+v", r)
	}
	some := "SELECT (partition, offset) FROM events ORDER BY partition, offset LIMIT 1"
	steps := []struct {
		name string
		sql  string
		want Result
	}{
		{"a copy folds away", "INSERT INTO events SELECT * FROM events WHERE (partition, offset) = (" + some + ")", Result{}},
		{"another row of the same coordinates", "INSERT INTO events SELECT * REPLACE (observed_at - 1 AS observed_at) FROM events FINAL WHERE (partition, offset) = (" + some + ")", Result{Duplicates: 1}},
		{"a row is gone", "ALTER TABLE events DELETE WHERE (partition, offset) = (" + some + ") SETTINGS mutations_sync = 2", Result{Lost: 1}},
	}
	for _, s := range steps {
		tamper(t, tr, s.sql)
		var got Result
		if err := tr.count(ctx, &got); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if got.Lost != s.want.Lost || got.Duplicates != s.want.Duplicates || got.Gaps != nil {
			t.Errorf("%s: lost %d, duplicates %d; want %d, %d", s.name, got.Lost, got.Duplicates, s.want.Lost, s.want.Duplicates)
		}
	}
	gone := gap{partition: 0, from: 0, to: 3}
	n, err := tr.storedIn(ctx, gone)
	if err != nil || n != 2 {
		t.Errorf("%d records of a gap of three are stored (%v), want two: one was deleted", n, err)
	}
}

// tamper changes the database behind everybody's back; the store's own client
// only reads.
func tamper(t *testing.T, tr *trial, sql string) {
	t.Helper()
	u := "http://" + tr.stage.ClickHouseHTTP() + "/?database=" + url.QueryEscape(config.Default().Store.Database)
	res, err := http.Post(u, "text/plain", strings.NewReader(sql))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if answer, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s %v", sql, res.Status, answer, err)
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	well := store.Count{Rows: 12, Distinct: 9, Final: 9, View: 9, Quarantine: 1}
	tests := map[string]struct {
		c                tally
		lost, duplicates int64
	}{
		"all there":        {tally{produced: 10, stored: well}, 0, 0},
		"one missing":      {tally{produced: 11, stored: well}, 1, 0},
		"one in a gap":     {tally{produced: 11, stored: well, excused: 1}, 0, 0},
		"excused too much": {tally{produced: 10, stored: well, excused: 1}, -1, 0},
		"a copy in FINAL":  {tally{produced: 10, stored: store.Count{Distinct: 9, Final: 10, View: 9, Quarantine: 1}}, 0, 1},
		"a copy in a view": {tally{produced: 10, stored: store.Count{Distinct: 9, Final: 9, View: 11, Quarantine: 1}}, 0, 2},
	}
	for name, tt := range tests {
		if l, d := tt.c.lost(), tt.c.duplicates(); l != tt.lost || d != tt.duplicates {
			t.Errorf("%s: lost %d, duplicates %d; want %d, %d", name, l, d, tt.lost, tt.duplicates)
		}
	}
}

// gapFinding is what ingest tells of a gap.
func gapFinding(id, of, partition, first, last string, count uint64) finding.Finding {
	return finding.Finding{ID: id, RuleID: ingest.RuleDataGap, Subject: finding.Subject{Field: "topic", Value: of}, Count: count,
		Group: []finding.Pair{{Field: "topic", Value: of}, {Field: "partition", Value: partition}},
		Facts: []finding.Pair{{Field: "first_offset", Value: first}, {Field: "last_offset", Value: last}}}
}

func TestGapOf(t *testing.T) {
	t.Parallel()
	good, ok, err := gapOf(gapFinding("a", topic, "2", "5", "9", 5))
	if want := (gap{partition: 2, from: 5, to: 10, finding: "a"}); good != want || !ok || err != nil {
		t.Errorf("got %+v, %v, %v; want %+v", good, ok, err, want)
	}
	for name, f := range map[string]finding.Finding{
		"another topic": gapFinding("a", "console.events", "2", "5", "9", 5),
		"another rule":  {RuleID: "r", Subject: finding.Subject{Value: topic}},
	} {
		if _, ok, err := gapOf(f); ok || err != nil {
			t.Errorf("%s: taken for a gap (%v)", name, err)
		}
	}
	for name, f := range map[string]finding.Finding{
		"a wrong count":     gapFinding("a", topic, "2", "5", "9", 4),
		"nothing in it":     gapFinding("a", topic, "2", "5", "4", 0),
		"no number":         gapFinding("a", topic, "2", "five", "9", 5),
		"without an offset": gapFinding("a", topic, "2", "5", "", 5),
	} {
		if _, _, err := gapOf(f); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestWeigh(t *testing.T) {
	t.Parallel()
	type gaps = []gap
	at := func(p int32, from, to int64) gap { return gap{partition: p, from: from, to: to} }
	deleted := map[int32]int64{0: 100, 1: 50}
	tests := map[string]struct {
		gaps           gaps
		stored         int64 // of each true gap
		excused, wrong int64
	}{
		"none":                      {nil, 0, 0, 0},
		"one":                       {gaps{at(0, 90, 100)}, 0, 10, 0},
		"by two readers":            {gaps{at(0, 95, 100), at(0, 90, 100)}, 0, 10, 0},
		"one after the other":       {gaps{at(0, 95, 100), at(0, 90, 95)}, 0, 10, 0},
		"apart":                     {gaps{at(0, 95, 100), at(0, 80, 85)}, 0, 10, 0},
		"in two partitions":         {gaps{at(0, 95, 100), at(1, 40, 50)}, 0, 15, 0},
		"what is stored is no loss": {gaps{at(0, 90, 100)}, 2, 8, 2},
		"beyond what was deleted":   {gaps{at(1, 40, 60)}, 0, 10, 10},
		"nothing was deleted there": {gaps{at(2, 0, 7)}, 0, 0, 7},
		"wholly beyond":             {gaps{at(1, 60, 70)}, 0, 0, 10},
	}
	for name, tt := range tests {
		excused, wrong, err := weigh(tt.gaps, deleted, func(gap) (int64, error) { return tt.stored, nil })
		if excused != tt.excused || wrong != tt.wrong || err != nil {
			t.Errorf("%s: excused %d, wrong %d (%v); want %d, %d", name, excused, wrong, err, tt.excused, tt.wrong)
		}
	}
	boom := errors.New("boom")
	if _, _, err := weigh(gaps{at(0, 1, 2)}, deleted, func(gap) (int64, error) { return 0, boom }); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
}

func record(t *testing.T, kind journal.Kind, body any, at event.Instant) journal.Record {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return journal.Record{Kind: kind, Body: b, Time: at}
}

func TestGapWatch(t *testing.T) {
	t.Parallel()
	at := event.At(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC))
	found := func(id, partition, last string, n uint64) journal.Record {
		first := map[string]string{"9": "5", "19": "10"}[last]
		return record(t, journal.KindFinding, gapFinding(id, topic, partition, first, last, n), at)
	}
	incident := func(id string) journal.Record {
		return record(t, journal.KindIncident, journal.IncidentChange{FindingID: id}, at.Add(time.Second))
	}
	tests := map[string]struct {
		records  []journal.Record
		complete bool
		want     int64
	}{
		"nothing yet":             {nil, false, 0},
		"found, no incident yet":  {[]journal.Record{found("a", "0", "9", 5)}, false, 0},
		"only one of two":         {[]journal.Record{found("a", "0", "9", 5), incident("a")}, false, 5},
		"both":                    {[]journal.Record{found("a", "0", "9", 5), incident("a"), found("b", "1", "19", 10), incident("b")}, true, 15},
		"another end":             {[]journal.Record{found("a", "0", "19", 10), incident("a"), found("b", "1", "19", 10), incident("b")}, false, 10},
		"an incident of others":   {[]journal.Record{found("a", "0", "9", 5), incident("x"), found("b", "1", "19", 10), incident("b")}, false, 10},
		"a third without its own": {[]journal.Record{found("a", "0", "9", 5), incident("a"), found("b", "1", "19", 10), incident("b"), found("c", "0", "9", 5)}, false, 15},
	}
	for name, tt := range tests {
		w := newGapWatch(map[int32]int64{0: 10, 1: 20})
		for _, r := range tt.records {
			if err := w.take(r); err != nil {
				t.Fatal(err)
			}
		}
		if w.complete() != tt.complete || w.records != tt.want {
			t.Errorf("%s: complete %v with %d records; want %v, %d", name, w.complete(), w.records, tt.complete, tt.want)
		}
		if tt.complete && !w.last.Equal(at.Add(time.Second).Time()) {
			t.Errorf("%s: last incident at %v", name, w.last)
		}
	}
}

func TestTestimony(t *testing.T) {
	t.Parallel()
	j := &testimony{twice: newEpisodes()}
	f := finding.Finding{ID: "a", RuleID: "r", Group: []finding.Pair{{Field: "key_id", Value: "k"}}}
	for _, r := range []journal.Record{
		record(t, journal.KindTookOver, journal.TookOver{Member: "m"}, 0),
		record(t, journal.KindFinding, f, 0),
		record(t, journal.KindEpisode, journal.Episode{FindingID: "a", Closed: true}, 0),
		record(t, journal.KindFinding, gapFinding("g", topic, "0", "5", "9", 5), 0),
	} {
		if again, err := j.take(r); again != nil || err != nil {
			t.Errorf("%s: %v, %v", r.Kind, again, err)
		}
	}
	if again, err := j.take(record(t, journal.KindFinding, f, 0)); again == nil || err != nil {
		t.Errorf("a finding that is there again was not seen: %v", err)
	}
	if diff := cmp.Diff([]int{3, 1, 1, 1}, []int{j.findings, j.leaders, len(j.gaps), j.twice.again}); diff != "" {
		t.Errorf("findings, leaders, gaps, again (-want +got)\n%s", diff)
	}
	if _, err := j.take(journal.Record{Kind: journal.KindFinding, Body: []byte(`{`)}); err == nil {
		t.Error("a broken record was taken")
	}
}

func TestDiedAt(t *testing.T) {
	t.Parallel()
	const words = "dying at the wished point"
	tests := map[string]struct {
		log  string
		want bool
	}{
		"it did":                 {"a\n" + words + " point=rebalance:2\n", true},
		"at another point":       {words + " point=take-over:2\n", false},
		"in a life before":       {words + " point=rebalance:2\nstarted\nkilled\n", false},
		"it said something else": {"bye\n", false},
		"it said nothing":        {"", false},
	}
	for name, tt := range tests {
		if got := diedAt(tt.log, "rebalance"); got != tt.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestProbesTake(t *testing.T) {
	t.Parallel()
	now := time.Now()
	about := func(source string) finding.Finding {
		return finding.Finding{Group: []finding.Pair{{Field: event.FieldCause.String(), Value: "unknown_key"}, {Field: event.FieldSourceIP.String(), Value: source}}}
	}
	p := newProbes(nil)
	if _, _, _, err := p.take(); err == nil {
		t.Error("no probe, and no error")
	}
	p.waiting = map[string]time.Time{"10.0.0.1": now.Add(-20 * time.Millisecond), "10.0.0.2": now.Add(-40 * time.Millisecond), "10.0.0.3": now}
	p.arrived(about("10.0.0.1"), now)
	p.arrived(about("10.0.0.2"), now)
	p.arrived(about("10.0.0.2"), now.Add(time.Hour)) // again
	p.arrived(about("10.0.0.9"), now)                // nobody's
	if p50, p99, n, err := p.take(); p50 != 20 || p99 != 20 || n != 2 || err != nil {
		t.Errorf("got %v, %v of %d, %v; want 20, 20 of 2", p50, p99, n, err)
	}
	p.waiting["10.0.0.3"] = now.Add(-time.Hour) // never came
	if p50, _, n, err := p.take(); p50 < time.Hour.Seconds()*1000 || n != 1 || err != nil {
		t.Errorf("got %v of %d, %v; want an hour", p50, n, err)
	}
}

func TestTurn(t *testing.T) {
	t.Parallel()
	f := newFlow(Options{Events: 1}, nil)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var got []time.Duration
	for _, at := range []time.Duration{0, 0, 0, time.Second, 2 * time.Second} {
		got = append(got, f.turn(100, 1000, now.Add(at)).Sub(now))
	}
	// 100 ms for each hundred; what is late is caught up, by 250 ms at most.
	want := []time.Duration{-150 * time.Millisecond, -50 * time.Millisecond, 50 * time.Millisecond, 850 * time.Millisecond, 1850 * time.Millisecond}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
