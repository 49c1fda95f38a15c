package event

import "fmt"

// Type says what happened. The list is closed: an unknown type is quarantined.
type Type uint8

// The event types. RequestAllowed and LogRecord exist for mapped sources, whose
// logs hold more than refusals (docs/adr/0004-two-types-for-mapped-sources.md).
const (
	TypeUnknown Type = iota
	TypeAuthTokenIssued
	TypeAuthTokenDenied
	TypeSessionCreated
	TypeSessionDenied
	TypeSessionRevoked
	TypeRequestAllowed
	TypeRequestUnauthorized
	TypeMTLSHandshakeFailed
	TypeServerKeyCreated
	TypeServerKeyActivated
	TypeServerKeyRevoked
	TypeCertificateRequested
	TypeCertificateIssued
	TypeCertificateActivated
	TypeCertificateDisabled
	TypeSecureModeEnabled
	TypeSecureModeDisabled
	TypeMTLSEnabled
	TypeMTLSDisabled
	TypeAdminTokenCreated
	TypeAdminTokenRevoked
	TypeHeartbeat
	TypeHostStarted
	TypeHostStopped
	TypeLogRecord
	numTypes
)

var typeNames = [numTypes]string{
	TypeUnknown:              "unknown",
	TypeAuthTokenIssued:      "auth_token.issued",
	TypeAuthTokenDenied:      "auth_token.denied",
	TypeSessionCreated:       "session.created",
	TypeSessionDenied:        "session.denied",
	TypeSessionRevoked:       "session.revoked",
	TypeRequestAllowed:       "request.allowed",
	TypeRequestUnauthorized:  "request.unauthorized",
	TypeMTLSHandshakeFailed:  "mtls.handshake_failed",
	TypeServerKeyCreated:     "server_key.created",
	TypeServerKeyActivated:   "server_key.activated",
	TypeServerKeyRevoked:     "server_key.revoked",
	TypeCertificateRequested: "certificate.requested",
	TypeCertificateIssued:    "certificate.issued",
	TypeCertificateActivated: "certificate.activated",
	TypeCertificateDisabled:  "certificate.disabled",
	TypeSecureModeEnabled:    "secure_mode.enabled",
	TypeSecureModeDisabled:   "secure_mode.disabled",
	TypeMTLSEnabled:          "mtls.enabled",
	TypeMTLSDisabled:         "mtls.disabled",
	TypeAdminTokenCreated:    "admin_token.created",
	TypeAdminTokenRevoked:    "admin_token.revoked",
	TypeHeartbeat:            "heartbeat",
	TypeHostStarted:          "host.started",
	TypeHostStopped:          "host.stopped",
	TypeLogRecord:            "log.record",
}

var typeByName = nameIndex(typeNames[1:])

// ParseType is the inverse of Type.String. "unknown" is no type.
func ParseType(s string) (Type, bool) {
	i, ok := typeByName[s]
	return Type(i + 1), ok
}

// Types lists every type, in declaration order.
func Types() []Type {
	out := make([]Type, 0, numTypes-1)
	for t := TypeUnknown + 1; t < numTypes; t++ {
		out = append(out, t)
	}
	return out
}

func (t Type) String() string {
	if t < numTypes {
		return typeNames[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

// MarshalText writes the name.
func (t Type) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads a name of the list.
func (t *Type) UnmarshalText(b []byte) error {
	v, ok := ParseType(string(b))
	if !ok {
		return fmt.Errorf("unknown event type %q", b)
	}
	*t = v
	return nil
}

// Refusal reports whether the type tells of something refused.
func (t Type) Refusal() bool {
	switch t {
	case TypeAuthTokenDenied, TypeSessionDenied, TypeRequestUnauthorized, TypeMTLSHandshakeFailed:
		return true
	}
	return false
}

// Lifecycle reports whether the type tells of the life of a key, a certificate
// or a setting. Lifecycle types are taken only from a lifecycle topic.
func (t Type) Lifecycle() bool {
	return t >= TypeServerKeyCreated && t <= TypeAdminTokenRevoked
}

// nameIndex maps each name to its place in names.
func nameIndex(names []string) map[string]int {
	m := make(map[string]int, len(names))
	for i, n := range names {
		m[n] = i
	}
	return m
}
