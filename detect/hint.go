package detect

import (
	"strings"

	"github.com/keysentry/keysentry/event"
)

// codes are the answers' codes that name a cause, as the reference platform and
// common gateways write them. unknown_key stands for any bad server key.
var codes = map[string]event.Cause{
	"invalid_server_key":        event.CauseUnknownKey,
	"unknown_server_key":        event.CauseUnknownKey,
	"server_key_invalid":        event.CauseUnknownKey,
	"missing_auth_token":        event.CauseMissingAuthToken,
	"auth_token_required":       event.CauseMissingAuthToken,
	"auth_token_expired":        event.CauseExpiredAuthToken,
	"token_expired":             event.CauseExpiredAuthToken,
	"invalid_auth_token":        event.CauseInvalidToken,
	"invalid_token":             event.CauseInvalidToken,
	"auth_token_not_yet_valid":  early,
	"session_expired":           event.CauseSessionExpired,
	"access_token_expired":      event.CauseSessionExpired,
	"session_revoked":           event.CauseSessionRevoked,
	"access_token_revoked":      event.CauseSessionRevoked,
	"session_displaced":         event.CauseSessionDisplaced,
	"device_taken_over":         event.CauseSessionDisplaced,
	"user_banned":               event.CauseUserBanned,
	"secure_mode_off":           event.CauseSecureModeOff,
	"secure_mode_disabled":      event.CauseSecureModeOff,
	"certificate_required":      event.CauseCertMissing,
	"certificate_missing":       event.CauseCertMissing,
	"certificate_not_yet_valid": event.CauseCertNotYetValid,
	"certificate_revoked":       event.CauseCertDisabled,
	"certificate_disabled":      event.CauseCertDisabled,
	"certificate_expired":       event.CauseCertExpired,
	"certificate_cn_mismatch":   event.CauseCertCNMismatch,
	"certificate_unknown_ca":    event.CauseCertUnknownCA,
	"wrong_region":              event.CauseWrongRegion,
	"bad_request":               event.CauseBadRequest,
	"rate_limited":              event.CauseRateLimited,
	"too_many_requests":         event.CauseRateLimited,
	"internal":                  event.CausePlatformError,
	"internal_error":            event.CausePlatformError,
	"service_unavailable":       event.CausePlatformError,
}

// words are what the reason of an answer says, most telling first. Every word of
// an entry has to occur.
var words = []struct {
	words []string
	cause event.Cause
}{
	{[]string{"certificate", "not yet valid"}, event.CauseCertNotYetValid},
	{[]string{"auth token", "not yet valid"}, early},
	{[]string{"auth token", "issued in the future"}, early},
	{[]string{"certificate", "expired"}, event.CauseCertExpired},
	{[]string{"certificate", "disabled"}, event.CauseCertDisabled},
	{[]string{"certificate", "revoked"}, event.CauseCertDisabled},
	{[]string{"certificate", "common name"}, event.CauseCertCNMismatch},
	{[]string{"certificate", "unknown authority"}, event.CauseCertUnknownCA},
	{[]string{"no client certificate"}, event.CauseCertMissing},
	{[]string{"certificate required"}, event.CauseCertMissing},
	{[]string{"auth token", "missing"}, event.CauseMissingAuthToken},
	{[]string{"auth token", "expired"}, event.CauseExpiredAuthToken},
	{[]string{"session", "expired"}, event.CauseSessionExpired},
	{[]string{"access token", "expired"}, event.CauseSessionExpired},
	{[]string{"session", "revoked"}, event.CauseSessionRevoked},
	{[]string{"access token", "revoked"}, event.CauseSessionRevoked},
	{[]string{"taken over"}, event.CauseSessionDisplaced},
	{[]string{"user", "banned"}, event.CauseUserBanned},
	{[]string{"secure mode"}, event.CauseSecureModeOff},
	{[]string{"wrong region"}, event.CauseWrongRegion},
	{[]string{"server key", "invalid"}, event.CauseUnknownKey},
	{[]string{"rate limit"}, event.CauseRateLimited},
	{[]string{"token", "invalid"}, event.CauseInvalidToken},
}

