package kafkawire

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/keysentry/keysentry/event"
)

// row is a record as the tests compare it.
type row struct {
	Offset   int64
	Time     event.Instant
	Appended bool
	Key      string
	Value    string
	Null     bool
	Headers  string
}

func rowOf(r *Record) row {
	out := row{Offset: r.Offset, Time: r.Time, Appended: r.Appended, Key: string(r.Key), Value: string(r.Value), Null: r.Value == nil}
	for _, h := range r.Headers {
		out.Headers += fmt.Sprintf("%s=%s;", h.Key, h.Value)
	}
	return out
}

// oracle encodes a batch with franz-go's message package, which shares nothing
// with ours.
type oracle struct {
	base     int64
	attrs    int16
	producer int64
	baseMS   int64
	maxMS    int64
	values   []string // "-" is a null value
	deltas   []int32  // offset deltas; default 0, 1, 2, ...
	lastDel  int32    // 0: the last delta
	body     []byte   // instead of the records
	compress func([]byte) []byte
}

func (o oracle) encode() []byte {
	var body []byte
	last := int32(0)
	for i, v := range o.values {
		delta := int32(i)
		if o.deltas != nil {
			delta = o.deltas[i]
		}
		last = delta
		r := kmsg.Record{TimestampDelta64: int64(i), OffsetDelta: delta, Key: []byte("k" + v), Value: []byte(v)}
		if v == "-" {
			r.Key, r.Value = nil, nil
		}
		if strings.HasPrefix(v, "h") {
			r.Headers = []kmsg.Header{{Key: "source", Value: []byte(v)}, {Key: "none"}}
		}
		r.Length = int32(len(r.AppendTo(nil)) - 1) // the length itself is one byte as 0
		body = r.AppendTo(body)
	}
	if o.body != nil {
		body = o.body
	}
	if o.compress != nil {
		body = o.compress(body)
	}
	if o.lastDel != 0 {
		last = o.lastDel
	}
	b := kmsg.RecordBatch{
		FirstOffset: o.base, PartitionLeaderEpoch: 3, Magic: 2, Attributes: o.attrs, LastOffsetDelta: last,
		FirstTimestamp: o.baseMS, MaxTimestamp: o.maxMS, ProducerID: o.producer, ProducerEpoch: 1,
		NumRecords: int32(len(o.values)), Records: body,
	}
	b.Length = int32(len(b.AppendTo(nil)) - lengthEnd)
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[crcAt:], crc32.Checksum(raw[crcFrom:], castagnoli))
	return raw
}

func decodeRows(res *FetchResponse, from int64, limit int) ([]row, Decoded) {
	var rows []row
	dec := Decoder{MaxDecompressed: limit}.Decode(res, from, func(r *Record) { rows = append(rows, rowOf(r)) })
	return rows, dec
}

