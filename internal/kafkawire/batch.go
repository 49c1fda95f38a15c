package kafkawire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"

	"github.com/keysentry/keysentry/event"
)

// Record is one record as it is handed to a visitor; it is valid during the
// call, the memory of Key, Value and Headers for as long as it is referred to.
type Record struct {
	Offset int64
	// Time is the append time when Appended, else the producer's; zero when the
	// record has none.
	Time     event.Instant
	Appended bool
	Key      []byte // nil: no key
	Value    []byte // nil: a tombstone
	// Headers is nil when there are none. The slice is reused for the next
	// record; what it refers to is not.
	Headers []Header
}

// Header is one header of a record.
type Header struct {
	Key   []byte
	Value []byte
}

// Gap is a range of offsets [From, To) that could not be read.
type Gap struct {
	From, To int64
	Reason   string
	// Damaged: the bytes do not fit their checksum or their layout, so that
	// another copy of the same batch may be good.
	Damaged bool
}

// Decoded tells how far the decoder came.
type Decoded struct {
	// Next is the offset to fetch next.
	Next int64
	Gaps []Gap
	// Cut: not even the first batch was whole; ask for at least Need bytes.
	Cut  bool
	Need int
}

// ErrCut says that the broker sent less than one batch although more was asked
// for, so that the reader cannot go on.
var ErrCut = errors.New("the broker sent a cut batch that fits the size asked for")

