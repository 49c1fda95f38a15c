package detect

import (
	"time"

	"github.com/keysentry/keysentry/event"
)

// session reads the status of POST /sessions, where 401 means that the user is
// banned and 403 that the auth token is not accepted.
func (d *diagnoser) session(e *event.Event) verdict {
	m, minted := d.mints.get(e.Network, e.TokenID)
	if e.Status == 401 && e.Endpoint != "" && (e.ExpiresAt == 0 || e.TS <= e.ExpiresAt) {
		return say(event.CauseUserBanned, byText, event.GroundStatus)
	}
	if e.ExpiresAt != 0 && e.TS > e.ExpiresAt {
		return d.expired(e, say(event.CauseExpiredAuthToken, byDates, event.GroundTokenDates))
	}
	if e.IssuedAt != 0 && e.IssuedAt.Sub(e.TS) > d.cfg.TokenLeeway {
		return d.early(e, say(event.CauseInvalidToken, byStatus, event.GroundTokenDates))
	}
	switch {
	case e.Status != 403 && e.Status != 401:
		return say(event.CauseUnknown, byGuess)
	case e.Status == 401 && e.Endpoint == "":
		return say(event.CauseUnknown, byGuess)
	case e.TokenID == "":
		return d.tokenless(e)
	case minted:
		return d.remembered(e, &m)
	}
	if d.elsewhere(e) {
		return say(event.CauseWrongRegion, byStatus, event.GroundRegionUnused)
	}
	return d.invalid(e, say(event.CauseInvalidToken, byStatus, event.GroundStatus))
}

// tokenless reads a 403 at /sessions without a token: it is missing, if the network
// asks for one and its observer would have named it.
func (d *diagnoser) tokenless(e *event.Event) verdict {
	s := d.facts.networks[e.Network]
	_, mints := d.mints.reaches(e.Network)
	switch {
	case e.Has(event.FieldAuthMode) && e.Mode == event.ModeUnsecure:
		return say(event.CauseUnknown, byGuess)
	case s != nil && s.tokens[e.Origin&7]:
		return say(event.CauseMissingAuthToken, byText, event.GroundStatus, event.GroundTokenAbsent)
	case e.Has(event.FieldAuthMode) || mints || s != nil && s.secureSince != 0 && !s.secureOff:
		return say(event.CauseMissingAuthToken, byStatus, event.GroundStatus, event.GroundTokenAbsent)
	}
	return say(event.CauseUnknown, byGuess)
}

// remembered says why a token was refused whose minting is remembered: by its
// dates, else because it was not for this user.
func (d *diagnoser) remembered(e *event.Event, m *mint) verdict {
	_, to := d.life(m)
	switch {
	case e.TS.Sub(to) > -dateSlack:
		return d.expired(e, say(event.CauseExpiredAuthToken, byDates, event.GroundTokenDates, event.GroundMintKnown))
	case m.Issued.Sub(e.TS) > d.cfg.TokenLeeway-dateSlack:
		return d.early(e, say(event.CauseInvalidToken, byStatus, event.GroundTokenDates, event.GroundMintKnown))
	case e.UserID != "" && m.User != 0 && m.User != d.mints.user(e.Network, e.UserID):
		return say(event.CauseInvalidToken, byText, event.GroundMintKnown, event.GroundMintOtherUser)
	case d.elsewhere(e):
		return say(event.CauseWrongRegion, byStatus, event.GroundRegionUnused)
	}
	return say(event.CauseInvalidToken, byStatus, event.GroundStatus, event.GroundMintKnown)
}

// dateSlack is how far the time of a refusal may be off: what it took from the
// platform to the observer, and the margin of clocks.
const dateSlack = 5 * time.Second

// life is when a token begins and ends, by its own dates.
func (d *diagnoser) life(m *mint) (from, to event.Instant) {
	if m.Expires != 0 {
		return m.Issued, m.Expires
	}
	return m.Issued, m.Issued.Add(d.cfg.TokenLife)
}

// invalid is a token that the platform does not accept. One that was never minted
// here is forged, or it comes from elsewhere.
func (d *diagnoser) invalid(e *event.Event, v verdict) verdict {
	if e.TokenID == "" {
		return v
	}
	m, minted := d.mints.get(e.Network, e.TokenID)
	switch {
	case minted && e.UserID != "" && m.User != 0 && m.User != d.mints.user(e.Network, e.UserID):
		return v.and(event.GroundMintKnown, event.GroundMintOtherUser)
	case minted:
		return v.and(event.GroundMintKnown)
	case d.unminted(e):
		v.confidence = max(v.confidence, byText)
		return v.and(event.GroundMintUnknown)
	}
	return v
}

// unminted reports whether a mint of the token would be remembered, and none is.
func (d *diagnoser) unminted(e *event.Event) bool {
	since, ok := d.mints.reaches(e.Network)
	if !ok || e.TokenID == "" || e.TS.Sub(since) < d.cfg.TokenLife+d.cfg.TokenLeeway {
		return false
	}
	_, minted := d.mints.get(e.Network, e.TokenID)
	return !minted
}

// minter is the host whose clock dated the token: the one that minted it, else the
// one that the record names, if it is one that mints: a gateway names itself.
func (d *diagnoser) minter(e *event.Event, m *mint) string {
	switch {
	case m.Host != "":
		return m.Host
	case m.TS != 0:
		return "" // somebody saw the mint, but no backend told of it
	}
	if h := d.hosts.hosts[hostName{e.Network, e.Host}]; h == nil || h.firstMint == 0 {
		return ""
	}
	return e.Host
}