func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// control is an abort or commit marker.
func marker(base, producer int64, commit byte) []byte {
	key := []byte{0, 0, 0, commit}
	r := kmsg.Record{Key: key, Value: []byte{0, 0, 0, 0, 0, 0}}
	r.Length = int32(len(r.AppendTo(nil)) - 1)
	return oracle{base: base, attrs: control | transacted, producer: producer, values: []string{""}, body: r.AppendTo(nil)}.encode()
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func lz4ed(b []byte) []byte {
	var out bytes.Buffer
	w := lz4.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func zstded(b []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(b, nil)
}

func snappied(b []byte) []byte { return s2.EncodeSnappy(nil, b) }

// xerialed cuts the input into blocks of 10 bytes.
func xerialed(b []byte) []byte {
	out := append([]byte{}, xerial...)
	out = append(out, 0, 0, 0, 1, 0, 0, 0, 1)
	for len(b) > 0 {
		n := min(10, len(b))
		block := snappied(b[:n])
		out = be32(out, int32(len(block)))
		out = append(out, block...)
		b = b[n:]
	}
	return out
}

const ms = event.Instant(1_000_000)

func TestDecode(t *testing.T) {
	t.Parallel()
	two := []row{
		{Offset: 10, Time: 5000 * ms, Key: "ka", Value: "a"},
		{Offset: 11, Time: 5001 * ms, Key: "kb", Value: "b"},
	}
	ab := oracle{base: 10, baseMS: 5000, maxMS: 9000, values: []string{"a", "b"}}
	with := func(o oracle, f func(*oracle)) []byte { f(&o); return o.encode() }
	coded := func(c int16, f func([]byte) []byte) []byte {
		return with(ab, func(o *oracle) { o.attrs, o.compress = c, f })
	}
	bad := func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-1] ^= 1; return b }
	old := make([]byte, 40) // a message of format 1
	binary.BigEndian.PutUint64(old, 10)
	binary.BigEndian.PutUint32(old[8:], 28)
	old[magicAt] = 1

	tests := []struct {
		name    string
		records []byte
		aborted []Aborted
		from    int64
		limit   int
		want    []row
		wantDec Decoded
	}{
		{name: "nothing", from: 7, wantDec: Decoded{Next: 7}},
		{name: "plain", records: ab.encode(), from: 10, want: two, wantDec: Decoded{Next: 12}},
		{name: "gzip", records: coded(1, gzipped), from: 10, want: two, wantDec: Decoded{Next: 12}},
		{name: "snappy", records: coded(2, snappied), from: 10, want: two, wantDec: Decoded{Next: 12}},
		{name: "snappy of the Java library", records: coded(2, xerialed), from: 10, want: two, wantDec: Decoded{Next: 12}},
		{name: "lz4", records: coded(3, lz4ed), from: 10, want: two, wantDec: Decoded{Next: 12}},
		{name: "zstd", records: coded(4, zstded), from: 10, want: two, wantDec: Decoded{Next: 12}},
		{name: "unknown codec", records: coded(5, zstded), from: 10,
			wantDec: Decoded{Next: 12, Gaps: []Gap{{10, 12, "unknown compression codec 5", false}}}},
		{name: "codec does not fit", records: coded(1, zstded), from: 10,
			wantDec: Decoded{Next: 12, Gaps: []Gap{{10, 12, "gzip: gzip: invalid header", false}}}},
		{name: "append time", records: with(ab, func(o *oracle) { o.attrs = logAppend }), from: 10,
			want: []row{
				{Offset: 10, Time: 9000 * ms, Appended: true, Key: "ka", Value: "a"},
				{Offset: 11, Time: 9000 * ms, Appended: true, Key: "kb", Value: "b"},
			}, wantDec: Decoded{Next: 12}},
		{name: "no time", records: with(ab, func(o *oracle) { o.baseMS, o.values = -1, []string{"a"} }), from: 10,
			want: []row{{Offset: 10, Key: "ka", Value: "a"}}, wantDec: Decoded{Next: 11}},
		{name: "null value and headers", records: oracle{base: 1, values: []string{"-", "h1"}}.encode(), from: 1,
			want: []row{{Offset: 1, Null: true}, {Offset: 2, Time: 1 * ms, Key: "kh1", Value: "h1", Headers: "source=h1;none=;"}}, wantDec: Decoded{Next: 3}},
		{name: "begins before what was asked for", records: ab.encode(), from: 11, want: two[1:], wantDec: Decoded{Next: 12}},
		{name: "ends before what was asked for", records: ab.encode(), from: 12, wantDec: Decoded{Next: 12}},
		{name: "compacted away in the middle and at the end",
			records: with(ab, func(o *oracle) { o.deltas, o.lastDel = []int32{2, 5}, 9 }), from: 10,
			want: []row{{Offset: 12, Time: 5000 * ms, Key: "ka", Value: "a"}, {Offset: 15, Time: 5001 * ms, Key: "kb", Value: "b"}}, wantDec: Decoded{Next: 20}},
		{name: "empty batch of a compacted topic", records: with(ab, func(o *oracle) { o.values, o.lastDel = nil, 3 }), from: 10, wantDec: Decoded{Next: 14}},
		{name: "cut after the first", records: concat(ab.encode(), ab.encode()[:30]), from: 10, want: two, wantDec: Decoded{Next: 12}},
		{name: "cut within the first", records: ab.encode()[:30], from: 10, wantDec: Decoded{Next: 10, Cut: true, Need: len(ab.encode())}},
		{name: "cut within the head", records: ab.encode()[:5], from: 10, wantDec: Decoded{Next: 10, Cut: true, Need: batchHead}},
		{name: "wrong checksum, alone", records: bad(ab.encode()), from: 10,
			wantDec: Decoded{Next: 12, Gaps: []Gap{{10, 12, "wrong checksum", true}}}},
		{name: "wrong checksum, last: the next fetch begins with it", records: concat(with(ab, func(o *oracle) { o.base, o.values = 9, []string{"z"} }), bad(ab.encode())), from: 9,
			want: []row{{Offset: 9, Time: 5000 * ms, Key: "kz", Value: "z"}}, wantDec: Decoded{Next: 10}},
		{name: "wrong checksum, others behind it", records: concat(bad(oracle{base: 3, values: []string{"x"}}.encode()), ab.encode()), from: 3,
			want: two, wantDec: Decoded{Next: 12, Gaps: []Gap{{3, 10, "wrong checksum", true}}}},
		{name: "impossible length", records: concat([]byte{0, 0, 0, 0, 0, 0, 0, 10, 0xff, 0xff, 0xff, 0xff}, make([]byte, 60)), from: 10,
			wantDec: Decoded{Next: 11, Gaps: []Gap{{10, 11, "the length of the batch is impossible", true}}}},
		{name: "old format", records: concat(old, with(ab, func(o *oracle) { o.base = 11 })), from: 9,
			want:    []row{{Offset: 11, Time: 5000 * ms, Key: "ka", Value: "a"}, {Offset: 12, Time: 5001 * ms, Key: "kb", Value: "b"}},
			wantDec: Decoded{Next: 13, Gaps: []Gap{{9, 11, "message format 1 is not supported; it ends with Kafka 0.10", false}}}},
		{name: "fewer records than said", records: with(ab, func(o *oracle) { o.body = []byte{}; o.lastDel = 1 }), from: 10,
			wantDec: Decoded{Next: 12, Gaps: []Gap{{10, 12, "the batch says 2 records and holds 0", false}}}},
		{name: "malformed record behind a good one", records: with(ab, func(o *oracle) {
			r := kmsg.Record{Length: 6, Value: []byte("")}
			o.body = append(r.AppendTo(nil), 200, 1, 1)
		}), from: 10,
			want: []row{{Offset: 10, Time: 5000 * ms}}, wantDec: Decoded{Next: 12, Gaps: []Gap{{11, 12, "record 1 of the batch is malformed", false}}}},
		{name: "control batches", records: concat(ab.encode(), marker(12, 5, 1)), from: 10, want: two, wantDec: Decoded{Next: 13}},
		{name: "aborted transaction", from: 10, aborted: []Aborted{{ProducerID: 5, FirstOffset: 10}},
			records: concat(with(ab, func(o *oracle) { o.attrs, o.producer = transacted, 5 }), marker(12, 5, 0), with(ab, func(o *oracle) { o.base, o.attrs, o.producer = 13, transacted, 5 })),
			want:    []row{{Offset: 13, Time: 5000 * ms, Key: "ka", Value: "a"}, {Offset: 14, Time: 5001 * ms, Key: "kb", Value: "b"}}, wantDec: Decoded{Next: 15}},
		{name: "aborted transaction of another producer", from: 10, aborted: []Aborted{{ProducerID: 6, FirstOffset: 10}},
			records: with(ab, func(o *oracle) { o.attrs, o.producer = transacted, 5 }), want: two, wantDec: Decoded{Next: 12}},
		{name: "records outside of a transaction stay", from: 10, aborted: []Aborted{{ProducerID: 5, FirstOffset: 10}},
			records: with(ab, func(o *oracle) { o.producer = 5 }), want: two, wantDec: Decoded{Next: 12}},
		{name: "two aborted transactions, listed out of order", from: 10, aborted: []Aborted{{5, 13}, {5, 10}},
			records: concat(with(ab, func(o *oracle) { o.attrs, o.producer = transacted, 5 }), marker(12, 5, 0),
				with(ab, func(o *oracle) { o.base, o.attrs, o.producer = 13, transacted, 5 }), marker(15, 5, 0)),
			wantDec: Decoded{Next: 16}},
	}
	for _, c := range []struct {
		name  string
		codec int16
		f     func([]byte) []byte
		why   string
	}{
		{"gzip", 1, gzipped, "gzip"}, {"snappy", 2, snappied, "snappy"}, {"lz4", 3, lz4ed, "lz4"}, {"zstd", 4, zstded, "zstd"},
	} {
		body := make([]byte, 3<<20)
		reason := c.why + ": larger than the limit when decompressed of 2097152 bytes"
		tests = append(tests, struct {
			name    string
			records []byte
			aborted []Aborted
			from    int64
			limit   int
			want    []row
			wantDec Decoded
		}{
			name: c.name + " bomb", limit: 2 << 20, from: 10,
			records: with(ab, func(o *oracle) { o.attrs, o.compress, o.body = c.codec, c.f, body; o.lastDel = 1 }),
			wantDec: Decoded{Next: 12, Gaps: []Gap{{10, 12, reason, false}}},
		})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, dec := decodeRows(&FetchResponse{Records: tt.records, Aborted: tt.aborted}, tt.from, tt.limit)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.wantDec, dec); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEncodeBatchMatchesTheOracle(t *testing.T) {
	t.Parallel()
	msgs := []Message{
		{Time: 5000 * ms, Key: []byte("k"), Value: []byte("v"), Headers: []Header{{Key: []byte("h"), Value: []byte("x")}, {Key: []byte("n")}}},
		{Time: 4000 * ms}, // null key and value, earlier than the first
		{Time: 9000 * ms, Value: []byte{}},
	}
	raw := EncodeBatch([]byte("prefix"), msgs)[len("prefix"):]
	var b kmsg.RecordBatch
	if err := b.ReadFrom(raw); err != nil {
		t.Fatal(err)
	}
	if got, want := uint32(b.CRC), crc32.Checksum(raw[crcFrom:], castagnoli); got != want {
		t.Errorf("checksum %x, want %x", got, want)
	}
	b.CRC, b.Records = 0, nil
	want := kmsg.RecordBatch{Length: int32(len(raw) - lengthEnd), PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: 2,
		FirstTimestamp: 5000, MaxTimestamp: 9000, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 3}
	if diff := cmp.Diff(want, b); diff != "" {
		t.Errorf("batch (-want +got):\n%s", diff)
	}
	got, _ := decodeRows(&FetchResponse{Records: raw}, 0, 0)
	rows := []row{
		{Time: 5000 * ms, Key: "k", Value: "v", Headers: "h=x;n=;"},
		{Offset: 1, Time: 4000 * ms, Null: true},
		{Offset: 2, Time: 9000 * ms},
	}
	if diff := cmp.Diff(rows, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	for i := range msgs {
		if n := len(EncodeBatch(nil, msgs[i:i+1])) - batchHead; n > msgs[i].Size() {
			t.Errorf("message %d takes %d bytes, Size says %d", i, n, msgs[i].Size())
		}
	}
}

// The decoder must never hand out a record below from, out of order, or inside a
// gap, whatever the bytes are, and must never go back.
func FuzzDecode(f *testing.F) {
	ab := oracle{base: 10, baseMS: 5000, maxMS: 9000, values: []string{"a", "h", "-"}}
	f.Add(ab.encode(), int64(10), int64(5))
	for c, compress := range map[int16]func([]byte) []byte{1: gzipped, 2: xerialed, 3: lz4ed, 4: zstded} {
		o := ab
		o.attrs, o.compress = c, compress
		f.Add(o.encode(), int64(11), int64(0))
	}
	f.Add(concat(ab.encode(), marker(13, 5, 0), ab.encode()[:40]), int64(0), int64(10))
	f.Fuzz(func(t *testing.T, records []byte, from, abortedAt int64) {
		if from < 0 || from > 1<<60 {
			t.Skip()
		}
		if len(records) > batchHead { // let the mutations get past the checksum
			records = bytes.Clone(records)
			if n, ok := batchSize(records); ok && n <= len(records) && n > crcFrom {
				binary.BigEndian.PutUint32(records[crcAt:], crc32.Checksum(records[crcFrom:n], castagnoli))
			}
		}
		rows, dec := decodeRows(&FetchResponse{Records: records, Aborted: []Aborted{{ProducerID: 5, FirstOffset: abortedAt}}}, from, 1<<20)
		last := from - 1
		for _, r := range rows {
			if r.Offset <= last || r.Offset >= dec.Next {
				t.Fatalf("offset %d after %d, next is %d", r.Offset, last, dec.Next)
			}
			last = r.Offset
			for _, g := range dec.Gaps {
				if r.Offset >= g.From && r.Offset < g.To {
					t.Fatalf("offset %d lies in the gap %v", r.Offset, g)
				}
			}
		}
		if dec.Next < from {
			t.Fatalf("went back from %d to %d", from, dec.Next)
		}
		for _, g := range dec.Gaps {
			if g.From < from || g.To <= g.From || g.To > dec.Next {
				t.Fatalf("gap %v outside of [%d,%d)", g, from, dec.Next)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	msgs := make([]Message, 3000)
	for i := range msgs {
		msgs[i] = Message{Time: event.Instant(i) * ms, Key: []byte("network-1"), Value: bytes.Repeat([]byte{'x', byte(i), byte(i >> 8)}, 100)}
	}
	plain := EncodeBatch(nil, msgs)
	for _, c := range []struct {
		name  string
		codec uint16
		f     func([]byte) []byte
	}{{"none", 0, nil}, {"gzip", 1, gzipped}, {"snappy", 2, snappied}, {"lz4", 3, lz4ed}, {"zstd", 4, zstded}} {
		b.Run(c.name+"/3000_records_of_300_bytes", func(b *testing.B) {
			batch := bytes.Clone(plain)
			if c.f != nil {
				batch = append(batch[:batchHead:batchHead], c.f(plain[batchHead:])...)
				binary.BigEndian.PutUint32(batch[8:], uint32(len(batch)-lengthEnd))
				binary.BigEndian.PutUint16(batch[21:], c.codec)
				binary.BigEndian.PutUint32(batch[crcAt:], crc32.Checksum(batch[crcFrom:], castagnoli))
			}
			res := &FetchResponse{Records: batch}
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n = 0
				Decoder{}.Decode(res, 0, func(*Record) { n++ })
			}
			if n != len(msgs) {
				b.Fatalf("decoded %d", n)
			}
			b.ReportMetric(float64(b.N)*float64(n)/b.Elapsed().Seconds(), "records/s")
		})
	}
}
