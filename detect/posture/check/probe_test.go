package check

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/posture"
)

// authority signs certificates for tests.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string // PEM of the authority
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-1000 * day),
		NotAfter: time.Now().Add(1000 * day), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.key = newKey(t)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = filepath.Join(t.TempDir(), "ca.pem")
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// issue signs a certificate for name that ends at the time.
func (a *authority) issue(name string, end time.Time) tls.Certificate {
	a.t.Helper()
	key := newKey(a.t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotBefore: end.Add(-900 * day), NotAfter: end,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// listen serves every connection with f until the test ends.
func listen(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				f(c)
			}()
		}
	}()
	return l.Addr().String()
}

func serveTLS(t *testing.T, cfg *tls.Config) string {
	t.Helper()
	return listen(t, func(c net.Conn) { _ = tls.Server(c, cfg).Handshake() })
}

func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func TestTLSServers(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	at := time.Now()
	good := ours.issue("api.test", at.Add(200*day))
	serve := func(c tls.Certificate) *tls.Config { return &tls.Config{Certificates: []tls.Certificate{c}} }
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	for name, tc := range map[string]struct {
		address string
		status  posture.Status
		stages  []string // of the results, "" is a pass
	}{
		"good":             {serveTLS(t, serve(good)), posture.Pass, []string{""}},
		"wants a client's": {serveTLS(t, &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert}), posture.Pass, []string{""}},
		"wants one in 1.2": {serveTLS(t, &tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}), posture.Pass, []string{""}},
		"due":              {serveTLS(t, serve(ours.issue("api.test", at.Add(40*day)))), posture.Warn, []string{"45"}},
		"less than 30":     {serveTLS(t, serve(ours.issue("api.test", at.Add(20*day)))), posture.Fail, []string{"30"}},
		"expired":          {serveTLS(t, serve(ours.issue("api.test", at.Add(-day)))), posture.Fail, []string{"expired"}},
		"wrong name":       {serveTLS(t, serve(ours.issue("other.test", at.Add(200*day)))), posture.Fail, []string{"", "name"}},
		"unknown CA":       {serveTLS(t, serve(theirs.issue("api.test", at.Add(200*day)))), posture.Fail, []string{"", "chain"}},
		"all of it":        {serveTLS(t, serve(theirs.issue("other.test", at.Add(-day)))), posture.Fail, []string{"expired", "name", "chain"}},
		"old TLS":          {serveTLS(t, &tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}), posture.Fail, []string{"", "version"}},
		"not TLS": {listen(t, func(c net.Conn) {
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_, _ = c.Read(make([]byte, 1024))
		}), posture.Unknown, []string{"not_tls"}},
		"hangs":    {listen(t, func(net.Conn) { <-hang }), posture.Unknown, []string{"timeout"}},
		"hangs up": {listen(t, func(net.Conn) {}), posture.Unknown, []string{"unreachable"}},
		"refuses":  {closedPort(t), posture.Unknown, []string{"unreachable"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := TLSServers{Timeout: 2 * time.Second, Probes: []posture.Probe{{Name: "api", Address: tc.address, ServerName: "api.test", CAFile: ours.file, Network: "n"}}}
			res, err := c.Run(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			var stages []string
			worst := posture.Pass
			order := []posture.Status{posture.Pass, posture.Unknown, posture.Warn, posture.Fail}
			for _, r := range res {
				stages = append(stages, r.Stage)
				if slices.Index(order, r.Status) > slices.Index(order, worst) {
					worst = r.Status
				}
				if (r.Stage == "") != (r.Resolution == "") || r.Subject.Value != "api" || r.Subject.Network != "n" {
					t.Errorf("%+v", r)
				}
			}
			if diff := cmp.Diff(tc.stages, stages); diff != "" || worst != tc.status {
				t.Errorf("status %s, stages: %s", worst, diff)
			}
		})
	}
}

func TestProbesKeepTheirOrder(t *testing.T) {
	t.Parallel()
	var probes []posture.Probe
	for _, n := range strings.Split("a b c d e f g h i j k l", " ") {
		probes = append(probes, posture.Probe{Name: n, Address: closedPort(t)})
	}
	res, err := TLSServers{Probes: probes}.Run(t.Context(), now)
	if err != nil || len(res) != len(probes) {
		t.Fatal(len(res), err)
	}
	for i, r := range res {
		if r.Subject.Value != probes[i].Name {
			t.Errorf("%d: %s", i, r.Subject.Value)
		}
	}
}
