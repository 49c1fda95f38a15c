package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/playbook/action/encfile"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/console"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/secret"
	"github.com/keysentry/keysentry/internal/simulate/platform"
)

// The cast.
const (
	network    = "demo"
	person     = "you"
	secretName = "server-key"
	driftHost  = "api-3"
	lateHost   = "batch-1"
)

// The topics, one per kind of witness.
var topics = []ingest.TopicConfig{
	{Name: "auth.events", Origin: event.OriginBackend},
	{Name: "gateway.events", Origin: event.OriginGateway},
	{Name: "console.events", Origin: event.OriginConsole, Lifecycle: true},
}

func topicOf(o event.Origin) string {
	for _, t := range topics {
		if t.Origin == o {
			return t.Name
		}
	}
	return topics[0].Name
}

// world is everything that runs.
type world struct {
	out        *narrator
	dir        string
	configFile string

	clickhouse *devstack.ClickHouse
	kafka      *devstack.FakeKafka
	platform   *platform.Platform
	fleet      *platform.Fleet
	fleetDeps  platform.FleetDeps
	secrets    *encfile.Store
	daemon     *app.App
	client     *console.Client
	producer   *eventProducer
	firstKey   secret.Value // the key that was lost before the story begins
	firstID    string

	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	errs   []error
}

// build starts sinks before sources.
func build(ctx context.Context, o Options, dir string, out *narrator) (_ *world, err error) {
	w := &world{out: out, dir: dir}
	// What runs outlives an interrupt, so that stop can end it in order.
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	w.cancel = cancel
	defer func() {
		if err != nil {
			err = errors.Join(err, w.stop())
		}
	}()
	out.chapter("Starting Kafka, ClickHouse, a platform with its backends, and the daemon")
	if w.clickhouse, err = devstack.StartClickHouse(ctx, devstack.ClickHouseOptions{Dir: filepath.Join(dir, "clickhouse"), Progress: o.Err}); err != nil {
		return nil, fmt.Errorf("start clickhouse: %w", err)
	}
	fake := devstack.FakeOptions{Dir: filepath.Join(dir, "kafka")}
	for _, t := range topics {
		fake.Topics = append(fake.Topics, devstack.Topic{Name: t.Name, Partitions: 2, Configs: devstack.LogAppendTime()})
	}
	if w.kafka, err = devstack.StartFakeKafka(ctx, fake); err != nil {
		return nil, fmt.Errorf("start kafka: %w", err)
	}
	cfg, credential, err := w.configure(o)
	if err != nil {
		return nil, err
	}
	if err := w.startPlatform(run, cfg); err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	if o.Verbose {
		log = slog.New(slog.NewTextHandler(o.Err, nil))
	}
	if w.daemon, err = app.New(cfg, app.Options{Version: o.Version, Out: out, Logger: log}); err != nil {
		return nil, err
	}
	w.start(func() error { return w.daemon.Run(run) })
	if w.client, err = console.NewClient(w.daemon.URL(), credential, ""); err != nil {
		return nil, err
	}
	w.start(func() error { return w.fleet.Run(run) })
	return w, nil
}

func (w *world) start(f func() error) {
	w.wg.Go(func() {
		if err := f(); err != nil {
			w.mu.Lock()
			w.errs = append(w.errs, err)
			w.mu.Unlock()
		}
	})
}

// failed is the first error of what runs.
func (w *world) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.errs...)
}

func (w *world) stop() error {
	w.cancel()
	w.wg.Wait()
	errs := []error{w.failed()}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if w.producer != nil {
		w.producer.close(ctx)
	}
	if w.kafka != nil {
		errs = append(errs, w.kafka.Stop(ctx))
	}
	if w.clickhouse != nil {
		errs = append(errs, w.clickhouse.Stop(ctx))
	}
	return errors.Join(errs...)
}

// keep writes a secret to a file of the demo's folder.
func (w *world) keep(name, value string) (secret.Ref, error) {
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
		return secret.Ref{}, fmt.Errorf("write secret: %w", err)
	}
	return secret.Ref{File: path}, nil
}

// configure makes the daemon's configuration: as shipped, with times that suit a
// story of two minutes, and writes it down for whoever wants to look around.
func (w *world) configure(o Options) (*config.Config, secret.Value, error) {
	cfg := config.Default()
	credential := token()
	refs := map[string]secret.Ref{}
	for name, value := range map[string]string{"journal-key": token(), "fingerprint-key": token(), "admin-token": token(), "credential": credential} {
		ref, err := w.keep(name, value)
		if err != nil {
			return nil, secret.Value{}, err
		}
		refs[name] = ref
	}
	identity := filepath.Join(w.dir, "identity")
	if _, err := os.Stat(identity); errors.Is(err, os.ErrNotExist) {
		if err := encfile.GenerateIdentity(identity); err != nil {
			return nil, secret.Value{}, err
		}
	}
	cfg.Instance, cfg.DataDir = "demo", filepath.Join(w.dir, "daemon")
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.Kafka.Brokers = []string{w.kafka.Addr()}
	cfg.Ingest.Topics = topics
	cfg.Store.Addrs = []string{w.clickhouse.Addr()}
	cfg.Journal.Key = refs["journal-key"]
	cfg.Alert.People = []alert.Person{{ID: person, Roles: []string{"responder", "approver"}, Credential: refs["credential"]}}
	cfg.Detect.DeclaredEgress = []string{"198.51.100.0/24"}
	cfg.Detect.InventoryAge = 5 * time.Second
	cfg.Detect.Lateness = 2 * time.Second
	cfg.Detect.TokenLeeway = 30 * time.Second
	cfg.Alert.Delivery.ReplyInterval, cfg.Alert.Delivery.EditInterval, cfg.Alert.Delivery.PerMinute = 2*time.Second, 2*time.Second, 60
	cfg.Alert.Delivery.PerChannel = 200 * time.Millisecond
	cfg.Playbook.ProofQuiet, cfg.Playbook.ClockEvery = 6*time.Second, 4*time.Second
	cfg.Playbook.NewLeaderWait, cfg.Playbook.MaxIntentAge = 2*time.Second, 2*time.Second
	spec := config.NetworkSpec{FingerprintKey: refs["fingerprint-key"], ProbeUser: "keysentry-probe"}
	spec.Provider.Type = "simulated"
	spec.Provider.Timeout = 10 * time.Second
	spec.Provider.AdminToken = refs["admin-token"]
	spec.Secret.Type, spec.Secret.Name = "encfile", secretName
	spec.Secret.Config = encfile.DefaultConfig()
	spec.Secret.Path, spec.Secret.IdentityFile = filepath.Join(w.dir, "secrets.age"), identity
	cfg.Networks = map[string]config.NetworkSpec{network: spec}
	return cfg, secret.New(credential), nil
}

