package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

func testKey() secret.Value { return secret.New("a key that only the daemons hold") }

func entry(i int) Entry {
	return Entry{Kind: KindIncident, Time: event.Instant(i) * 1e9, Body: IncidentChange{IncidentID: fmt.Sprintf("inc-%d", i), Op: "open", Note: "<&> é"}}
}

// history seals n records onto head.
func history(t *testing.T, head Head, from, n int, key secret.Value) []Record {
	t.Helper()
	var out []Record
	for i := range n {
		r, err := Seal(entry(from+i), head, 7, key)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
		head = Head{N: r.N, Hash: r.Hash}
	}
	return out
}

// rawOf lays records into a topic.
func rawOf(t *testing.T, records []Record) []Raw {
	t.Helper()
	out := make([]Raw, len(records))
	for i, r := range records {
		b, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		out[i] = Raw{Offset: int64(100 + i), Value: b}
	}
	return out
}

// The encoding is kept for years: this record must always have this hash. The
// values were computed by another program from the description of hash.
func TestHashIsStable(t *testing.T) {
	t.Parallel()
	got := history(t, Head{}, 1, 1, testKey())[0]
	want := Record{
		N: 1, Epoch: 7, Time: 1e9, Kind: KindIncident,
		Body: json.RawMessage(`{"incident_id":"inc-1","op":"open","note":"\u003c\u0026\u003e é"}`),
		Hash: "14bf605e25d4e3c6554467dbbf3187f05f8a27eaa4ee782a69d21d0ced0b905a",
		MAC:  "a08445f195cf4b6ca5bb24407e8a6ed37129d62b7917adb39e1d95f6288066e8",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
}

func TestHashIgnoresOnlyWhiteSpace(t *testing.T) {
	t.Parallel()
	r := history(t, Head{}, 1, 1, testKey())[0]
	value, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var spaced bytes.Buffer
	if err := json.Indent(&spaced, value, "", "  "); err != nil {
		t.Fatal(err)
	}
	back, err := Decode(spaced.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if err := NewChain(testKey()).Accept(back); err != nil {
		t.Errorf("indented: %v", err)
	}
}

func TestAccept(t *testing.T) {
	t.Parallel()
	good := history(t, Head{}, 1, 3, testKey())
	forged := history(t, Head{N: 1, Hash: good[0].Hash}, 2, 1, secret.New("another key, not the daemons'"))[0]
	change := func(f func(*Record)) Record { r := good[1]; f(&r); return r }
	tests := []struct {
		name string
		r    Record
		want Reason // empty: accepted
	}{
		{"the next", good[1], ""},
		{"a second copy of the last", good[0], StrayWrongPrev},
		{"one too far", good[2], StrayWrongPrev},
		{"another writer on the same head", history(t, Head{}, 9, 1, testKey())[0], StrayWrongPrev},
		{"forged", forged, StrayBadMAC},
		{"number changed", change(func(r *Record) { r.N++ }), StrayBadHash},
		{"epoch changed", change(func(r *Record) { r.Epoch++ }), StrayBadHash},
		{"time changed", change(func(r *Record) { r.Time++ }), StrayBadHash},
		{"kind changed", change(func(r *Record) { r.Kind = KindStep }), StrayBadHash},
		{"body changed", change(func(r *Record) { r.Body = json.RawMessage(`{}`) }), StrayBadHash},
		{"prev changed", change(func(r *Record) { r.Prev = good[1].Hash }), StrayBadHash},
		{"hash changed", change(func(r *Record) { r.Hash = good[0].Hash }), StrayBadHash},
		{"MAC changed", change(func(r *Record) { r.MAC = good[0].MAC }), StrayBadMAC},
		{"MAC missing", change(func(r *Record) { r.MAC = "" }), StrayBadMAC},
		{"MAC no hex", change(func(r *Record) { r.MAC = "xyz" }), StrayBadMAC},
		{"field boundaries moved", change(func(r *Record) { r.Kind += "x"; r.Body = r.Body[1:] }), StrayBadJSON},
		{"offset does not count", change(func(r *Record) { r.Offset = 99 }), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := NewChain(testKey())
			if err := c.Accept(good[0]); err != nil {
				t.Fatal(err)
			}
			before := c.Head()
			err := c.Accept(tt.r)
			var stray *StrayError
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want it accepted", err)
			case tt.want != "" && (!errors.As(err, &stray) || stray.Reason != tt.want):
				t.Errorf("got %v, want %s", err, tt.want)
			case tt.want != "" && c.Head() != before:
				t.Errorf("the head moved to %v", c.Head())
			case tt.want == "" && c.Head() != Head{N: 2, Hash: tt.r.Hash}:
				t.Errorf("the head is %v", c.Head())
			}
		})
	}
}

