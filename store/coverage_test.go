package store

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keysentry/keysentry/event"
)

// said is one event of a process, as coverage sees it.
type said struct {
	network, host, boot string
	seq                 uint64
	at                  event.Instant
	kind                event.Type
	offset              int64
}

func (s said) event() event.Event {
	e := event.Event{Type: s.kind, Origin: event.OriginBackend, Seq: s.seq, Ref: event.Ref{Topic: "t", Offset: s.offset}, Time: s.at, TS: s.at, ObservedAt: s.at}
	e.SetString(event.FieldNetwork, s.network)
	e.SetString(event.FieldHost, s.host)
	e.SetString(event.FieldBoot, s.boot)
	e.SetString(event.FieldService, "minter")
	if s.seq > 0 {
		e.Present = e.Present.Set(event.FieldSeq)
	}
	return e
}

// tell stores events, also such as are stored already: the table then holds them
// twice, as after a paused leader.
func tell(t testing.TB, c *Client, events ...said) {
	t.Helper()
	if len(events) == 0 {
		return
	}
	b := newEventBlock()
	for _, s := range events {
		e := s.event()
		b.append(&e)
	}
	s := newInserter(c)
	defer s.close()
	if err := s.send(t.Context(), &b.block); err != nil {
		t.Fatal(err)
	}
}

func noDedup(t testing.TB, c *Client) {
	t.Helper()
	if err := c.conn.Exec(t.Context(), "ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 0"); err != nil {
		t.Fatal(err)
	}
}

