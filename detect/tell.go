package detect

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/event"
)

// tell words a ground of e's cause with the values that the registries have; empty
// when they have none any more.
func (d *diagnoser) tell(g event.Ground, e *event.Event) string {
	switch {
	case g <= event.GroundAlert:
		return tellAnswer(g, e)
	case g <= event.GroundLearning:
		return d.tellKey(g, e)
	case g <= event.GroundSourceForeign:
		return d.tellHost(g, e)
	case g <= event.GroundMintsRefused:
		return d.tellNetwork(g, e)
	case g <= event.GroundCertAbsent:
		return d.tellCertificate(g, e)
	case g <= event.GroundMintOtherUser:
		return d.tellToken(g, e)
	case g <= event.GroundClockRight:
		return d.tellClock(e)
	}
	return d.tellSession(g, e)
}

func tellAnswer(g event.Ground, e *event.Event) string {
	switch g {
	case event.GroundCode:
		return fmt.Sprintf("the answer's code is %q", e.Code)
	case event.GroundReason:
		return fmt.Sprintf("the answer says %q", e.Reason)
	case event.GroundAlert:
		return fmt.Sprintf("the handshake ended with the alert %q", e.TLSAlert)
	}
	where := e.Endpoint
	if where == "" {
		where = "this call"
	}
	return fmt.Sprintf("status %d at %s", e.Status, where)
}

func (d *diagnoser) tellKey(g event.Ground, e *event.Event) string {
	k := d.keys.get(e.Network, e.KeyID)
	u := d.facts.used[keyName{e.Network, e.KeyID}]
	switch {
	case g == event.GroundKeyRevoked && k != nil:
		return fmt.Sprintf("key %s was revoked at %s (told by %s)", e.KeyID, k.Revoked, k.Source)
	case g == event.GroundKeyRetired && k != nil:
		return fmt.Sprintf("key %s was retired at %s, when its successor was activated (told by %s)", e.KeyID, k.Retired, k.Source)
	case g == event.GroundKeyActive && k != nil:
		return fmt.Sprintf("the registry has key %s as %s", e.KeyID, k.State)
	case g == event.GroundKeySuperseded && u != nil:
		return fmt.Sprintf("the last token was minted with key %s at %s; since then hosts mint with a key that came into use later", e.KeyID, u.last)
	case g == event.GroundKeyUsedBefore && u != nil:
		return fmt.Sprintf("tokens were minted with key %s from %s to %s, and no lifecycle event told of it", e.KeyID, u.first, u.last)
	case g == event.GroundKeyUnknown:
		return fmt.Sprintf("key %s is none of the %d that are registered for network %s", e.KeyID, d.keys.known[e.Network], e.Network)
	case g == event.GroundLearning:
		return fmt.Sprintf("no key of network %s is registered, so that an unknown one says little", e.Network)
	}
	return ""
}

func (d *diagnoser) tellHost(g event.Ground, e *event.Event) string {
	h := d.hosts.ours(e)
	switch {
	case g == event.GroundHostUnknown && e.Host != "":
		return fmt.Sprintf("host %s is not known to mint from %s", e.Host, sourceOf(e))
	case g == event.GroundHostUnknown:
		return "no host of ours mints from " + sourceOf(e)
	case g == event.GroundSourceForeign:
		return sourceOf(e) + " is no address that hosts of ours mint from"
	case h == nil:
		return ""
	case g == event.GroundHostLive:
		return fmt.Sprintf("host %s is in the inventory: it minted from %s to %s", h.name, h.firstMint, h.lastMint)
	case g == event.GroundHostKnown:
		return fmt.Sprintf("host %s minted from %s to %s, too short or too long ago for the inventory", h.name, h.firstMint, h.lastMint)
	case g == event.GroundHostStopped:
		return fmt.Sprintf("host %s said at %s that it stopped", h.name, h.stopped)
	}
	return fmt.Sprintf("%s is an address of the fleet: host %s mints from there", sourceOf(e), h.name)
}

func sourceOf(e *event.Event) string {
	if !e.SourceIP.IsValid() {
		return "an unknown address"
	}
	return e.SourceIP.Unmap().String()
}

func (d *diagnoser) tellNetwork(g event.Ground, e *event.Event) string {
	s := d.facts.networks[e.Network]
	switch {
	case s == nil:
		return ""
	case g == event.GroundRegionUnused:
		return fmt.Sprintf("calls of network %s succeed in %s, none in %s", e.Network, strings.Join(d.regions(e.Network), ", "), e.Region)
	case g == event.GroundSecureModeOff && s.secureSince != 0:
		return fmt.Sprintf("Secure Mode of network %s was turned off at %s", e.Network, s.secureSince)
	case g == event.GroundMintsRefused && s.forbidden != 0:
		return fmt.Sprintf("mints of network %s are refused with 403 since %s, and none has succeeded since", e.Network, s.forbidden)
	}
	return ""
}

// regions lists the regions of a network.
func (d *diagnoser) regions(network string) []string {
	var out []string
	if s := d.facts.networks[network]; s != nil {
		for r := range s.regions {
			out = append(out, r)
		}
	}
	slices.Sort(out)
	return out
}

