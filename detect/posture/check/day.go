package check

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/event"
)

// daily is what the checks over the events of the last day share.
type daily struct {
	facts posture.Facts
	// networks are those of the configuration: one that was not heard of is unknown.
	networks []string
}

// span is the day that ends at now. Events of the last minutes may still come.
func span(now time.Time) (since, until event.Instant) {
	return event.At(now.Add(-posture.CoverageSpan)), event.At(now)
}

// today keeps the finding of one day apart from that of the next.
func today(now time.Time) event.Instant { return event.At(now.UTC().Truncate(day)) }

// unheard are the networks of the configuration that nothing is known of.
func (d daily) unheard(heard map[string]bool, what string) []posture.Result {
	var out []posture.Result
	for _, n := range d.networks {
		if !heard[n] {
			out = append(out, posture.Result{Subject: network(n), Status: posture.Unknown, Value: what,
				Summary: "Nothing was heard of the network, so that nothing can be said about it."})
		}
	}
	return out
}

func network(name string) finding.Subject {
	return finding.Subject{Network: name, Field: "network", Value: name}
}

// Unauthorized judges that no server key and no client certificate was refused at
// the mint endpoint.
type Unauthorized struct{ daily }

// Name is unauthorized_attempts.
func (Unauthorized) Name() string { return "unauthorized_attempts" }

// Title names the metric.
func (Unauthorized) Title() string { return "Unauthorized attempts" }

// Target is in words.
func (Unauthorized) Target() string { return "0 a day" }

// Run judges every network that was heard of at the mint endpoint, and every cause
// and source of refusals.
func (c Unauthorized) Run(ctx context.Context, now time.Time) ([]posture.Result, error) {
	since, until := span(now)
	mints, err := c.facts.Mints(ctx, since, until)
	if err != nil {
		return nil, fmt.Errorf("read mints: %w", err)
	}
	refusals, err := c.facts.Unauthorized(ctx, since, until)
	if err != nil {
		return nil, fmt.Errorf("read refusals: %w", err)
	}
	heard, refused := map[string]bool{}, map[string]bool{}
	var out []posture.Result
	for _, r := range refusals {
		heard[r.Network], refused[r.Network] = true, true
		out = append(out, judgeRefusals(r, now))
	}
	for _, m := range mints {
		if heard[m.Network] = true; !refused[m.Network] {
			out = append(out, posture.Result{Subject: network(m.Network), Status: posture.Pass, Value: "0"})
		}
	}
	return append(out, c.unheard(heard, "no mint and no refusal")...), nil
}

func judgeRefusals(r posture.Refusals, now time.Time) posture.Result {
	subject := finding.Subject{Network: r.Network, Field: "source_ip", Value: r.SourceIP}
	if r.SourceIP == "" {
		subject.Field, subject.Value = "host", r.Host
	}
	return posture.Result{Subject: subject, Status: posture.Fail, Severity: finding.Ticket, Stage: r.Cause, Since: today(now),
		Value:      times(r.Count),
		Summary:    "A server key or a client certificate was refused at the mint endpoint.",
		Resolution: causeAdvice(r.Cause),
		Facts: []finding.Pair{{Field: "cause", Value: r.Cause}, {Field: "first", Value: r.First.Time().Format(time.RFC3339)},
			{Field: "last", Value: r.Last.Time().Format(time.RFC3339)}},
		Query: r.Query}
}

// causeAdvice is what to do about a refusal.
func causeAdvice(cause string) string {
	switch {
	case cause == "retired_key_straggler":
		return "Redeploy the host with the current server key."
	case cause == "retired_key_foreign":
		return "Somebody outside the fleet holds a retired key: find out who, and revoke the key."
	case strings.HasPrefix(cause, "cert_"):
		return "Look at the client certificate that the caller presented, and install the current one."
	}
	return "Find out who called with a key that the platform does not know; a healthy fleet makes no such call."
}

func times(n uint64) string {
	if n == 1 {
		return "1 attempt"
	}
	return fmt.Sprintf("%d attempts", n)
}