func rollOnce(t testing.TB, r *Roller) {
	t.Helper()
	if _, err := r.Once(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// covered is a row of the table coverage.
type covered struct {
	Line                    string
	Minute                  time.Time
	Expected, Seen, Unknown uint64
	First, Last, Top, Beats uint64
	Since, FirstAt, LastAt  event.Instant
	Stopped                 bool
}

func coverageRows(t testing.TB, c *Client) []covered {
	t.Helper()
	rows, err := c.conn.Query(t.Context(), `SELECT concat(network, '/', host, '/', boot), minute, expected, seen, unknown, first_seq, last_seq, top_seq, heartbeats,
		toUnixTimestamp64Nano(since), toUnixTimestamp64Nano(first_at), toUnixTimestamp64Nano(last_at), stopped
		FROM coverage FINAL ORDER BY network, host, boot, minute`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var out []covered
	for rows.Next() {
		var r covered
		var since, first, last int64
		if err := rows.Scan(&r.Line, &r.Minute, &r.Expected, &r.Seen, &r.Unknown, &r.First, &r.Last, &r.Top, &r.Beats, &since, &first, &last, &r.Stopped); err != nil {
			t.Fatal(err)
		}
		r.Since, r.FirstAt, r.LastAt = event.Instant(since), event.Instant(first), event.Instant(last)
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// reference computes the table from all events at once.
func reference(events []said) []covered {
	type key struct {
		line   string
		minute int64
	}
	minute := func(at event.Instant) int64 { return int64(at) / int64(time.Minute) }
	rows := map[key]*covered{}
	numbers := map[key]map[uint64]bool{}
	begun := map[string]int64{}
	for _, e := range events {
		k := key{e.network + "/" + e.host + "/" + e.boot, minute(e.at)}
		if m, ok := begun[e.network]; !ok || k.minute < m {
			begun[e.network] = k.minute
		}
		r := rows[k]
		if r == nil {
			r = &covered{Line: k.line, Minute: time.Unix(k.minute*60, 0).UTC(), FirstAt: e.at, LastAt: e.at}
			rows[k], numbers[k] = r, map[uint64]bool{}
		}
		r.FirstAt, r.LastAt = min(r.FirstAt, e.at), max(r.LastAt, e.at)
		r.Stopped = r.Stopped || e.kind == event.TypeHostStopped
		if e.kind == event.TypeHeartbeat {
			r.Beats++
		}
		if e.seq == 0 {
			continue
		}
		numbers[k][e.seq] = true
		if r.First == 0 || e.seq < r.First {
			r.First = e.seq
		}
		r.Last = max(r.Last, e.seq)
	}
	keys := slices.SortedFunc(maps.Keys(rows), func(a, b key) int {
		return cmp.Or(strings.Compare(a.line, b.line), cmp.Compare(a.minute, b.minute))
	})
	var out []covered
	line, top, since := "", uint64(0), event.Instant(0)
	for _, k := range keys {
		r := rows[k]
		if k.line != line {
			line, top, since = k.line, 0, 0
		}
		base := top
		if network, _, _ := strings.Cut(k.line, "/"); top == 0 && r.Last > 0 && begun[network] > k.minute-10 {
			base = r.First - 1
			r.Unknown = base
		}
		r.Seen, r.Since = uint64(len(numbers[k])), since
		if r.Last > base {
			r.Expected = r.Last - base
		}
		top = max(top, r.Last)
		r.Top = top
		if r.Last > 0 {
			since = max(since, r.LastAt)
		}
		out = append(out, *r)
	}
	return out
}

// telling is a history and the round in which each of its events is stored, with
// copies of some in later rounds.
type telling struct {
	events []said
	rounds [][]int
}

func tellings(rt *rapid.T) telling {
	out := telling{events: hostStories(rt), rounds: make([][]int, rapid.IntRange(1, 4).Draw(rt, "rounds"))}
	for i := range out.events {
		first := 0 // the first event of the network comes first
		if i > 0 {
			first = rapid.IntRange(0, len(out.rounds)-1).Draw(rt, "round")
		}
		for r := first; r < len(out.rounds); r++ {
			if r == first || rapid.IntRange(0, 9).Draw(rt, "copy") == 0 {
				out.rounds[r] = append(out.rounds[r], i)
			}
		}
	}
	return out
}

// TestCoverageIsThatOfAllEventsAtOnce tells random histories in random pieces:
// late, doubled, over restarts and silences. However they come, the table says
// what all events together say. So many examples, because each is many queries.
func TestCoverageIsThatOfAllEventsAtOnce(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	noDedup(t, c)
	for seed := range 20 {
		for _, table := range []string{"events", "coverage", "auth_minutely", "auth_hourly"} {
			if err := c.conn.Exec(t.Context(), "TRUNCATE TABLE "+table); err != nil {
				t.Fatal(err)
			}
		}
		x := rapid.Custom(tellings).Example(seed)
		roll := NewRoller(c)
		told := map[int]said{}
		for n, round := range x.rounds {
			var batch []said
			for _, i := range round {
				batch = append(batch, x.events[i])
				told[i] = x.events[i]
			}
			tell(t, c, batch...)
			rollOnce(t, roll)
			if diff := gocmp.Diff(reference(slices.Collect(maps.Values(told))), coverageRows(t, c)); diff != "" {
				t.Fatalf("example %d, round %d of %+v (-want +got):\n%s", seed, n, x, diff)
			}
		}
	}
}

// hostStories is what a few processes say in three hours.
func hostStories(rt *rapid.T) []said {
	start := event.At(time.Date(2026, 3, 1, 22, 30, 0, 0, time.UTC)) // over midnight
	events := []said{{network: "n", host: "first", boot: "b", seq: 1, at: start, kind: event.TypeHeartbeat}}
	for host := range rapid.IntRange(1, 3).Draw(rt, "hosts") {
		at := start.Add(time.Duration(rapid.IntRange(0, 1800).Draw(rt, "begins")) * time.Second)
		for boot := range rapid.IntRange(1, 2).Draw(rt, "boots") {
			seq := uint64(rapid.SampledFrom([]int{0, 0, 40}).Draw(rt, "head"))
			for range rapid.IntRange(1, 12).Draw(rt, "events") {
				at = at.Add(time.Duration(rapid.SampledFrom([]int{1, 7, 50, 70, 400, 4000}).Draw(rt, "pause")) * time.Second)
				e := said{network: "n", host: fmt.Sprint("h", host), boot: fmt.Sprint("b", boot), kind: event.TypeAuthTokenIssued,
					at: at.Add(time.Duration(rapid.IntRange(-90, 90).Draw(rt, "clock")) * time.Second)}
				if rapid.IntRange(0, 4).Draw(rt, "numbered") > 0 {
					seq++
					e.seq = seq
				} else {
					e.kind = event.TypeHeartbeat
				}
				if rapid.IntRange(0, 3).Draw(rt, "lost") > 0 {
					events = append(events, e)
				}
			}
		}
	}
	for i := range events {
		events[i].offset = int64(i)
		events[i].at = max(events[i].at, start)
	}
	return events
}

// TestCoverageView follows one host through what can happen to its events.
func TestCoverageView(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	roll := NewRoller(c)
	now := time.Now().UTC().Truncate(time.Minute)
	at := func(minutes int) event.Instant { return event.At(now.Add(time.Duration(minutes) * time.Minute)) }
	offset := int64(0)
	say := func(host, boot string, minutes int, kind event.Type, seqs ...uint64) {
		t.Helper()
		var batch []said
		for _, s := range seqs {
			batch = append(batch, said{"n", host, boot, s, at(minutes), kind, offset})
			offset++
		}
		tell(t, c, batch...)
	}
	say("old", "b", -60, event.TypeHeartbeat, 500, 501) // began before anything was held
	say("old", "b", -5, event.TypeHostStopped, 502)
	say("api", "b1", -40, event.TypeHeartbeat, 2, 3)         // lost its first number
	say("api", "b1", -30, event.TypeHeartbeat, 7)            // 4 to 6 were lost in between
	say("api", "b2", -20, event.TypeAuthTokenIssued, 1, 2)   // a restart without a last word
	say("job", "b", -25, event.TypeAuthTokenIssued, 1, 2, 3) // no heartbeats: silence says nothing
	rollOnce(t, roll)
	view := func() (out []string) {
		t.Helper()
		rows, err := c.conn.Query(t.Context(), "SELECT host, boot, state, expected, seen, missing, unknown, dateDiff('minute', since, now()) FROM v_coverage ORDER BY host, boot, minute")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var host, boot, state string
			var expected, seen, missing, unknown uint64
			var since int64
			if err := rows.Scan(&host, &boot, &state, &expected, &seen, &missing, &unknown, &since); err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprintf("%s %s %s %d/%d -%d ?%d", host, boot, state, seen, expected, missing, unknown))
		}
		return out
	}
	want := []string{
		"api b1 partial 2/3 -1 ?0", "api b1 partial 1/4 -3 ?0", "api b1 restarted 0/0 -0 ?0",
		"api b2 complete 2/2 -0 ?0",
		"job b complete 3/3 -0 ?0",
		"old b began_before 2/2 -0 ?499", "old b complete 1/1 -0 ?0",
	}
	if diff := gocmp.Diff(want, view()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// The lost ones come late, in their own minute, and a heartbeat that nothing follows.
	say("api", "b1", -30, event.TypeHeartbeat, 4, 5, 6)
	say("api", "b2", -18, event.TypeHeartbeat, 3)
	rollOnce(t, roll)
	want[1] = "api b1 complete 4/4 -0 ?0"
	want = slices.Insert(want, 4, "api b2 complete 1/1 -0 ?0", "api b2 silent 0/0 -0 ?0")
	if diff := gocmp.Diff(want, view()); diff != "" {
		t.Errorf("after late rows (-want +got):\n%s", diff)
	}
}

func TestCoverageOfNetworks(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	now := time.Now()
	at := func(minutes int) event.Instant { return event.At(now.Add(time.Duration(minutes) * time.Minute)) }
	tell(t, c,
		said{"n", "a", "b", 1, at(-40), event.TypeHeartbeat, 0}, said{"n", "a", "b", 4, at(-30), event.TypeAuthTokenIssued, 1},
		said{"n", "c", "b", 1, at(-40), event.TypeAuthTokenIssued, 2}, said{"n", "c", "b", 2, at(-3), event.TypeAuthTokenIssued, 3},
		said{"old", "a", "b", 1, at(-3000), event.TypeHeartbeat, 4}, said{"old", "a", "b", 9, at(-2900), event.TypeHeartbeat, 5},
		said{"whole", "a", "b", 1, at(-3), event.TypeHeartbeat, 6})
	rollOnce(t, NewRoller(c))
	w, _ := startWriter(t, c)
	assign(t, w, part0, 0)
	appendBatch(t, w, batchOf(part0, 0, "lll"), nil)
	appendBatch(t, w, batchOf(part0, 3, "..."), nil)
	flush(t, w)
	networks, lost, err := c.Coverage(t.Context(), now.Add(-24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	want := []NetworkCoverage{{"n", 6, 4, []string{"a"}}, {"whole", 1, 1, []string{}}}
	if diff := gocmp.Diff(want, networks); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff([]string{"auth.events/0 0-2 lost"}, lost); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestCoverageDoesNotWriteWhatIsSo: a round that finds nothing new writes nothing.
func TestCoverageDoesNotWriteWhatIsSo(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	roll := NewRoller(c)
	tell(t, c, said{"n", "h", "b", 1, epoch, event.TypeHeartbeat, 0}, said{"n", "h", "b", 4, epoch.Add(time.Hour), event.TypeHeartbeat, 1})
	var before, after uint64
	for _, n := range []*uint64{&before, &after} {
		rollOnce(t, roll)
		if err := c.conn.QueryRow(t.Context(), "SELECT count() FROM coverage").Scan(n); err != nil {
			t.Fatal(err)
		}
	}
	if before != 2 || after != 2 {
		t.Errorf("%d rows, then %d, want 2 and no more", before, after)
	}
}
