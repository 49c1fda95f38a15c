package detect

import (
	"cmp"
	"strings"

	"github.com/keysentry/keysentry/event"
)

// alerts are the TLS alerts of RFC 8446 §6.2 that name a cause by themselves.
var alerts = map[string]verdict{
	"certificate_required":            say(event.CauseCertMissing, byCode),
	"no_certificate":                  say(event.CauseCertMissing, byCode),
	"certificate_expired":             say(event.CauseCertExpired, byCode),
	"certificate_revoked":             say(event.CauseCertDisabled, byCode),
	"unknown_ca":                      say(event.CauseCertUnknownCA, byCode),
	"access_denied":                   say(event.CauseCertDisabled, byStatus),
	"unrecognized_name":               say(event.CauseCertCNMismatch, byStatus),
	"certificate_unobtainable":        say(event.CauseCertMissing, byStatus),
	"bad_certificate":                 say(event.CauseCertUnknownCA, byGuess),
	"certificate_unknown":             say(event.CauseCertUnknownCA, byGuess),
	"unsupported_certificate":         say(event.CauseCertUnknownCA, byGuess),
	"bad_certificate_status_response": say(event.CauseCertDisabled, byStatus),
}

// certificate says what is wrong with the client certificate: first what the
// dates and the registry prove, then what the alert says.
func (d *diagnoser) certificate(e *event.Event) verdict {
	if e.CertID != "" || e.CertCN != "" {
		if v, ok := d.badCertificate(e); ok {
			return v
		}
	}
	if v, ok := alerts[alertName(e.TLSAlert)]; ok {
		return d.alerted(e, v.and(event.GroundAlert))
	}
	if v := hint(e); v.cause >= event.CauseCertMissing && v.cause <= event.CauseCertUnknownCA {
		return v
	}
	if e.CertID == "" && e.CertCN == "" {
		return say(event.CauseCertMissing, byStatus, event.GroundCertAbsent)
	}
	if v, ok := d.unregistered(e); ok {
		return v
	}
	return say(event.CauseUnknown, byGuess)
}

// unregistered says what is wrong with a certificate that the registry does not
// hold, though it holds others of the network: one with a name that the network
// uses was signed by someone else, one with another name is another one's.
func (d *diagnoser) unregistered(e *event.Event) (v verdict, ok bool) {
	s := d.facts.networks[e.Network]
	if e.CertID == "" || s == nil || s.certs == 0 || d.facts.certs[keyName{e.Network, e.CertID}] != nil {
		return v, false
	}
	if _, declared := s.names[e.CertCN]; e.CertCN != "" && !declared && len(s.names) > 0 {
		return say(event.CauseCertCNMismatch, byStatus, event.GroundCertUnknown, event.GroundCertName), true
	}
	return say(event.CauseCertUnknownCA, byText, event.GroundCertUnknown), true
}

// alerted mends what an alert says that fits several causes by what the registry
// knows.
func (d *diagnoser) alerted(e *event.Event, v verdict) verdict {
	c := d.facts.certs[keyName{e.Network, e.CertID}]
	switch {
	case v.confidence > byStatus:
		return v
	case e.CertID == "" && e.CertCN == "" && v.cause == event.CauseCertUnknownCA:
		return say(event.CauseCertMissing, byStatus, event.GroundAlert, event.GroundCertAbsent)
	case c != nil && c.toggled != 0 && v.cause != event.CauseCertMissing:
		// The platform knows it and it is active, so its dates and its signature are
		// good: what is left is whose it is.
		return say(event.CauseCertCNMismatch, byStatus, event.GroundAlert)
	}
	u, ok := d.unregistered(e)
	if !ok || v.cause == event.CauseCertDisabled && u.cause == event.CauseCertUnknownCA {
		// RFC 8446 §6.2: access is denied to a certificate that was valid.
		return v
	}
	return u.and(event.GroundAlert)
}

// alertName is an alert as RFC 8446 spells it.
func alertName(alert string) string {
	return strings.TrimPrefix(strings.ReplaceAll(strings.ToLower(alert), " ", "_"), "tls_")
}

// badCertificate says what the registry, the dates and the names prove about the
// client certificate; ok is false when they prove nothing.
func (d *diagnoser) badCertificate(e *event.Event) (v verdict, ok bool) {
	if e.CertID == "" && e.CertCN == "" {
		if e.Mode == event.ModeSecureMtls {
			return say(event.CauseCertMissing, byText, event.GroundCertAbsent), true
		}
		return v, false
	}
	var c certificate
	if known := d.facts.certs[keyName{e.Network, e.CertID}]; known != nil && e.CertID != "" {
		c = *known
	}
	from, to := d.validity(e)
	switch {
	case to != 0 && e.TS > to:
		return say(event.CauseCertExpired, byDates, event.GroundCertDates), true
	case from != 0 && e.TS < from:
		return say(event.CauseCertNotYetValid, byDates, event.GroundCertDates), true
	case c.disabled:
		return say(event.CauseCertDisabled, byRegistry, event.GroundCertDisabled), true
	case d.misnamed(e, &c):
		return say(event.CauseCertCNMismatch, byRegistry, event.GroundCertName), true
	}
	return v, false
}

// validity is when the certificate of e begins and ends: what the record says, else
// the registry; zero when neither does.
func (d *diagnoser) validity(e *event.Event) (from, to event.Instant) {
	from, to = e.CertNotBefore, e.CertNotAfter
	if c := d.facts.certs[keyName{e.Network, e.CertID}]; c != nil && e.CertID != "" {
		from, to = cmp.Or(from, c.notBefore), cmp.Or(to, c.notAfter)
	}
	return from, to
}

// misnamed reports whether the certificate is another one's: its name is not what
// the registry says, or it belongs to another service.
func (d *diagnoser) misnamed(e *event.Event, c *certificate) bool {
	if c.cn != "" && e.CertCN != "" && c.cn != e.CertCN {
		return true
	}
	service := d.caller(e)
	if c.service != "" || service == "" {
		return service != "" && c.service != service
	}
	s := d.facts.networks[e.Network]
	if s == nil || c.cn != "" {
		return false
	}
	owner := s.names[e.CertCN]
	return owner != "" && owner != service
}

// caller is the service that made the call: a backend speaks for itself, for others
// the source tells; empty when it is not known.
func (d *diagnoser) caller(e *event.Event) string {
	if e.Origin == event.OriginBackend {
		return e.Service
	}
	if h := d.hosts.ours(e); h != nil {
		return h.service
	}
	return ""
}
