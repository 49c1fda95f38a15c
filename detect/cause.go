package detect

import (
	"strings"
	"time"

	"github.com/keysentry/keysentry/event"
)

// Clocks tells what is known of a host's clock.
type Clocks interface {
	// Offset is how far the host's clock is ahead (negative: behind), and the
	// margin of that figure; ok is false unless the estimate is confident.
	Offset(network, host string) (offset, margin time.Duration, ok bool)
}

// noClocks knows no clock.
type noClocks struct{}

func (noClocks) Offset(string, string) (offset, margin time.Duration, ok bool) { return 0, 0, false }

// verdict is a cause with its confidence in [0, 1].
type verdict struct {
	cause      event.Cause
	confidence float32
}

// Confidences. A fact of a registry is nearly certain; the platform's own code
// says what it means; free text may be worded otherwise tomorrow; a status alone
// has several readings.
const (
	byRegistry = 0.97
	byCode     = 0.95
	byDates    = 0.95
	byText     = 0.8
	byStatus   = 0.6
	byGuess    = 0.4
)

// diagnoser decides causes. It only reads.
type diagnoser struct {
	keys   *keyRegistry
	facts  *facts
	hosts  *inventory
	ended  *recentSet // sessions and users whose sessions were revoked
	clocks Clocks
	leeway time.Duration
}

// diagnose says why e was refused, from the first of these that knows: the
// status of the transport, the handshake, the answer's code and text, and what
// the registries say about what was presented.
func (d *diagnoser) diagnose(e *event.Event) verdict {
	switch {
	case e.Status == 429:
		return verdict{event.CauseRateLimited, byCode}
	case e.Status >= 500:
		return verdict{event.CausePlatformError, byCode}
	case e.Type == event.TypeMTLSHandshakeFailed || e.TLSAlert != "":
		return d.certificate(e)
	}
	if e.Code == notYetValid {
		return d.early(e)
	}
	v := hint(e)
	switch v.cause {
	case event.CauseNone:
	case event.CauseUnknownKey: // "the key is invalid" says not in which way
		return d.key(e)
	case event.CauseExpiredAuthToken:
		return d.expired(e, v)
	case event.CauseCertUnknownCA:
		return d.certificate(e)
	default:
		return v
	}
	switch {
	case atMint(e):
		return d.mint(e)
	case atSessions(e):
		return d.session(e)
	}
	return d.request(e)
}

// atMint reports whether e is about the minting of a token.
func atMint(e *event.Event) bool {
	return e.Type == event.TypeAuthTokenDenied || strings.HasSuffix(e.Endpoint, "/authentication/token")
}

// atSessions reports whether e is about the start of a session (POST /sessions).
func atSessions(e *event.Event) bool {
	return e.Type == event.TypeSessionDenied && (e.Endpoint == "" || strings.Contains(e.Endpoint, "/sessions"))
}

// mint reads the status of POST /api/v4/authentication/token: 401 is the server
// key, 403 may mean that Secure Mode is off.
func (d *diagnoser) mint(e *event.Event) verdict {
	switch e.Status {
	case 401:
		return d.key(e)
	case 403:
		if s := d.facts.networks[e.Network]; s != nil && s.secureOff {
			return verdict{event.CauseSecureModeOff, byRegistry}
		}
		if v, ok := d.region(e); ok {
			return v
		}
		if d.clearlyBad(e) {
			return d.key(e)
		}
		return verdict{event.CauseSecureModeOff, byStatus}
	case 400, 404, 405, 413, 415, 422:
		return verdict{event.CauseBadRequest, byStatus}
	case 0:
		if d.clearlyBad(e) {
			return d.key(e)
		}
	}
	return verdict{event.CauseUnknown, byGuess}
}

// clearlyBad reports whether the registry says that the key cannot work.
func (d *diagnoser) clearlyBad(e *event.Event) bool {
	k := d.keys.get(e.Network, e.KeyID)
	return e.KeyID != "" && k != nil && (k.State == KeyRetired || k.State == KeyRevoked)
}

// key says what is wrong with the server key that was presented.
func (d *diagnoser) key(e *event.Event) verdict {
	k := d.keys.get(e.Network, e.KeyID)
	switch {
	case e.KeyID == "":
		return verdict{event.CauseUnknownKey, byGuess}
	case k != nil && (k.State == KeyRetired || k.State == KeyRevoked):
		return d.retired(e, byRegistry)
	case k != nil:
		if v, ok := d.region(e); ok {
			return v
		}
		return verdict{event.CauseUnknown, byGuess} // the registry says that it works
	case d.hosts.usedBefore(e.Network, e.KeyID):
		return d.retired(e, byText) // it worked, and nobody told that it was retired
	case d.keys.learning(e.Network):
		return verdict{event.CauseUnknownKey, byGuess}
	}
	return verdict{event.CauseUnknownKey, byRegistry}
}

// retired tells a host that was not redeployed from anyone else.
func (d *diagnoser) retired(e *event.Event, confidence float32) verdict {
	h := d.hosts.find(e)
	switch {
	case h == nil:
		return verdict{event.CauseRetiredKeyForeign, confidence}
	case d.hosts.live(h, e.TS):
		return verdict{event.CauseRetiredKeyStraggler, confidence}
	case !d.hosts.entered[e.Network] || h.stopped == 0:
		// The inventory is young, or the host is: it did mint, from here.
		return verdict{event.CauseRetiredKeyStraggler, min(confidence, byStatus)}
	}
	return verdict{event.CauseRetiredKeyForeign, min(confidence, byText)}
}

