package kafka

import (
	"errors"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/internal/kafkawire"
)

// Config is the section kafka of the configuration.
type Config struct {
	kafkawire.Config `yaml:",inline"`
	Group            GroupConfig `yaml:"group"`
	// ReplicationFactor is that of the topics Keysentry creates for itself; 0
	// leaves it to the broker.
	ReplicationFactor int         `yaml:"replication_factor"`
	Topics            TopicConfig `yaml:"topics"`
}

// TopicConfig names the topics Keysentry keeps for itself.
type TopicConfig struct {
	Quarantine string `yaml:"quarantine"` // topic of records that are no events
	Journal    string `yaml:"journal"`    // topic of the journal
	Control    string `yaml:"control"`    // topic of the detected positions
	Verdicts   string `yaml:"verdicts"`   // topic of causes that were decided while storage was behind
}

// GroupConfig is the consumer group and its clocks. A dead member is noticed
// after SessionTimeout; brokers refuse less than 6 s by default.
type GroupConfig struct {
	ID             string        `yaml:"id"`              // consumer group; daemons with one id are one active member and its standbys
	SessionTimeout time.Duration `yaml:"session_timeout"` // a member that is silent for so long is out
	Heartbeat      time.Duration `yaml:"heartbeat"`       // pause between two signs of life
	Rebalance      time.Duration `yaml:"rebalance"`       // time that members have to join again
	Timeout        time.Duration `yaml:"timeout"`         // bounds one request of the group protocol
	JoinBackoff    time.Duration `yaml:"join_backoff"`    // pause after a failed attempt to join
	// PartitionWatch is how often new partitions are looked for.
	PartitionWatch time.Duration `yaml:"partition_watch"`
}

// DefaultConfig is for a broker with the stock limits.
func DefaultConfig() Config {
	return Config{
		Config: kafkawire.DefaultConfig(),
		Group: GroupConfig{
			ID:             "keysentry",
			SessionTimeout: 6 * time.Second,
			Heartbeat:      time.Second,
			Rebalance:      10 * time.Second,
			Timeout:        2 * time.Second,
			JoinBackoff:    250 * time.Millisecond,
			PartitionWatch: 5 * time.Second,
		},
		Topics: TopicConfig{
			Quarantine: "keysentry.quarantine",
			Journal:    "keysentry.journal",
			Control:    "keysentry.control",
			Verdicts:   "keysentry.verdicts",
		},
	}
}

// Validate reports every fault; each error begins with the field's path.
func (c Config) Validate() []error {
	errs := c.Config.Validate()
	errs = append(errs, c.Group.validate()...)
	if c.ReplicationFactor < 0 || c.ReplicationFactor > 16 {
		errs = append(errs, errors.New("replication_factor: must lie between 0 (the broker's default) and 16"))
	}
	seen := map[string]string{}
	for _, t := range []struct{ path, name string }{
		{"topics.quarantine", c.Topics.Quarantine},
		{"topics.journal", c.Topics.Journal},
		{"topics.control", c.Topics.Control},
		{"topics.verdicts", c.Topics.Verdicts},
	} {
		if t.name == "" {
			errs = append(errs, fmt.Errorf("%s: must be given", t.path))
		} else if other, ok := seen[t.name]; ok {
			errs = append(errs, fmt.Errorf("%s: is the same topic as %s", t.path, other))
		}
		seen[t.name] = t.path
	}
	return errs
}

func (c GroupConfig) validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.ID == "" {
		bad("group.id: must be given")
	}
	for _, d := range []struct {
		path string
		v    time.Duration
	}{
		{"group.session_timeout", c.SessionTimeout},
		{"group.heartbeat", c.Heartbeat},
		{"group.rebalance", c.Rebalance},
		{"group.timeout", c.Timeout},
		{"group.join_backoff", c.JoinBackoff},
		{"group.partition_watch", c.PartitionWatch},
	} {
		if d.v < time.Millisecond {
			bad("%s: must be at least 1ms", d.path)
		}
	}
	if 3*c.Heartbeat > c.SessionTimeout {
		bad("group.heartbeat: must be at most a third of session_timeout (%s)", c.SessionTimeout)
	}
	return errs
}
