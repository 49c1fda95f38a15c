package app_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	httpingest "github.com/keysentry/keysentry/ingest/http"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/secret"
)

// TestStopWhileKafkaIsSilent: a broker that takes requests and answers none must
// not keep the daemon from stopping in time (stop holds it to ten seconds).
func TestStopWhileKafkaIsSilent(t *testing.T) {
	t.Parallel()
	const topic = "silent"
	f, err := devstack.StartFakeKafka(t.Context(), devstack.FakeOptions{Topics: []devstack.Topic{{Name: topic, Partitions: 2, Configs: devstack.LogAppendTime()}}})
	devstacktest.Check(t, err)
	t.Cleanup(func() { _ = f.Stop(context.Background()) })
	silence := make(chan struct{})
	end := sync.OnceFunc(func() { close(silence) })
	t.Cleanup(end)

	r := newRig(t, f.Addr(), devstacktest.ClickHouse(t), ingest.TopicConfig{Name: topic, Origin: event.OriginGateway})
	r.env["SOURCE"] = sourceToken
	r.cfg.Ingest.HTTP.Sources = []httpingest.SourceConfig{{Name: "web", Token: secret.Ref{Env: "SOURCE"}, Topic: topic}}
	d := r.start("only", nil)
	d.leads()
	produce(t, f.Addr(), topic, refusals(guesser, 40)...)
	d.detected(40)
	produce(t, f.Addr(), topic, refusals("203.0.113.10", 40)...)
	f.Cluster().Control(func(kmsg.Request) (kmsg.Response, error, bool) {
		<-silence
		return nil, nil, false
	})
	posted := make(chan answered, 1)
	go func() {
		a, err := d.tryPost(sourceToken, hostLines(0, 1, 1))
		if err != nil {
			t.Error(err)
		}
		posted <- a
	}()
	time.Sleep(1500 * time.Millisecond) // requests of every kind are under way
	began := time.Now()
	d.stop()
	// Each ring of the daemon may use up its time, but not one after the other;
	// with ClickHouse silent too, the first one takes four seconds more.
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the stop took %v, want a margin to the ten seconds", took)
	}
	// Who posted events is told that Kafka did not take them.
	if a := <-posted; a.status != http.StatusServiceUnavailable {
		t.Errorf("posted events got %+v", a)
	}
	end()
}
