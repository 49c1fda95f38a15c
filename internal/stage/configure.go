package stage

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/secret"
)

// Configure makes the configuration of a daemon as shipped, on the stage's
// servers, with a data folder and an HTTP port of its own; daemons of one stage
// share the journal's key, and so are members of one group. change may be nil.
func (s *Stage) Configure(name string, change func(*config.Config)) (*config.Config, error) {
	cfg := config.Default()
	key, err := s.journalKey()
	if err != nil {
		return nil, err
	}
	cfg.Instance, cfg.DataDir = name, filepath.Join(s.Dir, name)
	cfg.Journal.Key = key
	cfg.Kafka.Brokers = []string{s.Broker()}
	cfg.Store.Addrs = []string{s.clickhouse.Addr()}
	if s.clickhouseProxy != nil {
		cfg.Store.Addrs = []string{s.clickhouseProxy.Addr()}
	}
	if s.brokerProxy != nil {
		cfg.Kafka.Brokers = []string{s.brokerProxy.Addr()}
	}
	if cfg.HTTP.Listen, err = freeAddr(); err != nil {
		return nil, err
	}
	if change != nil {
		change(cfg)
	}
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, fmt.Errorf("configuration of %s: %w", name, errors.Join(errs...))
	}
	f, err := os.OpenFile(s.configFile(cfg), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	return cfg, errors.Join(cfg.Print(f), f.Close())
}

func (s *Stage) configFile(cfg *config.Config) string {
	return filepath.Join(s.Dir, cfg.Instance+".yml")
}

// journalKey makes the daemons' common secret once.
func (s *Stage) journalKey() (secret.Ref, error) {
	path := filepath.Join(s.Dir, "journal-key")
	if _, err := os.Stat(path); err == nil {
		return secret.Ref{File: path}, nil
	}
	if err := os.WriteFile(path, []byte(rand.Text()+"\n"), 0o600); err != nil {
		return secret.Ref{}, fmt.Errorf("write the journal's key: %w", err)
	}
	return secret.Ref{File: path}, nil
}

// freeAddr is an address of this machine on which nobody listens now.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}
