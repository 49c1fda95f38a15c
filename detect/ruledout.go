package detect

import (
	"fmt"

	"github.com/keysentry/keysentry/event"
)

// families are the causes that are thought of together: those that one answer at
// one endpoint has.
var families = [][]event.Cause{
	{event.CauseUnknownKey, event.CauseRetiredKeyStraggler, event.CauseRetiredKeyForeign, event.CauseWrongRegion, event.CauseSecureModeOff},
	{event.CauseClockSkew, event.CauseExpiredAuthToken, event.CauseInvalidToken, event.CauseMissingAuthToken, event.CauseUserBanned},
	{event.CauseSessionExpired, event.CauseSessionRevoked, event.CauseSessionDisplaced, event.CauseInvalidToken},
	{event.CauseCertMissing, event.CauseCertDisabled, event.CauseCertExpired, event.CauseCertNotYetValid, event.CauseCertCNMismatch, event.CauseCertUnknownCA},
}

// familyOf is the family that a person would choose from for e.
func familyOf(e *event.Event, cause event.Cause) []event.Cause {
	switch {
	case cause >= event.CauseCertMissing && cause <= event.CauseCertUnknownCA || e.Type == event.TypeMTLSHandshakeFailed || e.TLSAlert != "":
		return families[3]
	case cause >= event.CauseBadRequest && cause < event.CauseUnknown:
		return nil // the answer says it
	case atMint(e):
		return families[0]
	case atSessions(e):
		return families[1]
	}
	return families[2]
}

// ruledOut says of the other causes of the family why they are not it, as far as
// something speaks against them.
func (d *diagnoser) ruledOut(e *event.Event, cause event.Cause) []Alternative {
	out := []Alternative{}
	for _, c := range familyOf(e, cause) {
		if c == cause {
			continue
		}
		if why := d.against(e, c, cause); why != "" {
			out = append(out, Alternative{c, why})
		}
	}
	return out
}

// against is what speaks against a cause; empty: nothing that is known.
func (d *diagnoser) against(e *event.Event, c, cause event.Cause) string {
	switch {
	case c <= event.CauseRetiredKeyForeign:
		return d.againstKey(e, c)
	case c == event.CauseWrongRegion:
		if s := d.facts.networks[e.Network]; e.Region != "" && s != nil && s.regions[e.Region] {
			return "calls of the network succeed in region " + e.Region
		}
	case c == event.CauseSecureModeOff:
		return d.againstSecureMode(e)
	case c >= event.CauseCertMissing && c <= event.CauseCertUnknownCA:
		return d.againstCertificate(e, c)
	case c == event.CauseSessionExpired || c == event.CauseSessionRevoked || c == event.CauseSessionDisplaced:
		return d.againstSession(e, c, cause)
	}
	return d.againstToken(e, c)
}

func (d *diagnoser) againstKey(e *event.Event, c event.Cause) string {
	if e.KeyID == "" {
		return ""
	}
	k := d.keys.get(e.Network, e.KeyID)
	switch {
	case c == event.CauseUnknownKey && k != nil:
		return fmt.Sprintf("the key is registered: %s", k.State)
	case c == event.CauseUnknownKey && d.hosts.usedBefore(e.Network, e.KeyID):
		return "tokens were minted with the key before"
	case c == event.CauseUnknownKey:
		return ""
	case k != nil && (k.State == KeyActive || k.State == KeyCreated) && !d.facts.superseded(e.Network, e.KeyID, e.TS):
		return fmt.Sprintf("the registry has the key as %s", k.State)
	case k == nil && !d.hosts.usedBefore(e.Network, e.KeyID):
		return "the key was never seen in use, and nobody told of it"
	}
	h := d.hosts.ours(e)
	switch {
	case c == event.CauseRetiredKeyStraggler && h == nil:
		return d.tellHost(event.GroundHostUnknown, e)
	case c == event.CauseRetiredKeyForeign && h != nil && d.hosts.live(h, e.TS):
		return d.tellHost(event.GroundHostLive, e)
	case c == event.CauseRetiredKeyForeign && h != nil && h.stopped == 0:
		return d.tellHost(event.GroundHostKnown, e)
	case c == event.CauseRetiredKeyStraggler && h.stopped != 0:
		return d.tellHost(event.GroundHostStopped, e)
	}
	return ""
}

