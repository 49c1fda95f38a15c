package devstack

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
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/keysentry/keysentry/internal/secret"
)

func TestApacheKafkaListeners(t *testing.T) {
	t.Parallel()
	keyStore, roots := selfSigned(t)
	users := map[string]secret.Value{"keysentry": secret.New("s3cret")}
	scram512 := func(password string) sasl.Mechanism {
		m, err := scram.Mechanism(scram.SHA512, "keysentry", password)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	k := startApache(t, ApacheOptions{Listeners: []Listener{
		{Protocol: ProtocolSSL, KeyStorePEM: keyStore},
		{Protocol: ProtocolSASLPlaintext, Mechanism: "PLAIN", Users: users},
		{Protocol: ProtocolSASLSSL, Mechanism: "SCRAM-SHA-512", Users: users, KeyStorePEM: keyStore},
		{Protocol: ProtocolSSL, KeyStorePEM: keyStore, ClientCAPEM: keyStore},
	}})
	withTLS := &tls.Config{RootCAs: roots}
	for _, tc := range []struct {
		name     string
		listener int
		tls      *tls.Config
		sasl     sasl.Mechanism
		ok       bool
	}{
		{"TLS", 0, withTLS, nil, true},
		{"TLS without trust", 0, &tls.Config{}, nil, false},
		{"plain on TLS", 0, nil, nil, false},
		{"PLAIN", 1, nil, plain.Mechanism{Username: "keysentry", Password: "s3cret"}, true},
		{"PLAIN, wrong password", 1, nil, plain.Mechanism{Username: "keysentry", Password: "x"}, false},
		{"SCRAM over TLS", 2, withTLS, scram512("s3cret"), true},
		{"SCRAM over TLS, wrong password", 2, withTLS, scram512("x"), false},
		{"TLS without the client's certificate", 3, withTLS, nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := &kafka.Transport{TLS: tc.tls, SASL: tc.sasl}
			defer tr.CloseIdleConnections()
			cl := kafka.Client{Addr: kafka.TCP(k.ListenerAddr(tc.listener)), Timeout: 5 * time.Second, Transport: tr}
			_, err := cl.Metadata(t.Context(), &kafka.MetadataRequest{})
			if (err == nil) != tc.ok {
				t.Errorf("error %v, want success %v", err, tc.ok)
			}
		})
	}
}

func TestListening(t *testing.T) {
	t.Parallel()
	var ports []int
	var listeners []net.Listener
	for range 2 {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		listeners, ports = append(listeners, l), append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	if !listening(t.Context(), ports) || !listening(t.Context(), nil) {
		t.Error("all listen, and it says no")
	}
	_ = listeners[1].Close()
	if listening(t.Context(), ports) {
		t.Error("one is closed, and it says that all listen")
	}
}

func TestListenerValidate(t *testing.T) {
	t.Parallel()
	users := map[string]secret.Value{"u": secret.New("p")}
	for _, tc := range []struct {
		name string
		l    Listener
		want string
	}{
		{"no protocol", Listener{}, "listener protocol"},
		{"TLS without a key", Listener{Protocol: ProtocolSSL}, "KeyStorePEM"},
		{"SASL without users", Listener{Protocol: ProtocolSASLPlaintext, Mechanism: "PLAIN"}, "Users"},
		{"SASL without a mechanism", Listener{Protocol: ProtocolSASLPlaintext, Users: users}, "mechanism"},
	} {
		if err := tc.l.validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q in it", tc.name, err, tc.want)
		}
	}
}

// selfSigned writes a certificate for 127.0.0.1 and its key into one file.
func selfSigned(t *testing.T) (path string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "devstack"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.ParseIP(loopback)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	b := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	path = filepath.Join(t.TempDir(), "server.pem")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(b)
	return path, roots
}