// region says whether the call went to a region in which the network never
// succeeds, while it does in others.
func (d *diagnoser) region(e *event.Event) (verdict, bool) {
	s := d.facts.networks[e.Network]
	if e.Region == "" || s == nil || len(s.regions) == 0 || s.regions[e.Region] {
		return verdict{}, false
	}
	return verdict{event.CauseWrongRegion, byText}, true
}

// session reads the status of POST /sessions, where 401 means that the user is
// banned.
func (d *diagnoser) session(e *event.Event) verdict {
	if e.ExpiresAt != 0 && e.TS > e.ExpiresAt {
		return d.expired(e, verdict{event.CauseExpiredAuthToken, byDates})
	}
	if e.IssuedAt != 0 && e.IssuedAt.Sub(e.TS) > d.leeway {
		return d.early(e)
	}
	switch e.Status {
	case 401:
		if e.Endpoint != "" {
			return verdict{event.CauseUserBanned, byText}
		}
	case 403:
		switch {
		case e.TokenID == "" && e.Mode != event.ModeUnsecure && e.Has(event.FieldAuthMode):
			return verdict{event.CauseMissingAuthToken, byStatus}
		case e.TokenID != "":
			return verdict{event.CauseInvalidToken, byStatus}
		}
	case 400, 422:
		return verdict{event.CauseBadRequest, byStatus}
	}
	return verdict{event.CauseUnknown, byGuess}
}

// expired tells a token that was used too late from one that a slow clock made
// expire early.
func (d *diagnoser) expired(e *event.Event, v verdict) verdict {
	if off, margin, ok := d.clocks.Offset(e.Network, e.Host); ok && e.Host != "" && -off-margin > d.leeway {
		return verdict{event.CauseClockSkew, byRegistry}
	}
	return v
}

// early is a token from the future: a fast clock made it, or it is forged. The
// host's own records prove a fast clock before it can be estimated.
func (d *diagnoser) early(e *event.Event) verdict {
	if d.hosts.ahead(e.Network, e.Host) > d.leeway {
		return verdict{event.CauseClockSkew, byDates}
	}
	if off, margin, ok := d.clocks.Offset(e.Network, e.Host); ok && e.Host != "" && off-margin > d.leeway {
		return verdict{event.CauseClockSkew, byRegistry}
	}
	return verdict{event.CauseInvalidToken, byStatus}
}

// request reads the refusal of an ordinary call, which presents an access token.
func (d *diagnoser) request(e *event.Event) verdict {
	switch {
	case d.ended.has(e.Network, e.SessionID) || d.ended.has(e.Network, e.UserID):
		return verdict{event.CauseSessionRevoked, byRegistry}
	case e.Status == 400 || e.Status == 404 || e.Status == 422:
		return verdict{event.CauseBadRequest, byStatus}
	case e.ExpiresAt != 0 && e.TS > e.ExpiresAt:
		return verdict{event.CauseSessionExpired, byDates}
	case e.Status == 401 && e.KeyID != "" && e.SessionID == "" && e.TokenID == "":
		return d.key(e)
	case e.Status == 401 && (e.SessionID != "" || e.TokenID != ""):
		return verdict{event.CauseInvalidToken, byStatus}
	}
	return verdict{event.CauseUnknown, byGuess}
}

// alerts are the TLS alerts of RFC 8446 §6.2 that name a cause by themselves.
var alerts = map[string]verdict{
	"certificate_required":            {event.CauseCertMissing, byCode},
	"no_certificate":                  {event.CauseCertMissing, byCode},
	"certificate_expired":             {event.CauseCertExpired, byCode},
	"certificate_revoked":             {event.CauseCertDisabled, byCode},
	"unknown_ca":                      {event.CauseCertUnknownCA, byCode},
	"access_denied":                   {event.CauseCertDisabled, byStatus},
	"unrecognized_name":               {event.CauseCertCNMismatch, byStatus},
	"certificate_unobtainable":        {event.CauseCertMissing, byStatus},
	"bad_certificate":                 {event.CauseCertUnknownCA, byGuess},
	"certificate_unknown":             {event.CauseCertUnknownCA, byGuess},
	"unsupported_certificate":         {event.CauseCertUnknownCA, byGuess},
	"bad_certificate_status_response": {event.CauseCertDisabled, byStatus},
}

// certificate says what is wrong with the client certificate: first what the
// dates and the registry prove, then what the alert says.
func (d *diagnoser) certificate(e *event.Event) verdict {
	c := d.facts.certs[keyName{e.Network, e.CertID}]
	from, to := e.CertNotBefore, e.CertNotAfter
	if c != nil {
		if from == 0 {
			from = c.notBefore
		}
		if to == 0 {
			to = c.notAfter
		}
	}
	switch {
	case to != 0 && e.TS > to:
		return verdict{event.CauseCertExpired, byDates}
	case from != 0 && e.TS < from:
		return verdict{event.CauseCertNotYetValid, byDates}
	case c != nil && c.disabled:
		return verdict{event.CauseCertDisabled, byRegistry}
	case c != nil && c.cn != "" && e.CertCN != "" && c.cn != e.CertCN:
		return verdict{event.CauseCertCNMismatch, byRegistry}
	}
	alert := strings.ReplaceAll(strings.ToLower(e.TLSAlert), " ", "_")
	if v, ok := alerts[alert]; ok {
		return v
	}
	if v := hint(e); v.cause >= event.CauseCertMissing && v.cause <= event.CauseCertUnknownCA {
		return v
	}
	if e.CertID == "" && e.CertCN == "" {
		return verdict{event.CauseCertMissing, byStatus}
	}
	return verdict{event.CauseUnknown, byGuess}
}
