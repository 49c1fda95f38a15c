package kafka

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/kafkawire"
	"github.com/keysentry/keysentry/internal/secret"
)

func cluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// A leader that moves is found again within the retries.
func TestFetchFollowsTheLeader(t *testing.T) {
	t.Parallel()
	cl := cluster(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "t"))
	c := testClient(t, cl.ListenAddrs()[0])
	for i := range 4 {
		if _, err := c.Produce(t.Context(), "t", Message{Value: []byte{'a' + byte(i)}}); err != nil {
			t.Fatal(err)
		}
		if err := cl.MoveTopicPartition("t", 0, int32((i+1)%2)); err != nil {
			t.Fatal(err)
		}
		got := readAll(t, c, event.Partition{Topic: "t"}, 0, int64(i+1))
		if len(got) != i+1 {
			t.Errorf("read %d records, want %d", len(got), i+1)
		}
	}
}

func TestSurvivesABrokerRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	opts := devstack.FakeOptions{Dir: dir, Topics: []devstack.Topic{{Name: "t", Partitions: 1}}}
	f, err := devstack.StartFakeKafka(t.Context(), opts)
	devstacktest.Check(t, err)
	c := testClient(t, f.Addr())
	if _, err := c.Produce(t.Context(), "t", Message{Value: []byte("a")}); err != nil {
		t.Fatal(err)
	}
	readAll(t, c, event.Partition{Topic: "t"}, 0, 1)
	_, port, err := net.SplitHostPort(f.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if opts.Port, err = net.LookupPort("tcp", port); err != nil {
		t.Fatal(err)
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f, err = devstack.StartFakeKafka(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Stop(context.Background()) })
	if _, err := c.Produce(t.Context(), "t", Message{Value: []byte("b")}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b"}, values(readAll(t, c, event.Partition{Topic: "t"}, 0, 2))); diff != "" {
		t.Errorf("after the restart (-want +got):\n%s", diff)
	}
}

// damaged is a batch whose checksum is wrong.
func damaged() []byte {
	batch := kafkawire.EncodeBatch(nil, []kafkawire.Message{{Value: []byte("good")}})
	batch[len(batch)-1] ^= 1
	return batch
}

// answer gives batch to the first n fetches.
func answer(cl *kfake.Cluster, n int32, batch []byte) {
	var seen atomic.Int32
	cl.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cl.KeepControl()
		if seen.Add(1) > n {
			return nil, nil, false
		}
		req := r.(*kmsg.FetchRequest)
		res := req.ResponseKind().(*kmsg.FetchResponse)
		p := kmsg.NewFetchResponseTopicPartition()
		p.HighWatermark, p.LastStableOffset, p.RecordBatches = 1, 1, batch
		topic := kmsg.NewFetchResponseTopic()
		topic.Topic, topic.Partitions = req.Topics[0].Topic, append(topic.Partitions, p)
		res.Topics = append(res.Topics, topic)
		return res, nil, true
	})
}

func TestFetchReadsDamagedBatchesAgain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		damaged    int32
		want       []string
		unreadable []ingest.Unreadable
		refetched  float64
	}{
		{"damaged on the way", 2, []string{"good"}, nil, 2},
		{"damaged for good", 100, nil, []ingest.Unreadable{{From: 0, To: 1, Reason: "wrong checksum"}}, damagedTries - 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cl := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
			c := testClient(t, cl.ListenAddrs()[0])
			if _, err := c.Produce(t.Context(), "t", Message{Value: []byte("good")}); err != nil {
				t.Fatal(err)
			}
			answer(cl, tt.damaged, damaged())
			f, err := c.Fetch(t.Context(), event.Partition{Topic: "t"}, 0)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, values(f.Records)); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.unreadable, f.Unreadable); diff != "" {
				t.Errorf("unreadable (-want +got):\n%s", diff)
			}
			if got := count(t, c.met.refetched); got != tt.refetched {
				t.Errorf("read again %v times, want %v", got, tt.refetched)
			}
			if got := count(t, c.met.unreadable); got != float64(len(tt.unreadable)) {
				t.Errorf("counted %v unreadable offsets", got)
			}
			if f.Next != 1 {
				t.Errorf("next is %d, want 1", f.Next)
			}
		})
	}
}

