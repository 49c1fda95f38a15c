package store

import (
	"net/netip"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/keysentry/keysentry/event"
)

// eventBlock is a block of the table events.
type eventBlock struct {
	block
	words   []wordField
	texts   []textField
	times   []timeField
	typ     *word
	origin  *word
	mode    *word
	cause   *word
	grounds *word
	traits  *word
	net     *text
	ts      *instants
	present *uint64s

	seq                     *uint64s
	status                  *uint16s
	confidence              *float32s
	rediagnosed, redacted   *bools
	sourceIP, clientIP      *addresses
	clockOffset, clockError *float64s
}

type wordField struct {
	field event.Field
	get   func(*event.Event) string
	col   *word
}

type textField struct {
	field event.Field
	get   func(*event.Event) string
	col   *text
}

type timeField struct {
	field event.Field
	get   func(*event.Event) event.Instant
	col   *instants
}

// wordFields lists the optional text fields whose set of values is small and not an
// attacker's to choose: they are LowCardinality columns.
func wordFields() []wordField {
	return []wordField{
		{field: event.FieldNetwork, get: func(e *event.Event) string { return e.Network }},
		{field: event.FieldRegion, get: func(e *event.Event) string { return e.Region }},
		{field: event.FieldService, get: func(e *event.Event) string { return e.Service }},
		{field: event.FieldHost, get: func(e *event.Event) string { return e.Host }},
		{field: event.FieldRelease, get: func(e *event.Event) string { return e.Release }},
		{field: event.FieldBoot, get: func(e *event.Event) string { return e.Boot }},
		{field: event.FieldActorRole, get: func(e *event.Event) string { return e.ActorRole }},
		{field: event.FieldCode, get: func(e *event.Event) string { return e.Code }},
		{field: event.FieldTLSAlert, get: func(e *event.Event) string { return e.TLSAlert }},
	}
}

func textFields() []textField {
	return []textField{
		{field: event.FieldID, get: func(e *event.Event) string { return e.ID }},
		{field: event.FieldUserID, get: func(e *event.Event) string { return e.UserID }},
		{field: event.FieldActor, get: func(e *event.Event) string { return e.Actor }},
		{field: event.FieldKeyID, get: func(e *event.Event) string { return e.KeyID }},
		{field: event.FieldTokenID, get: func(e *event.Event) string { return e.TokenID }},
		{field: event.FieldSessionID, get: func(e *event.Event) string { return e.SessionID }},
		{field: event.FieldDeviceID, get: func(e *event.Event) string { return e.DeviceID }},
		{field: event.FieldEndpoint, get: func(e *event.Event) string { return e.Endpoint }},
		{field: event.FieldMethod, get: func(e *event.Event) string { return e.Method }},
		{field: event.FieldReason, get: func(e *event.Event) string { return e.Reason }},
		{field: event.FieldCertID, get: func(e *event.Event) string { return e.CertID }},
		{field: event.FieldCertCN, get: func(e *event.Event) string { return e.CertCN }},
		{field: event.FieldUserAgent, get: func(e *event.Event) string { return e.UserAgent }},
		{field: event.FieldRequestID, get: func(e *event.Event) string { return e.RequestID }},
	}
}

func timeFields() []timeField {
	return []timeField{
		{field: event.FieldTime, get: func(e *event.Event) event.Instant { return e.Time }},
		{field: event.FieldSentAt, get: func(e *event.Event) event.Instant { return e.SentAt }},
		{field: event.FieldIssuedAt, get: func(e *event.Event) event.Instant { return e.IssuedAt }},
		{field: event.FieldExpiresAt, get: func(e *event.Event) event.Instant { return e.ExpiresAt }},
		{field: event.FieldCertNotBefore, get: func(e *event.Event) event.Instant { return e.CertNotBefore }},
		{field: event.FieldCertNotAfter, get: func(e *event.Event) event.Instant { return e.CertNotAfter }},
	}
}

