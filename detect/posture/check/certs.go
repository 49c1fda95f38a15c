package check

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/posture"
)

// maxActive is how many certificates the platform lets be active.
const maxActive = 2

// ActiveCertificates judges how many certificates of a network are active.
type ActiveCertificates struct{ Registry posture.Registry }

// Name is active_certificates.
func (ActiveCertificates) Name() string { return "active_certificates" }

// Title names the metric.
func (ActiveCertificates) Title() string { return "Active certificates" }

// Target is in words.
func (ActiveCertificates) Target() string { return "<= 2" }

// Run judges every network that certificates are known of.
func (c ActiveCertificates) Run(ctx context.Context, now time.Time) ([]posture.Result, error) {
	certs, err := c.Registry.Certificates(ctx)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	active := map[string][]posture.Certificate{}
	for _, k := range certs {
		list := active[k.Network]
		if k.State == "active" && (k.NotAfter == 0 || k.NotAfter.Time().After(now)) {
			list = append(list, k)
		}
		active[k.Network] = list
	}
	var out []posture.Result
	for _, n := range slices.Sorted(maps.Keys(active)) {
		out = append(out, judgeActive(n, active[n]))
	}
	return out, nil
}

func judgeActive(name string, certs []posture.Certificate) posture.Result {
	r := posture.Result{Subject: network(name), Status: posture.Pass, Value: fmt.Sprint(len(certs))}
	if len(certs) <= maxActive {
		return r
	}
	slices.SortFunc(certs, func(a, b posture.Certificate) int { return cmp.Compare(a.CertID, b.CertID) })
	var ids []string
	for i, k := range certs {
		if i == 10 {
			ids = append(ids, fmt.Sprintf("and %d more", len(certs)-i))
			break
		}
		ids = append(ids, k.CertID)
	}
	// The newest identifies the episode: a further certificate is news.
	newest := slices.MaxFunc(certs, func(a, b posture.Certificate) int { return cmp.Compare(a.NotBefore, b.NotBefore) })
	r.Status, r.Severity, r.Stage, r.Since = posture.Fail, finding.Ticket, "above", newest.NotBefore
	r.Summary = "More client certificates are active than the platform has room for."
	r.Resolution = "Disable the certificates that no host presents any more."
	r.Facts = []finding.Pair{{Field: "certificates", Value: strings.Join(ids, ", ")}}
	return r
}

// DataCoverage judges whether the data that the other checks judge is all there.
type DataCoverage struct {
	Coverage posture.Coverage
	Networks []string // of the configuration
}

// Name is data_coverage.
func (DataCoverage) Name() string { return "data_coverage" }

// Title names the metric.
func (DataCoverage) Title() string { return "Coverage of the data" }

// Target is in words.
func (DataCoverage) Target() string { return "100 % of the last day" }

// Outside: the check says itself what is missing.
func (DataCoverage) Outside() bool { return true }

// Run judges every network whose hosts number their events, and lost records.
func (c DataCoverage) Run(ctx context.Context, now time.Time) ([]posture.Result, error) {
	held, err := c.Coverage.Coverage(ctx, now)
	if err != nil {
		return nil, fmt.Errorf("measure coverage: %w", err)
	}
	measured := map[string]bool{}
	var out []posture.Result
	for _, n := range held.Networks {
		measured[n.Network] = true
		r := posture.Result{Subject: network(n.Network), Status: posture.Pass, Value: n.String()}
		switch {
		case n.Partial():
			r.Status, r.Severity, r.Stage, r.Since = posture.Fail, finding.Ticket, "partial", today(now)
			r.Summary = "A part of the events of the last day is missing, so that nothing is called clean."
			r.Resolution = "See which hosts are silent or lost events (keysentry query coverage), and mend their way to Kafka."
			r.Query = "SELECT * FROM v_coverage\nWHERE state != 'complete' AND minute >= now() - INTERVAL 1 DAY\nORDER BY minute DESC"
		case n.Expected == 0:
			r.Status = posture.Unknown
		}
		out = append(out, r)
	}
	for _, n := range c.Networks {
		if !measured[n] {
			out = append(out, posture.Result{Subject: network(n), Status: posture.Unknown, Value: "not measured",
				Summary: "No host of the network numbers its events, so that nobody can tell what is missing."})
		}
	}
	if len(held.Lost) > 0 {
		out = append(out, posture.Result{Subject: finding.Subject{Field: "records", Value: "lost"}, Status: posture.Fail, Severity: finding.Ticket,
			Stage: "lost", Since: today(now), Value: fmt.Sprintf("%d ranges of records", len(held.Lost)),
			Summary: "Records were lost before they were stored.", Resolution: "See keysentry query ingest and the table offset_gaps for which, and lengthen the topic's retention.",
			Facts: []finding.Pair{{Field: "ranges", Value: strings.Join(held.Lost[:min(len(held.Lost), 5)], ", ")}},
			Query: "SELECT * FROM offset_gaps FINAL\nWHERE reason != 'empty'\nORDER BY noted_at DESC"})
	}
	return out, nil
}
