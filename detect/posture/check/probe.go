package check

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/event"
)

// TLSServers looks at the certificates of TLS servers. It checks the other side
// only: our own certificates are client certificates, which no server shows.
type TLSServers struct {
	Probes []posture.Probe
	// Timeout bounds one probe; 0: 10 s.
	Timeout time.Duration
}

const (
	probeTimeout = 10 * time.Second
	probesAtOnce = 8
)

// Name is tls_servers.
func (TLSServers) Name() string { return "tls_servers" }

// Title names the metric.
func (TLSServers) Title() string { return "TLS of the other side" }

// Target is in words.
func (TLSServers) Target() string { return "> 30 days, right name, known authority, TLS 1.2" }

// Outside: servers are asked, not events.
func (TLSServers) Outside() bool { return true }

// Run asks every server.
func (c TLSServers) Run(ctx context.Context, now time.Time) ([]posture.Result, error) {
	results := make([][]posture.Result, len(c.Probes))
	slots := make(chan struct{}, probesAtOnce)
	var wg sync.WaitGroup
	for i, p := range c.Probes {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = c.probe(ctx, p, now)
		})
	}
	wg.Wait()
	var out []posture.Result
	for _, r := range results {
		out = append(out, r...)
	}
	return out, nil
}

// seen is what a server showed.
type seen struct {
	chain   []*x509.Certificate
	version uint16
}

func (c TLSServers) probe(ctx context.Context, p posture.Probe, now time.Time) []posture.Result {
	subject := finding.Subject{Network: p.Network, Field: "server", Value: p.Name}
	facts := []finding.Pair{{Field: "address", Value: p.Address}}
	fault := func(stage, value, summary, advice string, more ...finding.Pair) posture.Result {
		return posture.Result{Subject: subject, Status: posture.Fail, Severity: finding.Ticket, Stage: stage, Value: value, Since: today(now),
			Summary: summary, Resolution: advice, Facts: append(facts[:len(facts):len(facts)], more...)}
	}
	timeout := c.Timeout
	if timeout <= 0 {
		timeout = probeTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	name, _, err := net.SplitHostPort(p.Address)
	if p.ServerName != "" {
		name = p.ServerName
	}
	var s seen
	if err == nil {
		s, err = look(ctx, p.Address, name)
	}
	if err != nil {
		r := fault(unseen(err), "not seen", "The certificate of a TLS server could not be looked at.",
			"See whether the server runs and can be reached from the daemon.", finding.Pair{Field: "error", Value: err.Error()})
		r.Status = posture.Unknown
		return []posture.Result{r}
	}
	leaf := s.chain[0]
	facts = append(facts, finding.Pair{Field: "cert_cn", Value: leaf.Subject.CommonName}, finding.Pair{Field: "cert_not_after", Value: event.At(leaf.NotAfter).String()},
		finding.Pair{Field: "tls", Value: tls.VersionName(s.version)})
	first := posture.Result{Subject: subject, Status: posture.Pass, Since: event.At(leaf.NotAfter), Facts: facts}
	judgeLead(&first, leaf.NotAfter.Sub(now), "The certificate of a TLS server", "Tell who runs the server to renew its certificate.")
	out := []posture.Result{first}
	if err := leaf.VerifyHostname(name); err != nil {
		out = append(out, fault("name", "wrong name", "A TLS server shows a certificate for another name.",
			"Correct posture.probes, or have the server's certificate issued for this name.", finding.Pair{Field: "error", Value: err.Error()}))
	}
	if err := verify(p, s.chain, now); err != nil {
		out = append(out, fault("chain", "not trusted", "The certificate of a TLS server is not signed by an authority that is trusted.",
			"Give the authority in ca_file of the probe, or have the server send its whole chain.", finding.Pair{Field: "error", Value: err.Error()}))
	}
	if s.version < tls.VersionTLS12 {
		out = append(out, fault("version", tls.VersionName(s.version), "A TLS server speaks a version of TLS that is not safe any more.",
			"Have the server speak TLS 1.2 or later."))
	}
	return out
}

// look shakes hands with a server and hangs up. Nothing is trusted or sent: the
// chain is judged afterwards, so that a bad one can be described. A server that
// wants a client certificate shows its own before it refuses us.
func look(ctx context.Context, address, name string) (seen, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return seen{}, err
	}
	defer func() { _ = conn.Close() }()
	var got seen
	t := tls.Client(conn, &tls.Config{
		ServerName: name, MinVersion: tls.VersionTLS10, InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			got = seen{s.PeerCertificates, s.Version}
			return nil
		},
	})
	err = t.HandshakeContext(ctx)
	switch {
	case len(got.chain) > 0:
		return got, nil
	case err == nil:
		err = errors.New("the server shows no certificate")
	case ctx.Err() != nil:
		err = fmt.Errorf("shake hands: %w", ctx.Err())
	default:
		err = fmt.Errorf("shake hands: %w", err)
	}
	return seen{}, err
}

// unseen is the stage of a server that showed no certificate.
func unseen(err error) string {
	var noTLS tls.RecordHeaderError
	var op net.Error
	switch {
	case errors.As(err, &noTLS):
		return "not_tls"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &op) && op.Timeout():
		return "timeout"
	}
	return "unreachable"
}

// verify checks the chain up to an authority; the name and, because that has its own
// stages, the leaf's end are judged apart.
func verify(p posture.Probe, chain []*x509.Certificate, now time.Time) error {
	opts := x509.VerifyOptions{Intermediates: x509.NewCertPool(), CurrentTime: now}
	if p.CAFile != "" {
		text, err := os.ReadFile(p.CAFile)
		if err != nil {
			return fmt.Errorf("read ca_file: %w", err)
		}
		opts.Roots = x509.NewCertPool()
		if !opts.Roots.AppendCertsFromPEM(text) {
			return fmt.Errorf("ca_file %s holds no certificate", p.CAFile)
		}
	}
	for _, k := range chain[1:] {
		opts.Intermediates.AddCert(k)
	}
	if end := chain[0].NotAfter; now.After(end) {
		opts.CurrentTime = end
	}
	_, err := chain[0].Verify(opts)
	return err
}