func TestSealRefuses(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]Entry{
		"no kind":         {Body: 1},
		"unencodable":     {Kind: KindStep, Body: func() {}},
		"bad raw message": {Kind: KindStep, Body: json.RawMessage(`{`)},
	} {
		if _, err := Seal(e, Head{}, 0, testKey()); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
	if _, err := Seal(entry(1), Head{}, 0, secret.Value{}); err == nil {
		t.Error("empty key: got no error")
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for _, v := range []string{"", "null", "[]", "{", `{"n":1}`, `{"n":0,"kind":"step","body":{}}`, `{"n":1,"kind":"step","body":{},"time":5}`} {
		_, err := Decode([]byte(v))
		var stray *StrayError
		if !errors.As(err, &stray) || stray.Reason != StrayBadJSON {
			t.Errorf("%q: got %v, want bad_json", v, err)
		}
	}
}

func TestParseHead(t *testing.T) {
	t.Parallel()
	r := history(t, Head{}, 1, 1, testKey())[0]
	for _, h := range []Head{{}, {N: 1, Hash: r.Hash}, {N: 1 << 40, Hash: r.Hash}} {
		if got, err := ParseHead(h.String()); err != nil || got != h {
			t.Errorf("%s: got %v, %v", h, got, err)
		}
	}
	if got, err := ParseHead(""); err != nil || got != (Head{}) {
		t.Errorf("empty: got %v, %v", got, err)
	}
	for _, s := range []string{"1", "1:", ":" + r.Hash, "0:" + r.Hash, "x:" + r.Hash, "-1:" + r.Hash, "1:" + r.Hash[1:], "1:zz" + r.Hash[2:]} {
		if got, err := ParseHead(s); err == nil {
			t.Errorf("%q: got %v and no error", s, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"n":1,"epoch":0,"time":"1970-01-01T00:00:01Z","kind":"step","body":{"a":[1]},"prev":"","hash":"ab","mac":"cd"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Decode(b)
		if err != nil {
			return
		}
		if NewChain(testKey()).Accept(r) == nil {
			t.Fatal("accepted without the key")
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		r2, err := Decode(again)
		if err != nil {
			t.Fatal(err)
		}
		h1, err1 := r.hash()
		h2, err2 := r2.hash()
		if (err1 == nil) != (err2 == nil) {
			t.Fatalf("hash %v, after a round trip %v", err1, err2)
		}
		// encoding/json escapes <, > and & when it writes; only then may they differ.
		if !bytes.ContainsAny(r.Body, "<>&\u2028\u2029") && !bytes.Equal(h1, h2) {
			t.Fatalf("hash changed in a round trip of %s", b)
		}
	})
}

func TestVerify(t *testing.T) {
	t.Parallel()
	const n = 6
	good := history(t, Head{}, 1, n, testKey())
	headOf := func(r Record) Head { return Head{N: r.N, Hash: r.Hash} }
	head := headOf(good[n-1])
	other := secret.New("another key, not the daemons'")
	changed := good[2]
	changed.Body = json.RawMessage(`{"incident_id":"inc-3","op":"resolve"}`)
	rehash := changed // fits its hash again, but not the key
	h, err := rehash.hash()
	if err != nil {
		t.Fatal(err)
	}
	rehash.Hash = fmt.Sprintf("%x", h)
	lost := history(t, headOf(good[2]), 50, 1, testKey())[0] // another writer, after record 3
	with := func(i int, r ...Record) []Record { return slices.Concat(good[:i], r, good[i:]) }

	type fault struct {
		Fault Fault
		N     int64
	}
	tests := []struct {
		name     string
		records  []Record
		known    Head
		want     []fault
		accepted int
		dup, sup int
	}{
		{name: "whole", records: good, known: head, accepted: n},
		{name: "whole, an earlier head known", records: good, known: headOf(good[1]), accepted: n},
		{name: "empty", accepted: 0},
		{name: "second copy of a retried write", records: with(4, good[2], good[3]), known: head, accepted: n, dup: 2},
		{name: "another writer was faster", records: with(4, lost), known: head, accepted: n, sup: 1},
		{name: "changed", records: slices.Concat(good[:2], []Record{changed}, good[3:]), want: []fault{{FaultChanged, 3}}, accepted: 2},
		{name: "changed and hashed again", records: slices.Concat(good[:2], []Record{rehash}, good[3:]), want: []fault{{FaultForged, 3}}, accepted: 2},
		{name: "removed", records: slices.Concat(good[:2], good[4:]), want: []fault{{FaultRemoved, 5}}, accepted: 2},
		{name: "removed at the start", records: good[2:], want: []fault{{FaultRemoved, 3}}, accepted: 0},
		{name: "reordered", records: slices.Concat(good[:2], []Record{good[3], good[2]}, good[4:]), want: []fault{{FaultReordered, 4}}, accepted: 3},
		{name: "forged at the end", records: with(n, history(t, head, 7, 1, other)...), known: head, want: []fault{{FaultForged, 7}}, accepted: n},
		{name: "forged in the middle", records: with(3, history(t, headOf(good[2]), 4, 1, other)...), known: head, want: []fault{{FaultForged, 4}}, accepted: n},
		{name: "tail cut", records: good[:4], known: head, want: []fault{{FaultCut, 6}}, accepted: 4},
		{name: "all cut", known: head, want: []fault{{FaultCut, 6}}},
		{name: "rewritten without the key", records: history(t, Head{}, 60, 3, other), known: headOf(good[2]),
			want: []fault{{FaultForged, 1}, {FaultForged, 2}, {FaultForged, 3}, {FaultCut, 3}}},
		{name: "rewritten with the key", records: history(t, Head{}, 60, n, testKey()), known: head, want: []fault{{FaultRewritten, 6}}, accepted: n},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rep := Verify(rawOf(t, tt.records), testKey(), tt.known)
			var got []fault
			for _, p := range rep.Problems {
				got = append(got, fault{p.Fault, p.N})
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("problems (-want +got):\n%s\n%+v", diff, rep.Problems)
			}
			if rep.Accepted != tt.accepted || rep.Duplicates != tt.dup || rep.Superseded != tt.sup || rep.Records != len(tt.records) {
				t.Errorf("got %+v, want accepted %d, duplicates %d, superseded %d", rep, tt.accepted, tt.dup, tt.sup)
			}
			if rep.Good() != (len(tt.want) == 0) {
				t.Errorf("good is %t", rep.Good())
			}
		})
	}
}

func TestVerifyUnreadable(t *testing.T) {
	t.Parallel()
	records := rawOf(t, history(t, Head{}, 1, 2, testKey()))
	records = append(records, Raw{Offset: 500, Value: []byte("hello")})
	rep := Verify(records, testKey(), Head{})
	if len(rep.Problems) != 1 || rep.Problems[0].Fault != FaultUnreadable || rep.Problems[0].Offset != 500 || rep.Accepted != 2 {
		t.Errorf("got %+v", rep)
	}
}
