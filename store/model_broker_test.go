package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// modelBroker is Kafka: a log per partition, retention, the group's committed
// offsets, and, for the journal, detected positions and gaps that were told. Its
// fields are guarded by the model's lock.
type modelBroker struct {
	m         *model
	log       map[event.Partition][]modelRecord
	first     map[event.Partition]int64 // log start
	committed map[event.Partition]int64 // below zero: never
	detected  map[event.Partition]int64
	gaps      map[event.Partition][][2]int64 // told, [from, to)
	// floor is the log start that a process found while nothing was committed: the
	// records below were never the daemon's.
	floor map[event.Partition]int64
}

// modelRecord is one offset of the log.
type modelRecord struct {
	kind  kind
	at    event.Instant
	value []byte
}

func newModelBroker(m *model) *modelBroker {
	b := &modelBroker{m: m, log: map[event.Partition][]modelRecord{}, first: map[event.Partition]int64{}, committed: map[event.Partition]int64{},
		detected: map[event.Partition]int64{}, gaps: map[event.Partition][][2]int64{}, floor: map[event.Partition]int64{}}
	for _, p := range m.parts {
		b.committed[p] = -1
	}
	return b
}

func (b *modelBroker) end(p event.Partition) int64 { return int64(len(b.log[p])) }

func (b *modelBroker) kindAt(ref event.Ref) kind {
	return b.log[event.Partition{Topic: ref.Topic, ID: ref.Partition}][ref.Offset].kind
}

// produce appends records.
func (b *modelBroker) produce(p event.Partition, kinds []kind) {
	for _, k := range kinds {
		r := modelRecord{kind: k, at: event.At(time.Now())}
		switch k {
		case kindOld:
			r.at = r.at.Add(-24 * time.Hour)
		case kindAhead:
			r.at = r.at.Add(time.Duration(45+45*(len(b.log[p])%2)) * time.Second)
		}
		r.value = modelValue(k, r.at, modelUser(p, b.end(p)))
		b.log[p] = append(b.log[p], r)
	}
}

// modelUser is what an event says that nothing else says.
func modelUser(p event.Partition, offset int64) string { return fmt.Sprintf("u-%d-%d", p.ID, offset) }

func modelValue(k kind, at event.Instant, user string) []byte {
	var e event.Event
	e.Type, e.Present = event.TypeRequestUnauthorized, e.Present.Set(event.FieldType)
	e.SetInstant(event.FieldTime, at)
	e.SetString(event.FieldNetwork, "shop")
	e.SetString(event.FieldHost, "web-1")
	e.SetString(event.FieldEndpoint, "/api/v4/authentication/token")
	e.SetString(event.FieldUserID, user)
	good := event.Append(nil, &e)
	switch k {
	case kindBroken:
		return []byte(`{"type":`)
	case kindPair:
		const head = `{"specversion":"1.0","id":"1","source":"/s","type":"request.unauthorized","data":`
		return fmt.Appendf(nil, `[%s%s},%s[]},%s%s}]`, head, good, head, head, good)
	}
	return good
}

// yields is how many rows a record of the kind becomes.
func (k kind) yields() int32 {
	switch k {
	case kindVoid:
		return 0
	case kindPair:
		return 3
	}
	return 1
}

// surely lists the places of the events that every reader makes of the kind.
func (k kind) surely() []int32 {
	switch k {
	case kindGood, kindPoison, kindOld:
		return []int32{0}
	case kindPair:
		return []int32{0, 2}
	}
	return nil
}

// cut deletes the older half of what a partition holds.
func (b *modelBroker) cut(p event.Partition) { b.first[p] += (b.end(p) - b.first[p]) / 2 }

// told reports whether offset o lies in a gap that was told.
func (b *modelBroker) told(p event.Partition, o int64) bool {
	for _, g := range b.gaps[p] {
		if o >= g[0] && o < g[1] {
			return true
		}
	}
	return false
}

// read is the answer to a fetch.
func (b *modelBroker) read(p event.Partition, from int64, most int) (*ingest.Fetched, error) {
	end := b.end(p)
	switch {
	case from < b.first[p]:
		return nil, &ingest.OffsetGone{Partition: p, Wanted: from, LogStart: b.first[p]}
	case from > end:
		b.m.blame("%v: offset %d was wanted, the end is %d", p, from, end)
		return nil, errors.New("the offset lies beyond the end")
	}
	f := &ingest.Fetched{Next: min(end, from+int64(most)), HighWatermark: end, LogStart: b.first[p]}
	for o := from; o < f.Next; o++ {
		switch r := b.log[p][o]; r.kind {
		case kindVoid:
		case kindUnreadable:
			f.Unreadable = append(f.Unreadable, ingest.Unreadable{From: o, To: o + 1, Reason: "bad CRC"})
		default:
			f.Records = append(f.Records, ingest.Record{Offset: o, Time: r.at, Appended: true, Value: r.value})
		}
	}
	return f, nil
}

