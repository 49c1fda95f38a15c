package devstacktest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority issues certificates for tests, with keys made on the spot. CAFile
// holds its own certificate.
type Authority struct {
	CAFile string

	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Certificate names the files of one certificate, all PEM. Both is the key
// (PKCS#8) followed by the certificate, as Kafka's key stores want it.
type Certificate struct{ CertFile, KeyFile, Both string }

// NewAuthority makes an authority that ends with the test.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{dir: t.TempDir()}
	a.CAFile = filepath.Join(a.dir, "ca.pem")
	a.key = newKey(t)
	a.cert = template(name, time.Now().Add(time.Hour))
	a.cert.IsCA, a.cert.KeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, a.CAFile, "CERTIFICATE", der)
	return a
}

// Issue makes a certificate for 127.0.0.1 and localhost, good for servers and
// clients until notAfter.
func (a *Authority) Issue(t testing.TB, name string, notAfter time.Time) Certificate {
	t.Helper()
	key := newKey(t)
	cert := template(name, notAfter)
	cert.IPAddresses, cert.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"}
	cert.KeyUsage = x509.KeyUsageDigitalSignature
	cert.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, cert, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(a.dir, name)
	out := Certificate{CertFile: base + ".crt.pem", KeyFile: base + ".key.pem", Both: base + ".pem"}
	writePEM(t, out.KeyFile, "PRIVATE KEY", pkcs8)
	writePEM(t, out.CertFile, "CERTIFICATE", der)
	var both []byte
	for _, f := range []string{out.KeyFile, out.CertFile} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, b...)
	}
	if err := os.WriteFile(out.Both, both, 0o600); err != nil {
		t.Fatal(err)
	}
	return out
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func template(name string, notAfter time.Time) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62)) // never fails
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: notAfter.Add(-48 * time.Hour), NotAfter: notAfter,
	}
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
