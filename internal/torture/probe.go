package torture

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/stage"
)

// probeEvery is how often a probe is sent.
const probeEvery = time.Second

// probes measure how long it takes from an event to its finding: refused calls,
// each from a source of its own with a key that never existed, each of which is a
// finding by itself (rule unauthorized_attempt).
type probes struct {
	client *kafka.Client

	mu      sync.Mutex
	n       int
	waiting map[string]time.Time // source -> when its event was sent
	took    []time.Duration
}

func newProbes(c *kafka.Client) *probes {
	return &probes{client: c, waiting: map[string]time.Time{}}
}

// run sends probes and reads the journal until ctx ends.
func (p *probes) run(ctx context.Context) error {
	journal := event.Partition{Topic: config.Default().Kafka.Topics.Journal}
	_, from, err := p.client.Bounds(ctx, journal)
	if err != nil {
		return fmt.Errorf("find the end of the journal: %w", err)
	}
	read := make(chan error, 1)
	go func() { read <- stage.TailFindings(ctx, p.client, journal, from, p.arrived) }()
	for ctx.Err() == nil {
		if err := p.send(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("send a probe: %w", err)
		}
		_ = stage.Pause(ctx, probeEvery)
	}
	return <-read
}

func (p *probes) send(ctx context.Context) error {
	p.mu.Lock()
	p.n++
	n := p.n
	source := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	p.waiting[source.String()] = time.Now()
	p.mu.Unlock()
	var e event.Event
	e.Type, e.Mode, e.Status, e.SourceIP = event.TypeAuthTokenDenied, event.ModeSecure, 401, source
	e.Present = e.Present.Set(event.FieldType).Set(event.FieldAuthMode).Set(event.FieldStatus).Set(event.FieldSourceIP)
	e.SetString(event.FieldID, "probe-"+strconv.Itoa(n))
	e.SetString(event.FieldNetwork, "probes")
	e.SetString(event.FieldHost, "probe-"+strconv.Itoa(n))
	e.SetString(event.FieldCode, "invalid_server_key")
	e.SetString(event.FieldEndpoint, "/api/v4/authentication/token")
	e.SetString(event.FieldKeyID, event.Fingerprint([]byte("probes"), "no such key"))
	e.SetInstant(event.FieldTime, event.At(time.Now()))
	_, err := p.client.Produce(ctx, topic, kafka.Message{Key: []byte(e.Host), Value: event.Append(nil, &e)})
	return err
}

// arrived notes the first finding about a source.
func (p *probes) arrived(f finding.Finding, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range f.Group {
		if sent, ok := p.waiting[g.Value]; ok && g.Field == event.FieldSourceIP.String() {
			delete(p.waiting, g.Value)
			p.took = append(p.took, now.Sub(sent))
		}
	}
}

// overdue is the age from which on a missing finding counts with its age.
const overdue = 2 * time.Second

// take returns the latencies since the last take, in milliseconds: the median and
// the 99th percentile. A finding that should long be there counts with the time
// that it has been missing, and again when it comes.
func (p *probes) take() (p50, p99 float64, n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.took
	p.took = nil
	for _, sent := range p.waiting {
		if age := time.Since(sent); age > overdue {
			all = append(all, age)
		}
	}
	if len(all) == 0 {
		return 0, 0, 0, fmt.Errorf("no probe of %d became a finding", p.n)
	}
	slices.SortFunc(all, cmp.Compare)
	ms := func(q float64) float64 { return all[int(q*float64(len(all)-1))].Seconds() * 1000 }
	return ms(0.5), ms(0.99), len(all), nil
}
