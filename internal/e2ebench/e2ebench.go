// Package e2ebench measures the whole product on servers of its own: events per
// second end to end against the floor, processor time and memory, and how long
// an alert takes.
//
// The topic auth.events (4 partitions, broker time) is filled first. Then the
// real daemon runs as a child process with the shipped configuration and rules.
//
//   - Throughput is taken from the last look (every 20 ms) at which the daemon
//     had read nothing to the look at which ClickHouse holds every row.
//   - The daemon's processor time is what its process used in between, the
//     server's is what the ClickHouse process used from the same moment until
//     its merges are over, both by /proc. Its idle time is included.
//   - The floor is the least that storing the topic can cost here: a raw fetch
//     of the same topic by the same client, one goroutine per partition, nothing
//     decoded, while at the same time the same rows, decoded and put into
//     columns beforehand, are inserted into the same table in another database,
//     in blocks of the same size over one connection. It ends when both are done.
//   - An alert is a single refused use of a retired key, from outside, one key
//     for each, while events flow at half of the measured throughput. It takes
//     from the broker's append time of the record, which Kafka cuts to whole
//     milliseconds, until a reader of the journal's topic, which reads all the
//     time, has the finding's record. So the measuring itself is included.
//
// A fake broker lives in this process, and so do the readers and writers that
// measure: on a small machine they compete with the daemon.
package e2ebench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/stage"
	"github.com/keysentry/keysentry/store"
)

// Options say what to measure.
type Options struct {
	Version  string
	Broker   string // kfake or kafka
	Events   int
	Samples  int // alerts that are timed; 0: 100
	Progress io.Writer
}

// Result is what was measured; see the package comment for what it means.
type Result struct {
	Broker           string  `json:"broker"`
	Events           int     `json:"events"`
	Rules            int     `json:"rules"`
	EventsPerS       float64 `json:"events_per_s"`
	FloorEventsPerS  float64 `json:"floor_events_per_s"`
	FloorRatio       float64 `json:"floor_ratio"` // events_per_s over the floor's
	CPUUsPerEvent    float64 `json:"cpu_us_per_event"`
	ServerUsPerEvent float64 `json:"server_us_per_event"`
	PeakRSSMB        float64 `json:"peak_rss_mb"`
	AlertP50MS       float64 `json:"alert_p50_ms"`
	AlertP99MS       float64 `json:"alert_p99_ms"`
}

const (
	topic      = "auth.events"
	console    = "console.events"
	partitions = 4
)

// bench is one run.
type bench struct {
	opt    Options
	stage  *stage.Stage
	kafka  *kafka.Client
	store  *store.Client
	cfg    *config.Config
	daemon *stage.Daemon
	ends   map[event.Partition]int64 // of the filled topic
	sample []kafka.Message           // the first events, for the load under which alerts are timed
	result Result
}

// Run measures; it takes a few minutes.
func Run(ctx context.Context, o Options) (r Result, err error) {
	b, err := newBench(ctx, o)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, step := range []func(context.Context) error{b.fill, b.throughput, b.stopDaemon, b.floor, b.alerts} {
		if err := step(ctx); err != nil {
			return b.result, err
		}
	}
	b.result.round()
	return b.result, nil
}

// newBench starts the servers; close stops them.
func newBench(ctx context.Context, o Options) (_ *bench, err error) {
	if o.Events < 10_000 {
		return nil, fmt.Errorf("%d events are too few to measure: give at least 10000", o.Events)
	}
	if o.Samples == 0 {
		o.Samples = 100
	}
	if o.Samples < 1 || o.Samples > 250 {
		return nil, fmt.Errorf("%d samples: give 1 to 250", o.Samples)
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	b := &bench{opt: o, result: Result{Broker: o.Broker, Events: o.Events}}
	b.stage, err = stage.New(ctx, stage.Options{Broker: o.Broker, Progress: o.Progress, Topics: []devstack.Topic{
		{Name: topic, Partitions: partitions, Configs: devstack.LogAppendTime()},
		{Name: console, Partitions: 1, Configs: devstack.LogAppendTime()},
	}})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if b.kafka, err = b.stage.Kafka(); err != nil {
		return nil, err
	}
	b.cfg, err = b.stage.Configure("bench", func(c *config.Config) {
		c.Ingest.Topics = []ingest.TopicConfig{
			{Name: topic, Origin: event.OriginBackend},
			{Name: console, Origin: event.OriginConsole, Lifecycle: true},
		}
	})
	if err != nil {
		return nil, err
	}
	b.store, err = b.stage.Store(b.cfg.Store.Database)
	return b, err
}

// close ends everything that newBench started.
func (b *bench) close() error {
	var errs []error
	if b.store != nil {
		errs = append(errs, b.store.Close())
	}
	if b.kafka != nil {
		b.kafka.Close()
	}
	return errors.Join(append(errs, b.stage.Close())...)
}

// stopDaemon stops the daemon: only the servers and this process are left, as in
// the other run only they and the daemon were.
func (b *bench) stopDaemon(ctx context.Context) error {
	stop, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := b.daemon.Stop(stop)
	return err
}

func (r *Result) round() {
	r.FloorRatio = r.EventsPerS / r.FloorEventsPerS
	for _, f := range []*float64{&r.EventsPerS, &r.FloorEventsPerS} {
		*f = math.Round(*f)
	}
	for _, f := range []*float64{&r.CPUUsPerEvent, &r.ServerUsPerEvent, &r.FloorRatio} {
		*f = math.Round(*f*1000) / 1000
	}
	for _, f := range []*float64{&r.PeakRSSMB, &r.AlertP50MS, &r.AlertP99MS} {
		*f = math.Round(*f*10) / 10
	}
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.opt.Progress, "keysentry: "+format+"\n", args...)
}
