package ingest

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/cloudevents"
	"github.com/keysentry/keysentry/ingest/mapping"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/internal/redact"
	"github.com/keysentry/keysentry/internal/secret"
)

// Decoder turns what was fetched into batches. It is safe for concurrent use;
// only a Clock belongs to one partition.
type Decoder struct {
	topics      map[string]*topic
	redactor    *redact.Redactor
	maxLateness time.Duration
	m           *decodeMetrics
	events      sync.Pool // of *[]event.Event
}

// DecoderDeps is what a Decoder needs.
type DecoderDeps struct {
	Redactor *redact.Redactor
	// Mappings holds NAME.yml per mapping.
	Mappings fs.FS
	// FingerprintKey is what Config.FingerprintKey resolved to.
	FingerprintKey secret.Value
	Metrics        *metrics.Registry
}

// NewDecoder compiles the topics; it fails on a mapping that is missing or
// wrong.
func NewDecoder(cfg Config, d DecoderDeps) (*Decoder, error) {
	dec := &Decoder{topics: map[string]*topic{}, redactor: d.Redactor, maxLateness: cfg.MaxLateness,
		m: newDecodeMetrics(metrics.OrNew(d.Metrics))}
	if dec.redactor == nil {
		dec.redactor = redact.New()
	}
	dec.m.mask = dec.redactor.String
	for i, tc := range cfg.Topics {
		t, err := newTopic(tc, d)
		if err != nil {
			return nil, fmt.Errorf("topics[%d].mapping: %w", i, err)
		}
		dec.topics[tc.Name] = t
	}
	return dec, nil
}

// Clock is the estimate of a partition's host clocks, together with the offset
// up to which it has seen the partition: records below it are judged by the
// estimate as it stands and are not counted again.
type Clock struct {
	est  *offset.Estimator
	from int64
}

// NewClock starts from nothing.
func NewClock(maxHosts int) *Clock { return &Clock{est: offset.New(maxHosts)} }

// RestoreClock goes on from a snapshot.
func RestoreClock(s offset.Snapshot, maxHosts int) *Clock {
	return &Clock{est: offset.Restore(s, maxHosts), from: s.Position}
}

// Estimate tells what is known of a host's clock, as of its last closed minute.
func (c *Clock) Estimate(host string) (offset.Estimate, bool) { return c.est.Estimate(host) }

// observe takes a record in and returns the estimate that holds for it.
func (c *Clock) observe(e *event.Event) offset.Estimate {
	if e.Ref.Offset < c.from {
		est, _ := c.est.Estimate(e.Host)
		return est
	}
	return c.est.Observe(e)
}

// Decode turns the records from offset first on into a batch. now is the
// reader's clock. The batch is the caller's until Release; its events alias the
// fetched memory.
func (d *Decoder) Decode(p event.Partition, f *Fetched, first int64, clock *Clock, now event.Instant) (*Batch, error) {
	t, ok := d.topics[p.Topic]
	if !ok {
		return nil, fmt.Errorf("decode: topic %s is not configured", p.Topic)
	}
	start := time.Now()
	b := &Batch{Partition: p, First: first, Next: f.Next, Unreadable: f.Unreadable, imported: t.cfg.observed() == ObservedProducer}
	room := d.room(len(f.Records))
	b.Events = *room
	b.release = func() {
		clear(*room)
		*room = (*room)[:0]
		d.events.Put(room)
	}
	w := newWork(d, t, b, clock, now)
	for _, u := range f.Unreadable {
		w.unreadable(u)
	}
	for i := range f.Records {
		if f.Records[i].Offset >= first {
			w.record(&f.Records[i])
		}
	}
	*room = b.Events
	d.m.decoded(b, time.Since(start))
	return b, nil
}

func (d *Decoder) room(n int) *[]event.Event {
	room, _ := d.events.Get().(*[]event.Event)
	if room == nil {
		room = new([]event.Event)
	}
	if cap(*room) < n {
		*room = make([]event.Event, 0, n)
	}
	return room
}

// work is the decoding of one fetch.
type work struct {
	d     *Decoder
	t     *topic
	b     *Batch
	clock *Clock
	now   event.Instant
	ids   []byte // memory of derived ids
	// The record being decoded, and the place of its next event.
	current *Record
	ref     event.Ref
	// The excerpt of the record that was rejected last, for all its rejects.
	excerpt   string
	excerptOf *Record

	limits     event.Limits
	mapOptions mapping.Options
	secrets    secrets
}

func newWork(d *Decoder, t *topic, b *Batch, clock *Clock, now event.Instant) *work {
	w := &work{d: d, t: t, b: b, clock: clock, now: now, limits: t.limits, mapOptions: t.mapOptions}
	w.limits.Cut, w.mapOptions.Cut = w.cut, w.cut
	w.limits.Unknown = func(name string) {
		w.secrets.dropped = true
		d.m.unknown(name)
	}
	return w
}