// The layout of a record batch, https://kafka.apache.org/documentation/#recordbatch:
// base offset 0-7, length 8-11, leader epoch 12-15, magic 16, CRC 17-20 (of all
// that follows), attributes 21-22, last offset delta 23-26, base timestamp
// 27-34, max timestamp 35-42, producer id 43-50, producer epoch 51-52, base
// sequence 53-56, number of records 57-60, records.
const (
	lengthEnd  = 12
	magicAt    = 16
	crcAt      = 17
	crcFrom    = 21
	batchHead  = 61
	logAppend  = 1 << 3
	transacted = 1 << 4
	control    = 1 << 5
	codecMask  = 7
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Decoder reads record batches. The zero value decodes with a limit of 64 MiB.
// It may be used concurrently.
type Decoder struct {
	// MaxDecompressed bounds one batch after decompression, in bytes. Once so much
	// was decompressed the rest of an answer is left for the next fetch, so that
	// one answer becomes at most twice as much.
	MaxDecompressed int
}

// maxRecords bounds the records of one call: one of nearly no bytes takes a
// hundred bytes and more once it is read.
const maxRecords = 200_000

// errEnough ends a call in the middle of a batch; the next fetch goes on there.
var errEnough = errors.New("enough records for one call")

// run is the state of one call of Decode.
type run struct {
	from    int64 // records below it are trimmed
	out     Decoded
	pending []Aborted
	aborted map[int64]bool // producers whose transaction is being skipped
	visit   func(*Record)
	rec     Record
	headers []Header
	max     int
	size, n int // bytes of the batches that were read, and records handed out
}

// Decode calls visit for each record at or above from, in offset order, without
// control records and without records of aborted transactions (res.Aborted). It
// may stop before the end of the answer: Next says where.
func (d Decoder) Decode(res *FetchResponse, from int64, visit func(*Record)) Decoded {
	r := &run{from: from, out: Decoded{Next: from}, visit: visit, max: d.MaxDecompressed}
	if r.max == 0 {
		r.max = 64 << 20
	}
	if len(res.Aborted) > 0 {
		r.pending = slices.Clone(res.Aborted)
		slices.SortFunc(r.pending, func(a, b Aborted) int { return int(max(min(a.FirstOffset-b.FirstOffset, 1), -1)) })
		r.aborted = map[int64]bool{}
	}
	b := res.Records
	for len(b) > 0 {
		size, ok := batchSize(b)
		if !ok {
			r.framing(b)
			break
		}
		if size > len(b) {
			if r.out.Next == from {
				r.out.Cut, r.out.Need = true, size
			}
			break
		}
		rest := b[size:]
		if !r.batch(b[:size:size], rest) {
			break
		}
		b = rest
	}
	return r.out
}

// batchSize is the size of the batch at the head of b, also when b is shorter.
// It is not ok when no batch can look like this.
func batchSize(b []byte) (size int, ok bool) {
	if len(b) < lengthEnd {
		return batchHead, true // cut; how much is missing is unknown
	}
	n := int(int32(binary.BigEndian.Uint32(b[8:])))
	// The smallest message of format 0 has 14 bytes after the length.
	return lengthEnd + n, n >= 14 && n <= maxFrame
}

// framing handles a head that is no batch: what follows cannot be found. When it
// comes first, its base offset is all there is to step over.
func (r *run) framing(b []byte) {
	if r.out.Next != r.from || len(r.out.Gaps) > 0 {
		return
	}
	r.gap(max(int64(binary.BigEndian.Uint64(b)), r.out.Next)+1, true, errors.New("the length of the batch is impossible"))
}

// batch reads one whole batch. It returns false when the reader should stop
// before it.
func (r *run) batch(b, rest []byte) bool {
	base := int64(binary.BigEndian.Uint64(b))
	if b[magicAt] != 2 {
		// In formats 0 and 1 the offset is that of the message, or of the last one
		// when it is a compressed set.
		r.gap(base+1, false, fmt.Errorf("message format %d is not supported; it ends with Kafka 0.10", b[magicAt]))
		return true
	}
	if len(b) < batchHead || crc32.Checksum(b[crcFrom:], castagnoli) != binary.BigEndian.Uint32(b[crcAt:]) {
		return r.damaged(base, b, rest)
	}
	last := base + int64(int32(binary.BigEndian.Uint32(b[23:])))
	if last < base || last < r.out.Next {
		return true // ends before what was asked for
	}
	attrs := int16(binary.BigEndian.Uint16(b[21:]))
	producer := int64(binary.BigEndian.Uint64(b[43:]))
	r.abortedUpTo(last)
	switch {
	case attrs&control != 0:
		delete(r.aborted, producer) // the marker ends the transaction, either way
	case attrs&transacted != 0 && r.aborted[producer]:
	case r.size >= r.max || r.n >= maxRecords:
		return false
	default:
		err := r.records(base, attrs, b)
		if errors.Is(err, errEnough) {
			return false
		}
		if err != nil {
			r.gap(last+1, false, err)
		}
	}
	r.out.Next = last + 1
	return true
}

// abortedUpTo starts skipping the transactions that begin at or before last, as
// the Java client does: the broker lists them by their first offset.
func (r *run) abortedUpTo(last int64) {
	for len(r.pending) > 0 && r.pending[0].FirstOffset <= last {
		r.aborted[r.pending[0].ProducerID] = true
		r.pending = r.pending[1:]
	}
}

// damaged steps over a batch with a wrong checksum. Its header may be wrong as
// well, so the end is the start of the next batch. Without a next batch the
// reader stops before it, so that the next fetch brings one; when the damaged one
// comes first and alone, its own header has to do.
func (r *run) damaged(base int64, b, rest []byte) bool {
	why := errors.New("wrong checksum")
	if len(rest) >= lengthEnd {
		if next := int64(binary.BigEndian.Uint64(rest)); next > r.out.Next && next-r.out.Next <= math.MaxInt32 {
			r.gap(next, true, why)
			return true
		}
	}
	if r.out.Next != r.from || len(r.out.Gaps) > 0 {
		return false
	}
	to := r.out.Next + 1
	if len(b) >= batchHead {
		if last := base + int64(int32(binary.BigEndian.Uint32(b[23:]))); last >= to && last-to < 1<<20 {
			to = last + 1
		}
	}
	r.gap(to, true, why)
	return true
}

// gap notes [Next, to) as unreadable and moves on.
func (r *run) gap(to int64, damaged bool, why error) {
	if to <= r.out.Next {
		return
	}
	g := Gap{From: r.out.Next, To: to, Reason: why.Error(), Damaged: damaged}
	if n := len(r.out.Gaps); n > 0 && r.out.Gaps[n-1].To == g.From && r.out.Gaps[n-1].Reason == g.Reason {
		r.out.Gaps[n-1].To = to
	} else {
		r.out.Gaps = append(r.out.Gaps, g)
	}
	r.out.Next = to
}

// records hands out the records of a checked batch. On an error the records
// before the faulty one were handed out, and Next lies after the last of them.
func (r *run) records(base int64, attrs int16, b []byte) error {
	count := int(int32(binary.BigEndian.Uint32(b[57:])))
	baseMS := int64(binary.BigEndian.Uint64(b[27:]))
	last := base + int64(int32(binary.BigEndian.Uint32(b[23:])))
	body := b[batchHead:]
	if c := codec(attrs & codecMask); c != codecNone {
		var err error
		if body, err = decompress(c, body, r.max); err != nil {
			return err
		}
	}
	r.size += len(body)
	r.rec.Appended = attrs&logAppend != 0
	if r.rec.Appended {
		r.rec.Time = instant(int64(binary.BigEndian.Uint64(b[35:])))
	}
	for i := range count {
		if len(body) == 0 {
			return fmt.Errorf("the batch says %d records and holds %d", count, i)
		}
		var ok bool
		if body, ok = r.record(body, base, baseMS); !ok || r.rec.Offset > last || r.rec.Offset < base {
			return fmt.Errorf("record %d of the batch is malformed", i)
		}
		if r.rec.Offset < r.out.Next {
			continue
		}
		if r.n >= maxRecords {
			return errEnough
		}
		r.n++
		r.visit(&r.rec)
		r.out.Next = r.rec.Offset + 1
	}
	return nil
}

// record decodes the record at the head of b into r.rec: length, attributes,
// timestamp delta, offset delta, key, value, headers; all numbers are zigzag
// varints.
func (r *run) record(b []byte, base, baseMS int64) (rest []byte, ok bool) {
	n, b, ok := varint(b)
	if !ok || n < 1 || n > int64(len(b)) {
		return nil, false
	}
	rest, b = b[n:], b[1:n] // the first byte is the unused attributes
	dt, b, ok1 := varint(b)
	do, b, ok2 := varint(b)
	key, b, ok3 := varbytes(b)
	value, b, ok4 := varbytes(b)
	hs, b, ok5 := varint(b)
	if !(ok1 && ok2 && ok3 && ok4 && ok5) || hs < 0 || hs > int64(len(b)) {
		return nil, false
	}
	r.rec.Offset, r.rec.Key, r.rec.Value, r.rec.Headers = base+do, key, value, nil
	if !r.rec.Appended {
		r.rec.Time = instant(baseMS + dt)
	}
	if hs > 0 {
		r.headers = r.headers[:0]
		for range hs {
			var h Header
			var okk, okv bool
			h.Key, b, okk = varbytes(b)
			h.Value, b, okv = varbytes(b)
			if !okk || !okv {
				return nil, false
			}
			r.headers = append(r.headers, h)
		}
		r.rec.Headers = r.headers
	}
	return rest, len(b) == 0
}

// varint reads a zigzag varint.
func varint(b []byte) (v int64, rest []byte, ok bool) {
	if len(b) > 0 && b[0] < 0x80 { // most are one byte
		return int64(b[0]>>1) ^ -int64(b[0]&1), b[1:], true
	}
	u, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, nil, false
	}
	return int64(u>>1) ^ -int64(u&1), b[n:], true
}

// varbytes reads a length and that many bytes; length -1 is nil.
func varbytes(b []byte) (v, rest []byte, ok bool) {
	n, b, ok := varint(b)
	if !ok || n < -1 || n > int64(len(b)) {
		return nil, nil, false
	}
	if n < 0 {
		return nil, b, true
	}
	return b[:n:n], b[n:], true
}

// instant converts milliseconds; negative ones mean no time.
func instant(ms int64) event.Instant {
	const most = math.MaxInt64 / 1_000_000
	return event.Instant(max(min(ms, most), 0) * 1_000_000)
}

// String names the range.
func (g Gap) String() string {
	return strings.TrimSpace(fmt.Sprintf("[%d,%d) %s", g.From, g.To, g.Reason))
}