func (d *diagnoser) againstSecureMode(e *event.Event) string {
	s := d.facts.networks[e.Network]
	switch {
	case e.Status != 403:
		return fmt.Sprintf("the platform answers 403 then, and it answered %d", e.Status)
	case s != nil && s.secureSince != 0 && !s.secureOff:
		return "Secure Mode was turned on at " + s.secureSince.String()
	case s != nil && s.single != 0 && e.TS.Sub(s.single) < singleWithin:
		return "another mint of the network succeeded at " + s.single.String()
	}
	return ""
}

func (d *diagnoser) againstToken(e *event.Event, c event.Cause) string {
	m, minted := d.mints.get(e.Network, e.TokenID)
	switch c {
	case event.CauseClockSkew:
		return d.againstSkew(e, &m, minted)
	case event.CauseExpiredAuthToken:
		if _, to := d.life(&m); minted && e.TS < to {
			return "by the date of its mint the token lives until " + to.String()
		}
	case event.CauseInvalidToken:
		if minted && (e.UserID == "" || m.User == d.mints.user(e.Network, e.UserID)) {
			return "the token was minted at " + m.TS.String() + " for this user"
		}
	case event.CauseMissingAuthToken:
		if e.TokenID != "" {
			return "the call presented token " + e.TokenID
		}
	case event.CauseUserBanned:
		if atSessions(e) && e.Status != 401 && e.Status != 0 {
			return fmt.Sprintf("the platform answers 401 to a banned user, and it answered %d", e.Status)
		}
	}
	return ""
}

func (d *diagnoser) againstSkew(e *event.Event, m *mint, minted bool) string {
	host := d.minter(e, m)
	switch {
	case !minted && d.unminted(e):
		return "no host of ours minted the token"
	case host == "":
		return ""
	}
	est, ok := d.estimate(e.Network, host)
	if !ok {
		return ""
	}
	text := fmt.Sprintf("the clock of host %s is %s", host, figure(est))
	switch _, to := d.life(m); {
	case est.Offset.Abs()-est.Error <= d.cfg.TokenLeeway:
		return text + ", within the leeway of " + seconds(d.cfg.TokenLeeway)
	case minted && est.Offset < 0 && e.TS > to.Add(-est.Offset+est.Error):
		return text + ", and by a right clock the token was too old as well"
	case est.SlowOrDelayed:
		return text + ": that may be delay alone"
	}
	return ""
}

func (d *diagnoser) againstSession(e *event.Event, c, cause event.Cause) string {
	s := d.sessions.find(e)
	end := d.sessions.ended(e)
	switch {
	case c == event.CauseSessionExpired && s != nil && e.TS.Sub(s.at) < d.cfg.SessionLife:
		return d.tellSession(event.GroundSessionYoung, e)
	case c == event.CauseSessionExpired:
		return ""
	case end.cause == event.CauseNone && c == event.CauseSessionRevoked && cause != event.CauseSessionRevoked:
		return "no revocation of the session or of its user is known"
	case end.cause == event.CauseNone && c == event.CauseSessionDisplaced:
		return "no other user is known to have opened a session on the device"
	case end.cause != event.CauseNone && end.cause != c && cause == end.cause:
		return "what ended it first came at " + end.at.String()
	}
	return ""
}

func (d *diagnoser) againstCertificate(e *event.Event, c event.Cause) string {
	from, to := d.validity(e)
	known := d.facts.certs[keyName{e.Network, e.CertID}]
	if e.CertID == "" {
		known = nil
	}
	switch {
	case c == event.CauseCertMissing && (e.CertID != "" || e.CertCN != ""):
		return "certificate " + certOf(e) + " was presented"
	case c == event.CauseCertExpired && to != 0 && e.TS <= to:
		return "it is valid until " + to.String()
	case c == event.CauseCertNotYetValid && from != 0 && e.TS >= from:
		return "it is valid since " + from.String()
	case known == nil:
		return ""
	case c == event.CauseCertDisabled && !known.disabled:
		return "the registry has it as active"
	case c == event.CauseCertUnknownCA:
		return "the registry holds the certificate"
	case c == event.CauseCertCNMismatch && known.cn != "" && known.cn == e.CertCN:
		return fmt.Sprintf("the registry has it under the common name %q", known.cn)
	}
	return ""
}
