package store

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/secret"
)

const (
	writerPassword  = "the writer's"
	analystPassword = "the analyst's"
)

func sha(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

// terminateTLS is a door with TLS before the engine's native port, since the
// embedded engine opens none itself ("supports only TCP and HTTP listeners").
func terminateTLS(t *testing.T, engine string, c devstacktest.Certificate, clientCA string) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if clientCA != "" {
		pem, err := os.ReadFile(clientCA)
		if err != nil {
			t.Fatal(err)
		}
		cfg.ClientCAs, cfg.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		cfg.ClientCAs.AppendCertsFromPEM(pem)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			front, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { join(front, engine) })
		}
	})
	return l.Addr().String()
}

// join carries bytes both ways until one side ends.
func join(front net.Conn, addr string) {
	defer front.Close()
	back, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer back.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(back, front)
		_ = back.Close()
	})
	_, _ = io.Copy(front, back)
	_ = front.Close()
	wg.Wait()
}

// TestTLS speaks to a server over TLS, with and without a client certificate; a
// fault says what to change.
func TestTLS(t *testing.T) {
	t.Parallel()
	authority, other := devstacktest.NewAuthority(t, "test authority"), devstacktest.NewAuthority(t, "another authority")
	server := authority.Issue(t, "server", time.Now().Add(time.Hour))
	stale := authority.Issue(t, "stale", time.Now().Add(-time.Hour))
	client := authority.Issue(t, "client", time.Now().Add(time.Hour))
	foreign := other.Issue(t, "foreign", time.Now().Add(time.Hour))
	engine, err := devstack.StartClickHouse(t.Context(), devstack.ClickHouseOptions{Dir: t.TempDir(), Users: []devstack.User{{Name: "writer", PasswordSHA256: sha(writerPassword)}}})
	devstacktest.Check(t, err)
	t.Cleanup(engine.Kill)
	plain := terminateTLS(t, engine.Addr(), server, "")
	mutual := terminateTLS(t, engine.Addr(), server, authority.CAFile)
	expired := terminateTLS(t, engine.Addr(), stale, "")
	trusting := TLSConfig{Enabled: true, CAFile: authority.CAFile}
	for _, tt := range []struct {
		name     string
		addr     string
		tls      TLSConfig
		password string
		want     string // in the error; empty: none
	}{
		{"good", plain, trusting, writerPassword, ""},
		{"client certificate", mutual, TLSConfig{Enabled: true, CAFile: authority.CAFile, CertFile: client.CertFile, KeyFile: client.KeyFile}, writerPassword, ""},
		{"wrong password", plain, trusting, "mistyped", "check username and password"},
		{"unknown authority", plain, TLSConfig{Enabled: true, CAFile: other.CAFile}, writerPassword, "tls.ca_file"},
		{"another name", plain, TLSConfig{Enabled: true, CAFile: authority.CAFile, ServerName: "clickhouse.example"}, writerPassword, "tls.server_name"},
		{"out of date", expired, trusting, writerPassword, "out of date"},
		{"no client certificate", mutual, trusting, writerPassword, "tls.cert_file"},
		{"foreign client certificate", mutual, TLSConfig{Enabled: true, CAFile: authority.CAFile, CertFile: foreign.CertFile, KeyFile: foreign.KeyFile}, writerPassword, "tls.cert_file"},
		{"TLS at a port without", engine.Addr(), trusting, writerPassword, "tls.enabled"},
		{"no TLS at a port with it", plain, TLSConfig{}, writerPassword, "tls.enabled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.Addrs, cfg.TLS, cfg.Username, cfg.Password, cfg.Database = []string{tt.addr}, tt.tls, "writer", secret.Ref{Env: "PW"}, "default"
			c, err := New(cfg, Deps{Getenv: func(string) string { return tt.password }})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			err = c.Ping(t.Context())
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), tt.password)):
				t.Errorf("got %v, want %q in it, and no password", err, tt.want)
			}
		})
	}
	t.Run("insert", func(t *testing.T) {
		t.Parallel()
		cfg := DefaultConfig()
		cfg.Addrs, cfg.TLS, cfg.Username, cfg.Password = []string{plain}, trusting, "writer", secret.Ref{Env: "PW"}
		c, err := New(cfg, Deps{Getenv: func(string) string { return writerPassword }})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		w, _ := startWriter(t, c)
		assign(t, w, part0, 0)
		appendBatch(t, w, batch(part0, 0, 100), nil)
		flush(t, w)
		if rows, distinct := count(t, c); rows != 100 || distinct != 100 {
			t.Errorf("%d rows, %d distinct, want 100", rows, distinct)
		}
	})
}
