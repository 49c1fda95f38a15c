package console

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
)

// Config is the HTTP port of the daemon.
type Config struct {
	// Listen is host:port. A host that is not loopback needs tls.
	Listen string `yaml:"listen"`
	// Advertise is the base URL at which other members and people reach this
	// one; empty: http(s)://LISTEN.
	Advertise string    `yaml:"advertise"`
	TLS       TLSConfig `yaml:"tls"`
}

// TLSConfig is the certificate of the port; CAFile is what a member trusts when
// it forwards to the leader (empty: the system's roots).
type TLSConfig struct {
	CertFile string `yaml:"cert_file"` // certificate of the port, PEM
	KeyFile  string `yaml:"key_file"`  // its key, PEM
	CAFile   string `yaml:"ca_file"`   // authority of the other members' certificates, PEM; empty: the system's
}

// DefaultConfig listens on loopback.
func DefaultConfig() Config { return Config{Listen: "127.0.0.1:8340"} }

// Validate reports every fault; each error begins with the field's path.
func (c Config) Validate() []error {
	var errs []error
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return []error{fmt.Errorf("listen: %q is not host:port", c.Listen)}
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		errs = append(errs, errors.New("tls: give cert_file and key_file together"))
	}
	if !loopback(host) && c.TLS.CertFile == "" {
		errs = append(errs, fmt.Errorf("listen: %q is not loopback; give tls.cert_file and tls.key_file, or listen on 127.0.0.1", c.Listen))
	}
	return errs
}

// BaseURL is where this member says it can be reached.
func (c Config) BaseURL(listening net.Addr) string {
	if c.Advertise != "" {
		return c.Advertise
	}
	scheme := "http"
	if c.TLS.CertFile != "" {
		scheme = "https"
	}
	return scheme + "://" + listening.String()
}

// Private reports whether credentials may be sent to the address that the port is
// reached at. Where it listens itself is for Validate.
func (c Config) Private() bool {
	if c.Advertise == "" {
		return true
	}
	u, err := url.Parse(c.Advertise)
	return err == nil && private(u)
}

// answersTo reports whether a request's Host may be meant for this port. On
// loopback only its own names are: a foreign name that leads here is a page in a
// browser on this machine, which must not read incidents.
func (c Config) answersTo(host string) bool {
	listen, _, err := net.SplitHostPort(c.Listen)
	if err != nil || !loopback(listen) {
		return true
	}
	if u, err := url.Parse(c.Advertise); err == nil && c.Advertise != "" && host == u.Host {
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	return loopback(strings.Trim(name, "[]"))
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// Bounds of the server.
const (
	maxBody      = 1 << 20
	readTimeout  = 10 * time.Second
	writeTimeout = 30 * time.Second
	stopTimeout  = 2 * time.Second // what the rest of a stop leaves of its ten seconds
)