func newEventBlock() *eventBlock {
	b := &eventBlock{block: newBlock("events"), words: wordFields(), texts: textFields(), times: timeFields(),
		typ: &word{}, origin: &word{}, mode: &word{}, cause: &word{}, grounds: &word{}, traits: &word{}, net: &text{}, ts: newInstants(), present: newUint64s(),
		seq: newUint64s(), status: newUint16s(), confidence: newFloat32s(), rediagnosed: newBools(), redacted: newBools(),
		sourceIP: newAddresses(), clientIP: newAddresses(), clockOffset: newFloat64s(), clockError: newFloat64s()}
	for i := range b.words {
		b.words[i].col = &word{}
		b.add(b.words[i].field.String(), b.words[i].col)
	}
	for i := range b.texts {
		b.texts[i].col = &text{}
		b.add(b.texts[i].field.String(), b.texts[i].col)
	}
	for i := range b.times {
		b.times[i].col = newInstants()
		b.add(b.times[i].field.String(), b.times[i].col)
	}
	b.add("ts", b.ts)
	b.add("type", b.typ)
	b.add("origin", b.origin)
	b.add("auth_mode", b.mode)
	b.add("cause", b.cause)
	b.add("traits", b.traits)
	b.add("source_net", b.net)
	b.add("cause_confidence", b.confidence)
	b.add("cause_grounds", b.grounds)
	b.add("rediagnosed", b.rediagnosed)
	b.add("redacted", b.redacted)
	b.add("seq", b.seq)
	b.add("status", b.status)
	b.add("source_ip", b.sourceIP)
	b.add("client_ip", b.clientIP)
	b.add("clock_offset", b.clockOffset)
	b.add("clock_error", b.clockError)
	b.add("present", b.present)
	return b
}

// append adds one event; it keeps no memory of it.
func (b *eventBlock) append(e *event.Event) {
	n := b.rows
	b.place(e.Ref, e.ObservedAt)
	b.ts.set(n, int64(e.TS))
	b.present.set(n, uint64(e.Present))
	b.typ.set(n, e.Type.String())
	if e.Origin != event.OriginNone {
		b.origin.set(n, e.Origin.String())
	}
	if e.Mode != event.ModeNone {
		b.mode.set(n, e.Mode.String())
	}
	for i := range b.words {
		if v := b.words[i].get(e); v != "" {
			b.words[i].col.set(n, v)
		}
	}
	for i := range b.texts {
		if v := b.texts[i].get(e); v != "" {
			b.texts[i].col.set(n, v)
		}
	}
	for i := range b.times {
		if v := b.times[i].get(e); v != 0 {
			b.times[i].col.set(n, int64(v))
		}
	}
	b.appendRare(n, e)
	b.rows++
}

// appendRare sets the fields that are neither text nor time.
func (b *eventBlock) appendRare(n int, e *event.Event) {
	if e.Cause != event.CauseNone {
		b.cause.set(n, e.Cause.String())
		b.confidence.set(n, e.CauseConfidence)
		if e.CauseGrounds != 0 {
			b.grounds.set(n, e.CauseGrounds.String())
		}
	}
	if e.Traits != 0 {
		b.traits.set(n, e.Traits.String())
	}
	if e.SourceNet != "" {
		b.net.set(n, e.SourceNet)
	}
	if e.Rediagnosed {
		b.rediagnosed.set(n, true)
	}
	if e.Redacted {
		b.redacted.set(n, true)
	}
	if e.Has(event.FieldSeq) {
		b.seq.set(n, e.Seq)
	}
	if e.Has(event.FieldStatus) {
		b.status.set(n, e.Status)
	}
	if e.Has(event.FieldSourceIP) {
		b.sourceIP.set(n, ipv6(e.SourceIP))
	}
	if e.Has(event.FieldClientIP) {
		b.clientIP.set(n, ipv6(e.ClientIP))
	}
	if e.Has(event.FieldClockOffset) {
		b.clockOffset.set(n, e.ClockOffset)
	}
	if e.Has(event.FieldClockError) {
		b.clockError.set(n, e.ClockError)
	}
}

// ipv6 is a as the IPv6 column holds it; the invalid address becomes ::, absent.
func ipv6(a netip.Addr) proto.IPv6 {
	if !a.IsValid() {
		return proto.IPv6{}
	}
	return proto.IPv6(a.As16())
}