func (d *diagnoser) tellCertificate(g event.Ground, e *event.Event) string {
	from, to := d.validity(e)
	switch g {
	case event.GroundCertDates:
		return fmt.Sprintf("certificate %s is valid from %s to %s, and the call came at %s", certOf(e), from, to, e.TS)
	case event.GroundCertDisabled:
		if c := d.facts.certs[keyName{e.Network, e.CertID}]; c != nil && c.toggled != 0 {
			return fmt.Sprintf("certificate %s was disabled at %s", certOf(e), c.toggled)
		}
		return fmt.Sprintf("certificate %s is declared as disabled", certOf(e))
	case event.GroundCertName:
		return d.tellName(e)
	case event.GroundCertUnknown:
		return fmt.Sprintf("certificate %s is not registered for network %s; %d others are", certOf(e), e.Network, d.facts.network(e.Network).certs)
	}
	return ""
}

func (d *diagnoser) tellName(e *event.Event) string {
	c := d.facts.certs[keyName{e.Network, e.CertID}]
	if c == nil {
		return fmt.Sprintf("the common name %q is none of network %s for service %s", e.CertCN, e.Network, d.caller(e))
	}
	text := fmt.Sprintf("certificate %s was issued for the common name %q", certOf(e), c.cn)
	if c.service != "" {
		text += " of service " + c.service
	}
	if e.CertCN != "" && e.CertCN != c.cn {
		return text + fmt.Sprintf(", and %q was presented", e.CertCN)
	}
	if s := d.caller(e); s != "" {
		return text + ", and service " + s + " presented it"
	}
	return text
}

// certOf names the certificate of e.
func certOf(e *event.Event) string {
	if e.CertID == "" {
		return fmt.Sprintf("%q", e.CertCN)
	}
	return e.CertID
}

func (d *diagnoser) tellToken(g event.Ground, e *event.Event) string {
	m, minted := d.mints.get(e.Network, e.TokenID)
	switch {
	case g == event.GroundMintUnknown:
		since, _ := d.mints.reaches(e.Network)
		return fmt.Sprintf("all mints of network %s since %s are remembered, and none is of token %s", e.Network, since, e.TokenID)
	case g == event.GroundTokenDates && e.ExpiresAt != 0:
		return fmt.Sprintf("the record dates the token from %s to %s, and the call came at %s", e.IssuedAt, e.ExpiresAt, e.TS)
	case !minted:
		return ""
	case g == event.GroundTokenDates:
		from, to := d.life(&m)
		return fmt.Sprintf("by its mint the token is valid from %s to %s, and the call came at %s", from, to, e.TS)
	case g == event.GroundMintKnown && m.Host != "":
		return fmt.Sprintf("host %s minted the token at %s", m.Host, m.TS)
	case g == event.GroundMintKnown:
		return fmt.Sprintf("the token was minted at %s", m.TS)
	}
	return ""
}

func (d *diagnoser) tellClock(e *event.Event) string {
	m, minted := d.mints.get(e.Network, e.TokenID)
	host := d.minter(e, &m)
	est, ok := d.estimate(e.Network, host)
	leeway := fmt.Sprintf("; the platform tolerates %s", seconds(d.cfg.TokenLeeway))
	switch {
	case minted && m.Issued.Sub(m.Observed) > d.cfg.TokenLeeway:
		return fmt.Sprintf("host %s dated the token %s ahead of when Kafka had its record%s", host, seconds(m.Issued.Sub(m.Observed)), leeway)
	case ok:
		return fmt.Sprintf("the clock of host %s is %s%s", host, figure(est), leeway)
	}
	if ahead := d.hosts.ahead(e.Network, host); ahead != 0 {
		return fmt.Sprintf("the last record of host %s is dated %s ahead of when Kafka had it%s", host, seconds(ahead), leeway)
	}
	return ""
}

// estimate is what is known of a host's clock.
func (d *diagnoser) estimate(network, host string) (offset.Estimate, bool) {
	if host == "" {
		return offset.Estimate{}, false
	}
	if c, ok := d.clocks.(Estimates); ok {
		return c.Estimate(network, host)
	}
	off, margin, ok := d.clocks.Offset(network, host)
	return offset.Estimate{Offset: off, Error: margin, Confident: ok}, ok
}

func (d *diagnoser) tellSession(g event.Ground, e *event.Event) string {
	s := d.sessions.find(e)
	since, _ := d.sessions.reaches(e.Network)
	switch {
	case g == event.GroundSessionUnknown && since != 0:
		return fmt.Sprintf("sessions that were opened since %s are remembered, and this is none of them", since)
	case g == event.GroundUserRevoked || g == event.GroundSessionRevoked || g == event.GroundDeviceTaken:
		end := d.sessions.ended(e)
		if end.at == 0 {
			return ""
		}
		what := map[event.Ground]string{event.GroundUserRevoked: "all sessions of the user were revoked", event.GroundSessionRevoked: "the session was revoked",
			event.GroundDeviceTaken: "another user opened a session on the device"}[g]
		return what + " at " + end.at.String()
	case s == nil:
		return ""
	case g == event.GroundSessionAge || g == event.GroundSessionYoung:
		return fmt.Sprintf("the session was opened at %s, and an access token lives %s", s.at, d.cfg.SessionLife)
	}
	return ""
}
