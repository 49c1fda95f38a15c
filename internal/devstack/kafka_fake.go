package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
)

// Topic is a topic to create.
type Topic struct {
	Name       string
	Partitions int32             // 0: one
	Configs    map[string]string // topic configuration, for example LogAppendTime()
}

// LogAppendTime is the topic configuration by which the broker writes its own
// clock into each record; topics of audit events must have it.
func LogAppendTime() map[string]string {
	return map[string]string{timestampType: logAppendTime}
}

const (
	timestampType = "message.timestamp.type"
	logAppendTime = "LogAppendTime"
)

// FakeOptions says how to start a fake Kafka. The zero value is a broker on a
// free port that keeps everything in memory.
type FakeOptions struct {
	Dir    string  // the data folder; empty: memory
	Port   int     // 0: a free port
	Topics []Topic // created unless they exist
	// Advertise is the host:port that the broker tells clients to come to; empty:
	// its own. A proxy that leads to it must listen there.
	Advertise string
	Log       io.Writer // the broker's warnings; nil: nowhere
	// Now is the broker's clock for LogAppendTime; nil: time.Now.
	Now func() time.Time
}

// FakeKafka is a Kafka broker inside this process: kfake, which speaks the wire
// protocol, with the append time that it lacks. It is gone when the process
// is; with a data folder its records and offsets are not.
type FakeKafka struct {
	addr   string
	port   int
	unlock func()

	mu      sync.RWMutex // held for reading while the cluster is asked
	cluster *kfake.Cluster
	closed  bool

	times *appendTimes
}

// StartFakeKafka starts a broker and creates its topics.
func StartFakeKafka(ctx context.Context, o FakeOptions) (*FakeKafka, error) {
	f := &FakeKafka{unlock: func() {}}
	if o.Dir != "" {
		if err := os.MkdirAll(o.Dir, 0o755); err != nil {
			return nil, fmt.Errorf("make the fake Kafka's folder: %w", err)
		}
		unlock, err := tryLockFile(filepath.Join(o.Dir, ".keysentry.lock"))
		if err != nil {
			return nil, fmt.Errorf("start the fake Kafka: the data folder %s is in use: %w", o.Dir, err)
		}
		f.unlock = unlock
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	f.times = newAppendTimes(o.Now, f.topicAppends)
	if err := f.listen(o); err != nil {
		f.unlock()
		return nil, err
	}
	for _, t := range o.Topics {
		if err := f.CreateTopic(t.Name, t.Partitions, t.Configs); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return nil, errors.Join(err, f.Stop(ctx))
		}
	}
	return f, nil
}

// listen starts the cluster on the wished port, or on a free one.
func (f *FakeKafka) listen(o FakeOptions) error {
	if o.Port != 0 {
		if err := waitPortFree(o.Port, 5*time.Second); err != nil {
			return fmt.Errorf("start the fake Kafka: %w", err)
		}
	}
	var advertised net.Addr
	if o.Advertise != "" {
		addr, err := net.ResolveTCPAddr("tcp", o.Advertise)
		if err != nil {
			return fmt.Errorf("start the fake Kafka: advertise: %w", err)
		}
		advertised = addr
	}
	for try := 1; ; try++ {
		ports, err := choosePorts(o.Port)
		if err != nil {
			return err
		}
		opts := []kfake.Opt{
			kfake.NumBrokers(1), kfake.Ports(ports[0]), kfake.ClusterID("keysentry-devstack"),
			kfake.ListenFn(func(network, address string) (net.Listener, error) {
				ln, err := net.Listen(network, address)
				if err != nil {
					return nil, err
				}
				return &stampListener{Listener: ln, times: f.times, advertised: advertised}, nil
			}),
		}
		if o.Dir != "" {
			opts = append(opts, kfake.DataDir(o.Dir))
		}
		if o.Log != nil {
			opts = append(opts, kfake.WithLogger(kfake.BasicLogger(o.Log, kfake.LogLevelWarn)))
		}
		cluster, err := kfake.NewCluster(opts...)
		if err == nil {
			f.mu.Lock()
			f.cluster, f.port, f.addr = cluster, ports[0], hostPort(ports[0])
			f.mu.Unlock()
			return nil
		}
		if o.Port != 0 || try == startTries || !errors.Is(err, syscall.EADDRINUSE) {
			return fmt.Errorf("start the fake Kafka: %w", err)
		}
	}
}

// CreateTopic creates a topic; an error is kerr.TopicAlreadyExists when there
// is one. Clients can create topics over the wire as well.
func (f *FakeKafka) CreateTopic(name string, partitions int32, configs map[string]string) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return errors.New("create topic " + name + ": the fake Kafka is stopped")
	}
	if err := f.cluster.CreateTopic(name, max(partitions, 1), configs); err != nil {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	f.times.forget()
	return nil
}

// topicAppends reports whether a topic, by name or else by id, has broker time.
func (f *FakeKafka) topicAppends(topic string, id [16]byte) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed || f.cluster == nil {
		return false
	}
	info := f.cluster.TopicIDInfo(id)
	if topic != "" {
		info = f.cluster.TopicInfo(topic)
	}
	if info == nil {
		return false
	}
	v := info.Configs[timestampType]
	return v != nil && *v == logAppendTime
}

// Addr is the broker's host:port.
func (f *FakeKafka) Addr() string { return f.addr }

// Port, given to the next start, keeps the address.
func (f *FakeKafka) Port() int { return f.port }

// Cluster is the broker itself, for tests that make it misbehave.
func (f *FakeKafka) Cluster() *kfake.Cluster { return f.cluster }

// Stop closes the broker and writes its state to the data folder. A second
// Stop does nothing.
func (f *FakeKafka) Stop(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	f.cluster.Close()
	f.unlock()
	return nil
}