func (w *work) unreadable(u Unreadable) {
	from := max(u.From, w.b.First)
	if u.To <= from {
		return
	}
	detail, _ := w.d.redactor.String(fmt.Sprintf("offsets %d to %d: %s", from, u.To-1, u.Reason))
	w.b.Rejects = append(w.b.Rejects, Reject{
		Ref:    event.Ref{Topic: w.b.Partition.Topic, Partition: w.b.Partition.ID, Offset: from},
		Reason: ReasonUnreadable, Detail: detail,
	})
}

// record decodes one record into one or more events or rejects.
func (w *work) record(r *Record) {
	w.current = r
	w.mapOptions.At = r.Time
	w.secrets.begin(len(w.b.Events))
	defer w.searchRest(r)
	w.ref = event.Ref{Topic: w.b.Partition.Topic, Partition: w.b.Partition.ID, Offset: r.Offset}
	headers := cloudHeaders(r.Headers)
	if !cloudevents.Is(r.Value, headers) {
		w.value(r.Value, nil)
		return
	}
	full := false
	cloudevents.Open(r.Value, headers, max(w.t.limits.MaxBytes, minEnvelopeBytes), func(env cloudevents.Envelope, err error) {
		if full {
			return
		}
		if full = w.ref.Idx >= maxPerBatch; full {
			err = &event.DecodeError{Problem: event.ProblemTooLarge, Detail: "more than 10000 events in one message"}
		}
		if err != nil {
			w.add(w.slot(), err)
			return
		}
		w.value(env.Data, &env)
	})
}

// minEnvelopeBytes is the least that a CloudEvents message may have, for a batch
// holds many events.
const minEnvelopeBytes = 1 << 20

// maxPerBatch is how many events a batch of CloudEvents may have become before the
// rest of it is refused: each of its members may hold as many again.
const maxPerBatch = 10_000

func cloudHeaders(hs []Header) []cloudevents.Header {
	if len(hs) == 0 {
		return nil
	}
	out := make([]cloudevents.Header, len(hs))
	for i, h := range hs {
		out[i] = cloudevents.Header(h)
	}
	return out
}

// add finishes the last slot as the current record's next event.
func (w *work) add(e *event.Event, err error) {
	w.finish(w.current, w.ref, e, err)
	w.ref.Idx++
}

// value decodes what a record, or the envelope in it, holds.
func (w *work) value(v []byte, env *cloudevents.Envelope) {
	t := w.t
	switch {
	case t.auto != nil:
		choice, err := t.auto.Choose(v, w.mapOptions)
		switch {
		case err != nil && namesType(env, err):
			w.canonical(v, env)
		case err != nil:
			w.add(w.slot(), err)
		case choice.Canonical():
			w.canonical(v, env)
		default:
			choice.Map(w.mapOptions, w.mapped)
		}
	case t.mapping != nil:
		t.mapping.Map(v, w.mapOptions, w.mapped)
	default:
		w.canonical(v, env)
	}
}

// namesType reports whether data that nobody recognises is a canonical event all
// the same, because its envelope names the type.
func namesType(env *cloudevents.Envelope, err error) bool {
	var de *event.DecodeError
	if env == nil || !errors.As(err, &de) || de.Problem != event.ProblemUnknownFormat {
		return false
	}
	_, ok := event.ParseType(env.Type)
	return ok
}

func (w *work) canonical(v []byte, env *cloudevents.Envelope) {
	e := w.slot()
	err := event.Decode(v, w.limits, e)
	if err == nil && env != nil {
		err = complete(e, env)
	}
	if err == nil {
		err = e.Validate()
	}
	w.add(e, err)
}

// complete takes from the envelope what the event inside leaves out.
func complete(e *event.Event, env *cloudevents.Envelope) error {
	if !e.Has(event.FieldID) && nameable(env.ID) {
		e.SetString(event.FieldID, env.ID)
	}
	if typ, ok := event.ParseType(env.Type); ok && !e.Has(event.FieldType) {
		e.Type, e.Present = typ, e.Present.Set(event.FieldType)
	}
	if e.Has(event.FieldTime) || env.Time == "" {
		return nil
	}
	at, ok := event.ParseTime(env.Time)
	if !ok {
		return &event.DecodeError{Problem: event.ProblemBadTime, Field: event.FieldTime.String(), Detail: "the time of the CloudEvent is not RFC 3339 within the years 2000 to 2100"}
	}
	e.SetInstant(event.FieldTime, at)
	return nil
}

