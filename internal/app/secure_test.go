package app_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/kafkawire"
	"github.com/keysentry/keysentry/internal/secret"
)

// The listeners of secureKafka, in order.
const (
	scram512TLS = iota
	scram256TLS
	mutualTLS
	plainSASL
)

const (
	daemonUser     = "keysentry"
	daemonPassword = "the daemon's"
)

// secureKafka is an Apache Kafka that checks names, certificates and rights.
type secureKafka struct {
	*devstack.ApacheKafka
	authority *devstacktest.Authority
	client    devstacktest.Certificate
}

// reauthenticate is after how long the SCRAM-SHA-256 listener wants the password
// again, or ends the connection.
const reauthenticate = 3 * time.Second

func startSecureKafka(t *testing.T) *secureKafka {
	t.Helper()
	k := &secureKafka{authority: devstacktest.NewAuthority(t, "test authority")}
	server := k.authority.Issue(t, "broker", time.Now().Add(time.Hour))
	k.client = k.authority.Issue(t, daemonUser, time.Now().Add(time.Hour))
	users := map[string]secret.Value{daemonUser: secret.New(daemonPassword), "stranger": secret.New("the stranger's")}
	props := devstack.Authorizer()
	props["listener.name.extra1.scram-sha-256.connections.max.reauth.ms"] = fmt.Sprint(reauthenticate.Milliseconds())
	props["listener.name.extra2.ssl.principal.mapping.rules"] = "RULE:^CN=([a-z]+)$/$1/"
	var err error
	k.ApacheKafka, err = devstack.StartApacheKafka(t.Context(), devstack.ApacheOptions{Properties: props, Listeners: []devstack.Listener{
		scram512TLS: {Protocol: devstack.ProtocolSASLSSL, KeyStorePEM: server.Both, Mechanism: "SCRAM-SHA-512", Users: users},
		scram256TLS: {Protocol: devstack.ProtocolSASLSSL, KeyStorePEM: server.Both, Mechanism: "SCRAM-SHA-256", Users: users},
		mutualTLS:   {Protocol: devstack.ProtocolSSL, KeyStorePEM: server.Both, ClientCAPEM: k.authority.CAFile},
		plainSASL:   {Protocol: devstack.ProtocolSASLPlaintext, Mechanism: "PLAIN", Users: users},
	}})
	devstacktest.Check(t, err)
	t.Cleanup(func() { _ = k.Stop(context.Background()) })
	return k
}

// use is the configuration of one listener.
func (k *secureKafka) use(r *rig, listener int) {
	c := &r.cfg.Kafka
	c.Brokers = []string{k.ListenerAddr(listener)}
	c.TLS, c.SASL = kafkawire.TLSConfig{Enabled: true, CAFile: k.authority.CAFile}, kafkawire.SASLConfig{}
	switch listener {
	case scram512TLS:
		c.SASL.Mechanism = "scram-sha-512"
	case scram256TLS:
		c.SASL.Mechanism = "scram-sha-256"
	case plainSASL:
		c.SASL.Mechanism, c.TLS = "plain", kafkawire.TLSConfig{}
	case mutualTLS:
		c.TLS.CertFile, c.TLS.KeyFile = k.client.CertFile, k.client.KeyFile
		return
	}
	c.SASL.Username, c.SASL.Password = daemonUser, secret.Ref{Env: "KAFKA_PASSWORD"}
	r.env["KAFKA_PASSWORD"] = daemonPassword
}