// startPlatform starts the platform with one key, which every host has and which
// is also known to somebody else.
func (w *world) startPlatform(ctx context.Context, cfg *config.Config) error {
	spec := cfg.Networks[network]
	key, err := spec.FingerprintKey.Resolve(os.Getenv)
	if err != nil {
		return err
	}
	admin, err := spec.Provider.AdminToken.Resolve(os.Getenv)
	if err != nil {
		return err
	}
	fingerprint := func(v string) string { return event.Fingerprint([]byte(key.Reveal()), v) }
	if w.producer, err = newEventProducer(w.kafka.Addr()); err != nil {
		return err
	}
	w.start(func() error { return w.producer.run(ctx) })
	pc := platform.DefaultConfig()
	pc.Network, pc.AdminToken, pc.Leeway = network, admin, cfg.Detect.TokenLeeway
	if w.platform, err = platform.New(pc, platform.Deps{Now: time.Now, Emit: w.producer.emit, Fingerprint: fingerprint}); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	w.start(func() error { return w.platform.Serve(ctx, l) })
	spec.Provider.URL = "http://" + l.Addr().String()
	cfg.Networks[network] = spec
	if w.secrets, err = encfile.New(spec.Secret.Config); err != nil {
		return err
	}
	w.firstID, w.firstKey = w.platform.IssueKey("the first key")
	if _, err := w.secrets.Put(ctx, secretName, w.firstKey, 0); err != nil {
		return err
	}
	w.fleetDeps = platform.FleetDeps{URL: spec.Provider.URL, Emit: w.producer.emit, Fingerprint: fingerprint, Now: time.Now, Keys: w.currentKey}
	if w.fleet, err = platform.NewFleet(fleetConfig(), w.fleetDeps); err != nil {
		return err
	}
	w.configFile = filepath.Join(w.dir, "keysentry.yml")
	f, err := os.OpenFile(w.configFile, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return errors.Join(cfg.Print(f), f.Close())
}

func (w *world) currentKey(ctx context.Context) (secret.Value, error) {
	s, err := w.secrets.Get(ctx, secretName)
	return s.Value, err
}

func fleetConfig() platform.FleetConfig {
	fc := platform.FleetConfig{Network: network, Users: 5000, Poll: time.Second, Heartbeat: 2 * time.Second, Seed: 7}
	for i, name := range []string{"api-1", "api-2", driftHost, "api-4", lateHost} {
		fc.Hosts = append(fc.Hosts, platform.Host{
			Name: name, Region: "eu", Service: "login", Release: "2026.11", MintsPerSecond: 4, ReloadDelay: time.Duration(i) * 700 * time.Millisecond,
			SourceIP: netip.AddrFrom4([4]byte{198, 51, 100, byte(10 + i)}),
		})
	}
	return fc
}

// eventProducer brings the backends' events to Kafka.
type eventProducer struct {
	client *kafka.Client
	queue  chan event.Event
}

func newEventProducer(addr string) (*eventProducer, error) {
	kc := kafka.DefaultConfig()
	kc.Brokers = []string{addr}
	client, err := kafka.NewClient(kc, kafka.Deps{})
	if err != nil {
		return nil, err
	}
	return &eventProducer{client: client, queue: make(chan event.Event, 4096)}, nil
}

// emit queues an event; the fleet waits when the queue is full.
func (p *eventProducer) emit(e event.Event) { p.queue <- e }

func (p *eventProducer) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			p.drain()
			return nil
		case e := <-p.queue:
			batch := map[string][]kafka.Message{}
			for n := len(p.queue); ; n-- {
				t := topicOf(e.Origin)
				batch[t] = append(batch[t], kafka.Message{Time: e.Time, Key: []byte(e.Host), Value: event.Append(nil, &e)})
				if n <= 0 {
					break
				}
				e = <-p.queue
			}
			for t, msgs := range batch {
				if err := p.client.ProduceBatch(ctx, t, msgs); err != nil && ctx.Err() == nil {
					return fmt.Errorf("produce events: %w", err)
				}
			}
		}
	}
}

// drain lets hosts that wait for room go on to their own end.
func (p *eventProducer) drain() {
	for {
		select {
		case <-p.queue:
		case <-time.After(500 * time.Millisecond):
			return
		}
	}
}

func (p *eventProducer) close(context.Context) { p.client.Close() }
