package app

import (
	"context"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/store"
)

// keeper is the part of a daemon that keeps registries.
func keeper(t *testing.T, broker, topic string) *App {
	t.Helper()
	cfg := config.Default()
	cfg.Kafka.Brokers, cfg.Kafka.Topics.Control = []string{broker}, topic
	cfg.Kafka.RequestTimeout, cfg.Kafka.RetryFor = 500*time.Millisecond, 500*time.Millisecond
	cfg.Store.Addrs, cfg.Store.DialTimeout = []string{"127.0.0.1:1"}, 100*time.Millisecond
	k, err := kafka.NewClient(cfg.Kafka, kafka.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	s, err := store.New(cfg.Store, store.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &App{cfg: cfg, kafka: k, control: kafka.NewControl(k), store: s, log: slog.New(slog.DiscardHandler), opts: Options{Now: time.Now}}
}

func newTestEngine(t *testing.T) *detect.Engine {
	t.Helper()
	set, _, err := LoadRules(config.Default().Rules)
	if err != nil {
		t.Fatal(err)
	}
	e, err := detect.New(config.Default().Detect, detect.Deps{Rules: set})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestRegistriesThatCannotBeReadAreNotEmpty: a leader that began without them
// would soon keep its own, empty ones.
func TestRegistriesThatCannotBeReadAreNotEmpty(t *testing.T) {
	t.Parallel()
	broker := devstacktest.FakeKafka(t)
	topic := devstacktest.CreateTopic(t, broker, 1, map[string]string{"cleanup.policy": "compact"})
	a := keeper(t, broker, topic)
	e := newTestEngine(t)
	if err := a.loadRegistries(t.Context(), e); err != nil {
		t.Fatalf("none were kept: %v", err)
	}
	e.LoadKeys([]detect.Key{{Network: "n1", KeyID: "k1", State: detect.KeyActive}})
	data, err := json.Marshal(e.Snapshot())
	if err == nil {
		err = a.control.SaveState(t.Context(), engineState, data, event.At(time.Now()))
	}
	if err != nil {
		t.Fatal(err)
	}
	again := newTestEngine(t)
	if err := a.loadRegistries(t.Context(), again); err != nil || len(again.Keys("n1")) != 1 {
		t.Errorf("got %d keys, %v, want the one that was kept", len(again.Keys("n1")), err)
	}
	over, end := context.WithCancel(t.Context()) // a rebalance in the middle of a take-over
	end()
	if err := a.loadRegistries(over, newTestEngine(t)); err == nil {
		t.Error("the generation was over, and the engine began without its registries")
	}
	if err := keeper(t, "127.0.0.1:1", topic).loadRegistries(t.Context(), newTestEngine(t)); err == nil {
		t.Error("no broker answered, and the engine began without its registries")
	}
}
