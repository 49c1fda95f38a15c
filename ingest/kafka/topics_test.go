package kafka

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sync/errgroup"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/secret"
)

func count(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func TestCheckInputs(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		good := devstacktest.CreateTopic(t, addr, 2, devstack.LogAppendTime())
		producers := devstacktest.CreateTopic(t, addr, 1, nil)
		missing := devstacktest.Name(t) + "-missing"
		c := testClient(t, addr)
		infos, err := c.CheckTopics(t.Context(), []string{good, producers, missing})
		if err != nil {
			t.Fatal(err)
		}
		if !infos[0].Exists || infos[0].Partitions != 2 || !infos[0].AppendTime() || infos[1].AppendTime() || infos[2].Exists {
			t.Errorf("got %+v", infos)
		}
		if ms, ok := infos[0].RetentionMS(); !ok || ms == 0 {
			t.Errorf("retention %d, %t", ms, ok)
		}
		errs := CheckInputs(infos, func(string) bool { return false })
		if len(errs) != 2 || !strings.Contains(errs[0].Error(), "--add-config message.timestamp.type=LogAppendTime") || !strings.Contains(errs[1].Error(), missing+" does not exist") {
			t.Errorf("got %v", errs)
		}
		if errs := CheckInputs(infos[:2], func(name string) bool { return name == producers }); len(errs) != 0 {
			t.Errorf("observed by the producer: got %v", errs)
		}
	})
}

func TestEnsureTopics(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		name := devstacktest.Name(t)
		use := func(factor int) func(*Config) {
			return func(c *Config) {
				c.ReplicationFactor = factor
				c.Topics = TopicConfig{Quarantine: name + "-q", Journal: name + "-j", Control: name + "-c", Verdicts: name + "-v"}
			}
		}
		c := testClient(t, addr, use(0))
		for range 2 { // the second time they exist
			if err := c.EnsureTopics(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		infos, err := c.CheckTopics(t.Context(), []string{name + "-j", name + "-c", name + "-v"})
		if err != nil {
			t.Fatal(err)
		}
		if ms, _ := infos[0].RetentionMS(); ms != -1 || infos[0].Partitions != 1 || infos[1].Settings["cleanup.policy"] != "compact" ||
			infos[2].Partitions != verdictPartitions || !infos[2].AppendTime() {
			t.Errorf("got %+v", infos)
		}
		wrong := devstacktest.CreateTopic(t, addr, 2, map[string]string{"retention.ms": "1000"})
		c = testClient(t, addr, use(1), func(c *Config) { c.Topics.Journal = wrong })
		err = c.EnsureTopics(t.Context())
		if err == nil || !strings.Contains(err.Error(), "has 2 partitions and must have 1") ||
			!strings.Contains(err.Error(), "--topic "+wrong+" --add-config") || !strings.Contains(err.Error(), "retention.ms=-1") {
			t.Errorf("got %v, want both faults with the fix", err)
		}
	})
}

