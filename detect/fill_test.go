package detect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sort"
	"strconv"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/stored"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// table is a store in memory.
type table struct {
	events []event.Event
	down   error // instead of every answer
	broken int   // rows after which an answer breaks off; 0: never, -1: at once
	read   int
	asked  []stored.Request
}

func (s *table) History(_ context.Context, since event.Instant) (stored.History, error) {
	h := stored.History{First: map[event.Partition]int64{}}
	for i := range s.events {
		e := &s.events[i]
		if h.Oldest == 0 || e.ObservedAt < h.Oldest {
			h.Oldest = e.ObservedAt
		}
		p := event.Partition{Topic: e.Ref.Topic, ID: e.Ref.Partition}
		if first, ok := h.First[p]; !ok || e.Ref.Offset < first {
			h.First[p] = e.Ref.Offset
		}
	}
	return h, s.down
}

func (s *table) Read(ctx context.Context, q stored.Request, see func(*stored.Row) bool) error {
	s.asked = append(s.asked, q)
	below := map[event.Partition]int64{}
	for _, p := range q.Below {
		below[p.Partition] = p.Below
	}
	m := rules.NewMatcher(q.Rules.Program())
	var rows []stored.Row
	for i := range s.events {
		e := s.events[i]
		if e.TS < q.From || e.TS >= q.To || e.Ref.Offset >= below[event.Partition{Topic: e.Ref.Topic, ID: e.Ref.Partition}] {
			continue
		}
		row := stored.Row{Event: e}
		for _, h := range m.MatchEvent(&e, nil) {
			if q.Since[h] != 0 && e.TS >= q.Since[h] {
				row.Hits = append(row.Hits, h)
			}
		}
		if len(row.Hits) > 0 {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(a, b stored.Row) int {
		return cmp.Or(cmp.Compare(a.Event.TS, b.Event.TS), a.Event.Ref.Compare(b.Event.Ref))
	})
	for i := range rows {
		if s.broken < 0 || s.broken > 0 && s.read == s.broken {
			return errors.New("broken off")
		}
		s.read++
		if !see(&rows[i]) {
			return nil
		}
	}
	return ctx.Err()
}

const threeRules = `title: denied
name: denied
logsource: {product: keysentry}
detection: {s: {type: session.denied}, condition: s}
---
title: created
name: created
logsource: {product: keysentry}
detection: {s: {type: session.created}, condition: s}
---
title: issued
name: issued
logsource: {product: keysentry}
detection: {s: {type: auth_token.issued}, condition: s}
---
title: alone
name: alone
logsource: {product: keysentry}
detection: {s: {status: 3}, condition: s}
risk: {subject: source_ip}
suppress: 2m
---
`

// correlationsOf are random correlations over three rules, without those that are
// judged when their window ends: which windows there are depends on everything
// before.
func correlationsOf(g *rand.Rand) string {
	text := threeRules
	one := func(list ...string) string { return list[g.IntN(len(list))] }
	for i := range 8 {
		kind := one("event_count", "value_count", "temporal", "temporal_ordered", "value_sum", "value_avg", "value_median", "value_percentile", "event_ratio", "chain")
		inputs, extra := one("[denied]", "[denied, created]"), "  condition: {"+one("gte", "gt")+": "+strconv.Itoa(1+g.IntN(5))+"}\n"
		group := one("[user_id]", "[user_id]", "[source_ip, host]")
		span := one("30s", "2m", "10m", "70m")
		switch kind {
		case "value_count":
			extra += "  field: " + one("host", "source_ip") + "\n"
		case "temporal", "temporal_ordered":
			inputs, extra = one("[denied, created]", "[denied, created, issued]"), ""
		case "event_ratio":
			inputs, extra = "[denied, created]", "  condition: {gte: "+strconv.Itoa(20+g.IntN(100))+"}\n  min_denominator: 2\n"
		case "value_sum", "value_avg", "value_median", "value_percentile":
			extra = "  field: status\n  condition: {gt: " + strconv.Itoa(2+g.IntN(8)) + "}\n"
			if kind == "value_percentile" {
				extra += "  percentile: 90\n"
			}
		case "chain":
			text += fmt.Sprintf("title: c%[1]d_inner\nname: c%[1]d_inner\ncorrelation:\n  type: event_count\n  rules: [denied]\n  group-by: [user_id]\n  timespan: 1m\n  condition: {gte: 2}\n---\n", i)
			kind, inputs, extra, group, span = "event_count", fmt.Sprintf("[c%d_inner]", i), "  condition: {gte: 2}\n", "[user_id]", "20m"
		}
		text += fmt.Sprintf("title: c%[1]d\nname: c%[1]d\ncorrelation:\n  type: %[2]s\n  rules: %[3]s\n  group-by: %[4]s\n  timespan: %[5]s\n%[6]s---\n", i, kind, inputs, group, span, extra)
	}
	return text
}

// traffic is n random events on three partitions, each in the order of arrival of
// its partition, no more than the lateness out of the order of time.
func traffic(g *rand.Rand, n int, lateness time.Duration) map[event.Partition][]event.Event {
	type arrival struct {
		at event.Instant
		e  event.Event
	}
	var all []arrival
	ts := start
	for range n {
		switch g.IntN(12) {
		case 0:
			ts = ts.Add(time.Duration(g.IntN(1200)) * time.Second)
		case 1, 2, 3:
		default:
			ts = ts.Add(time.Duration(g.IntN(20_000)) * time.Millisecond)
		}
		e := event.Event{TS: ts, Time: ts, ObservedAt: ts, Origin: event.OriginPlatform}
		e.Type = []event.Type{event.TypeSessionDenied, event.TypeSessionDenied, event.TypeSessionCreated, event.TypeAuthTokenIssued}[g.IntN(4)]
		e.Present = e.Present.Set(event.FieldType).Set(event.FieldTime)
		e.SetString(event.FieldNetwork, "n1")
		e.SetString(event.FieldUserID, "u"+strconv.Itoa(g.IntN(2)))
		e.SetString(event.FieldHost, "h"+strconv.Itoa(g.IntN(4)))
		e.Present = e.Present.Set(event.FieldSourceIP).Set(event.FieldStatus)
		e.SourceIP = addr(g.IntN(3))
		e.Status = uint16(g.IntN(12))
		all = append(all, arrival{ts.Add(time.Duration(g.Int64N(int64(lateness)))), e})
	}
	slices.SortStableFunc(all, func(a, b arrival) int { return cmp.Compare(a.at, b.at) })
	out := map[event.Partition][]event.Event{}
	for i := range all {
		p := event.Partition{Topic: "auth", ID: int32(g.IntN(3))}
		e := all[i].e
		e.ObservedAt = all[i].at
		e.Ref = event.Ref{Topic: p.Topic, Partition: p.ID, Offset: int64(len(out[p]))}
		out[p] = append(out[p], e)
	}
	return out
}

// told is an episode as the journal has it at the end.
type told struct {
	Rule, Group string
	First, Last event.Instant
	Count       uint64
}

// book is a journal: what fired, and how it went on.
type book struct {
	fired   []finding.Finding
	updates []journal.Episode
}

func (b *book) take(e *Engine, fs []finding.Finding) {
	b.fired = append(b.fired, fs...)
	b.updates = append(b.updates, e.TakeEpisodeUpdates()...)
}

// known is what a new engine is told: the last episodes of each rule and group.
func (b *book) known() (out []finding.Finding) {
	n := map[string]int{}
	for _, f := range slices.Backward(b.fired) {
		key := finding.MakeID(f.RuleID, f.Group, 0)
		if n[key]++; n[key] <= 16 {
			out = append(out, f)
		}
	}
	return out
}

// episodes is how everything stands at the end; no finding may be there twice.
func (b *book) episodes(t *testing.T) []told {
	t.Helper()
	by := map[string]*told{}
	var out []*told
	for _, f := range b.fired {
		if by[f.ID] != nil {
			t.Errorf("%s of %v fired twice, at %v", f.RuleTitle, f.Group, f.First)
			continue
		}
		by[f.ID] = &told{f.RuleTitle, fmt.Sprint(f.Group), f.First, f.Last, f.Count}
		out = append(out, by[f.ID])
	}
	for _, u := range b.updates {
		if x := by[u.FindingID]; x != nil {
			x.First, x.Last, x.Count = u.First, u.Last, u.Count
		}
	}
	list := make([]told, 0, len(out))
	for _, x := range out {
		list = append(list, *x)
	}
	slices.SortFunc(list, func(a, b told) int {
		return cmp.Or(cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Group, b.Group), cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	return list
}

// live lets an engine read the events of [from, to) of each partition as they
// arrive, until then; those that arrived before began are waiting when it begins.
// Of what lies at or above to it sees that it is there.
func (b *book) live(e *Engine, all map[event.Partition][]event.Event, from, to map[event.Partition]int64, began, until event.Instant) {
	at := maps.Clone(from)
	arrived := func(p event.Partition, t event.Instant) int64 {
		return int64(sort.Search(len(all[p]), func(i int) bool { return all[p][i].ObservedAt > t }))
	}
	progress := func(now event.Instant) {
		for p := range all {
			e.Progress(p, at[p], arrived(p, now), now)
		}
		b.take(e, e.Tick(now))
	}
	var order []*event.Event
	for p, list := range all {
		for i := range list[from[p]:] {
			order = append(order, &list[from[p]:][i])
		}
	}
	slices.SortFunc(order, func(x, y *event.Event) int {
		return cmp.Or(cmp.Compare(x.ObservedAt, y.ObservedAt), x.Ref.Compare(y.Ref))
	})
	for _, x := range order {
		if x.ObservedAt > until {
			break
		}
		p := event.Partition{Topic: x.Ref.Topic, ID: x.Ref.Partition}
		now := max(began, x.ObservedAt)
		progress(now - 1)
		if x.Ref.Offset < to[p] {
			b.take(e, e.Observe(p, []event.Event{*x}))
			at[p]++
		}
		progress(now)
	}
}

// end lets time pass until every episode is over.
func (b *book) end(e *Engine, all map[event.Partition][]event.Event) {
	now := start.Add(1000 * time.Hour)
	for _, after := range []time.Duration{0, time.Minute, 3 * time.Hour} {
		for range 10 {
			now = now.Add(time.Second)
			for p := range all {
				e.Progress(p, int64(len(all[p])), int64(len(all[p])), now)
			}
			b.take(e, e.Tick(now))
		}
		now = now.Add(after)
	}
}

func newestOf(all map[event.Partition][]event.Event) (t event.Instant) {
	for _, list := range all {
		t = max(t, list[len(list)-1].ObservedAt)
	}
	return t
}

func partitionsOf(all map[event.Partition][]event.Event) (ps []event.Partition, ends map[event.Partition]int64) {
	ends = map[event.Partition]int64{}
	for p := range all {
		ps = append(ps, p)
		ends[p] = int64(len(all[p]))
	}
	slices.SortFunc(ps, func(a, b event.Partition) int { return cmp.Compare(a.ID, b.ID) })
	return ps, ends
}

// restart runs the events through two engines, the second of which is filled. The
// first stops anywhere, with partitions up to skew records behind; the position
// that is kept of each may be a few records behind that.
func restart(t *testing.T, g *rand.Rand, set *rules.Set, all map[event.Partition][]event.Event, skew int64) *book {
	t.Helper()
	ps, ends := partitionsOf(all)
	first := engineOf(t, set, nil)
	first.Assign(ps)
	b := &book{}
	crash, detected, near := map[event.Partition]int64{}, map[event.Partition]int64{}, map[event.Partition]int64{}
	split := start.Add(time.Duration(g.Float64() * float64(newestOf(all).Sub(start))))
	table := &table{}
	var at []event.Standing
	for _, p := range ps {
		crash[p] = int64(sort.Search(len(all[p]), func(i int) bool { return all[p][i].ObservedAt >= split }))
		crash[p] = max(0, crash[p]-g.Int64N(skew+1))
		detected[p] = max(0, crash[p]-g.Int64N(4))
		kept := g.Int64N(ends[p] + 1)
		near[p] = max(0, min(kept, detected[p])-g.Int64N(20))
		table.events = append(table.events, all[p][:kept]...)
		x := event.Standing{Partition: p, Below: near[p], From: start}
		if near[p] < ends[p] {
			x.From = all[p][near[p]].ObservedAt
		}
		if detected[p] > 0 {
			x.End = all[p][detected[p]-1].ObservedAt
		}
		if detected[p] < ends[p] {
			x.Next = all[p][detected[p]].ObservedAt
		}
		at = append(at, x)
	}
	b.live(first, all, map[event.Partition]int64{}, crash, 0, split)

	second := engineOf(t, set, table)
	second.Restore(b.known(), b.updates)
	second.Assign(ps)
	if unfilled, err := second.Fill(t.Context(), at); err != nil || len(unfilled) > 0 {
		t.Fatalf("fill: %v %v", unfilled, err)
	}
	if l := second.Learning(); len(l) > 0 {
		t.Errorf("learning: %v", l)
	}
	for _, p := range ps {
		second.Replay(p, slices.Clone(all[p][near[p]:detected[p]]))
	}
	b.live(second, all, detected, ends, split.Add(time.Duration(g.IntN(3600))*time.Second), math.MaxInt64)
	b.end(second, all)
	return b
}

func engineOf(t *testing.T, set *rules.Set, s *table) *Engine {
	t.Helper()
	deps := Deps{Rules: set}
	if s != nil {
		deps.Stored = s
	}
	e, err := New(DefaultConfig(), deps)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func loadRules(t *testing.T, text string) *rules.Set {
	t.Helper()
	set, diags := rules.Load([]rules.File{{Name: "r.yml", Data: []byte(text)}}, rules.Options{Layout: rules.LayoutEvent})
	for _, d := range diags {
		if d.Severity == rules.Error {
			t.Fatalf("%s\n%s", d, text)
		}
	}
	return set
}

// TestRestartChangesNoEpisode: random correlations over random events find the
// same episodes, each once, with the same times and counts, whether the daemon
// ran through or began again anywhere with windows filled from what is stored and
// from Kafka. KEYSENTRY_FILL_ROUNDS repeats it, KEYSENTRY_FILL_SEED repeats a run.
func TestRestartChangesNoEpisode(t *testing.T) {
	t.Parallel()
	rounds, err := strconv.Atoi(os.Getenv("KEYSENTRY_FILL_ROUNDS"))
	if err != nil {
		rounds = 30
	}
	seed, err := strconv.ParseUint(os.Getenv("KEYSENTRY_FILL_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	total := 0
	for round := range rounds {
		g := rand.New(rand.NewPCG(seed, uint64(round)))
		text := correlationsOf(g)
		set := loadRules(t, text)
		all := traffic(g, 500, DefaultConfig().Lateness)
		ps, ends := partitionsOf(all)
		through := engineOf(t, set, nil)
		through.Assign(ps)
		want := &book{}
		want.live(through, all, map[event.Partition]int64{}, ends, 0, math.MaxInt64)
		want.end(through, all)
		got := restart(t, g, set, all, []int64{0, 40}[round%2])
		if diff := gocmp.Diff(want.episodes(t), got.episodes(t)); diff != "" || t.Failed() {
			t.Fatalf("KEYSENTRY_FILL_SEED=%d, round %d: without (-) and with a restart (+):\n%s\n%s", seed, round, diff, text)
		}
		total += len(want.fired)
	}
	t.Logf("seed %d: %d episodes in %d rounds", seed, total, rounds)
	if total == 0 {
		t.Error("nothing fired, so nothing was compared")
	}
}

func addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }
