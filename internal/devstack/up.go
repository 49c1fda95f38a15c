package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// The brokers that Up can start.
const (
	KafkaFake   = "fake"
	KafkaApache = "apache"
)

// UpOptions says what Up keeps running.
type UpOptions struct {
	Dir   string    // where the data is kept; must be given
	Out   io.Writer // how to connect; a download says its progress on standard error
	Log   io.Writer // what the servers write; nil: kept only for errors
	Kafka string    // KafkaFake (also when empty) or KafkaApache
	// Fixed ports, so that an address survives a restart; 0: a free one.
	KafkaPort, ClickHousePort, ClickHouseHTTPPort int
	Topics                                        []Topic
	Users                                         []User
}

// upStopPatience bounds the stopping of both servers.
const upStopPatience = 20 * time.Second

// broker is what Up needs of either Kafka.
type broker interface {
	Addr() string
	Stop(context.Context) error
}

// Up starts a ClickHouse and a Kafka, says how to connect, and keeps them until
// ctx ends (that is no error) or one of them is gone (that is).
func Up(ctx context.Context, o UpOptions) (err error) {
	if o.Dir == "" {
		return errors.New("dev up: give a data folder")
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return fmt.Errorf("make the data folder: %w", err)
	}
	stop := func(s interface{ Stop(context.Context) error }) {
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), upStopPatience)
		defer cancel()
		err = errors.Join(err, s.Stop(sctx))
	}
	ch, err := StartClickHouse(ctx, ClickHouseOptions{
		Dir: filepath.Join(o.Dir, "clickhouse"), TCPPort: o.ClickHousePort, HTTPPort: o.ClickHouseHTTPPort,
		Log: o.Log, Users: o.Users,
	})
	if err != nil {
		return err
	}
	defer stop(ch)
	kafka, gone, err := startBroker(ctx, o)
	if err != nil {
		return err
	}
	defer stop(kafka)

	sayConnect(o, ch, kafka.Addr())
	select {
	case <-ctx.Done():
		_, _ = fmt.Fprintln(o.Out, "stopping")
		return nil
	case <-ch.Done():
		return ch.proc.describe("dev up", errors.New("ClickHouse has ended"))
	case <-gone:
		return errors.New("dev up: Kafka has ended")
	}
}

// startBroker starts the wished Kafka; gone is closed when it ends by itself,
// and nil for the fake one, which cannot.
func startBroker(ctx context.Context, o UpOptions) (b broker, gone <-chan struct{}, err error) {
	switch o.Kafka {
	case KafkaFake, "":
		f, err := StartFakeKafka(ctx, FakeOptions{
			Dir: filepath.Join(o.Dir, "kafka-fake"), Port: o.KafkaPort, Topics: o.Topics, Log: o.Log,
		})
		return f, nil, err
	case KafkaApache:
		k, err := StartApacheKafka(ctx, ApacheOptions{
			Dir: filepath.Join(o.Dir, "kafka-apache"), Port: o.KafkaPort, Topics: o.Topics, Log: o.Log,
		})
		if err != nil {
			return nil, nil, err
		}
		return k, k.Done(), nil
	}
	return nil, nil, fmt.Errorf("dev up: Kafka %q: want %s or %s", o.Kafka, KafkaFake, KafkaApache)
}

func sayConnect(o UpOptions, ch *ClickHouse, kafka string) {
	_, _ = fmt.Fprintf(o.Out, `The development stack is up. Ctrl-C stops it; the data stays in %s.

  Kafka       %s
  ClickHouse  %s (native)  http://%s (HTTP)
              user default, no password

  curl 'http://%s/?query=SELECT+version()'

In a configuration:

  kafka:
    brokers: [%q]
  store:
    addrs: [%q]
`, o.Dir, kafka, ch.Addr(), ch.HTTPAddr(), ch.HTTPAddr(), kafka, ch.Addr())
}