// When the coordinator cannot be found for a moment, kafka-go gives its member
// up and joins as another; the broker must not wait for the first.
func TestGroupLeavesForAGivenUpMember(t *testing.T) {
	t.Parallel()
	cl := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	m := join(t, cl.ListenAddrs()[0], "g", GroupOptions{Topics: []string{"t"}}, nil)
	first := m.next(t, "active", active)
	var failing atomic.Int32
	failing.Store(2) // the search for joining, and the one for leaving
	cl.ControlKey(int16(kmsg.FindCoordinator), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cl.KeepControl()
		if failing.Add(-1) < 0 {
			return nil, nil, false
		}
		res := r.ResponseKind().(*kmsg.FindCoordinatorResponse)
		res.ErrorCode = kerr.CoordinatorNotAvailable.Code
		return res, nil, true
	})
	cl.ControlKey(int16(kmsg.Heartbeat), func(kmsg.Request) (kmsg.Response, error, bool) {
		return nil, errors.New("cut"), true
	})
	start := time.Now()
	again := m.next(t, "active", active)
	if again.Member == first.Member || again.Continued {
		t.Errorf("got %+v, want a new member", again)
	}
	if d := time.Since(start); d > 4*time.Second {
		t.Errorf("joining took %s; the session is 6s", d)
	}
	if got := count(t, m.met.left); got != 1 {
		t.Errorf("left for %v members, want 1", got)
	}
}

// A batch that stays cut is an error, not an empty answer: the reader would ask
// for it for ever.
func TestFetchCutBatch(t *testing.T) {
	t.Parallel()
	cl := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	c := testClient(t, cl.ListenAddrs()[0], func(c *Config) { c.Fetch.MaxBytes = 70 })
	p := event.Partition{Topic: "t"}
	if _, err := c.Produce(t.Context(), "t", Message{Value: []byte("good")}); err != nil {
		t.Fatal(err)
	}
	whole := kafkawire.EncodeBatch(nil, []kafkawire.Message{{Value: bytes.Repeat([]byte("x"), 100)}})
	answer(cl, 1, whole[:70])
	f, err := c.Fetch(t.Context(), p, 0) // asks again for more
	if err != nil || len(f.Records) != 1 {
		t.Errorf("cut once: got %+v, %v", f, err)
	}
	answer(cl, 100, whole[:70])
	if f, err = c.Fetch(t.Context(), p, 0); !errors.Is(err, kafkawire.ErrCut) {
		t.Errorf("cut for good: got %+v, %v", f, err)
	}
}

// certificate makes a certificate for 127.0.0.1 and writes it where ca_file can
// name it.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}

// The pool and the group both speak TLS and SASL.
func TestTLSAndSASL(t *testing.T) {
	t.Parallel()
	cert, ca := certificate(t)
	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			cl := cluster(t, kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.EnableSASL(),
				kfake.Superuser(strings.ToUpper(mechanism), "daemon", "the password"),
				kfake.TLS(&tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}))
			cfg := testConfig(cl.ListenAddrs()[0])
			cfg.TLS = kafkawire.TLSConfig{Enabled: true, CAFile: ca}
			cfg.SASL = kafkawire.SASLConfig{Mechanism: mechanism, Username: "daemon", Password: secret.Ref{Env: "X"}}
			cfg.RequestTimeout, cfg.RetryFor = time.Second, 2*time.Second
			c, err := NewClient(cfg, Deps{Password: secret.New("the password")})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			if _, err := c.Produce(t.Context(), "t", Message{Value: []byte("v")}); err != nil {
				t.Fatal(err)
			}
			if got := values(readAll(t, c, event.Partition{Topic: "t"}, 0, 1)); len(got) != 1 {
				t.Errorf("read %v", got)
			}
			g, err := NewGroup(c, GroupOptions{Topics: []string{"t"}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			joined := false
			if err := g.Run(ctx, func(_ context.Context, a Assignment) error {
				joined = !a.Standby()
				cancel()
				return nil
			}); err != nil || !joined {
				t.Errorf("group: %v, joined %t", err, joined)
			}

			wrong, err := NewClient(cfg, Deps{Password: secret.New("another")})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(wrong.Close)
			if err := wrong.Ping(t.Context()); err == nil || strings.Contains(err.Error(), "another") {
				t.Errorf("wrong password: got %v", err)
			}
			cfg.TLS.CAFile = ""
			unknown, err := NewClient(cfg, Deps{Password: secret.New("the password")})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(unknown.Close)
			if err := unknown.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
				t.Errorf("unknown authority: got %v", err)
			}
		})
	}
	for name, cfg := range map[string]kafkawire.TLSConfig{
		"no such file":   {Enabled: true, CAFile: "/nonexistent"},
		"no certificate": {Enabled: true, CAFile: os.Args[0]},
		"no key":         {Enabled: true, CertFile: ca, KeyFile: ca},
	} {
		full := testConfig("127.0.0.1:1")
		full.TLS = cfg
		if _, err := NewClient(full, Deps{}); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
