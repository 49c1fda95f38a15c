package event

import (
	"fmt"
	"math/bits"
	"strconv"
)

// Field names one field of an event. The order is that of the documentation;
// fields from FieldOrigin on are set by the daemon, never by a message.
type Field uint8

// The fields.
const (
	FieldID Field = iota
	FieldType
	FieldTime
	FieldSentAt
	FieldNetwork
	FieldRegion
	FieldService
	FieldHost
	FieldRelease
	FieldBoot
	FieldSeq
	FieldUserID
	FieldActor
	FieldActorRole
	FieldAuthMode
	FieldKeyID
	FieldTokenID
	FieldSessionID
	FieldDeviceID
	FieldIssuedAt
	FieldExpiresAt
	FieldEndpoint
	FieldMethod
	FieldStatus
	FieldCode
	FieldReason
	FieldCertID
	FieldCertCN
	FieldCertNotBefore
	FieldCertNotAfter
	FieldTLSAlert
	FieldSourceIP
	FieldClientIP
	FieldUserAgent
	FieldRequestID
	FieldClockOffset
	FieldClockError
	FieldOrigin
	FieldCause
	FieldCauseConfidence
	FieldTS
	FieldObservedAt
	FieldTopic
	FieldPartition
	FieldOffset
	FieldIdx
	FieldTraits
	FieldSourceNet
	// NumFields counts the fields.
	NumFields
)

var fieldNames = [NumFields]string{
	FieldID:              "id",
	FieldType:            "type",
	FieldTime:            "time",
	FieldSentAt:          "sent_at",
	FieldNetwork:         "network",
	FieldRegion:          "region",
	FieldService:         "service",
	FieldHost:            "host",
	FieldRelease:         "release",
	FieldBoot:            "boot",
	FieldSeq:             "seq",
	FieldUserID:          "user_id",
	FieldActor:           "actor",
	FieldActorRole:       "actor_role",
	FieldAuthMode:        "auth_mode",
	FieldKeyID:           "key_id",
	FieldTokenID:         "token_id",
	FieldSessionID:       "session_id",
	FieldDeviceID:        "device_id",
	FieldIssuedAt:        "issued_at",
	FieldExpiresAt:       "expires_at",
	FieldEndpoint:        "endpoint",
	FieldMethod:          "method",
	FieldStatus:          "status",
	FieldCode:            "code",
	FieldReason:          "reason",
	FieldCertID:          "cert_id",
	FieldCertCN:          "cert_cn",
	FieldCertNotBefore:   "cert_not_before",
	FieldCertNotAfter:    "cert_not_after",
	FieldTLSAlert:        "tls_alert",
	FieldSourceIP:        "source_ip",
	FieldClientIP:        "client_ip",
	FieldUserAgent:       "user_agent",
	FieldRequestID:       "request_id",
	FieldClockOffset:     "clock_offset",
	FieldClockError:      "clock_error",
	FieldOrigin:          "origin",
	FieldCause:           "cause",
	FieldCauseConfidence: "cause_confidence",
	FieldTS:              "ts",
	FieldObservedAt:      "observed_at",
	FieldTopic:           "topic",
	FieldPartition:       "partition",
	FieldOffset:          "offset",
	FieldIdx:             "idx",
	FieldTraits:          "traits",
	FieldSourceNet:       "source_net",
}

var fieldByName = nameIndex(fieldNames[:])

// ParseField is the inverse of Field.String.
func ParseField(s string) (Field, bool) {
	i, ok := fieldByName[s]
	return Field(i), ok
}

func (f Field) String() string {
	if f < NumFields {
		return fieldNames[f]
	}
	return fmt.Sprintf("field(%d)", uint8(f))
}

// FieldSet is a set of fields, one bit each.
type FieldSet uint64

// Set is s with f.
func (s FieldSet) Set(f Field) FieldSet { return s | 1<<f }

// Has reports whether f is in s.
func (s FieldSet) Has(f Field) bool { return s&(1<<f) != 0 }

// Len counts the fields of s.
func (s FieldSet) Len() int { return bits.OnesCount64(uint64(s)) }

// first is the lowest field of a set that is not empty.
func (s FieldSet) first() Field { return Field(bits.TrailingZeros64(uint64(s))) }

// Kind is the type of a field's value.
type Kind uint8

// The kinds.
const (
	KindString Kind = iota
	KindInstant
	KindAddr
	KindUint
	KindFloat
	KindEnum
)

// Kind tells what kind of value f holds.
func (f Field) Kind() Kind {
	switch f {
	case FieldTime, FieldSentAt, FieldIssuedAt, FieldExpiresAt, FieldCertNotBefore, FieldCertNotAfter, FieldTS, FieldObservedAt:
		return KindInstant
	case FieldSourceIP, FieldClientIP:
		return KindAddr
	case FieldSeq, FieldStatus, FieldPartition, FieldOffset, FieldIdx:
		return KindUint
	case FieldClockOffset, FieldClockError, FieldCauseConfidence:
		return KindFloat
	case FieldType, FieldAuthMode, FieldOrigin, FieldCause:
		return KindEnum
	}
	return KindString
}

