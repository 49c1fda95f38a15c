// Package stage is what the rehearsals stand on: a Kafka and a ClickHouse of
// their own, a configuration for daemons on them, and daemons as child
// processes of this same program ("run --config FILE"), so that they can be
// killed and measured like the real thing.
//
// Whoever builds a Stage closes it; that stops the servers and ends every
// daemon that still runs. Where the kernel can do it (Linux), daemons also end
// when this process does.
package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/store"
)

// The brokers that a stage can have.
const (
	Fake   = "kfake" // inside this process
	Apache = "kafka" // Apache Kafka, a Java process
)

// Options say which servers to start.
type Options struct {
	Broker   string // Fake or Apache
	Topics   []devstack.Topic
	Progress io.Writer
	// ProxyClickHouse and ProxyBroker put a proxy before the server. Of ClickHouse
	// only the daemons go through it; of Kafka everybody does, because the broker
	// itself names the proxy to its clients.
	ProxyClickHouse, ProxyBroker bool
}

// Stage is the servers and their data. It is safe for concurrent use, but a
// server is stopped and started by one goroutine at a time.
type Stage struct {
	Dir string

	opts       Options
	clickhouse *devstack.ClickHouse
	fake       *devstack.FakeKafka
	apache     *devstack.ApacheKafka
	kafkaPort  int

	clickhouseProxy, brokerProxy *Proxy // nil: none

	mu      sync.Mutex
	daemons []*Daemon
}

// New starts the servers on a temporary folder.
func New(ctx context.Context, o Options) (_ *Stage, err error) {
	if o.Broker != Fake && o.Broker != Apache {
		return nil, fmt.Errorf("broker %q: use %s or %s", o.Broker, Fake, Apache)
	}
	s := &Stage{opts: o}
	if s.Dir, err = os.MkdirTemp("", "keysentry-stage-"); err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.StartClickHouse(ctx); err != nil {
		return nil, err
	}
	if err := s.startProxies(); err != nil {
		return nil, err
	}
	return s, s.StartBroker(ctx)
}

// startProxies comes after ClickHouse and before the broker, which has to know
// the proxy's address; so its own is settled here.
func (s *Stage) startProxies() (err error) {
	if s.opts.ProxyClickHouse {
		if s.clickhouseProxy, err = startProxy("clickhouse", s.clickhouse.Addr()); err != nil {
			return err
		}
	}
	if !s.opts.ProxyBroker {
		return nil
	}
	addr, err := devstack.FreeAddr()
	if err != nil {
		return err
	}
	if s.kafkaPort, err = portOf(addr); err != nil {
		return err
	}
	s.brokerProxy, err = startProxy("kafka", addr)
	return err
}

// ClickHouseProxy stands between the daemons and ClickHouse; nil without
// Options.ProxyClickHouse.
func (s *Stage) ClickHouseProxy() *Proxy { return s.clickhouseProxy }

// BrokerProxy stands before Kafka; nil without Options.ProxyBroker.
func (s *Stage) BrokerProxy() *Proxy { return s.brokerProxy }

// StartClickHouse starts the server, again on the same ports and data.
func (s *Stage) StartClickHouse(ctx context.Context) (err error) {
	o := devstack.ClickHouseOptions{Dir: filepath.Join(s.Dir, "clickhouse"), Progress: s.opts.Progress}
	if s.clickhouse != nil {
		o.TCPPort, o.HTTPPort = s.clickhouse.TCPPort(), s.clickhouse.HTTPPort()
	}
	c, err := devstack.StartClickHouse(ctx, o)
	if err != nil {
		return fmt.Errorf("start ClickHouse: %w", err)
	}
	s.clickhouse = c
	return nil
}

// KillClickHouse ends the server as kill -9 does.
func (s *Stage) KillClickHouse() { s.clickhouse.Kill() }

// ClickHousePid is the server's process id.
func (s *Stage) ClickHousePid() int { return s.clickhouse.Pid() }

// ClickHouseHTTP is host:port of the server's HTTP interface.
func (s *Stage) ClickHouseHTTP() string { return s.clickhouse.HTTPAddr() }

// StartBroker starts Kafka, again on the same port and data.
func (s *Stage) StartBroker(ctx context.Context) (err error) {
	dir, advertise := filepath.Join(s.Dir, "kafka"), ""
	if s.brokerProxy != nil {
		advertise = s.brokerProxy.Addr()
	}
	if s.opts.Broker == Fake {
		s.fake, err = devstack.StartFakeKafka(ctx, devstack.FakeOptions{Dir: dir, Port: s.kafkaPort, Topics: s.opts.Topics, Advertise: advertise})
		if err != nil {
			return fmt.Errorf("start Kafka: %w", err)
		}
		s.kafkaPort = s.fake.Port()
		return nil
	}
	s.apache, err = devstack.StartApacheKafka(ctx, devstack.ApacheOptions{Dir: dir, Port: s.kafkaPort, Topics: s.opts.Topics, Advertise: advertise, Progress: s.opts.Progress})
	if err != nil {
		return fmt.Errorf("start Kafka: %w", err)
	}
	s.kafkaPort = s.apache.Port()
	return nil
}

// DeleteRecords removes the records of a topic below an offset for each of the
// given partitions, as retention does.
func (s *Stage) DeleteRecords(ctx context.Context, topic string, below map[int32]int64) error {
	return devstack.DeleteRecords(ctx, s.Broker(), topic, below)
}

// StopBroker stops Kafka in an orderly way.
func (s *Stage) StopBroker(ctx context.Context) error {
	if s.opts.Broker == Fake {
		return s.fake.Stop(ctx)
	}
	return s.apache.Stop(ctx)
}

// Broker is Kafka's host:port.
func (s *Stage) Broker() string { return fmt.Sprintf("127.0.0.1:%d", s.kafkaPort) }

// closeTimeout bounds how long the servers may take to stop.
const closeTimeout = 30 * time.Second

// Close ends the daemons, stops the servers and removes the data.
func (s *Stage) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	s.mu.Lock()
	daemons := s.daemons
	s.mu.Unlock()
	for _, d := range daemons {
		d.Kill()
	}
	for _, p := range []*Proxy{s.clickhouseProxy, s.brokerProxy} {
		if p != nil {
			p.Cut()
		}
	}
	var errs []error
	if s.fake != nil {
		errs = append(errs, s.fake.Stop(ctx))
	}
	if s.apache != nil {
		errs = append(errs, s.apache.Stop(ctx))
	}
	if s.clickhouse != nil {
		errs = append(errs, s.clickhouse.Stop(ctx))
	}
	return errors.Join(append(errs, os.RemoveAll(s.Dir))...)
}

// Kafka connects to the broker.
func (s *Stage) Kafka() (*kafka.Client, error) {
	cfg := kafka.DefaultConfig()
	cfg.Brokers = []string{s.Broker()}
	return kafka.NewClient(cfg, kafka.Deps{})
}

// Store connects to the given database of ClickHouse; it need not exist.
func (s *Stage) Store(database string) (*store.Client, error) {
	cfg := config.Default().Store
	cfg.Addrs, cfg.Database = []string{s.clickhouse.Addr()}, database
	return store.New(cfg, store.Deps{})
}