// allow gives the daemon the rights that docs/howto/secure-kafka.md names, and no
// other.
func (k *secureKafka) allow(t *testing.T, r *rig, topic string) {
	t.Helper()
	own := strings.TrimSuffix(r.cfg.Kafka.Topics.Journal, "journal")
	err := devstack.Allow(t.Context(), k.Addr(),
		devstack.Rule{Principal: "User:" + daemonUser, Topic: topic, Operations: []string{"READ", "DESCRIBE_CONFIGS"}},
		devstack.Rule{Principal: "User:" + daemonUser, Topic: own, Prefix: true, Operations: []string{"CREATE", "READ", "WRITE", "DESCRIBE_CONFIGS"}},
		devstack.Rule{Principal: "User:" + daemonUser, Group: r.cfg.Kafka.Group.ID, Operations: []string{"READ"}})
	if err != nil {
		t.Fatal(err)
	}
}

// TestSecureKafka runs the daemon on each kind of listener of an Apache Kafka,
// with the documented rights alone.
func TestSecureKafka(t *testing.T) {
	t.Parallel()
	k := startSecureKafka(t)
	for name, listener := range map[string]int{"SASL_SSL SCRAM-SHA-512": scram512TLS, "SASL_SSL SCRAM-SHA-256": scram256TLS, "SSL": mutualTLS, "SASL_PLAINTEXT PLAIN": plainSASL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := sourceTopic(t, k.Addr(), 1, devstack.LogAppendTime())
			r := newRig(t, "unused:1", devstacktest.ClickHouse(t), ingest.TopicConfig{Name: topic, Origin: event.OriginBackend})
			k.use(r, listener)
			k.allow(t, r, topic)
			d := r.start("only", nil)
			d.leads()
			const n = 20
			produce(t, k.Addr(), topic, requests(0, n)...)
			r.stored(topic, n)
			if listener == scram256TLS {
				k.outlive(t, r, d, topic, n)
			}
			d.stop()
			rows := r.doctor()
			for _, row := range rows {
				if row.Status == app.DoctorFail {
					t.Errorf("doctor: %+v", row)
				}
			}
			said(t, rows, app.DoctorGood, "kafka rights", "may do what the daemon does")
			said(t, rows, app.DoctorWarn, "kafka access", "--cluster --operation Describe")
		})
	}
	t.Run("faults", func(t *testing.T) { k.faults(t) })
	t.Run("doctor", func(t *testing.T) {
		t.Parallel()
		k.doctor(t)
	})
}

// outlive holds the daemon to going on after the broker has ended every
// connection whose password is too old.
func (k *secureKafka) outlive(t *testing.T, r *rig, d *daemon, topic string, n int) {
	t.Helper()
	for end := time.Now().Add(3 * reauthenticate); time.Now().Before(end); n++ {
		produce(t, k.Addr(), topic, request(n, time.Now()))
		r.stored(topic, n+1)
	}
	if lost := d.metric("keysentry_ingest_lost_offsets_total"); lost != 0 {
		t.Errorf("%v offsets lost", lost)
	}
	if n := d.metric("keysentry_kafka_group_generations_total"); n < 2 {
		t.Errorf("%v generations: the broker ended no connection, so that nothing was outlived", n)
	}
	if n := strings.Count(d.logs.String(), "continued=false"); n != 1 {
		t.Errorf("state was built anew %d times, want once, at the start", n)
	}
}