// modelSource reads for one process.
type modelSource struct{ p *process }

var _ ingest.Source = modelSource{}

// Fetch waits a little for data, as the broker does.
func (s modelSource) Fetch(ctx context.Context, p event.Partition, from int64) (out *ingest.Fetched, err error) {
	m := s.p.m
	m.mu.Lock()
	empty := from == m.broker.end(p)
	m.mu.Unlock()
	if empty {
		if err := pauseFor(ctx, 250*time.Millisecond); err != nil {
			return nil, err
		}
	}
	err = s.p.cross(ctx, seamFetch, func(o outcome) (err error) {
		most := m.plan.MaxFetch
		if o == outShort {
			most = 1
		}
		out, err = m.broker.read(p, from, most)
		return err
	})
	return out, err
}

func (s modelSource) OffsetAt(ctx context.Context, p event.Partition, t event.Instant) (out int64, err error) {
	b := s.p.m.broker
	err = s.p.cross(ctx, seamFetch, func(outcome) error {
		if t == 0 && b.committed[p] < 0 {
			b.floor[p] = b.first[p]
		}
		for out = b.first[p]; out < b.end(p) && b.log[p][out].at < t; out++ {
		}
		return nil
	})
	return out, err
}

// anyGeneration is a generation that is never over.
const anyGeneration = -1

// modelCommitter commits for one process in one generation.
type modelCommitter struct {
	p   *process
	gen int
}

var _ ingest.Committer = modelCommitter{}

// Commit checks at the broker what a commit promises: it never goes back, and
// everything below is stored, or a gap that was told.
func (c modelCommitter) Commit(ctx context.Context, offsets map[event.Partition]int64) error {
	offsets = maps.Clone(offsets)
	return c.p.cross(ctx, seamCommit, func(outcome) error {
		m := c.p.m
		if c.gen != m.gen && c.gen != anyGeneration {
			return errors.New("the generation is over")
		}
		for p, o := range offsets {
			old := m.broker.committed[p]
			if o < old {
				m.blame("%v: the committed offset went back from %d to %d", p, old, o)
			}
			for i := max(old, m.broker.floor[p]); i < o; i++ {
				m.checkStored(p, i, fmt.Sprintf("committed %d", o))
			}
			m.broker.committed[p] = o
		}
		return nil
	})
}

// modelSink journals for one session.
type modelSink struct{ s *session }

var _ ingest.FindingSink = modelSink{}

// Journal notes gaps: they are told when it returns.
func (k modelSink) Journal(ctx context.Context, found []finding.Finding) error {
	return k.s.p.cross(ctx, seamTell, func(outcome) error {
		for i := range found {
			if found[i].RuleID == ingest.RuleDataGap {
				k.gap(&found[i])
			}
		}
		return nil
	})
}

// Deliver notes the detected position of who owns the partitions. It may take
// long, but does not fail. What it takes may be forgotten by a crash, so a gap may
// not be told this way: the committed offset passes it.
func (k modelSink) Deliver(ctx context.Context, found []finding.Finding, p event.Partition, position int64) error {
	m := k.s.p.m
	return k.s.p.cross(ctx, seamTell, func(outcome) error {
		for i := range found {
			if found[i].RuleID == ingest.RuleDataGap {
				m.blame("%v: a gap was delivered, and not journaled", p)
			}
		}
		if p.Topic == "" || k.s.gen != m.gen {
			return nil
		}
		if position < m.broker.detected[p] {
			m.blame("%v: the detected position went back from %d to %d", p, m.broker.detected[p], position)
		}
		m.broker.detected[p] = position
		return nil
	})
}

// gap checks that a gap is told exactly: it begins where its reader stands, and
// ends where the log begins.
func (k modelSink) gap(f *finding.Finding) {
	m, facts := k.s.p.m, map[string]string{}
	for _, pair := range append(f.Group, f.Facts...) {
		facts[pair.Field] = pair.Value
	}
	number := func(name string) int64 {
		n, err := strconv.ParseInt(facts[name], 10, 64)
		if err != nil {
			m.blame("gap: %s: %v", name, err)
		}
		return n
	}
	p := event.Partition{Topic: facts["topic"], ID: int32(number("partition"))}
	from, to := number("first_offset"), number("last_offset")+1
	if to > m.broker.first[p] || f.Count != uint64(to-from) {
		m.blame("%v: the gap %d to %d of %d was told, the log begins at %d", p, from, to, f.Count, m.broker.first[p])
	}
	v := k.s.view(p)
	switch facts["reader"] {
	case "detection":
		v.advance(from)
		v.next = max(v.next, to)
	case "storage":
		if v.appended != from {
			m.blame("%v: storage told the gap %d to %d, but stands at %d", p, from, to, v.appended)
		}
	default:
		m.blame("%v: a gap of %q", p, facts["reader"])
	}
	m.broker.gaps[p] = append(m.broker.gaps[p], [2]int64{from, to})
}
