package event

import "fmt"

// Cause says why one refused request was refused. The list is closed, because
// each cause has another cure.
type Cause uint8

// The values of Cause.
const (
	CauseNone Cause = iota
	CauseUnknownKey
	CauseRetiredKeyStraggler
	CauseRetiredKeyForeign
	CauseClockSkew
	CauseMissingAuthToken
	CauseExpiredAuthToken
	CauseInvalidToken
	CauseSessionExpired
	CauseSessionRevoked
	CauseSessionDisplaced
	CauseUserBanned
	CauseSecureModeOff
	CauseCertMissing
	CauseCertDisabled
	CauseCertExpired
	CauseCertNotYetValid
	CauseCertCNMismatch
	CauseCertUnknownCA
	CauseWrongRegion
	CauseBadRequest
	CauseRateLimited
	CausePlatformError
	CauseUnknown
	numCauses
)

var causeNames = [numCauses]string{
	CauseNone:                "",
	CauseUnknownKey:          "unknown_key",
	CauseRetiredKeyStraggler: "retired_key_straggler",
	CauseRetiredKeyForeign:   "retired_key_foreign",
	CauseClockSkew:           "clock_skew",
	CauseMissingAuthToken:    "missing_auth_token",
	CauseExpiredAuthToken:    "expired_auth_token",
	CauseInvalidToken:        "invalid_token",
	CauseSessionExpired:      "session_expired",
	CauseSessionRevoked:      "session_revoked",
	CauseSessionDisplaced:    "session_displaced",
	CauseUserBanned:          "user_banned",
	CauseSecureModeOff:       "secure_mode_off",
	CauseCertMissing:         "cert_missing",
	CauseCertDisabled:        "cert_disabled",
	CauseCertExpired:         "cert_expired",
	CauseCertNotYetValid:     "cert_not_yet_valid",
	CauseCertCNMismatch:      "cert_cn_mismatch",
	CauseCertUnknownCA:       "cert_unknown_ca",
	CauseWrongRegion:         "wrong_region",
	CauseBadRequest:          "bad_request",
	CauseRateLimited:         "rate_limited",
	CausePlatformError:       "platform_error",
	CauseUnknown:             "unknown",
}

var causeByName = nameIndex(causeNames[1:])

// ParseCause is the inverse of Cause.String; the empty string is CauseNone.
func ParseCause(s string) (Cause, bool) {
	if s == "" {
		return CauseNone, true
	}
	i, ok := causeByName[s]
	return Cause(i + 1), ok
}

// Causes lists every value but CauseNone, in declaration order.
func Causes() []Cause {
	out := make([]Cause, 0, numCauses-1)
	for c := CauseNone + 1; c < numCauses; c++ {
		out = append(out, c)
	}
	return out
}

func (c Cause) String() string {
	if c < numCauses {
		return causeNames[c]
	}
	return fmt.Sprintf("cause(%d)", uint8(c))
}

// MarshalText writes the name.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads a name of the list, or nothing.
func (c *Cause) UnmarshalText(b []byte) error {
	v, ok := ParseCause(string(b))
	if !ok {
		return fmt.Errorf("unknown cause %q", b)
	}
	*c = v
	return nil
}