// Daemons that start together all ask for the topics; each has to wait until
// those that another one made are there.
func TestEnsureTopicsTogether(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		name := devstacktest.Name(t)
		var g errgroup.Group
		for range 5 {
			c := testClient(t, addr, func(c *Config) {
				c.Topics = TopicConfig{Quarantine: name + "-q", Journal: name + "-j", Control: name + "-c", Verdicts: name + "-v"}
			})
			g.Go(func() error { return c.EnsureTopics(t.Context()) })
		}
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestControl(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := devstacktest.CreateTopic(t, addr, 1, map[string]string{"cleanup.policy": "compact"})
		c := testClient(t, addr, func(c *Config) { c.Topics.Control = topic })
		ctl := NewControl(c)
		got, err := ctl.Load(t.Context())
		if err != nil || len(got) != 0 {
			t.Fatalf("empty: got %v, %v", got, err)
		}
		a, b := event.Partition{Topic: "auth.events", ID: 0}, event.Partition{Topic: "odd/name", ID: 12}
		for i := range int64(5) {
			err := ctl.Save(t.Context(), map[event.Partition]Checkpoint{
				a: {Detected: i, Clocks: json.RawMessage(`{"h":1}`), At: event.Instant(i + 1)},
				b: {Detected: 10 * i, At: event.Instant(i + 1)},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, m := range []Message{{Key: []byte("nonsense"), Value: []byte("{}")}, {Key: []byte("x/1"), Value: []byte("{")}, {Key: []byte("y/1")}} {
			if _, err := c.Produce(t.Context(), topic, m); err != nil {
				t.Fatal(err)
			}
		}
		got, err = ctl.Load(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := map[event.Partition]Checkpoint{a: {Detected: 4, Clocks: json.RawMessage(`{"h":1}`), At: 5}, b: {Detected: 40, At: 5}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("loaded (-want +got):\n%s", diff)
		}
		if err := ctl.Save(t.Context(), nil); err != nil {
			t.Errorf("nothing: %v", err)
		}
	})
}

func TestConfigFaults(t *testing.T) {
	t.Parallel()
	if errs := testConfig("127.0.0.1:9092").Validate(); len(errs) != 0 {
		t.Errorf("the default with a broker: %v", errs)
	}
	tests := []struct {
		name   string
		change func(*Config)
		want   []string // the beginnings
	}{
		{"no brokers", func(c *Config) { c.Brokers = nil }, []string{"brokers:"}},
		{"broker without port", func(c *Config) { c.Brokers = []string{"a:1", "b"} }, []string{"brokers[1]:"}},
		{"tls half", func(c *Config) { c.TLS.Enabled, c.TLS.CertFile = true, "x" }, []string{"tls.cert_file:"}},
		{"tls off with a file", func(c *Config) { c.TLS.CAFile = "x" }, []string{"tls.enabled:"}},
		{"sasl unknown", func(c *Config) { c.SASL.Mechanism = "gssapi" }, []string{"sasl.mechanism:", "sasl.username:", "sasl.password:"}},
		{"sasl without mechanism", func(c *Config) { c.SASL.Username = "x" }, []string{"sasl.mechanism:"}},
		{"sasl twice the password", func(c *Config) {
			c.SASL.Mechanism, c.SASL.Username, c.SASL.Password = "plain", "u", secret.Ref{File: "f", Env: "E"}
		}, []string{"sasl.password:"}},
		{"fetch", func(c *Config) {
			c.Fetch.MinBytes, c.Fetch.MaxBytes, c.Fetch.MaxWait, c.Fetch.MaxDecompressed = 0, -1, 0, 0
		},
			[]string{"fetch.min_bytes:", "fetch.max_bytes:", "fetch.max_wait:", "fetch.max_decompressed_bytes:"}},
		{"times", func(c *Config) { c.RequestTimeout, c.RetryFor = 0, -1 }, []string{"request_timeout:", "retry_for:"}},
		{"group", func(c *Config) { c.Group.ID, c.Group.Timeout = "", 0 }, []string{"group.id:", "group.timeout:"}},
		{"heartbeat", func(c *Config) { c.Group.Heartbeat = c.Group.SessionTimeout }, []string{"group.heartbeat:"}},
		{"replication", func(c *Config) { c.ReplicationFactor = -1 }, []string{"replication_factor:"}},
		{"topics", func(c *Config) { c.Topics.Control, c.Topics.Quarantine = "", c.Topics.Journal }, []string{"topics.journal:", "topics.control:"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig("127.0.0.1:9092")
			tt.change(&cfg)
			errs := cfg.Validate()
			if len(errs) != len(tt.want) {
				t.Fatalf("got %v, want %v", errs, tt.want)
			}
			for i, err := range errs {
				if !strings.HasPrefix(err.Error(), tt.want[i]) {
					t.Errorf("got %q, want it to begin with %q", err, tt.want[i])
				}
			}
		})
	}
}