// nameable reports whether an id of an envelope may name an event: by the contract
// of the field, which headers of Kafka are under no duty to keep.
func nameable(id string) bool {
	return len(id) <= event.FieldID.Spec().MaxBytes && utf8.ValidString(id) &&
		!strings.ContainsFunc(id, func(r rune) bool { return r < 0x20 || r == 0x7f })
}

// mapped takes an event of a mapping.
func (w *work) mapped(_ int32, m *event.Event, err error) {
	e := w.slot()
	if err == nil {
		*e = *m
		if network := w.t.cfg.Network; !e.Has(event.FieldNetwork) && network != "" {
			e.SetString(event.FieldNetwork, network)
		}
		err = e.ValidateMapped()
	}
	w.add(e, err)
}

// slot appends an event for writing; finish takes it back when it is none.
func (w *work) slot() *event.Event {
	n := len(w.b.Events)
	if n < cap(w.b.Events) {
		w.b.Events = w.b.Events[:n+1]
	} else {
		w.b.Events = append(w.b.Events, event.Event{})
	}
	return &w.b.Events[n]
}

// finish completes the last slot's event, or turns it into a reject.
func (w *work) finish(r *Record, ref event.Ref, e *event.Event, err error) {
	if err == nil {
		e.Ref, e.Origin = ref, w.t.cfg.Origin
		err = w.admit(r, e)
	}
	if err != nil {
		w.secrets.refused = true
		*e = event.Event{}
		w.b.Events = w.b.Events[:len(w.b.Events)-1]
		w.reject(r, ref, err)
		return
	}
	w.tell(e, w.d.redactor.Event(e))
	if e.ID == "" {
		w.deriveID(e)
	}
}

// admit applies the trust of the topic and sets the event's times.
func (w *work) admit(r *Record, e *event.Event) error {
	if err := w.t.allows(e); err != nil {
		return err
	}
	if w.t.cfg.observed() == ObservedProducer {
		e.ObservedAt, e.TS = e.Time, e.Time
		return checkObserved(e.ObservedAt, w.now)
	}
	e.ObservedAt = r.Time
	if err := checkObserved(e.ObservedAt, w.now); err != nil {
		return err
	}
	e.TS = e.Time
	if est := w.clock.observe(e); est.Confident {
		e.TS = e.Time.Add(-est.Offset)
	}
	e.TS = min(max(e.TS, e.ObservedAt.Add(-w.d.maxLateness)), e.ObservedAt.Add(maxAhead))
	return nil
}

// maxAhead is how far the effective time may lie after the append time.
const maxAhead = 5 * time.Second

// maxReaderSkew is how far an append time may lie ahead of the reader's clock.
const maxReaderSkew = time.Minute

// earliest is 2000-01-01T00:00:00Z.
const earliest event.Instant = 946684800e9

func checkObserved(at, now event.Instant) error {
	switch {
	case at < earliest:
		return &rejection{ReasonClock, "observed_at", "before the year 2000"}
	case at > now.Add(maxReaderSkew):
		return &rejection{ReasonClock, "observed_at", "ahead of the reader's clock"}
	}
	return nil
}

func (w *work) reject(r *Record, ref event.Ref, err error) {
	reason, field, detail := explain(err)
	at := r.Time
	if checkObserved(at, w.now) != nil {
		at = 0 // not the reader's time: another reading must give the same row
	}
	var hits []redact.Hit
	if w.excerptOf != r {
		w.excerpt, hits = w.d.redactor.Excerpt(r.Value, MaxExcerpt)
		w.excerptOf = r
	}
	w.tellRest(inRecord, at, hits)
	detail, _ = w.d.redactor.String(detail)
	w.b.Rejects = append(w.b.Rejects, Reject{Ref: ref, ObservedAt: at, Reason: reason, Field: field, Detail: detail,
		Excerpt: w.excerpt, Size: len(r.Value)})
}

// deriveID names an event by its place. The memory of a fetch's ids is one
// buffer, which is never reused.
func (w *work) deriveID(e *event.Event) {
	if cap(w.ids)-len(w.ids) < len(e.Ref.Topic)+48 {
		w.ids = make([]byte, 0, max(4096, 2*len(e.Ref.Topic)))
	}
	start := len(w.ids)
	w.ids = append(w.ids, e.Ref.Topic...)
	w.ids = append(w.ids, '/')
	w.ids = strconv.AppendInt(w.ids, int64(e.Ref.Partition), 10)
	w.ids = append(w.ids, '/')
	w.ids = strconv.AppendInt(w.ids, e.Ref.Offset, 10)
	w.ids = append(w.ids, '/')
	w.ids = strconv.AppendInt(w.ids, int64(e.Ref.Idx), 10)
	e.SetString(event.FieldID, unsafe.String(&w.ids[start], len(w.ids)-start))
}