// faults: what is wrong with names, certificates and rights is the operator's,
// and the error says what to change.
func (k *secureKafka) faults(t *testing.T) {
	stale := k.authority.Issue(t, "stale", time.Now().Add(-time.Hour))
	other := devstacktest.NewAuthority(t, "another authority")
	foreign := other.Issue(t, daemonUser, time.Now().Add(time.Hour))
	for _, tt := range []struct {
		name     string
		listener int
		change   func(*rig, *kafka.Config)
		want     []string
	}{
		{"wrong password", scram512TLS, func(r *rig, _ *kafka.Config) { r.env["KAFKA_PASSWORD"] = "mistyped" }, []string{`refuse user "keysentry"`, "kafka.sasl.password"}},
		{"wrong password in clear", plainSASL, func(r *rig, _ *kafka.Config) { r.env["KAFKA_PASSWORD"] = "mistyped" }, []string{`refuse user "keysentry"`, "kafka.sasl.password"}},
		{"no such user", scram256TLS, func(_ *rig, c *kafka.Config) { c.SASL.Username = "nobody" }, []string{`refuse user "nobody"`, "scram-sha-256"}},
		{"another mechanism", scram512TLS, func(_ *rig, c *kafka.Config) { c.SASL.Mechanism = "plain" }, []string{"does not offer plain", "kafka.sasl.mechanism"}},
		{"unknown authority", scram512TLS, func(_ *rig, c *kafka.Config) { c.TLS.CAFile = other.CAFile }, []string{"not trusted", "kafka.tls.ca_file"}},
		{"another name", scram512TLS, func(_ *rig, c *kafka.Config) { c.TLS.ServerName = "kafka.example" }, []string{"another name", "kafka.tls.server_name"}},
		{"TLS at a listener without", plainSASL, func(_ *rig, c *kafka.Config) {
			c.TLS = kafkawire.TLSConfig{Enabled: true, CAFile: k.authority.CAFile}
		}, []string{"speak TLS", "kafka.tls.enabled"}},
		{"no TLS at a listener with it", scram512TLS, func(_ *rig, c *kafka.Config) { c.TLS = kafkawire.TLSConfig{} }, []string{"want TLS", "kafka.tls.enabled"}},
		{"no SASL at a listener with it", plainSASL, func(_ *rig, c *kafka.Config) { c.SASL = kafkawire.SASLConfig{} }, []string{"SASL"}},
		{"no client certificate", mutualTLS, func(_ *rig, c *kafka.Config) { c.TLS.CertFile, c.TLS.KeyFile = "", "" }, []string{"kafka.tls.cert_file"}},
		{"client certificate out of date", mutualTLS, func(_ *rig, c *kafka.Config) { c.TLS.CertFile, c.TLS.KeyFile = stale.CertFile, stale.KeyFile }, []string{"refuse the client certificate", "out of date"}},
		{"client certificate of another authority", mutualTLS, func(_ *rig, c *kafka.Config) { c.TLS.CertFile, c.TLS.KeyFile = foreign.CertFile, foreign.KeyFile },
			[]string{"refuse the client certificate", "do not trust"}},
		{"no rights", plainSASL, func(r *rig, c *kafka.Config) {
			c.SASL.Username, r.env["KAFKA_PASSWORD"] = "stranger", "the stranger's"
		}, []string{"this user may not see it", "kafka-acls.sh"}},
		{"no right to join the group", plainSASL, func(r *rig, c *kafka.Config) { c.Group.ID += "-other" }, []string{"consumer group", "lacks a right", "doctor"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			topic := sourceTopic(t, k.Addr(), 1, devstack.LogAppendTime())
			r := newRig(t, "unused:1", "127.0.0.1:1", ingest.TopicConfig{Name: topic, Origin: event.OriginBackend})
			k.use(r, tt.listener)
			k.allow(t, r, topic)
			cfg := r.config("only", func(c *config.Config) { tt.change(r, &c.Kafka) })
			d := &daemon{logs: &logs{}}
			a, err := app.New(cfg, r.options(d))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			err = a.Run(ctx)
			var fault *app.OperatorError
			// A broker that hangs up without a word may be another kind of listener, or
			// a broker in trouble: that is not for good.
			if silent := strings.Contains(tt.name, "at a listener with"); errors.As(err, &fault) == silent {
				t.Errorf("%v: an operator's fault: %v, want %v", err, silent, !silent)
			}
			if err != nil {
				for _, w := range tt.want {
					if !strings.Contains(err.Error(), w) {
						t.Errorf("%q does not say %q", err, w)
					}
				}
				if password := r.env["KAFKA_PASSWORD"]; password != "" && strings.Contains(err.Error()+d.logs.String(), password) {
					t.Error("the password is in the error or in the log")
				}
			}
		})
	}
}
