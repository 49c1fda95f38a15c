package check

import (
	"context"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/posture"
)

// leads are the stages of a certificate's remaining life, the most urgent first.
// A lead below (or at, where so said) the limit is in the stage.
var leads = []struct {
	limit    time.Duration
	at       bool
	status   posture.Status
	severity finding.Severity
	stage    string
	summary  string
}{
	{0, true, posture.Fail, finding.Page, "expired", "%s has expired."},
	{1 * day, true, posture.Fail, finding.Page, "1", "%s expires within a day."},
	{7 * day, true, posture.Fail, finding.Page, "7", "%s expires within a week."},
	{30 * day, false, posture.Fail, finding.Ticket, "30", "%s expires in less than 30 days."},
	{45 * day, true, posture.Warn, finding.Ticket, "45", "%s is due for renewal."},
}

// CertificateLead judges how long every client certificate that is not disabled
// will last: those that events told of, and those in the files that are deployed.
type CertificateLead struct {
	Registry posture.Registry
	Files    []CertFile
}

// Name is certificate_lead.
func (CertificateLead) Name() string { return "certificate_lead" }

// Title names the metric.
func (CertificateLead) Title() string { return "Certificate lead" }

// Target is in words.
func (CertificateLead) Target() string { return "> 30 days" }

// Run judges every certificate.
func (c CertificateLead) Run(ctx context.Context, now time.Time) ([]posture.Result, error) {
	certs, err := c.Registry.Certificates(ctx)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	var out []posture.Result
	for _, k := range certs {
		if k.State != "disabled" && k.State != "requested" {
			out = append(out, judgeCertificate(k, now))
		}
	}
	return append(out, c.withFiles(certs, now)...), nil
}

func judgeCertificate(k posture.Certificate, now time.Time) posture.Result {
	r := posture.Result{Subject: finding.Subject{Network: k.Network, Field: "cert_id", Value: k.CertID}, Since: k.NotAfter,
		Status: posture.Pass, Facts: []finding.Pair{{Field: "cert_cn", Value: k.CN}, {Field: "cert_not_after", Value: k.NotAfter.String()}}}
	if k.NotAfter == 0 {
		r.Status, r.Severity, r.Value, r.Stage = posture.Unknown, finding.Ticket, "unknown end", "unknown"
		r.Summary = "The end of a client certificate is not known."
		r.Resolution = "Report the certificate with its dates."
		return r
	}
	judgeLead(&r, k.NotAfter.Time().Sub(now), "A client certificate", "Renew the certificate and install it on every host that presents the old one.")
	return r
}

// judgeLead puts a remaining life into its stage; what and advice are the words for
// the certificate.
func judgeLead(r *posture.Result, lead time.Duration, what, advice string) {
	r.Value = days(max(lead, 0)) + " left"
	for _, s := range leads {
		if lead < s.limit || s.at && lead == s.limit {
			r.Status, r.Severity, r.Stage, r.Summary = s.status, s.severity, s.stage, fmt.Sprintf(s.summary, what)
			r.Resolution = advice
			break
		}
	}
}