// expired tells a token that was used too late from one that a slow clock made
// expire early.
func (d *diagnoser) expired(e *event.Event, v verdict) verdict {
	m, minted := d.mints.get(e.Network, e.TokenID)
	if minted {
		v = v.and(event.GroundMintKnown)
	}
	host := d.minter(e, &m)
	if host == "" {
		return v
	}
	off, margin, ok := d.clocks.Offset(e.Network, host)
	if ok && -off-margin > d.cfg.TokenLeeway {
		_, to := d.life(&m)
		if minted && e.TS > to.Add(-off+margin) {
			return v // too late by a right clock too
		}
		return say(event.CauseClockSkew, byRegistry, event.GroundClockOffset).with(v.grounds)
	}
	if minted && d.delayedOrSlow(e, &m, host) {
		return say(event.CauseClockSkew, byStatus, event.GroundClockOffset).with(v.grounds)
	}
	return v
}

// delayedOrSlow reports whether a token of a host whose records come late, or whose
// clock is slow, was refused sooner after its mint was observed than the records
// could be late, and within its life. Were they late, its user would have waited
// that long, and would have come just when the record did: so it is the clock.
func (d *diagnoser) delayedOrSlow(e *event.Event, m *mint, host string) bool {
	known, ok := d.clocks.(Estimates)
	if !ok {
		return false
	}
	est, ok := known.Estimate(e.Network, host)
	if !ok || !est.SlowOrDelayed || -est.Offset-est.Error <= d.cfg.TokenLeeway {
		return false
	}
	after := e.ObservedAt.Sub(m.Observed)
	return after >= 0 && after < d.cfg.TokenLife/2 && after < -est.Offset/2
}

// early is a token from the future: a fast clock made it, or it is forged. The
// host's own records prove a fast clock before it can be estimated.
func (d *diagnoser) early(e *event.Event, v verdict) verdict {
	v = verdict{event.CauseInvalidToken, byStatus, v.grounds}
	m, minted := d.mints.get(e.Network, e.TokenID)
	host := d.minter(e, &m)
	switch {
	case minted:
		v = v.and(event.GroundMintKnown)
	case d.unminted(e):
		v.confidence = byText
		return v.and(event.GroundMintUnknown) // no clock of ours made it
	}
	if host == "" {
		return v
	}
	if minted && m.Issued.Sub(m.Observed) > d.cfg.TokenLeeway || d.hosts.ahead(e.Network, host) > d.cfg.TokenLeeway {
		return say(event.CauseClockSkew, byDates, event.GroundClockAhead).with(v.grounds)
	}
	if off, margin, ok := d.clocks.Offset(e.Network, host); ok && off-margin > d.cfg.TokenLeeway {
		return say(event.CauseClockSkew, byRegistry, event.GroundClockOffset).with(v.grounds)
	}
	return v.and(event.GroundClockRight)
}

// request reads the refusal of an ordinary call, which presents an access token.
func (d *diagnoser) request(e *event.Event) verdict {
	if v, ok := d.endedSession(e); ok {
		return v
	}
	switch {
	case e.ExpiresAt != 0 && e.TS > e.ExpiresAt:
		return say(event.CauseSessionExpired, byDates, event.GroundTokenDates)
	case d.elsewhere(e):
		return say(event.CauseWrongRegion, byText, event.GroundRegionUnused)
	case d.sessions.isBanned(e):
		return say(event.CauseUserBanned, byText, event.GroundUserBanned)
	case e.Status != 401 && e.Status != 403:
		return say(event.CauseUnknown, byGuess)
	case e.Status == 401 && e.KeyID != "" && e.SessionID == "" && e.TokenID == "":
		return d.key(e)
	case e.SessionID != "" && e.Status == 401:
		return d.access(e)
	case e.TokenID != "":
		return d.invalid(e, say(event.CauseInvalidToken, byStatus, event.GroundStatus))
	}
	return say(event.CauseUnknown, byGuess)
}

// endedSession says what ended the session of a call, if something did.
func (d *diagnoser) endedSession(e *event.Event) (v verdict, ok bool) {
	if e.Status != 401 && e.Status != 403 && e.Status != 0 {
		return v, false
	}
	end := d.sessions.ended(e)
	switch {
	case end.cause == event.CauseNone || end.at.Sub(e.TS) > dateSlack:
		return v, false
	case end.cause == event.CauseSessionDisplaced:
		return say(end.cause, byRegistry, event.GroundDeviceTaken), true
	case end.user:
		return say(end.cause, byRegistry, event.GroundUserRevoked), true
	}
	return say(end.cause, byRegistry, event.GroundSessionRevoked), true
}

// access says why an access token is refused of which nothing tells that it ended:
// it is too old, or it never was one.
func (d *diagnoser) access(e *event.Event) verdict {
	s := d.sessions.find(e)
	since, ok := d.sessions.reaches(e.Network)
	switch {
	case s != nil && (s.expires != 0 && e.TS > s.expires.Add(-dateSlack) || s.expires == 0 && e.TS.Sub(s.at) > d.cfg.SessionLife-dateSlack):
		return say(event.CauseSessionExpired, byDates, event.GroundStatus, event.GroundSessionAge)
	case s != nil:
		// Something out of our sight ended it early.
		return say(event.CauseSessionRevoked, byGuess, event.GroundStatus, event.GroundSessionYoung)
	case ok && e.TS.Sub(since) > d.cfg.SessionLife:
		return say(event.CauseInvalidToken, byText, event.GroundStatus, event.GroundSessionUnknown)
	}
	return say(event.CauseSessionExpired, byStatus, event.GroundStatus, event.GroundSessionUnknown)
}
