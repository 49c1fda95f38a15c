package detect

import (
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/event"
)

// Clocks tells what is known of a host's clock. One that can say more has also a
// method Estimate, see Estimates.
type Clocks interface {
	// Offset is how far the host's clock is ahead (negative: behind), and the
	// margin of that figure; ok is false unless the estimate is confident.
	Offset(network, host string) (offset, margin time.Duration, ok bool)
}

// Estimates is a Clocks that also tells estimates that are not confident: they
// still bound how slow a clock can be.
type Estimates interface {
	Clocks
	// Estimate is what is known of the host's clock; ok is false when nothing is.
	Estimate(network, host string) (est offset.Estimate, ok bool)
}

// noClocks knows no clock.
type noClocks struct{}

func (noClocks) Offset(string, string) (offset, margin time.Duration, ok bool) { return 0, 0, false }

// verdict is a cause with its confidence in [0, 1] and what it rests on.
type verdict struct {
	cause      event.Cause
	confidence float32
	grounds    event.Grounds
}

// say is a verdict with its grounds.
func say(cause event.Cause, confidence float32, grounds ...event.Ground) verdict {
	return verdict{cause, confidence, event.Grounds(0).With(grounds...)}
}

// and is v with further grounds.
func (v verdict) and(grounds ...event.Ground) verdict {
	v.grounds = v.grounds.With(grounds...)
	return v
}

// with is v with a set of further grounds.
func (v verdict) with(grounds event.Grounds) verdict {
	v.grounds |= grounds
	return v
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
	keys     *keyRegistry
	facts    *facts
	hosts    *inventory
	sessions *sessions
	mints    *mints
	clocks   Clocks
	cfg      *Config
}

// diagnose says why e was refused, from the first of these that knows: the
// status of the transport, the handshake, the answer's code and text, and what
// the registries say about what was presented.
func (d *diagnoser) diagnose(e *event.Event) verdict {
	switch {
	case e.Status == 429:
		return say(event.CauseRateLimited, byCode, event.GroundStatus)
	case e.Status >= 500:
		return say(event.CausePlatformError, byCode, event.GroundStatus)
	case e.Type == event.TypeMTLSHandshakeFailed || e.TLSAlert != "":
		return d.certificate(e)
	}
	v := hint(e)
	switch v.cause {
	case event.CauseNone:
	case event.CauseUnknownKey: // "the key is invalid" says not in which way
		return d.key(e).with(v.grounds)
	case event.CauseExpiredAuthToken:
		return d.expired(e, v)
	case early:
		return d.early(e, v)
	case event.CauseInvalidToken:
		return d.invalid(e, v)
	case event.CauseCertUnknownCA:
		return d.certificate(e)
	default:
		return v
	}
	switch {
	case badRequest(e.Status) && !d.elsewhere(e):
		return say(event.CauseBadRequest, byStatus, event.GroundStatus)
	case atMint(e):
		return d.mint(e)
	case atSessions(e):
		return d.session(e)
	}
	return d.request(e)
}

// badRequest reports whether the status says that the platform could not read the
// request, whoever sent it.
func badRequest(status uint16) bool {
	switch status {
	case 400, 404, 405, 406, 409, 410, 411, 413, 414, 415, 422:
		return true
	}
	return false
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
		return d.forbidden(e)
	case 404:
		if v, ok := d.region(e); ok {
			return v
		}
	case 0:
		if d.clearlyBad(e) {
			return d.key(e)
		}
	}
	return say(event.CauseUnknown, byGuess)
}

// forbidden reads a 403 at the mint: Secure Mode is off, unless something about
// this caller explains it, or others mint at the same time.
func (d *diagnoser) forbidden(e *event.Event) verdict {
	s := d.facts.networks[e.Network]
	if s != nil && s.secureOff {
		return say(event.CauseSecureModeOff, byRegistry, event.GroundSecureModeOff, event.GroundStatus)
	}
	if d.clearlyBad(e) {
		return d.key(e)
	}
	if v, ok := d.region(e); ok {
		return v
	}
	if v, ok := d.badCertificate(e); ok {
		return v
	}
	switch {
	case s != nil && s.single != 0 && e.TS.Sub(s.single) < singleWithin:
		return say(event.CauseSecureModeOff, byGuess, event.GroundStatus)
	case s != nil && s.forbidden != 0:
		return say(event.CauseSecureModeOff, byText, event.GroundStatus, event.GroundMintsRefused)
	}
	return say(event.CauseSecureModeOff, byStatus, event.GroundStatus)
}

