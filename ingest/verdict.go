package ingest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

// verdict is what detection decided about one event that was refused or has
// traits.
type verdict struct {
	offset int64
	idx    int32
	at     event.Instant // the append time of its record
	pair
}

// ruling holds the verdicts of one stretch of a partition, in order: one for each
// event at offsets [first, next) that was refused or has traits.
type ruling struct {
	first, next int64
	verdicts    []verdict
}

// The layout of a ruling: a version, a signature, and then as varints the
// stretch, the distinct judgements (cause, confidence, traits and grounds), and the
// verdicts as differences. What has names is written by name, since its numbers belong
// to one version of the program. Versions 1 and 2, which are still read, have no
// grounds, and 1 no traits.
const (
	rulingVersion = 3
	macLen        = 16
	rulingHead    = 1 + macLen
	// maxRuling bounds the verdicts of one ruling, so that it stays far below what
	// a broker takes as one message.
	maxRuling = 20_000
	minRuled  = 4 // bytes of one verdict
)

// sealer signs rulings, so that somebody else's record changes no cause.
type sealer struct{ key []byte }

// newSealer derives a key of its own from the daemons' secret.
func newSealer(key secret.Value) sealer {
	h := hmac.New(sha256.New, []byte(key.Reveal()))
	h.Write([]byte("keysentry verdicts 1"))
	return sealer{h.Sum(nil)}
}

// mac signs the partition too: a ruling copied to another one is foreign there.
func (s sealer) mac(p event.Partition, body []byte) []byte {
	h := hmac.New(sha256.New, s.key)
	name := p.String()
	h.Write(binary.AppendUvarint(nil, uint64(len(name))))
	h.Write([]byte(name))
	h.Write(body)
	return h.Sum(nil)[:macLen]
}

// judged reports whether there is a verdict about an event that detection has seen.
func judged(e *event.Event) bool { return e.Refused() || e.Traits != 0 }

// rulings are the verdicts of a batch that detection has judged; none, when
// nothing in it was refused or has traits.
func rulings(b *Batch) []ruling {
	var out []ruling
	first := b.First
	var list []verdict
	for i := range b.Events {
		e := &b.Events[i]
		if !judged(e) {
			continue
		}
		// A message of several events is not split, for a reader takes a stretch from
		// one ruling.
		if n := len(list); n >= maxRuling && list[n-1].offset < e.Ref.Offset {
			out = append(out, ruling{first: first, next: e.Ref.Offset, verdicts: list})
			first, list = e.Ref.Offset, nil
		}
		list = append(list, verdict{e.Ref.Offset, e.Ref.Idx, e.ObservedAt, pair{e.Cause, e.CauseConfidence, e.Traits, e.CauseGrounds}})
	}
	if len(list) == 0 {
		return out
	}
	return append(out, ruling{first: first, next: b.Next, verdicts: list})
}

// pair is a cause with its confidence, and traits; few of them occur.
type pair struct {
	cause      event.Cause
	confidence float32
	traits     event.Traits
	grounds    event.Grounds
}

// encode writes and signs a ruling.
func (s sealer) encode(p event.Partition, r ruling) []byte {
	places := map[pair]uint64{}
	var pairs []pair
	for _, v := range r.verdicts {
		if _, ok := places[v.pair]; !ok {
			places[v.pair] = uint64(len(pairs))
			pairs = append(pairs, v.pair)
		}
	}
	b := make([]byte, rulingHead, rulingHead+64+8*len(r.verdicts))
	b[0] = rulingVersion
	b = binary.AppendUvarint(b, uint64(r.first))
	b = binary.AppendUvarint(b, uint64(r.next-r.first))
	b = binary.AppendUvarint(b, uint64(len(pairs)))
	for _, k := range pairs {
		b = appendName(b, k.cause.String())
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(k.confidence))
		b = appendName(b, k.traits.String())
		b = appendName(b, k.grounds.String())
	}
	b = binary.AppendUvarint(b, uint64(len(r.verdicts)))
	offset, at := r.first, event.Instant(0)
	for _, v := range r.verdicts {
		b = binary.AppendUvarint(b, uint64(v.offset-offset))
		b = binary.AppendUvarint(b, uint64(v.idx))
		b = binary.AppendVarint(b, int64(v.at-at))
		b = binary.AppendUvarint(b, places[v.pair])
		offset, at = v.offset, v.at
	}
	copy(b[1:], s.mac(p, b[rulingHead:]))
	return b
}

