package backtest_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/correlate"
	"github.com/keysentry/keysentry/detect/memory"
	"github.com/keysentry/keysentry/detect/stored"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

const remembers = `title: denied
name: denied
logsource: {product: keysentry}
detection:
  s: {type: session.denied}
  condition: s
---
title: created
name: created
logsource: {product: keysentry}
detection:
  s: {type: session.created, host|exists: true}
  condition: s
---
title: new address
name: new_address
correlation: {type: first_seen, rules: [denied, created], group-by: [user_id, network], field: source_ip, lookback: 90d}
---
title: odd rate
name: odd_rate
correlation: {type: rate_anomaly, rules: [denied], group-by: [user_id]}
---
title: chained
name: chained
correlation: {type: first_seen, rules: [odd_rate], field: user_id, lookback: 90d}
---
title: two names
name: two_names
correlation: {type: first_seen, rules: [denied, created], group-by: [who], field: source_ip, lookback: 90d, aliases: {who: {denied: user_id, created: host}}}
`

// TestHistoryIsWhatARuleWouldRemember: what is read off the stored events is what
// a rule that ran over them remembers.
func TestHistoryIsWhatARuleWouldRemember(t *testing.T) {
	t.Parallel()
	g := rand.New(rand.NewPCG(11, 12))
	q := newStore(t)
	events := stream(g, 600)
	imported := events[0]
	imported.Ref, imported.Type = event.Ref{Topic: "old's"}, event.TypeSessionDenied
	imported.Present, imported.SourceIP = imported.Present.Set(event.FieldSourceIP), netip.MustParseAddr("192.0.2.1")
	imported.SetString(event.FieldUserID, "somebody of another time")
	save(t, q.Client, append(events[:len(events):len(events)], imported))
	end := event.At(events[len(events)-1].TS.Time().Add(time.Hour).Truncate(time.Minute))
	set := load(t, remembers)
	cfg := correlate.DefaultConfig()
	cfg.Remembers = true
	live, m := correlate.New(set, cfg), rules.NewMatcher(set.Program())
	// One more of each user closes the minutes before the end, and has no address.
	for i := range 3 {
		e := event.Event{Ref: event.Ref{Topic: "auth.events", Offset: int64(1e6 + i)}, TS: end, Type: event.TypeSessionDenied}
		e.Present = e.Present.Set(event.FieldType)
		e.SetString(event.FieldNetwork, "n1")
		e.SetString(event.FieldUserID, fmt.Sprintf("u%d", i))
		events = append(events, e)
	}
	for i := range events {
		e := &events[i]
		live.Observe(correlate.Input{Matched: m.MatchEvent(e, nil), Values: m, Event: e, TS: e.TS, Ref: e.Ref}, nil)
	}
	live.Advance(end+1, nil)
	want := map[string]any{}
	for _, piece := range live.TakeMemory(1 << 20) {
		want[piece.RuleID+key(piece)] = what(piece)
	}
	reader := &stored.Reader{Store: q, Imported: []string{"old's"}, MaxLateness: 24 * time.Hour}
	got := map[string]any{}
	for _, c := range set.Correlations {
		err := reader.Remembered(t.Context(), set, c, start.Add(-time.Minute), end, func(pieces []memory.Piece) error {
			for _, piece := range pieces {
				if piece.RuleHash != c.Logic {
					t.Errorf("%s: the hash is missing", c.ID)
				}
				got[piece.RuleID+key(piece)] = what(piece)
			}
			return nil
		})
		if without := c.ID == "chained" || c.ID == "two_names"; errors.Is(err, stored.ErrNoHistory) != without || err != nil && !without {
			t.Errorf("%s: %v", c.ID, err)
		}
	}
	for k := range want {
		if k[:7] == "chained" || k[:7] == "two_nam" {
			delete(want, k)
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" || len(got) < 6 {
		t.Errorf("%d pieces; live (-) and history (+):\n%s", len(got), diff)
	}
}

func key(m memory.Piece) string {
	group := map[string]string{}
	for _, p := range m.Group {
		group[p.Field] = p.Value
	}
	return fmt.Sprint(group, m.Value)
}

// what both sides know: of a value when it was first seen, and the season.
func what(m memory.Piece) any {
	if m.Season == nil {
		return m.First
	}
	return *m.Season
}
