package kafkawire

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/keysentry/keysentry/internal/secret"
)

// Config says how to reach the brokers and how much to read at a time.
type Config struct {
	Brokers  []string   `yaml:"brokers"`   // host:port of one broker or several
	ClientID string     `yaml:"client_id"` // name in the brokers' logs and quotas
	TLS      TLSConfig  `yaml:"tls"`
	SASL     SASLConfig `yaml:"sasl"`
	// RequestTimeout bounds one request beyond the time it asks the broker to
	// wait; RetryFor bounds all attempts of one call together.
	RequestTimeout time.Duration `yaml:"request_timeout"`
	RetryFor       time.Duration `yaml:"retry_for"`
	Fetch          FetchConfig   `yaml:"fetch"`
}

// FetchConfig is the size and the patience of one fetch of one partition.
type FetchConfig struct {
	MinBytes int32         `yaml:"min_bytes"` // least bytes that a broker answers with before max_wait is over
	MaxBytes int32         `yaml:"max_bytes"` // most bytes of one answer, unless a single batch is larger
	MaxWait  time.Duration `yaml:"max_wait"`  // longest that a broker waits for data
	// MaxDecompressed bounds one record batch after decompression, in bytes. A
	// larger one is unreadable.
	MaxDecompressed int `yaml:"max_decompressed_bytes"`
}

// TLSConfig is the transport security of the connection to the brokers.
type TLSConfig struct {
	Enabled    bool   `yaml:"enabled"`     // connect with TLS
	CAFile     string `yaml:"ca_file"`     // authority of the brokers' certificates, PEM; empty: the system's
	CertFile   string `yaml:"cert_file"`   // client certificate, PEM
	KeyFile    string `yaml:"key_file"`    // its key, PEM
	ServerName string `yaml:"server_name"` // name to expect in the certificates; empty: the broker's host
}

// SASLConfig is how the client proves who it is; an empty mechanism means not
// at all.
type SASLConfig struct {
	Mechanism string     `yaml:"mechanism"` // plain, scram-sha-256, scram-sha-512, or empty for none
	Username  string     `yaml:"username"`  // user name
	Password  secret.Ref `yaml:"password"`  // password
}

// DefaultConfig reads up to 4 MiB a fetch and waits a quarter of a second for
// the first byte.
func DefaultConfig() Config {
	return Config{
		ClientID:       "keysentry",
		RequestTimeout: 5 * time.Second,
		RetryFor:       10 * time.Second,
		Fetch: FetchConfig{
			MinBytes:        1,
			MaxBytes:        4 << 20,
			MaxWait:         250 * time.Millisecond,
			MaxDecompressed: 64 << 20,
		},
	}
}

// Validate reports every fault; each error begins with the field's path.
func (c Config) Validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Brokers) == 0 {
		bad("brokers: give at least one host:port")
	}
	for i, b := range c.Brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			bad("brokers[%d]: %q is not host:port", i, b)
		}
	}
	if c.RequestTimeout <= 0 {
		bad("request_timeout: must be positive")
	}
	if c.RetryFor < c.RequestTimeout {
		bad("retry_for: must be at least request_timeout (%s)", c.RequestTimeout)
	}
	errs = append(errs, c.Fetch.validate()...)
	errs = append(errs, c.TLS.validate()...)
	return append(errs, c.SASL.validate()...)
}

func (c FetchConfig) validate() []error {
	var errs []error
	bad := func(s string) { errs = append(errs, errors.New(s)) }
	if c.MinBytes < 1 {
		bad("fetch.min_bytes: must be at least 1")
	}
	if c.MaxBytes < c.MinBytes || c.MaxBytes > maxFrame {
		bad(fmt.Sprintf("fetch.max_bytes: must lie between min_bytes and %d", maxFrame))
	}
	if c.MaxWait < time.Millisecond || c.MaxWait > 5*time.Second {
		bad("fetch.max_wait: must lie between 1ms and 5s")
	}
	if c.MaxDecompressed < 1<<20 || c.MaxDecompressed > 1<<30 {
		bad("fetch.max_decompressed_bytes: must lie between 1 MiB and 1 GiB")
	}
	return errs
}

func (c TLSConfig) validate() []error {
	var errs []error
	if !c.Enabled && c != (TLSConfig{}) {
		errs = append(errs, errors.New("tls.enabled: other tls fields are set, but tls is off; set it to true or remove them"))
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		errs = append(errs, errors.New("tls.cert_file: give cert_file and key_file together"))
	}
	return errs
}

func (c SASLConfig) validate() []error {
	var errs []error
	switch c.Mechanism {
	case "":
		if c != (SASLConfig{}) {
			errs = append(errs, errors.New("sasl.mechanism: give plain, scram-sha-256 or scram-sha-512, or remove username and password"))
		}
		return errs
	case "plain", "scram-sha-256", "scram-sha-512":
	default:
		errs = append(errs, fmt.Errorf("sasl.mechanism: %q is none of plain, scram-sha-256, scram-sha-512", c.Mechanism))
	}
	if c.Username == "" {
		errs = append(errs, errors.New("sasl.username: must be given"))
	}
	if err := c.Password.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("sasl.password: %w", err))
	}
	return errs
}

// load reads the certificate files. It returns nil when TLS is off.
func (c TLSConfig) load() (*tls.Config, error) {
	if !c.Enabled {
		return nil, nil
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls.ca_file: %s holds no PEM certificate", c.CAFile)
		}
	}
	if c.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("tls.cert_file: %w", err)
		}
		out.Certificates = []tls.Certificate{cert}
	}
	return out, nil
}

// load builds the mechanism; the password was resolved by the caller.
func (c SASLConfig) load(password secret.Value) (sasl.Mechanism, error) {
	var algo scram.Algorithm
	switch c.Mechanism {
	case "":
		return nil, nil
	case "plain":
		return plain.Mechanism{Username: c.Username, Password: password.Reveal()}, nil
	case "scram-sha-256":
		algo = scram.SHA256
	case "scram-sha-512":
		algo = scram.SHA512
	default:
		return nil, fmt.Errorf("sasl.mechanism: unknown mechanism %q", c.Mechanism)
	}
	m, err := scram.Mechanism(algo, c.Username, password.Reveal())
	if err != nil {
		// The library's error may quote what it was given.
		return nil, errors.New("sasl.password: the SCRAM library refuses the user name or password (they must be normal UTF-8 text)")
	}
	return m, nil
}
