package ingest

import (
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

var testSealer = newSealer(secret.New("a key that only the daemons hold"))

func someRuling() ruling {
	return ruling{first: 1000, next: 1400, verdicts: []verdict{
		{1000, 0, 1_700_000_000_000_000_000, pair{event.CauseUnknownKey, 0.97, 0, 0}},
		{1000, 1, 1_700_000_000_000_000_000, pair{event.CauseClockSkew, 0.95, event.TraitOutsideEgress, event.Grounds(0).With(event.GroundMintKnown, event.GroundClockOffset)}},
		{1007, 0, 1_700_000_000_005_000_000, pair{event.CauseUnknownKey, 0.4, 0, 0}},
		{1100, 0, 1_700_000_000_006_000_000, pair{event.CauseNone, 0, event.TraitUnknownKey | event.TraitOutsideEgress, 0}},
		{1399, 12, 1_699_999_999_000_000_000, pair{event.CauseUnknown, 0.4, 0, 0}},
	}}
}

func TestRulingRoundTrip(t *testing.T) {
	t.Parallel()
	for _, r := range []ruling{someRuling(), {first: 0, next: 1, verdicts: []verdict{{0, 0, 0, pair{event.CauseBadRequest, 1, 0, 0}}}}, {first: 7, next: 7, verdicts: []verdict{}}} {
		got, err := testSealer.decode(testParts[0], testSealer.encode(testParts[0], r))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, got, cmp.AllowUnexported(ruling{}, verdict{}, pair{})); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

// TestRulingOfVersion1: what a daemon of before the traits wrote is still read.
func TestRulingOfVersion1(t *testing.T) {
	t.Parallel()
	p, cause := testParts[0], event.CauseUnknownKey
	b := binary.AppendUvarint(make([]byte, rulingHead), 1000)
	b = binary.AppendUvarint(b, 400)
	b = appendName(binary.AppendUvarint(b, 1), cause.String())
	b = binary.LittleEndian.AppendUint32(b, math.Float32bits(0.5))
	b = append(b, 1, 7, 0, 2, 0) // one verdict, seven offsets on
	b[0] = 1
	copy(b[1:], testSealer.mac(p, b[rulingHead:]))
	want := ruling{first: 1000, next: 1400, verdicts: []verdict{{1007, 0, 1, pair{cause, 0.5, 0, 0}}}}
	got, err := testSealer.decode(p, b)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(ruling{}, verdict{}, pair{})); err != nil || diff != "" {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}

func TestForeignRulingsAreRefused(t *testing.T) {
	t.Parallel()
	p := testParts[0]
	good := testSealer.encode(p, someRuling())
	changed := func(at int) []byte {
		b := append([]byte(nil), good...)
		b[at]++
		return b
	}
	tests := []struct {
		name string
		part event.Partition
		rec  []byte
	}{
		{"nothing", p, nil},
		{"no signature", p, []byte{rulingVersion, 1, 2}},
		{"another version", p, changed(0)},
		{"another signature", p, changed(1)},
		{"another cause", p, changed(rulingHead + 8)},
		{"its end is cut", p, good[:len(good)-1]},
		{"something behind it", p, append(append([]byte(nil), good...), 0)},
		{"of another partition", testParts[1], good},
		{"of another key", p, newSealer(secret.New("a key that somebody else holds")).encode(p, someRuling())},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if r, err := testSealer.decode(tt.part, tt.rec); !errors.Is(err, errForeign) || r.verdicts != nil {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
}

// TestRulingsOfABatch: large batches are split, and never within a message.
func TestRulingsOfABatch(t *testing.T) {
	t.Parallel()
	b := &Batch{Partition: testParts[0], First: 10, Next: 100_000}
	if got := rulings(b); got != nil {
		t.Errorf("nothing was refused: got %v", got)
	}
	add := func(offset int64, idx int32, typ event.Type) {
		b.Events = append(b.Events, event.Event{Type: typ, Ref: event.Ref{Offset: offset, Idx: idx}, Cause: event.CauseUnknownKey})
	}
	for o := range int64(maxRuling - 1) {
		add(20+2*o, 0, event.TypeRequestUnauthorized)
		add(21+2*o, 0, event.TypeAuthTokenIssued)
	}
	for i := range int32(5) { // one message across the bound
		add(60_000, i, event.TypeRequestUnauthorized)
	}
	add(60_001, 0, event.TypeRequestUnauthorized)
	got := rulings(b)
	if len(got) != 2 || got[0].first != 10 || got[0].next != 60_001 || got[1].first != 60_001 || got[1].next != 100_000 {
		t.Fatalf("got %d rulings: %v to %v", len(got), got[0].first, got[0].next)
	}
	if len(got[0].verdicts) != maxRuling+4 || len(got[1].verdicts) != 1 {
		t.Errorf("got %d and %d verdicts", len(got[0].verdicts), len(got[1].verdicts))
	}
	if n := len(testSealer.encode(b.Partition, got[0])); n > 300<<10 {
		t.Errorf("a ruling takes %d bytes", n)
	}
}

// FuzzRuling: what is read is in order and inside its stretch, and is read again
// as the same; an error comes with nothing.
func FuzzRuling(f *testing.F) {
	f.Add(testSealer.encode(testParts[0], someRuling())[rulingHead:])
	f.Add([]byte{0, 1, 0, 0})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRuling(b, rulingVersion)
		if err != nil {
			if r.verdicts != nil {
				t.Fatalf("an error with verdicts: %+v", r)
			}
			return
		}
		for i, v := range r.verdicts {
			if v.offset < r.first || v.offset >= r.next {
				t.Fatalf("%+v is outside of %d to %d", v, r.first, r.next)
			}
			if i > 0 {
				if o := r.verdicts[i-1]; v.offset < o.offset || v.offset == o.offset && v.idx <= o.idx {
					t.Fatalf("%+v after %+v", v, o)
				}
			}
			if v.confidence != v.confidence {
				return // no number equals itself then
			}
		}
		again, err := testSealer.decode(testParts[0], testSealer.encode(testParts[0], r))
		if err != nil {
			t.Fatalf("%+v: %v", r, err)
		}
		if diff := cmp.Diff(r, again, cmp.AllowUnexported(ruling{}, verdict{}, pair{})); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	})
}
