package store

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"time"

	"github.com/keysentry/keysentry/internal/secret"
)

// Config says where ClickHouse is and how events are written to it.
type Config struct {
	// Addrs are host:port of the native protocol; they are tried in order.
	Addrs    []string   `yaml:"addrs"`
	Database string     `yaml:"database"`           // database; created when it is missing and the user may
	Username string     `yaml:"username"`           // user
	Password secret.Ref `yaml:"password,omitempty"` // its password
	TLS      TLSConfig  `yaml:"tls,omitempty"`
	// Cluster names the cluster of the server's configuration; empty means one
	// server. It decides the engines, so it cannot be changed later.
	Cluster string `yaml:"cluster,omitempty"`
	// TTLDays is how long events, quarantine and rollups are kept,
	// counted from the day they were stored.
	TTLDays     int           `yaml:"ttl_days"`
	DialTimeout time.Duration `yaml:"dial_timeout"` // longest that connecting may take
	Insert      InsertConfig  `yaml:"insert"`
	Rollup      RollupConfig  `yaml:"rollup"`
}

// TLSConfig turns TLS on and says whom to trust.
type TLSConfig struct {
	Enabled    bool   `yaml:"enabled"`               // connect with TLS
	CAFile     string `yaml:"ca_file,omitempty"`     // empty: the system's roots
	CertFile   string `yaml:"cert_file,omitempty"`   // client certificate, PEM
	KeyFile    string `yaml:"key_file,omitempty"`    // its key, PEM
	ServerName string `yaml:"server_name,omitempty"` // name to expect in the certificate; empty: the server's host
}

// InsertConfig sizes the insert of events. An insert leaves when the first of
// MaxRows, MaxBytes and MaxAge is reached.
type InsertConfig struct {
	MaxRows    int           `yaml:"max_rows"`    // rows after which a unit is sent
	MaxBytes   int           `yaml:"max_bytes"`   // bytes of column data after which a unit is sent
	MaxAge     time.Duration `yaml:"max_age"`     // age at which a unit is sent however small
	QueueBytes int           `yaml:"queue_bytes"` // waiting and in flight; Append blocks above it
	Timeout    time.Duration `yaml:"timeout"`     // of one insert
	// Compression is auto (none to a loopback address, else lz4), none or lz4.
	Compression string `yaml:"compression"`
}

// RollupConfig paces the recomputation of the rollups.
type RollupConfig struct {
	Every time.Duration `yaml:"every"` // pause between two rounds
	// Lag is how long after its end a minute is taken as closed.
	Lag time.Duration `yaml:"lag"`
}

// DefaultConfig is a server on this machine.
func DefaultConfig() Config {
	return Config{
		Addrs:       []string{"127.0.0.1:9000"},
		Database:    "keysentry",
		Username:    "default",
		TTLDays:     400,
		DialTimeout: 3 * time.Second,
		Insert: InsertConfig{
			MaxRows:     100_000,
			MaxBytes:    64 << 20,
			MaxAge:      500 * time.Millisecond,
			QueueBytes:  192 << 20,
			Timeout:     8 * time.Second,
			Compression: "auto",
		},
		Rollup: RollupConfig{Every: time.Minute, Lag: 15 * time.Second},
	}
}

// maxTTLDays is fifty years. ClickHouse counts in DateTime, which ends in 2106
// and then begins anew: retention beyond it would delete every row at once.
const maxTTLDays = 18_250

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)

// Validate lists every fault, each beginning with the path of its field.
func (c Config) Validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Addrs) == 0 {
		bad("addrs: give at least one host:port")
	}
	for i, a := range c.Addrs {
		if _, _, err := net.SplitHostPort(a); err != nil {
			bad("addrs[%d]: %q is not host:port", i, a)
		}
	}
	if !identifier.MatchString(c.Database) {
		bad("database: %q is not a plain name (letters, digits, underscore)", c.Database)
	}
	if c.Username == "" {
		bad("username: must not be empty")
	}
	if !c.Password.IsZero() {
		if err := c.Password.Validate(); err != nil {
			bad("password: %w", err)
		}
	}
	if c.Cluster != "" && !identifier.MatchString(c.Cluster) {
		bad("cluster: %q is not a plain name (letters, digits, underscore)", c.Cluster)
	}
	if c.TTLDays < 1 || c.TTLDays > maxTTLDays {
		bad("ttl_days: %d is outside 1..%d", c.TTLDays, maxTTLDays)
	}
	if c.DialTimeout <= 0 {
		bad("dial_timeout: must be above 0")
	}
	errs = append(errs, c.TLS.validate()...)
	errs = append(errs, c.Insert.validate()...)
	if c.Rollup.Every < time.Second {
		bad("rollup.every: must be at least 1s")
	}
	if c.Rollup.Lag < 0 {
		bad("rollup.lag: must not be negative")
	}
	return errs
}

func (t TLSConfig) validate() []error {
	var errs []error
	if (t.CertFile == "") != (t.KeyFile == "") {
		errs = append(errs, errors.New("tls: give cert_file and key_file together"))
	}
	if !t.Enabled && t != (TLSConfig{}) {
		errs = append(errs, errors.New("tls.enabled: is false, but other fields of tls are set"))
	}
	return errs
}

func (i InsertConfig) validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if i.MaxRows < 1 || i.MaxRows > 1_000_000 {
		bad("insert.max_rows: %d is outside 1..1000000", i.MaxRows)
	}
	if i.MaxBytes < 1<<16 {
		bad("insert.max_bytes: must be at least 65536")
	}
	if i.MaxAge <= 0 {
		bad("insert.max_age: must be above 0")
	}
	if i.QueueBytes < 2*i.MaxBytes {
		bad("insert.queue_bytes: must be at least twice max_bytes, so that one insert can fill while another is in flight")
	}
	if i.Timeout < 100*time.Millisecond {
		bad("insert.timeout: must be at least 100ms")
	}
	switch i.Compression {
	case "auto", "none", "lz4":
	default:
		bad("insert.compression: %q is not auto, none or lz4", i.Compression)
	}
	return errs
}
