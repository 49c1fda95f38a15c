package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// batchOf is a batch from what became of each offset of a partition, a letter each: e event, r
// reject, both as in a message of several, . no record, u unreadable (its first
// offset is a reject), l lost.
func batchOf(p event.Partition, first int64, fates string) *ingest.Batch {
	b := &ingest.Batch{Partition: p, First: first, Next: first + int64(len(fates)), Lost: strings.Contains(fates, "l")}
	for i := 0; i < len(fates); i++ {
		ref := event.Ref{Topic: p.Topic, Partition: p.ID, Offset: first + int64(i)}
		reject := ingest.Reject{Ref: ref, ObservedAt: epoch, Reason: ingest.ReasonBadJSON}
		switch fates[i] {
		case 'e':
			b.Events = append(b.Events, mint(ref))
		case 'r':
			b.Rejects = append(b.Rejects, reject)
		case 'u':
			for i+1 < len(fates) && fates[i+1] == 'u' {
				i++
			}
			b.Unreadable = append(b.Unreadable, ingest.Unreadable{From: ref.Offset, To: first + int64(i) + 1})
			b.Rejects = slices.Insert(b.Rejects, 0, reject) // a decoder tells them first
		}
	}
	return b
}

// TestGapsExplainEveryOffset: what has no row has exactly one reason.
func TestGapsExplainEveryOffset(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		fates := rapid.StringOfN(rapid.SampledFrom([]rune("eeer..u")), 0, 40, -1).Draw(rt, "fates")
		if rapid.IntRange(0, 9).Draw(rt, "gone") == 0 {
			fates = strings.Repeat("l", len(fates))
		}
		known := int64(rapid.IntRange(90, 145).Draw(rt, "known"))
		got := []byte(fates)
		for i := range got {
			if got[i] == '.' || got[i] == 'l' {
				got[i] = '?'
			}
		}
		for _, g := range appendGaps(nil, batchOf(part0, 100, fates), known) {
			for o := g.first; o <= g.last; o++ {
				switch c := &got[o-100]; {
				case g.reason == gapUnreadable && *c == 'u':
				case g.reason == gapEmpty && *c == '?':
					*c = '.'
				case g.reason == gapLost && *c == '?':
					*c = 'l'
				default:
					rt.Fatalf("offset %d, %c, is said to be %s", o, *c, g.reason)
				}
			}
		}
		for i, c := range got {
			if c == '?' && 100+int64(i) >= known {
				rt.Fatalf("offset %d of %q has no reason", 100+i, fates)
			}
		}
	})
}

// continuity is v_continuity as text.
func continuity(t *testing.T, c *Client) []string {
	t.Helper()
	rows, err := c.Query(t.Context(), `SELECT concat(topic, '/', toString(partition), ' ', toString(from_offset), '-', toString(to_offset), ' stored ', toString(stored), ' empty ', toString(empty),
		' lost ', toString(lost), ' missing ', toString(missing), ': ', arrayStringConcat(gaps, ', ')) FROM v_continuity ORDER BY topic, partition`, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range table(t, rows) {
		out = append(out, r[0])
	}
	return out
}

func check(t *testing.T, c *Client, when string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, continuity(t, c)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// TestContinuity follows a partition through what can happen to its offsets, and
// through the same again.
func TestContinuity(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	w, _ := startWriter(t, c)
	assign(t, w, part0, 100)
	assign(t, w, part1, 0)
	appendBatch(t, w, batchOf(part0, 100, "eeee.ee..r"), nil)
	appendBatch(t, w, batchOf(part0, 110, "llllllllll"), nil)
	appendBatch(t, w, batchOf(part0, 120, "uuu.eee"), nil)
	appendBatch(t, w, batchOf(part1, 0, "lll"), nil)
	flush(t, w)
	other := "auth.events/1 0-2 stored 0 empty 0 lost 3 missing 0: 0-2 lost"
	want := "auth.events/0 100-126 stored 11 empty 4 lost 12 missing 0: 110-119 lost, 120-122 unreadable"
	check(t, c, "at first", want, other)

	// A crash before the commit: the same is read again, cut in other places.
	assign(t, w, part0, 103)
	appendBatch(t, w, batchOf(part0, 103, "e.ee."), nil)
	appendBatch(t, w, batchOf(part0, 108, ".r"), nil)
	appendBatch(t, w, batchOf(part0, 110, "llllllllll"), nil)
	appendBatch(t, w, batchOf(part0, 120, "uuu."), nil)
	flush(t, w)
	check(t, c, "read again", want, other)

	// What nobody explains is a fault.
	if err := c.conn.Exec(t.Context(), "DELETE FROM events WHERE offset IN (102, 103, 124)"); err != nil {
		t.Fatal(err)
	}
	check(t, c, "rows deleted", "auth.events/0 100-126 stored 8 empty 4 lost 12 missing 3: 102-103 missing, 110-119 lost, 120-122 unreadable, 124-124 missing", other)
	rows, err := c.Named(t.Context(), "coverage", nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range table(t, rows) {
		got = append(got, strings.Join(r, " "))
	}
	named := []string{
		"partition auth.events/0 100 126 23 8 15 missing 102-103 missing, 110-119 lost, 120-122 unreadable, 124-124 missing",
		"partition auth.events/1 0 2 3 0 3 lost 0-2 lost",
	}
	if diff := cmp.Diff(named, got); diff != "" {
		t.Errorf("query coverage (-want +got):\n%s", diff)
	}
}

// TestContinuityOfAnyHistory stores random fates in random pieces and compares
// the view with a count of the letters.
func TestContinuityOfAnyHistory(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	w, _ := startWriter(t, c)
	var want []string
	for seed := range 12 {
		p := event.Partition{Topic: "t", ID: int32(seed)}
		pieces := rapid.Custom(func(rt *rapid.T) (out []string) {
			for range rapid.IntRange(1, 6).Draw(rt, "pieces") {
				if rapid.IntRange(0, 3).Draw(rt, "gone") == 0 {
					out = append(out, strings.Repeat("l", rapid.IntRange(1, 9).Draw(rt, "length")))
				} else {
					out = append(out, rapid.StringOfN(rapid.SampledFrom([]rune("eeer..u")), 1, 30, -1).Draw(rt, "fates"))
				}
			}
			return out
		}).Example(seed)
		const base = 65_536 - 40 // over the edge of the pieces that the view works in
		assign(t, w, p, base)
		at, counts := int64(base), map[rune]int{}
		for _, fates := range pieces {
			appendBatch(t, w, batchOf(p, at, fates), nil)
			at += int64(len(fates))
			was := 'e'
			for _, f := range fates {
				if f == 'u' && was != 'u' {
					counts['r']++ // the first unreadable offset is a row of quarantine
				} else {
					counts[f]++
				}
				was = f
			}
		}
		want = append(want, fmt.Sprintf("t/%d %d-%d stored %d empty %d lost %d missing 0", seed, base, at-1, counts['e']+counts['r'], counts['.'], counts['l']+counts['u']))
	}
	flush(t, w)
	var got []string
	for _, line := range continuity(t, c) {
		head, _, _ := strings.Cut(line, ":")
		got = append(got, head)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
