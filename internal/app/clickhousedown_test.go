package app_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// engine is a ClickHouse that can be killed and comes back with its data, at its
// address.
type engine struct {
	t   *testing.T
	dir string
	*devstack.ClickHouse
}

func newEngine(t *testing.T) *engine {
	e := &engine{t: t, dir: t.TempDir()}
	e.begin(devstack.ClickHouseOptions{Dir: e.dir})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := e.Stop(ctx); err != nil {
			t.Errorf("stop clickhouse: %v", err)
		}
	})
	return e
}

func (e *engine) begin(o devstack.ClickHouseOptions) {
	e.t.Helper()
	c, err := devstack.StartClickHouse(e.t.Context(), o)
	devstacktest.Check(e.t, err)
	e.ClickHouse = c
}

// again starts a killed engine on its data and ports.
func (e *engine) again() {
	e.t.Helper()
	e.begin(devstack.ClickHouseOptions{Dir: e.dir, TCPPort: e.TCPPort(), HTTPPort: e.HTTPPort()})
}

// TestClickHouseGone: without ClickHouse, at the start and later, attacks are
// detected and told all the same; Kafka keeps what memory must not, and when
// ClickHouse is back every event is stored, once.
func TestClickHouseGone(t *testing.T) {
	t.Parallel()
	broker := devstacktest.FakeKafka(t)
	ch := newEngine(t)
	ch.Kill()
	topic := sourceTopic(t, broker, 2, devstack.LogAppendTime())
	r := newRig(t, broker, ch.Addr(), ingest.TopicConfig{Name: topic, Origin: event.OriginGateway})
	r.cfg.Store.DialTimeout = time.Second
	in := &r.cfg.Store.Insert
	in.MaxRows, in.MaxBytes, in.QueueBytes = 1000, 256<<10, 512<<10
	r.cfg.Kafka.Fetch.MaxBytes = 128 << 10
	r.cfg.Ingest.DetachAfter = 200 * time.Millisecond

	d := r.start("only", nil)
	d.leads()
	produce(t, broker, topic, refusals("203.0.113.1", 40)...)
	d.incident("a page without ClickHouse", about("203.0.113.1"))
	r.told(pageTo, "203.0.113.1")
	d.clickhouse(func(said string) bool { return said != "ok" })
	ch.again()
	r.stored(topic, 40)
	d.clickhouse(func(said string) bool { return said == "ok" })

	ch.Kill()
	peak := d.peak("keysentry_store_queue_bytes")
	const load = 40_000
	produce(t, broker, topic, requests(0, load)...)
	produce(t, broker, topic, refusals("203.0.113.2", 40)...)
	d.incident("a page while ClickHouse is gone", about("203.0.113.2"))
	r.told(pageTo, "203.0.113.2")
	d.detected(load + 80)
	if n := d.metric("keysentry_ingest_detaches_total"); n == 0 {
		t.Error("storage was never detached: detection waited for it, or memory holds everything")
	}
	d.clickhouse(func(said string) bool { return strings.Contains(said, "fail") })
	ch.again()
	r.stored(topic, load+80)
	d.clickhouse(func(said string) bool { return said == "ok" })
	// The last batch of each partition may come on top of a queue that is almost
	// full. All that was read would be several times as much.
	if got, bound := peak(), float64(2*in.QueueBytes); got < float64(in.QueueBytes)/2 || got > bound {
		t.Errorf("the queue reached %.0f bytes, want more than half of %d and at most %.0f", got, in.QueueBytes, bound)
	} else {
		t.Logf("the queue reached %.0f bytes of %d", got, in.QueueBytes)
	}
	for _, source := range []string{"203.0.113.1", "203.0.113.2"} {
		if n := len(r.roots(pageTo, source)); n != 1 {
			t.Errorf("%d messages about %s, want one", n, source)
		}
	}
	r.mirrored()
	d.stop()
	findingsOnce(t, r.journal())
}

// clickhouse waits until the daemon's word about ClickHouse is as wanted.
func (d *daemon) clickhouse(want func(string) bool) {
	d.t.Helper()
	said := ""
	await(d.t, "the status of ClickHouse", func() bool {
		d.failed()
		st, err := d.client.Status(d.t.Context())
		if err != nil {
			return false
		}
		said = st.Parts["clickhouse"]
		return want(said)
	})
}

// peak watches a metric until the function that it returns is called, which
// returns the highest value.
func (d *daemon) peak(name string) func() float64 {
	ctx, cancel := context.WithCancel(d.t.Context())
	var wg sync.WaitGroup
	highest := 0.0
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				highest = max(highest, d.metric(name))
			}
		}
	})
	return func() float64 {
		cancel()
		wg.Wait()
		return highest
	}
}
