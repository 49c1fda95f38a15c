package devstack

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keysentry/keysentry/internal/secret"
)

// Protocol is what a listener speaks.
type Protocol string

// The protocols that a listener can have beside the plain one.
const (
	ProtocolSSL           Protocol = "SSL"
	ProtocolSASLPlaintext Protocol = "SASL_PLAINTEXT"
	ProtocolSASLSSL       Protocol = "SASL_SSL"
)

// Listener is one more door of an Apache Kafka.
type Listener struct {
	Protocol Protocol
	Port     int // 0: a free port
	// KeyStorePEM is a file with the certificate chain and the private key
	// (PKCS#8), for the SSL protocols.
	KeyStorePEM string
	// ClientCAPEM is a file with the authority of client certificates, which
	// are required then.
	ClientCAPEM string
	// Mechanism of the SASL protocols: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
	Mechanism string
	// Users and their passwords, for the SASL protocols. SCRAM users are
	// written when the data folder is formatted, and stay as they are.
	Users map[string]secret.Value
}

func (l Listener) sasl() bool { return strings.HasPrefix(string(l.Protocol), "SASL_") }
func (l Listener) tls() bool  { return strings.HasSuffix(string(l.Protocol), "SSL") }

func (l Listener) validate() error {
	switch l.Protocol {
	case ProtocolSSL, ProtocolSASLPlaintext, ProtocolSASLSSL:
	default:
		return fmt.Errorf("listener protocol %q: want SSL, SASL_PLAINTEXT or SASL_SSL", l.Protocol)
	}
	if l.tls() && l.KeyStorePEM == "" {
		return fmt.Errorf("listener %s: give KeyStorePEM", l.Protocol)
	}
	if !l.sasl() {
		return nil
	}
	if len(l.Users) == 0 {
		return fmt.Errorf("listener %s: give Users", l.Protocol)
	}
	switch l.Mechanism {
	case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
		return nil
	}
	return fmt.Errorf("listener %s: mechanism %q: want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", l.Protocol, l.Mechanism)
}

// writeProperties writes server.properties for this start and returns its path.
func (k *ApacheKafka) writeProperties(o ApacheOptions) (string, error) {
	props := map[string]string{
		"process.roles":                                    "broker,controller",
		"node.id":                                          "1",
		"controller.quorum.voters":                         "1@" + hostPort(k.ports.controller),
		"controller.listener.names":                        "CONTROLLER",
		"inter.broker.listener.name":                       "PLAINTEXT",
		"log.dirs":                                         k.logDir(),
		"num.partitions":                                   "1",
		"auto.create.topics.enable":                        "false",
		"offsets.topic.num.partitions":                     "5",
		"offsets.topic.replication.factor":                 "1",
		"transaction.state.log.num.partitions":             "5",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
		"group.initial.rebalance.delay.ms":                 "0",
		// A killed broker's registration stands until its session ends; the
		// default of 9 s would be the time of each restart after a kill.
		"broker.session.timeout.ms":      "3000",
		"broker.heartbeat.interval.ms":   "500",
		"num.network.threads":            "2",
		"num.io.threads":                 "4",
		"log.cleaner.dedupe.buffer.size": "16777216",
	}
	listeners := []string{"PLAINTEXT://" + hostPort(k.ports.plain), "CONTROLLER://" + hostPort(k.ports.controller)}
	protocols := []string{"PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT"}
	for i, l := range o.Listeners {
		if err := l.validate(); err != nil {
			return "", fmt.Errorf("start Apache Kafka: %w", err)
		}
		name := fmt.Sprintf("EXTRA%d", i)
		listeners = append(listeners, name+"://"+hostPort(k.ports.extra[i]))
		protocols = append(protocols, name+":"+string(l.Protocol))
		maps.Copy(props, l.properties("listener.name."+strings.ToLower(name)+"."))
	}
	props["listeners"] = strings.Join(listeners, ",")
	advertised := slices.Delete(slices.Clone(listeners), 1, 2) // not the controller's
	if o.Advertise != "" {
		advertised[0] = "PLAINTEXT://" + o.Advertise
	}
	props["advertised.listeners"] = strings.Join(advertised, ",")
	props["listener.security.protocol.map"] = strings.Join(protocols, ",")
	maps.Copy(props, o.Properties)

	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(props)) {
		fmt.Fprintf(&b, "%s=%s\n", key, strings.ReplaceAll(props[key], `\`, `\\`))
	}
	if err := os.MkdirAll(k.dir, 0o755); err != nil {
		return "", fmt.Errorf("make the data folder: %w", err)
	}
	path := filepath.Join(k.dir, "server.properties")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return "", fmt.Errorf("write server.properties: %w", err)
	}
	return path, nil
}

// properties are the listener's own, under its prefix.
func (l Listener) properties(prefix string) map[string]string {
	props := map[string]string{}
	if l.tls() {
		props[prefix+"ssl.keystore.type"] = "PEM"
		props[prefix+"ssl.keystore.location"] = l.KeyStorePEM
		props[prefix+"ssl.client.auth"] = "none"
		if l.ClientCAPEM != "" {
			props[prefix+"ssl.truststore.type"] = "PEM"
			props[prefix+"ssl.truststore.location"] = l.ClientCAPEM
			props[prefix+"ssl.client.auth"] = "required"
		}
	}
	if !l.sasl() {
		return props
	}
	props[prefix+"sasl.enabled.mechanisms"] = l.Mechanism
	module := "org.apache.kafka.common.security.scram.ScramLoginModule required"
	if l.Mechanism == "PLAIN" {
		module = "org.apache.kafka.common.security.plain.PlainLoginModule required"
		for _, u := range slices.Sorted(maps.Keys(l.Users)) {
			module += fmt.Sprintf(" user_%s=%q", u, l.Users[u].Reveal())
		}
	}
	props[prefix+strings.ToLower(l.Mechanism)+".sasl.jaas.config"] = module + ";"
	return props
}

// scramArgs are StorageTool's arguments for the SCRAM users.
func scramArgs(listeners []Listener) []string {
	var args []string
	for _, l := range listeners {
		if !strings.HasPrefix(l.Mechanism, "SCRAM-") {
			continue
		}
		for _, u := range slices.Sorted(maps.Keys(l.Users)) {
			args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", l.Mechanism, u, l.Users[u].Reveal()))
		}
	}
	return args
}

// newClusterID is a cluster id in Kafka's form: 16 random bytes, base64.
func newClusterID() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	id[0] &= 0x7f           // keeps a leading "-" away, which StorageTool takes for an option
	return base64.RawURLEncoding.EncodeToString(id[:])
}

// readClusterID reads the id that the storage was formatted with.
func readClusterID(logDir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(logDir, "meta.properties"))
	if err != nil {
		return "", fmt.Errorf("read the broker's storage: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if id, ok := strings.CutPrefix(strings.TrimSpace(line), "cluster.id="); ok {
			return id, nil
		}
	}
	return "", errors.New("read the broker's storage: meta.properties names no cluster.id")
}