// MTLSCoverage judges that every mint carried a client certificate.
type MTLSCoverage struct{ daily }

// Name is mtls_coverage.
func (MTLSCoverage) Name() string { return "mtls_coverage" }

// Title names the metric.
func (MTLSCoverage) Title() string { return "mTLS coverage" }

// Target is in words.
func (MTLSCoverage) Target() string { return "100 % of mints" }

// Run judges every service that minted.
func (c MTLSCoverage) Run(ctx context.Context, now time.Time) ([]posture.Result, error) {
	since, until := span(now)
	rows, err := c.facts.MintCoverage(ctx, since, until)
	if err != nil {
		return nil, fmt.Errorf("read mints: %w", err)
	}
	heard := map[string]bool{}
	var out []posture.Result
	for _, m := range rows {
		heard[m.Network] = true
		if m.Mints > 0 {
			out = append(out, judgeMints(m, now))
		}
	}
	return append(out, c.unheard(heard, "no mint")...), nil
}

func judgeMints(m posture.MintCoverage, now time.Time) posture.Result {
	r := posture.Result{Subject: finding.Subject{Network: m.Network, Field: "service", Value: m.Service}, Since: today(now),
		Status: posture.Pass, Value: share(m.WithCert, m.Mints) + " of " + fmt.Sprint(m.Mints) + " mints"}
	if m.WithCert >= m.Mints {
		return r
	}
	r.Status, r.Severity, r.Stage, r.Query = posture.Fail, finding.Ticket, "below", m.Query
	r.Summary = "Tokens were minted without a client certificate."
	r.Resolution = "Install the client certificate on the hosts named, and let the platform require it."
	r.Facts = []finding.Pair{{Field: "without certificate", Value: fmt.Sprint(m.Mints - m.WithCert)}}
	hosts := strings.Join(m.Hosts, ", ")
	if n := len(m.Hosts); n > 0 && m.HostCount > uint64(n) {
		hosts += fmt.Sprintf(" and %d more", m.HostCount-uint64(n))
	}
	if hosts == "" {
		hosts = "not named by the events"
	}
	r.Facts = append(r.Facts, finding.Pair{Field: "hosts", Value: hosts})
	return r
}

// share is a percentage that is 100 only when nothing is missing, and 0 only when
// nothing is there.
func share(part, whole uint64) string {
	p := 100 * float64(part) / float64(whole)
	switch {
	case part < whole && p > 99.9:
		p = 99.9
	case part > 0 && p < 0.1:
		p = 0.1
	}
	return fmt.Sprintf("%.1f %%", p)
}

// TokenFailure judges the share of failed mints and of failed redemptions.
type TokenFailure struct{ daily }

// Name is token_failure.
func (TokenFailure) Name() string { return "token_failure" }

// Title names the metric.
func (TokenFailure) Title() string { return "Auth token failure" }

// Target is in words.
func (TokenFailure) Target() string { return "< 2 % of attempts" }

// Limits of the failure share. Below enoughAttempts a few failures make a large
// share: they are told, and nobody gets a ticket.
const (
	failureLimit   = 0.02
	enoughAttempts = 200
)

// Run judges mints and redemptions of every network apart.
func (c TokenFailure) Run(ctx context.Context, now time.Time) ([]posture.Result, error) {
	since, until := span(now)
	rows, err := c.facts.Failures(ctx, since, until)
	if err != nil {
		return nil, fmt.Errorf("read attempts: %w", err)
	}
	heard := map[string]bool{}
	var out []posture.Result
	for _, f := range rows {
		heard[f.Network] = true
		if f.Attempts > 0 {
			out = append(out, judgeFailures(f, now))
		}
	}
	return append(out, c.unheard(heard, "no attempt")...), nil
}

