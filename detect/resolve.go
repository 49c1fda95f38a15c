package detect

import (
	"fmt"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/event"
)

// resolve says what a person should do about a cause, with the values that the
// registries have, and these values by name.
func (d *diagnoser) resolve(e *event.Event, cause event.Cause) (text string, facts []finding.Pair) {
	add := func(name, value string) {
		if value != "" {
			facts = append(facts, finding.Pair{Field: name, Value: value})
		}
	}
	general := resolutions[cause]
	switch {
	case cause == event.CauseRetiredKeyStraggler:
		current := d.keys.live(e.Network)
		add("host", e.Host)
		add("key_id", e.KeyID)
		add("current_key", current)
		return redeploy(e.Host, current, general), facts
	case cause == event.CauseRetiredKeyForeign || cause == event.CauseUnknownKey:
		add("key_id", e.KeyID)
		if e.SourceIP.IsValid() {
			add("source_ip", sourceOf(e))
		}
		add("host", e.Host)
		add("current_key", d.keys.live(e.Network))
		return general, facts
	case cause == event.CauseClockSkew:
		m, _ := d.mints.get(e.Network, e.TokenID)
		return d.syncClock(e.Network, d.minter(e, &m), general)
	case cause == event.CauseExpiredAuthToken:
		if m, ok := d.mints.get(e.Network, e.TokenID); ok {
			add("minted_at", m.TS.String())
			add("token_age", seconds(e.TS.Sub(m.TS)))
		}
		return general, facts
	case cause >= event.CauseCertMissing && cause <= event.CauseCertUnknownCA:
		return d.mendCertificate(e, cause)
	case cause == event.CauseWrongRegion:
		add("region", e.Region)
		for _, r := range d.regions(e.Network) {
			add("network_region", r)
		}
		return general, facts
	case cause == event.CauseSessionRevoked || cause == event.CauseSessionDisplaced:
		if end := d.sessions.ended(e); end.at != 0 {
			add("ended_at", end.at.String())
		}
		return general, facts
	}
	return general, facts
}

func redeploy(host, current, general string) string {
	switch {
	case host == "":
		return general
	case current == "":
		return fmt.Sprintf("Redeploy host %s with the current key.", host)
	}
	return fmt.Sprintf("Redeploy host %s with the current key %s.", host, current)
}

// syncClock says what to do about a host's clock.
func (d *diagnoser) syncClock(network, host, general string) (text string, facts []finding.Pair) {
	if host == "" {
		return general, nil
	}
	facts = append(facts, finding.Pair{Field: "host", Value: host})
	est, ok := d.estimate(network, host)
	if !ok {
		ahead := d.hosts.ahead(network, host)
		if ahead <= d.cfg.TokenLeeway {
			return general, facts
		}
		facts = append(facts, finding.Pair{Field: "clock_offset", Value: "at least " + signed(ahead)})
		return fmt.Sprintf("Sync NTP on host %s: it is at least %s fast. Its tokens are refused until then.", host, seconds(ahead)), facts
	}
	facts = append(facts, clockFacts(est)...)
	if est.SlowOrDelayed {
		return fmt.Sprintf("Look at NTP on host %s: it is %s. If its clock is right, its records come late.", host, figure(est)), facts
	}
	return fmt.Sprintf("Sync NTP on host %s: it is %s. Its tokens are refused until then.", host, figure(est)), facts
}

// clockFacts are the values of an estimate by name.
func clockFacts(est offset.Estimate) []finding.Pair {
	return []finding.Pair{
		{Field: "clock_offset", Value: fmt.Sprintf("%+.1f s +- %.1f s", est.Offset.Seconds(), est.Error.Seconds())},
		{Field: "clock_drift", Value: fmt.Sprintf("%+.2f s/h", est.Slope)},
	}
}

// mendCertificate says what to do about a client certificate.
func (d *diagnoser) mendCertificate(e *event.Event, cause event.Cause) (text string, facts []finding.Pair) {
	add := func(name, value string) {
		if value != "" && value != "-" {
			facts = append(facts, finding.Pair{Field: name, Value: value})
		}
	}
	from, to := d.validity(e)
	add("host", e.Host)
	add("cert_id", e.CertID)
	add("cert_cn", e.CertCN)
	add("cert_not_before", from.String())
	add("cert_not_after", to.String())
	general := resolutions[cause]
	switch {
	case cause == event.CauseCertExpired && to != 0:
		return fmt.Sprintf("Renew certificate %s, which ended at %s, and install it on every host that presents the old one.", certOf(e), to), facts
	case cause == event.CauseCertNotYetValid && from != 0:
		return fmt.Sprintf("Certificate %s begins at %s: wait, or check the clock of the named host and of the issuer.", certOf(e), from), facts
	case cause == event.CauseCertMissing && e.Host != "" && e.Origin == event.OriginBackend:
		return fmt.Sprintf("Install the client certificate on host %s and make its calls present it.", e.Host), facts
	case cause == event.CauseCertDisabled && e.Origin == event.OriginBackend && e.Host != "":
		return fmt.Sprintf("Install the active certificate on host %s: %s, which it presents, was disabled.", e.Host, certOf(e)), facts
	}
	return general, facts
}