// stringFields are the fields that Event holds as strings of the message.
var stringFields = [...]Field{
	FieldID,
	FieldNetwork,
	FieldRegion,
	FieldService,
	FieldHost,
	FieldRelease,
	FieldBoot,
	FieldUserID,
	FieldActor,
	FieldActorRole,
	FieldKeyID,
	FieldTokenID,
	FieldSessionID,
	FieldDeviceID,
	FieldEndpoint,
	FieldMethod,
	FieldCode,
	FieldReason,
	FieldCertID,
	FieldCertCN,
	FieldTLSAlert,
	FieldUserAgent,
	FieldRequestID,
}

// str returns the place of a string field, or nil for another kind.
func (e *Event) str(f Field) *string {
	switch f {
	case FieldID:
		return &e.ID
	case FieldNetwork:
		return &e.Network
	case FieldRegion:
		return &e.Region
	case FieldService:
		return &e.Service
	case FieldHost:
		return &e.Host
	case FieldRelease:
		return &e.Release
	case FieldBoot:
		return &e.Boot
	case FieldUserID:
		return &e.UserID
	case FieldActor:
		return &e.Actor
	case FieldActorRole:
		return &e.ActorRole
	case FieldKeyID:
		return &e.KeyID
	case FieldTokenID:
		return &e.TokenID
	case FieldSessionID:
		return &e.SessionID
	case FieldDeviceID:
		return &e.DeviceID
	case FieldEndpoint:
		return &e.Endpoint
	case FieldMethod:
		return &e.Method
	case FieldCode:
		return &e.Code
	case FieldReason:
		return &e.Reason
	case FieldCertID:
		return &e.CertID
	case FieldCertCN:
		return &e.CertCN
	case FieldTLSAlert:
		return &e.TLSAlert
	case FieldUserAgent:
		return &e.UserAgent
	case FieldRequestID:
		return &e.RequestID
	}
	return nil
}

// instant returns the place of a time field, or nil for another kind.
func (e *Event) instant(f Field) *Instant {
	switch f {
	case FieldTime:
		return &e.Time
	case FieldSentAt:
		return &e.SentAt
	case FieldIssuedAt:
		return &e.IssuedAt
	case FieldExpiresAt:
		return &e.ExpiresAt
	case FieldCertNotBefore:
		return &e.CertNotBefore
	case FieldCertNotAfter:
		return &e.CertNotAfter
	case FieldTS:
		return &e.TS
	case FieldObservedAt:
		return &e.ObservedAt
	}
	return nil
}

// Text is the value of f as text, as the rules, the store and a person see it:
// enumerations by name, times as RFC 3339, numbers in decimal. The second
// result is false when the field is absent.
func (e *Event) Text(f Field) (string, bool) {
	if f < FieldOrigin && !e.Present.Has(f) {
		return "", false
	}
	if p := e.str(f); p != nil {
		return *p, true
	}
	if p := e.instant(f); p != nil {
		return p.String(), *p != 0
	}
	switch f {
	case FieldType:
		return e.Type.String(), true
	case FieldAuthMode:
		return e.Mode.String(), e.Mode != ModeNone
	case FieldOrigin:
		return e.Origin.String(), e.Origin != OriginNone
	case FieldCause:
		return e.Cause.String(), e.Cause != CauseNone
	case FieldTraits:
		return e.Traits.String(), e.Traits != 0
	case FieldSourceNet:
		return e.SourceNet, e.SourceNet != ""
	case FieldTopic:
		return e.Ref.Topic, true
	case FieldSourceIP:
		return e.SourceIP.String(), true
	case FieldClientIP:
		return e.ClientIP.String(), true
	}
	n, ok := e.Number(f)
	return strconv.FormatFloat(n, 'f', -1, 64), ok
}

// Number is the value of a numeric field. The second result is false when the
// field is absent or not a number.
func (e *Event) Number(f Field) (float64, bool) {
	switch f {
	case FieldSeq:
		return float64(e.Seq), e.Has(f)
	case FieldStatus:
		return float64(e.Status), e.Has(f)
	case FieldClockOffset:
		return e.ClockOffset, e.Has(f)
	case FieldClockError:
		return e.ClockError, e.Has(f)
	case FieldCauseConfidence:
		return float64(e.CauseConfidence), e.Cause != CauseNone
	case FieldPartition:
		return float64(e.Ref.Partition), true
	case FieldOffset:
		return float64(e.Ref.Offset), true
	case FieldIdx:
		return float64(e.Ref.Idx), true
	}
	return 0, false
}

// SetString sets a string field and marks it present; it panics when f is not a
// string field.
func (e *Event) SetString(f Field, v string) {
	*e.str(f) = v
	e.Present = e.Present.Set(f)
}

// SetInstant sets a time field and marks it present; it panics when f is not a
// time field.
func (e *Event) SetInstant(f Field, v Instant) {
	*e.instant(f) = v
	e.Present = e.Present.Set(f)
}

// Instant is the value of a time field. The second result is false when the
// field is absent or not a time.
func (e *Event) Instant(f Field) (Instant, bool) {
	p := e.instant(f)
	if p == nil || *p == 0 || f < FieldOrigin && !e.Has(f) {
		return 0, false
	}
	return *p, true
}
