package store

import (
	"cmp"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/memory"
	"github.com/keysentry/keysentry/detect/season"
	"github.com/keysentry/keysentry/event"
)

func readMemory(t *testing.T, c *Client, hash string, since event.Instant) []memory.Piece {
	t.Helper()
	var out []memory.Piece
	n, err := c.ReadMemory(t.Context(), "rule", hash, since, func(m []memory.Piece) error {
		out = append(out, m...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n != len(out) {
		t.Errorf("%d pieces were told, %d given", n, len(out))
	}
	for _, m := range out {
		slices.SortFunc(m.Group, func(a, b finding.Pair) int { return cmp.Compare(a.Field, b.Field) })
	}
	slices.SortFunc(out, func(a, b memory.Piece) int { return cmp.Compare(a.Value, b.Value) })
	return out
}

func TestMemoryIsKept(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	now := event.At(time.Now().Truncate(time.Second))
	group := []finding.Pair{{Field: "key_id", Value: `k"1`}, {Field: "network", Value: "n"}}
	value := func(v string, first, last time.Duration) memory.Piece {
		return memory.Piece{RuleID: "rule", RuleHash: "h", Group: group, Value: v, First: now.Add(-first), Last: now.Add(-last)}
	}
	m := &season.Model{}
	for i := range int64(3 * 1440) {
		m.Add(int64(now)/int64(time.Minute)-3*1440+i, float64(i%7))
	}
	state := m.State()
	seasoned := memory.Piece{RuleID: "rule", RuleHash: "h", Group: group, Last: now, Season: &state}
	stale := seasoned
	old := state
	old.Minute -= 100
	stale.Season = &old
	for _, list := range [][]memory.Piece{
		{value("", time.Hour, time.Hour), value("x", 2*time.Hour, time.Hour), seasoned},
		{value("x", time.Hour, time.Minute), value("forgotten", 30*time.Hour, 26*time.Hour), stale},
		nil,
	} {
		if err := c.WriteMemory(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []event.Instant{0, now, now.Add(time.Hour)} {
		if since, err := c.MemorySince(t.Context(), "rule", "h"); err != nil || since != want {
			t.Errorf("the memory is whole since %v, %v, want %v", since, err, want)
		}
		if err := c.MarkMemory(t.Context(), "rule", "h", now.Add(time.Duration(i)*time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	got := readMemory(t, c, "h", now.Add(-25*time.Hour))
	want := []memory.Piece{value("", time.Hour, time.Hour), seasoned, value("x", 2*time.Hour, time.Minute)}
	slices.SortFunc(want, func(a, b memory.Piece) int { return cmp.Compare(a.Value, b.Value) })
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := readMemory(t, c, "edited", 0); len(got) != 0 {
		t.Errorf("an edited rule was given %v", got)
	}

	var minutes, rate float64
	if err := c.conn.QueryRow(t.Context(), "SELECT sum(minutes_seen), avgIf(events_per_minute, minutes_seen > 0) FROM v_baselines").Scan(&minutes, &rate); err != nil {
		t.Fatal(err)
	}
	if minutes < 3000 || rate < 2.5 || rate > 3.5 {
		t.Errorf("the baselines show %v minutes and %v events a minute, of 4320 and 3", minutes, rate)
	}
	var seen uint64
	if err := c.conn.QueryRow(t.Context(), "SELECT count() FROM v_first_seen WHERE of_group['network'] = 'n'").Scan(&seen); err != nil || seen != 3 {
		t.Errorf("%d values are shown, %v, want 3", seen, err)
	}
}