func judgeFailures(f posture.Failures, now time.Time) posture.Result {
	r := posture.Result{Subject: finding.Subject{Network: f.Network, Field: "stage", Value: f.Stage}, Since: today(now), Status: posture.Pass,
		Value: share(f.Failed, f.Attempts) + " of " + fmt.Sprint(f.Attempts) + " attempts"}
	if float64(f.Failed) < failureLimit*float64(f.Attempts) {
		return r
	}
	r.Status, r.Severity, r.Stage, r.Query = posture.Fail, finding.Ticket, "2", f.Query
	if f.Attempts < enoughAttempts {
		r.Status, r.Severity, r.Stage = posture.Warn, finding.Digest, "2-few"
	}
	r.Summary = "Too many attempts to mint a token failed."
	if f.Stage == "redeem" {
		r.Summary = "Too many attempts to redeem a token failed."
	}
	r.Resolution = "Look at the causes, and at the hosts, releases and endpoints that they come from."
	if len(f.Causes) > 0 {
		r.Facts = []finding.Pair{{Field: "causes", Value: strings.Join(f.Causes, ", ")}}
	}
	return r
}

// SecureMode judges that secure mode is on.
type SecureMode struct{ daily }

// Name is secure_mode.
func (SecureMode) Name() string { return "secure_mode" }

// Title names the metric.
func (SecureMode) Title() string { return "Secure mode" }

// Target is in words.
func (SecureMode) Target() string { return "on" }

// Run judges every network by the last switch and by what it minted since.
func (c SecureMode) Run(ctx context.Context, now time.Time) ([]posture.Result, error) {
	since, until := span(now)
	switches, err := c.facts.SecureModes(ctx, until)
	if err != nil {
		return nil, fmt.Errorf("read switches of secure mode: %w", err)
	}
	mints, err := c.facts.Mints(ctx, since, until)
	if err != nil {
		return nil, fmt.Errorf("read mints: %w", err)
	}
	last, minted := map[string]posture.SecureMode{}, map[string]posture.Mints{}
	heard := map[string]bool{}
	var names []string
	for _, s := range switches {
		last[s.Network] = s
		names = append(names, s.Network)
	}
	for _, m := range mints {
		minted[m.Network] = m
		names = append(names, m.Network)
	}
	slices.Sort(names)
	var out []posture.Result
	for _, n := range slices.Compact(names) {
		heard[n] = true
		s, told := last[n]
		out = append(out, judgeMode(n, s, told, minted[n], now))
	}
	return append(out, c.unheard(heard, "no switch and no mint")...), nil
}

func judgeMode(name string, s posture.SecureMode, told bool, m posture.Mints, now time.Time) posture.Result {
	r := posture.Result{Subject: network(name), Status: posture.Fail, Severity: finding.Ticket,
		Resolution: "Turn secure mode on, and find out who turned it off and why."}
	switch {
	case told && !s.On:
		r.Value, r.Stage, r.Since, r.Query = "off", "off", s.At, s.Query
		r.Summary = "Secure mode was turned off."
		r.Facts = []finding.Pair{{Field: "since", Value: s.At.Time().Format(time.RFC3339)}, {Field: "actor", Value: s.Actor}}
	case m.RefusedOff > 0:
		r.Value, r.Stage, r.Since, r.Query = "off", "refused", today(now), m.Query
		r.Summary = "Requests were refused because secure mode is off."
		r.Facts = []finding.Pair{{Field: "refused", Value: times(m.RefusedOff)}}
	case m.Unsecure > 0:
		r.Value, r.Stage, r.Since, r.Query = "unsecure mints", "unsecure", today(now), m.Query
		r.Summary = "Tokens were minted in unsecure mode."
		r.Facts = []finding.Pair{{Field: "unsecure mints", Value: fmt.Sprint(m.Unsecure)}, {Field: "mints", Value: fmt.Sprint(m.Issued)}}
	case told:
		return posture.Result{Subject: r.Subject, Status: posture.Pass, Value: "on"}
	case m.Issued > 0 && m.Secure == m.Issued:
		return posture.Result{Subject: r.Subject, Status: posture.Pass, Value: "on, as every mint of the day says"}
	default:
		return posture.Result{Subject: r.Subject, Status: posture.Unknown, Value: "not told",
			Summary: "No event tells whether secure mode is on, and mints do not say their mode."}
	}
	return r
}
