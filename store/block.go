package store

import (
	"encoding/binary"
	"encoding/hex"
	"strings"

	"github.com/ClickHouse/ch-go/proto"
	"github.com/cespare/xxhash/v2"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// named is a column with its name in the table.
type named struct {
	name string
	column
}

// block holds the rows of one insert into one table. The coordinates and the
// time that decides the day partition are columns of both tables.
type block struct {
	table   string
	rows    int
	columns []named

	topic          *word
	partition, idx *int32s
	offset         *int64s
	observed       *instants
}

func newBlock(table string) block {
	b := block{table: table, topic: &word{}, partition: newInt32s(), idx: newInt32s(), offset: newInt64s(), observed: newInstants()}
	b.columns = []named{{"topic", b.topic}, {"partition", b.partition}, {"offset", b.offset}, {"idx", b.idx}, {"observed_at", b.observed}}
	return b
}

func (b *block) add(name string, c column) { b.columns = append(b.columns, named{name, c}) }

// place sets the coordinates of row b.rows.
func (b *block) place(ref event.Ref, observed event.Instant) {
	n := b.rows
	b.topic.set(n, ref.Topic)
	b.partition.set(n, ref.Partition)
	b.offset.set(n, ref.Offset)
	b.idx.set(n, ref.Idx)
	b.observed.set(n, int64(observed))
}

func (b *block) ref(i int) event.Ref {
	return event.Ref{Topic: b.topic.at(i), Partition: b.partition.values[i], Offset: b.offset.values[i], Idx: b.idx.values[i]}
}

func (b *block) partitionOf(i int) event.Partition {
	return event.Partition{Topic: b.topic.at(i), ID: b.partition.values[i]}
}

// day is the number of the day partition that row i belongs to.
func (b *block) day(i int) int64 {
	const nanosPerDay = 24 * 3600 * 1_000_000_000
	return b.observed.values[i] / nanosPerDay
}

func (b *block) size() int {
	n := 0
	for _, c := range b.columns {
		n += c.size()
	}
	return n
}

func (b *block) reset() {
	b.rows = 0
	for _, c := range b.columns {
		c.reset()
	}
}

// copyFrom appends rows [from, to) of src for which keep is true; nil keeps all.
func (b *block) copyFrom(src *block, from, to int, keep func(i int) bool) {
	for i := from; i < to; i++ {
		if keep != nil && !keep(i) {
			continue
		}
		for k, c := range b.columns {
			c.copyRow(b.rows, src.columns[k].column, i)
		}
		b.rows++
	}
}

// filter keeps the rows for which keep is true and says how many went.
func (b *block) filter(fresh func() *block, keep func(i int) bool) (kept *block, dropped int) {
	for i := range b.rows {
		if !keep(i) {
			dropped++
		}
	}
	if dropped == 0 {
		return b, 0
	}
	kept = fresh()
	kept.copyFrom(b, 0, b.rows, keep)
	return kept, dropped
}

// input is the block as ch-go sends it. Columns in which nothing is present are
// left out: the table's default is the same value.
func (b *block) input() proto.Input {
	in := make(proto.Input, 0, len(b.columns))
	for _, c := range b.columns {
		if c.Rows() == 0 {
			continue
		}
		c.pad(b.rows)
		in = append(in, proto.InputColumn{Name: c.name, Data: c.column})
	}
	return in
}

// token identifies the rows by their coordinates: the same rows in the same
// order have the same token, whoever sends them.
func (b *block) token() string {
	h := xxhash.New()
	var buf [16]byte
	last := event.Partition{ID: -1}
	for i := range b.rows {
		if p := b.partitionOf(i); p != last {
			_, _ = h.WriteString(p.String())
			last = p
		}
		binary.LittleEndian.PutUint64(buf[:], uint64(b.offset.values[i]))
		binary.LittleEndian.PutUint32(buf[8:], uint32(b.idx.values[i]))
		binary.LittleEndian.PutUint32(buf[12:], uint32(b.partition.values[i]))
		_, _ = h.Write(buf[:])
	}
	binary.BigEndian.PutUint64(buf[:], h.Sum64())
	first := b.ref(0)
	end := b.ref(b.rows - 1)
	binary.BigEndian.PutUint64(buf[8:], uint64(first.Offset)<<32^uint64(end.Offset))
	return b.table + "-" + hex.EncodeToString(buf[:])
}

// quarantineBlock is a block of the table quarantine.
type quarantineBlock struct {
	block
	reason, field   *word
	detail, excerpt *text
	bytes           *uint64s
}

func newQuarantineBlock() *quarantineBlock {
	b := &quarantineBlock{block: newBlock("quarantine"), reason: &word{}, field: &word{}, detail: &text{}, excerpt: &text{}, bytes: newUint64s()}
	b.add("reason", b.reason)
	b.add("field", b.field)
	b.add("detail", b.detail)
	b.add("excerpt", b.excerpt)
	b.add("size", b.bytes)
	return b
}

func (b *quarantineBlock) append(r *ingest.Reject) {
	n := b.rows
	b.place(r.Ref, r.ObservedAt)
	b.reason.set(n, string(r.Reason))
	b.field.set(n, r.Field)
	b.detail.set(n, strings.ToValidUTF8(r.Detail, "\uFFFD"))
	b.excerpt.set(n, r.Excerpt)
	b.bytes.set(n, uint64(max(r.Size, 0)))
	b.rows++
}
