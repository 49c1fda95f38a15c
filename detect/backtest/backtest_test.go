package backtest_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/backtest"
	"github.com/keysentry/keysentry/detect/correlate"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/rules"
	"github.com/keysentry/keysentry/store"
)

func TestMain(m *testing.M) { devstacktest.Main(m) }

// querier gives a client the shape that the package asks for.
type querier struct{ *store.Client }

func (q querier) Query(ctx context.Context, sql string, params map[string]string) (backtest.Rows, error) {
	rows, err := q.Client.Query(ctx, sql, params)
	if err != nil {
		return nil, err
	}
	return rows, nil
}

func newStore(t testing.TB) querier {
	t.Helper()
	cfg := store.DefaultConfig()
	cfg.Addrs = []string{devstacktest.ClickHouse(t)}
	cfg.Database = devstacktest.Name(t)
	cfg.Insert.MaxAge = 20 * time.Millisecond
	c, err := store.New(cfg, store.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return querier{c}
}

// save stores events through the daemon's writer.
func save(t testing.TB, c *store.Client, events []event.Event) {
	t.Helper()
	w := store.NewWriter(c)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	parts := map[event.Partition][]event.Event{}
	for _, e := range events {
		p := event.Partition{Topic: e.Ref.Topic, ID: e.Ref.Partition}
		parts[p] = append(parts[p], e)
	}
	for p, list := range parts {
		slices.SortFunc(list, func(a, b event.Event) int { return a.Ref.Compare(b.Ref) })
		if err := w.Assign(t.Context(), p, 0); err != nil {
			t.Fatal(err)
		}
		b := &ingest.Batch{Partition: p, First: list[0].Ref.Offset, Next: list[len(list)-1].Ref.Offset + 1, Events: list}
		if err := w.Append(t.Context(), b, func(int64) {}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

var start = event.At(time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC))

// stream is n random events of few users, hosts and addresses on three
// partitions, in order of effective time; several share one.
func stream(g *rand.Rand, n int) []event.Event {
	var out []event.Event
	offsets := map[int32]int64{}
	ts := start
	for range n {
		switch g.IntN(12) {
		case 0:
			ts = ts.Add(time.Duration(g.IntN(600)) * time.Second)
		case 1, 2, 3:
		default:
			ts = ts.Add(time.Duration(g.IntN(20_000)) * time.Millisecond)
		}
		p := int32(g.IntN(3))
		e := event.Event{Ref: event.Ref{Topic: "auth.events", Partition: p, Offset: offsets[p]}, TS: ts, Time: ts, ObservedAt: ts.Add([]time.Duration{time.Second, -4 * time.Second, 23 * time.Hour}[g.IntN(3)]), Origin: event.OriginPlatform}
		offsets[p]++
		e.Type = []event.Type{event.TypeSessionDenied, event.TypeSessionCreated, event.TypeAuthTokenIssued}[g.IntN(3)]
		e.Present = e.Present.Set(event.FieldType).Set(event.FieldTime)
		e.SetString(event.FieldNetwork, "n1")
		if g.IntN(10) > 0 {
			e.SetString(event.FieldUserID, "u"+strconv.Itoa(g.IntN(3)))
		}
		if g.IntN(10) > 0 {
			e.SetString(event.FieldHost, "h"+strconv.Itoa(g.IntN(4)))
		}
		if g.IntN(4) > 0 {
			e.Present = e.Present.Set(event.FieldSourceIP)
			e.SourceIP = netip.AddrFrom4([4]byte{10, 0, 0, byte(g.IntN(3))})
		}
		if g.IntN(4) > 0 {
			e.Present = e.Present.Set(event.FieldStatus)
			e.Status = uint16(g.IntN(12))
		}
		out = append(out, e)
	}
	return out
}

// ruleSet is random correlations of every type over four rules.
func ruleSet(g *rand.Rand) string {
	var b strings.Builder
	for _, r := range [][2]string{{"denied", "{type: session.denied}"}, {"created", "{type: session.created}"}, {"issued", "{type: auth_token.issued, host|contains: [H1, h2, h3]}"}, {"low", "{status|lt: 6}"}} {
		fmt.Fprintf(&b, "title: %[1]s\nname: %[1]s\nlogsource: {product: keysentry}\ndetection:\n  s: %[2]s\n  condition: s\n---\n", r[0], r[1])
	}
	b.WriteString("title: alone\nname: alone\nlogsource: {product: keysentry}\ndetection:\n  s: {status: 3, user_id: U1}\n  condition: s\nrisk: {subject: source_ip}\nsuppress: 2m\n---\n")
	one := func(list ...string) string { return list[g.IntN(len(list))] }
	for i := range 14 {
		kind := one("event_count", "event_count", "value_count", "temporal", "temporal_ordered", "value_sum", "value_avg", "value_median", "value_percentile", "event_ratio", "first_seen", "absence", "chain")
		inputs, extra, cond := one("[denied]", "[low]", "[denied, created]", "[denied, low]"), "", fmt.Sprintf("{%s: %d}", one("gte", "gt", "gte", "lt", "lte", "eq", "neq"), 1+g.IntN(5))
		switch kind {
		case "value_count":
			extra = "  field: " + one("host", "user_id", "source_ip", "[host, source_ip]") + "\n"
		case "temporal", "temporal_ordered":
			inputs, cond = one("[denied, created]", "[denied, created, issued]"), ""
			if kind == "temporal" && g.IntN(2) == 0 {
				inputs, cond = "[denied, created, issued]", one("denied and not created", "denied and (created or issued)")
			}
		case "event_ratio":
			inputs, cond, extra = "[denied, low]", fmt.Sprintf("{%s: %d}", one("gte", "lt"), 20+g.IntN(100)), "  min_denominator: 2\n"
		case "value_sum", "value_avg", "value_median", "value_percentile":
			extra, cond = "  field: status\n", fmt.Sprintf("{%s: %d}", one("gte", "gt", "lt"), 2+g.IntN(8))
			if kind == "value_percentile" {
				extra += "  percentile: 90\n"
			}
		case "first_seen":
			cond, extra = "", "  field: "+one("host", "source_ip")+"\n  lookback: "+one("2m", "10m", "1d")+"\n  learn: "+one("1s", "5m")+"\n"
		case "absence":
			inputs, cond, extra = one("[created, denied]", "[low, created]"), "", "  within: 2m\n  order: "+one("before", "after")+"\n"
		case "chain":
			kind, inputs, cond = "event_count", "[c"+strconv.Itoa(i)+"_inner]", "{gte: 2}"
			fmt.Fprintf(&b, "title: c%d_inner\nname: c%d_inner\ncorrelation:\n  type: event_count\n  rules: [denied]\n  group-by: [user_id]\n  timespan: 1m\n  condition: {gte: 2}\n---\n", i, i)
			extra = "  group-by: [user_id]\n  timespan: 20m\n"
		}
		if !strings.Contains(extra, "group-by") {
			extra += one("  group-by: [user_id]\n", "  group-by: [user_id]\n", "  group-by: [source_ip, host]\n", "")
			if kind != "first_seen" && kind != "absence" {
				extra += "  timespan: " + one("30s", "2m", "10m") + "\n"
			}
		}
		if cond != "" {
			extra += "  condition: " + cond + "\n"
		}
		fmt.Fprintf(&b, "title: c%d\nname: c%d\ncorrelation:\n  type: %s\n  rules: %s\n%s---\n", i, i, kind, inputs, extra)
	}
	return b.String()
}

// episode is what the two runs are compared by.
type episode struct {
	Rule, Group string
	First, Last event.Instant
}

func sortEpisodes(eps []episode) []episode {
	slices.SortFunc(eps, func(a, b episode) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Group, b.Group), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	return eps
}

func load(t *testing.T, text string) *rules.Set {
	t.Helper()
	set, diags := rules.Load([]rules.File{{Name: "r.yml", Data: []byte(text)}}, rules.Options{Layout: rules.LayoutEvent})
	for _, d := range diags {
		if d.Severity == rules.Error {
			t.Fatalf("%s\n%s", d, text)
		}
	}
	return set
}

// live matches and correlates events in a random order of arrival within the
// lateness, as the daemon does, until the watermark is at the end.
func live(g *rand.Rand, set *rules.Set, cfg correlate.Config, events []event.Event, end event.Instant) ([]episode, []uint64) {
	type arrival struct {
		at event.Instant
		e  *event.Event
	}
	var order []arrival
	for i := range events {
		order = append(order, arrival{events[i].TS.Add(time.Duration(g.Int64N(int64(cfg.Lateness)))), &events[i]})
	}
	slices.SortStableFunc(order, func(a, b arrival) int { return cmp.Compare(a.at, b.at) })
	c, m := correlate.New(set, cfg), rules.NewMatcher(set.Program())
	matches := make([]uint64, len(set.Rules))
	open := map[string]*episode{}
	var all []*episode
	note := func(fs []correlate.Firing) {
		for _, f := range fs {
			ep := &episode{Rule: f.Meta().Title, Group: fmt.Sprint(f.Group), First: f.First, Last: f.Last}
			open[f.ID] = ep
			all = append(all, ep)
		}
		for _, u := range c.TakeUpdates() {
			open[u.ID].First, open[u.ID].Last = u.First, u.Last
		}
	}
	var newest event.Instant
	for _, a := range order {
		hits := m.MatchEvent(a.e, nil)
		for _, h := range hits {
			matches[h]++
		}
		note(c.Observe(correlate.Input{Matched: hits, Values: m, Event: a.e, TS: a.e.TS, Ref: a.e.Ref}, nil))
		newest = max(newest, a.e.TS)
		note(c.Advance(newest.Add(-cfg.Lateness), nil))
	}
	note(c.Advance(end, nil))
	var out []episode
	for _, ep := range all {
		out = append(out, *ep)
	}
	return sortEpisodes(out), matches
}

func run(t *testing.T, q backtest.Querier, set *rules.Set, change func(*backtest.Config)) (*backtest.Report, []episode) {
	t.Helper()
	cfg := backtest.DefaultConfig()
	change(&cfg)
	var eps []episode
	rep, err := backtest.Run(t.Context(), cfg, backtest.Deps{Rules: set, Store: q, Now: time.Now, Finding: func(f backtest.Finding) {
		eps = append(eps, episode{Rule: f.Meta.Title, Group: fmt.Sprint(f.Group), First: f.First, Last: f.Last})
	}})
	if err != nil {
		t.Fatal(err)
	}
	return rep, sortEpisodes(eps)
}

// TestBacktestIsLive: random correlations over random streams find the same
// episodes from ClickHouse as they find live. KEYSENTRY_BACKTEST_ROUNDS repeats
// it; KEYSENTRY_BACKTEST_SEED repeats one run.
func TestBacktestIsLive(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("KEYSENTRY_BACKTEST_ROUNDS"))
	if err != nil {
		rounds = 2
	}
	seed, err := strconv.ParseUint(os.Getenv("KEYSENTRY_BACKTEST_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	total := 0
	for round := range rounds {
		g := rand.New(rand.NewPCG(seed, uint64(round)))
		q := newStore(t)
		events := stream(g, 600)
		save(t, q.Client, events)
		end := events[len(events)-1].TS.Add(3 * time.Hour) // every episode is over by then
		for range 5 {
			text := ruleSet(g)
			set := load(t, text)
			windows := correlate.DefaultConfig()
			want, matches := live(g, set, windows, events, end)
			rep, got := run(t, q, set, func(c *backtest.Config) {
				c.From, c.To, c.Slice = start.Add(-time.Minute), end, []time.Duration{10 * time.Minute, time.Hour, 24 * time.Hour}[g.IntN(3)]
				c.QueryBytes = []int{1, 100_000}[g.IntN(2)] // one query per rule, or one for all
			})
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Fatalf("seed %d, round %d: live (-) and backtest (+) differ:\n%s\n%s", seed, round, diff, text)
			}
			for _, r := range rep.Rules {
				if r.Type != "detection" {
					continue
				}
				i := slices.IndexFunc(set.Rules, func(x *rules.Rule) bool { return x.ID == r.ID })
				if r.Matches != matches[i] {
					t.Errorf("%s: %d matches, live %d", r.Title, r.Matches, matches[i])
				}
			}
			if rep.Events != 600 || len(rep.Problems) != 0 {
				t.Errorf("%d events, problems %v", rep.Events, rep.Problems)
			}
			total += len(got)
		}
	}
	t.Logf("seed %d: %d episodes in %d sets of correlations", seed, total, rounds*5)
	if total == 0 {
		t.Error("nothing fired, so nothing was compared")
	}
}

const brute = `title: denied
name: denied
logsource: {product: keysentry}
detection:
  s: {type: session.denied}
  condition: s
---
title: burst
name: burst
correlation:
  type: event_count
  rules: [denied]
  group-by: [user_id]
  timespan: 2m
  condition: {gte: 3}
`

// TestRangesSideBySide: two ranges give what the whole gives, wherever they meet.
func TestRangesSideBySide(t *testing.T) {
	t.Parallel()
	g := rand.New(rand.NewPCG(7, 7))
	q := newStore(t)
	events := stream(g, 600)
	save(t, q.Client, events)
	end := events[len(events)-1].TS.Add(time.Hour)
	set := load(t, brute)
	part := func(from, to event.Instant) []episode {
		_, eps := run(t, q, set, func(c *backtest.Config) { c.From, c.To = from, to })
		for i := range eps {
			eps[i].Last = 0 // the range may end before the episode
		}
		return eps
	}
	whole := part(start, end)
	if len(whole) < 5 {
		t.Fatalf("only %d episodes", len(whole))
	}
	for range 20 {
		cut := events[g.IntN(len(events))].TS.Add(time.Duration(g.IntN(3)-1) * time.Second)
		if cut <= start || cut >= end {
			continue
		}
		if diff := gocmp.Diff(whole, sortEpisodes(append(part(start, cut), part(cut, end)...))); diff != "" {
			t.Errorf("cut at %s: whole (-), parts (+):\n%s", cut, diff)
		}
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	q := newStore(t)
	var events []event.Event
	for i := range 10 {
		e := event.Event{Type: event.TypeSessionDenied, Ref: event.Ref{Topic: "t", Offset: int64(i)}, TS: start.Add(time.Duration(i) * time.Second), ObservedAt: start}
		e.Present = e.Present.Set(event.FieldType)
		e.SetString(event.FieldUserID, "u"+strconv.Itoa(i%2))
		events = append(events, e)
	}
	save(t, q.Client, events)
	var progress []float64
	cfg := backtest.DefaultConfig()
	cfg.From, cfg.To, cfg.Cost = start, start.Add(48*time.Hour), true
	text := brute + "---\ntitle: hour of a text\nname: hour_of_text\nlogsource: {product: keysentry}\ndetection:\n  s: {reason|hour: 3}\n  condition: s\n---\n" +
		"title: needs it\nname: needs_it\ncorrelation:\n  type: event_count\n  rules: [hour_of_text]\n  timespan: 2m\n  condition: {gte: 3}\n"
	rep, err := backtest.Run(t.Context(), cfg, backtest.Deps{Rules: load(t, text), Store: q, Now: time.Now,
		Progress: func(p backtest.Progress) { progress = append(progress, p.Done) }})
	if err != nil {
		t.Fatal(err)
	}
	if rep.Events != 10 || rep.Rows != 10 || rep.Days != 2 {
		t.Errorf("%+v", rep)
	}
	burst := rep.Rules[2]
	if burst.Title != "burst" || burst.Matches != 10 || burst.Findings != 2 || burst.Groups != 2 || burst.PerDay != 1 {
		t.Errorf("%+v", burst)
	}
	if len(rep.Problems) != 2 || !strings.Contains(rep.Problems[0], string(rules.CodeSQLTimePart)) || !strings.Contains(rep.Problems[1], `"needs it" is judged without`) {
		t.Errorf("problems: %q", rep.Problems)
	}
	if !slices.IsSorted(progress) || len(progress) < 3 || progress[len(progress)-1] != 1 {
		t.Errorf("progress: %v", progress)
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	cfg := backtest.DefaultConfig()
	cfg.From, cfg.To = start, start.Add(time.Hour)
	if errs := cfg.Validate(); len(errs) != 0 {
		t.Error(errs)
	}
	bad := backtest.Config{Windows: correlate.Config{Lateness: -1}}
	if got := len(bad.Validate()); got != 9 {
		t.Errorf("%d faults, want 9: %v", got, bad.Validate())
	}
	if _, err := backtest.Run(t.Context(), cfg, backtest.Deps{}); err == nil {
		t.Error("ran without rules and store")
	}
	var many strings.Builder
	for i := range 9 {
		fmt.Fprintf(&many, "title: r%[1]d\nname: r%[1]d\nlogsource: {product: keysentry}\ndetection: {s: {status: %[1]d}, condition: s}\n---\n", i)
	}
	cfg.QueryBytes = 1
	if _, err := backtest.Run(t.Context(), cfg, backtest.Deps{Rules: load(t, many.String()), Store: &broken{}, Now: time.Now}); err == nil || !strings.Contains(err.Error(), "9 queries") {
		t.Errorf("nine queries at a time: %v", err)
	}
}

// broken fails as a server does: at once, in the middle, or with other columns.
type broken struct {
	err, later error
	vals       []any
	read       int
}

func (b *broken) Query(context.Context, string, map[string]string) (backtest.Rows, error) {
	if b.err != nil {
		return nil, b.err
	}
	return &broken{later: b.later, vals: b.vals}, nil
}
func (b *broken) Next() bool             { b.read++; return b.read == 1 && b.vals != nil }
func (b *broken) Values() ([]any, error) { return b.vals, nil }
func (b *broken) Err() error             { return b.later }
func (b *broken) Close() error           { return nil }

func TestServerFaults(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for name, b := range map[string]*broken{"refused": {err: down}, "broken off": {later: down}, "other columns": {vals: []any{uint64(3)}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := backtest.DefaultConfig()
			cfg.From, cfg.To = start, start.Add(time.Hour)
			rep, err := backtest.Run(t.Context(), cfg, backtest.Deps{Rules: load(t, brute), Store: b, Now: time.Now})
			if err == nil || rep != nil {
				t.Fatalf("got %+v, %v", rep, err)
			}
			if (b.err != nil || b.later != nil) && !errors.Is(err, down) {
				t.Errorf("%v does not wrap what the server said", err)
			}
		})
	}
}