// singleWithin is how long a success shows that 403 is not about the network.
const singleWithin = 10 * time.Minute

// clearlyBad reports whether the registry says that the key cannot work.
func (d *diagnoser) clearlyBad(e *event.Event) bool {
	k := d.keys.get(e.Network, e.KeyID)
	return e.KeyID != "" && k != nil && (k.State == KeyRetired || k.State == KeyRevoked)
}

// key says what is wrong with the server key that was presented.
func (d *diagnoser) key(e *event.Event) verdict {
	if e.KeyID == "" {
		if v, ok := d.badCertificate(e); ok {
			return v
		}
		return say(event.CauseUnknownKey, byGuess, event.GroundKeyAbsent)
	}
	k := d.keys.get(e.Network, e.KeyID)
	switch {
	case k != nil && k.State == KeyRevoked:
		return d.retired(e, byRegistry).and(event.GroundKeyRevoked)
	case k != nil && k.State == KeyRetired:
		return d.retired(e, byRegistry).and(event.GroundKeyRetired)
	case k != nil:
		return d.working(e)
	case d.facts.superseded(e.Network, e.KeyID, e.TS):
		return d.retired(e, byText).and(event.GroundKeySuperseded)
	case d.hosts.usedBefore(e.Network, e.KeyID):
		return d.retired(e, byText).and(event.GroundKeyUsedBefore) // it worked, and nobody told that it was retired
	case d.keys.learning(e.Network):
		return say(event.CauseUnknownKey, byGuess, event.GroundLearning)
	}
	return say(event.CauseUnknownKey, byRegistry, event.GroundKeyUnknown)
}

// working looks for what else can be wrong when the registry says that the key
// works.
func (d *diagnoser) working(e *event.Event) verdict {
	if v, ok := d.region(e); ok {
		return v.and(event.GroundKeyActive)
	}
	if v, ok := d.badCertificate(e); ok {
		return v.and(event.GroundKeyActive)
	}
	if d.facts.superseded(e.Network, e.KeyID, e.TS) {
		return d.retired(e, byStatus).and(event.GroundKeySuperseded)
	}
	return say(event.CauseUnknown, byGuess, event.GroundKeyActive)
}

// retired tells a host that was not redeployed from anyone else.
func (d *diagnoser) retired(e *event.Event, confidence float32) verdict {
	h := d.hosts.ours(e)
	switch {
	case h == nil:
		v := say(event.CauseRetiredKeyForeign, confidence, event.GroundHostUnknown)
		if e.SourceIP.IsValid() {
			v = v.and(event.GroundSourceForeign)
		}
		return v
	case d.hosts.live(h, e.TS):
		v := say(event.CauseRetiredKeyStraggler, confidence, event.GroundHostLive)
		if h.name != e.Host || !h.cameFrom(e.SourceIP) {
			v = v.and(event.GroundSourceFleet)
		}
		return v
	case !d.hosts.entered[e.Network] || h.stopped == 0:
		// The inventory is young, or the host is: it did mint, from here.
		return say(event.CauseRetiredKeyStraggler, min(confidence, byStatus), event.GroundHostKnown)
	}
	return say(event.CauseRetiredKeyForeign, min(confidence, byText), event.GroundHostStopped)
}

// region says whether the call went to a region in which the network never
// succeeds, while it does in others.
func (d *diagnoser) region(e *event.Event) (verdict, bool) {
	if !d.elsewhere(e) {
		return verdict{}, false
	}
	return say(event.CauseWrongRegion, byText, event.GroundRegionUnused), true
}

// elsewhere reports whether the call went to a region that the network does not
// use.
func (d *diagnoser) elsewhere(e *event.Event) bool {
	s := d.facts.networks[e.Network]
	return e.Region != "" && s != nil && len(s.regions) > 0 && !s.regions[e.Region]
}