func appendName(b []byte, name string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(name))), name...)
}

var (
	errForeign = errors.New("the signature is not ours")
	errRuling  = errors.New("damaged verdicts")
)

// decode reads a ruling of a partition that was signed with our key.
func (s sealer) decode(p event.Partition, b []byte) (ruling, error) {
	if len(b) < rulingHead || b[0] < 1 || b[0] > rulingVersion || !hmac.Equal(b[1:rulingHead], s.mac(p, b[rulingHead:])) {
		return ruling{}, errForeign
	}
	return parseRuling(b[rulingHead:], int(b[0]))
}

func parseRuling(b []byte, version int) (ruling, error) {
	d := varints{rest: b}
	r := ruling{first: d.offset()}
	r.next = r.first + d.offset()
	pairs := make([]pair, 0, 8)
	for range d.count(5) {
		p, err := d.pair(version)
		if err != nil {
			return ruling{}, err
		}
		pairs = append(pairs, p)
	}
	n := d.count(minRuled)
	r.verdicts = make([]verdict, 0, n)
	v := verdict{offset: r.first, idx: -1}
	for range n {
		skip, idx := d.offset(), d.offset()
		v.at += event.Instant(d.signed())
		place := d.offset()
		if skip == 0 && idx <= int64(v.idx) || idx > math.MaxInt32 || place >= int64(len(pairs)) {
			return ruling{}, fmt.Errorf("%w: a verdict out of order", errRuling)
		}
		v.offset, v.idx = v.offset+skip, int32(idx)
		v.pair = pairs[place]
		if v.offset < r.first || v.offset >= r.next {
			return ruling{}, fmt.Errorf("%w: a verdict outside of its stretch", errRuling)
		}
		r.verdicts = append(r.verdicts, v)
	}
	if d.bad || len(d.rest) > 0 || r.next < r.first {
		return ruling{}, errRuling
	}
	return r, nil
}

// varints reads numbers from the front of rest; bad says that one was missing.
type varints struct {
	rest []byte
	bad  bool
}

func (d *varints) take(n int) bool {
	if n <= 0 || n > len(d.rest) {
		d.bad, d.rest = true, nil
		return false
	}
	d.rest = d.rest[n:]
	return true
}

// offset is a number that is not negative and far from the end of its range.
func (d *varints) offset() int64 {
	v, n := binary.Uvarint(d.rest)
	if !d.take(n) || v > math.MaxInt64/2 {
		d.bad = true
		return 0
	}
	return int64(v)
}

func (d *varints) signed() int64 {
	v, n := binary.Varint(d.rest)
	if !d.take(n) {
		return 0
	}
	return v
}

// count is how many things follow that take at least size bytes each.
func (d *varints) count(size int) int {
	n := d.offset()
	if n > int64(len(d.rest)/size) {
		d.bad = true
		return 0
	}
	return int(n)
}

func (d *varints) bytes() []byte {
	n := d.count(1)
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

// pair reads a judgement.
func (d *varints) pair(version int) (pair, error) {
	cause, ok := event.ParseCause(string(d.bytes()))
	if !ok {
		return pair{}, fmt.Errorf("%w: an unknown cause", errRuling)
	}
	p := pair{cause: cause, confidence: math.Float32frombits(d.uint32())}
	if version == 1 {
		return p, nil
	}
	var err error
	if p.traits, err = event.ParseTraits(string(d.bytes())); err != nil {
		return pair{}, fmt.Errorf("%w: %w", errRuling, err)
	}
	if version > 2 {
		p.grounds, _ = event.ParseGrounds(string(d.bytes())) // those of a newer version are left out
	}
	return p, nil
}

func (d *varints) uint32() uint32 {
	b := d.rest
	if !d.take(4) {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}