// early stands for a token whose issued_at is ahead of the platform's clock. It is
// no cause: a fast clock may have made it, or a forger.
const early event.Cause = 255

// codeName is a code as the table spells it: platforms write USER_BANNED, too.
func codeName(code string) string {
	for i := range len(code) {
		if c := code[i]; c >= 'A' && c <= 'Z' || c == '-' || c == ' ' || c == '.' {
			return strings.NewReplacer("-", "_", " ", "_", ".", "_").Replace(strings.ToLower(code))
		}
	}
	return code
}

// hint is what the answer itself says: by its code, else by its reason.
func hint(e *event.Event) verdict {
	if e.Code != "" {
		if c := codes[codeName(e.Code)]; c != event.CauseNone {
			return say(c, byCode, event.GroundCode)
		}
	}
	if e.Reason == "" || len(e.Reason) > maxReason {
		return verdict{}
	}
	text := strings.ToLower(e.Reason)
	for _, w := range words {
		all := true
		for _, x := range w.words {
			if !strings.Contains(text, x) {
				all = false
				break
			}
		}
		if all {
			return say(w.cause, byText, event.GroundReason)
		}
	}
	return verdict{}
}

// maxReason is the longest reason that is read.
const maxReason = 1024

// resolutions says what a person should do about each cause, without values:
// those are facts of the finding.
var resolutions = map[event.Cause]string{
	event.CauseUnknownKey:          "Find out who presents this key. If it is one of yours, find out why no lifecycle event told of it; if not, look at what else its source did.",
	event.CauseRetiredKeyStraggler: "Redeploy the named host with the current key.",
	event.CauseRetiredKeyForeign:   "Treat the retired key as stolen: find where a copy was kept, and rotate the current key if it is kept in the same place.",
	event.CauseClockSkew:           "Synchronise the named host's clock with NTP; its tokens are refused until then.",
	event.CauseMissingAuthToken:    "Make the client fetch an auth token before it opens a session: Secure Mode requires one.",
	event.CauseExpiredAuthToken:    "Make the client redeem an auth token right after it was minted, and mint a new one when it is too old.",
	event.CauseInvalidToken:        "Check that the token is passed on unchanged and belongs to this network and user; if it was never minted, look at its source.",
	event.CauseSessionExpired:      "Nothing, if the client opens a new session; else make it renew its session before it ends.",
	event.CauseSessionRevoked:      "Nothing, if the revocation was meant; the client has to open a new session.",
	event.CauseSessionDisplaced:    "Check whether two users share the device.",
	event.CauseUserBanned:          "Nothing: the user is banned. Lift the ban in the console if it was a mistake.",
	event.CauseSecureModeOff:       "Switch Secure Mode on in the console, or stop minting tokens for this network.",
	event.CauseCertMissing:         "Install the client certificate on the named host and make its calls present it.",
	event.CauseCertDisabled:        "Install the active certificate on the named host: the one it presents was disabled.",
	event.CauseCertExpired:         "Renew the client certificate and install it on every host that presents the old one.",
	event.CauseCertNotYetValid:     "Wait until the certificate begins, or check the clock of the named host and of the issuer.",
	event.CauseCertCNMismatch:      "Install the certificate that was issued for this service: the common name is another one's.",
	event.CauseCertUnknownCA:       "Have the certificate signed by the authority that the platform trusts.",
	event.CauseWrongRegion:         "Point the host to the region of its network.",
	event.CauseBadRequest:          "Correct the request: the platform could not read it.",
	event.CauseRateLimited:         "Slow the caller down, or ask for a higher limit.",
	event.CausePlatformError:       "Wait, and look at the platform's status page: the fault is not on your side.",
	event.CauseUnknown:             "Look at the evidence: neither the answer nor what is known of key, certificate, host and clock explains it.",
}
