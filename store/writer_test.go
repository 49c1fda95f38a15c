package store

import (
	"testing"
)

func TestWriterStoresEachRowOnce(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	w, _ := startWriter(t, c)
	assign(t, w, part0, 0)
	assign(t, w, part1, 0)
	var a0, a1 acks
	for o := int64(0); o < 10_000; o += 1000 {
		appendBatch(t, w, batch(part0, o, o+1000), a0.tell)
		appendBatch(t, w, batch(part1, o, o+1000), a1.tell)
	}
	flush(t, w)
	if rows, distinct := count(t, c); rows != 20_000 || distinct != 20_000 {
		t.Errorf("rows %d, distinct %d, want 20000", rows, distinct)
	}
	if a0.last() != 10_000 || a1.last() != 10_000 {
		t.Errorf("acknowledged %d and %d, want 10000", a0.last(), a1.last())
	}
}
