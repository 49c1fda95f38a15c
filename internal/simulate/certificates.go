package simulate

import (
	"time"

	"github.com/keysentry/keysentry/event"
)

// certFault is one way in which a host's client certificate is wrong.
type certFault struct {
	cause event.Cause
	// alerts are those of RFC 8446 §6.2 that servers send for it.
	alerts []string
	reason string
}

var certFaults = []certFault{
	{event.CauseCertMissing, []string{"certificate_required", "no_certificate"}, "no client certificate"},
	{event.CauseCertDisabled, []string{"certificate_revoked", "access_denied"}, "certificate is disabled"},
	{event.CauseCertExpired, []string{"certificate_expired", "bad_certificate"}, ""},
	{event.CauseCertNotYetValid, []string{"bad_certificate", "certificate_expired"}, ""},
	{event.CauseCertCNMismatch, []string{"access_denied", "unrecognized_name", "bad_certificate"}, ""},
	{event.CauseCertUnknownCA, []string{"unknown_ca", "certificate_unknown"}, ""},
}

// badCertificate has one host's handshakes fail, until somebody installs the
// right certificate.
func (g *generator) badCertificate(f certFault) {
	h := g.someHost(func(h *host) bool { return h.cert != nil })
	if h == nil {
		return
	}
	c := *h.cert
	c.id = g.fingerprint("certificate " + g.now.String())
	switch f.cause {
	case event.CauseCertExpired:
		c.from, c.to = g.now.Add(-366*day), g.now.Add(-time.Hour)
	case event.CauseCertNotYetValid:
		c.from, c.to = g.now.Add(26*time.Hour), g.now.Add(366*day)
	case event.CauseCertCNMismatch:
		c.cn = "staging." + c.cn
	case event.CauseCertDisabled:
		g.certificate(event.TypeCertificateActivated, c)
		g.after(time.Second, func() { g.certificate(event.TypeCertificateDisabled, c) })
	}
	name, alert := h.name, f.alerts[g.rng.IntN(len(f.alerts))]
	g.after(time.Minute, func() {
		g.repeat(25+g.rng.IntN(30), func() time.Duration { return g.between(10*time.Second, 40*time.Second) }, func() {
			if h.up && h.name == name {
				g.handshake(h, c, f, alert)
			}
		})
	})
}

// certificate is what an administrator does to one in the console.
func (g *generator) certificate(t event.Type, c cert) {
	s := g.consoleEvent(t, adminName(0), officeAddr(0))
	e := &s.ev
	e.SetString(event.FieldCertID, c.id)
	e.SetString(event.FieldCertCN, c.cn)
	e.SetInstant(event.FieldCertNotBefore, milliseconds(c.from))
	e.SetInstant(event.FieldCertNotAfter, milliseconds(c.to))
	g.ship(nil, s)
}

// handshake is one that failed, as the host tells.
func (g *generator) handshake(h *host, c cert, f certFault, alert string) {
	s := g.told(event.TypeMTLSHandshakeFailed, event.OriginBackend, h)
	s.truth.Cause, s.truth.LookAlike = f.cause, LookAlikeCert
	e := &s.ev
	setMode(e, event.ModeSecureMtls)
	e.SetString(event.FieldTLSAlert, alert)
	if f.cause != event.CauseCertMissing {
		e.SetString(event.FieldCertID, c.id)
		e.SetString(event.FieldCertCN, c.cn)
		e.SetInstant(event.FieldCertNotBefore, milliseconds(c.from))
		e.SetInstant(event.FieldCertNotAfter, milliseconds(c.to))
	}
	if f.reason != "" && g.rng.IntN(2) == 0 {
		e.SetString(event.FieldReason, f.reason)
	}
	e.SetString(event.FieldEndpoint, mintPath)
	setSource(e, h.addr)
	g.ship(h, s)
}
