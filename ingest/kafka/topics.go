package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/keysentry/keysentry/internal/kafkawire"
)

// TopicInfo is what is known about a topic.
type TopicInfo struct {
	Name   string
	Exists bool
	// Denied: this user may not know whether the topic exists.
	Denied     bool
	Partitions int
	// Replicas is how many copies the broker keeps of the least-copied partition.
	Replicas int
	// Rights are what this user may do with the topic.
	Rights kafkawire.Operations
	// Settings are the topic's effective settings, by name; nil when the broker
	// did not tell (SettingsErr says why).
	Settings    map[string]string
	SettingsErr error
}

// AppendTime reports whether the broker stamps the records.
func (t TopicInfo) AppendTime() bool { return t.Settings["message.timestamp.type"] == "LogAppendTime" }

// RetentionMS is how long records are kept, in milliseconds; -1 without end. The
// second result is false when the broker did not tell.
func (t TopicInfo) RetentionMS() (int64, bool) {
	n, err := strconv.ParseInt(t.Settings["retention.ms"], 10, 64)
	return n, err == nil
}

// CheckTopics looks at topics and their settings. A topic that does not exist is
// an answer, not an error.
func (c *Client) CheckTopics(ctx context.Context, topics []string) ([]TopicInfo, error) {
	out, err := c.topics(ctx, topics)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(out, func(t TopicInfo) bool { return !t.Exists }) {
		c.wire.Refresh() // it may be newer than the metadata
		if out, err = c.topics(ctx, topics); err != nil {
			return nil, err
		}
	}
	return out, c.settings(ctx, out)
}

// TopicIDs are the ids of the topics that exist; kafkawire.ErrNoTopicIDs when the
// brokers are too old to have any.
func (c *Client) TopicIDs(ctx context.Context, topics []string) (map[string]string, error) {
	return c.wire.TopicIDs(ctx, topics)
}

// topics asks for existence, partitions and rights.
func (c *Client) topics(ctx context.Context, topics []string) ([]TopicInfo, error) {
	res, err := c.wire.Describe(ctx, topics)
	if err != nil {
		return nil, err
	}
	out := make([]TopicInfo, len(topics))
	for i, t := range res.Topics {
		out[i] = TopicInfo{
			Name: t.Name, Exists: t.Err == nil, Denied: errors.Is(t.Err, kafkago.TopicAuthorizationFailed),
			Partitions: t.Partitions, Replicas: t.Replicas, Rights: t.Operations,
		}
	}
	return out, nil
}

// settings fills in what DescribeConfigs tells.
func (c *Client) settings(ctx context.Context, topics []TopicInfo) error {
	var req kafkago.DescribeConfigsRequest
	for _, t := range topics {
		if t.Exists {
			req.Resources = append(req.Resources, kafkago.DescribeConfigRequestResource{
				ResourceType: kafkago.ResourceTypeTopic, ResourceName: t.Name,
			})
		}
	}
	if len(req.Resources) == 0 {
		return nil
	}
	var res *kafkago.DescribeConfigsResponse
	err := c.wire.Retry(ctx, "describe topics", func(ctx context.Context) (err error) {
		res, err = c.wire.Kafka().DescribeConfigs(ctx, &req)
		return err
	})
	if err != nil {
		return err
	}
	for _, r := range res.Resources {
		i := slices.IndexFunc(topics, func(t TopicInfo) bool { return t.Name == r.ResourceName })
		if i < 0 {
			continue
		}
		if r.Error != nil {
			topics[i].SettingsErr = r.Error
			continue
		}
		topics[i].Settings = make(map[string]string, len(r.ConfigEntries))
		for _, e := range r.ConfigEntries {
			topics[i].Settings[e.ConfigName] = e.ConfigValue
		}
	}
	return nil
}

// denied says that the broker hides the topic, and the right to grant.
func (t TopicInfo) denied() error {
	return fmt.Errorf("topic %s: this user may not see it, if it exists; grant it Describe and what else the task needs, for example: kafka-acls.sh --bootstrap-server HOST:PORT --add --allow-principal User:NAME --topic %s --operation Read --operation DescribeConfigs", t.Name, t.Name)
}

// CheckInputs reports, with the fix, every input topic that does not exist or
// whose records do not carry the broker's time. byProducer says which topics the
// configuration marks as observed: producer.
func CheckInputs(topics []TopicInfo, byProducer func(topic string) bool) []error {
	var errs []error
	for _, t := range topics {
		switch {
		case t.Denied:
			errs = append(errs, t.denied())
		case !t.Exists:
			errs = append(errs, fmt.Errorf("topic %s does not exist; create it, for example: kafka-topics.sh --bootstrap-server HOST:PORT --create --topic %s --partitions 6 --config message.timestamp.type=LogAppendTime", t.Name, t.Name))
		case byProducer(t.Name):
		case t.SettingsErr != nil:
			errs = append(errs, fmt.Errorf("topic %s: its settings cannot be read: %w; grant DescribeConfigs on the topic to this user", t.Name, t.SettingsErr))
		case !t.AppendTime():
			errs = append(errs, fmt.Errorf("topic %s uses %s, but the time of an event must be the broker's; set it with: kafka-configs.sh --bootstrap-server HOST:PORT --alter --topic %s --add-config message.timestamp.type=LogAppendTime, or, for imports and history, write observed: producer in the topic's entry",
				t.Name, t.Settings["message.timestamp.type"], t.Name))
		}
	}
	return errs
}

// ownTopic is a topic that Keysentry keeps for itself.
type ownTopic struct {
	name     string
	settings map[string]string
	// partitions is how many it is made with; 0: it must have one.
	partitions int
	// initial are further settings it is made with, which may be changed.
	initial map[string]string
}

// The verdicts' topic. What is read again is read beside the verdicts of all
// partitions that share a place, so there are several. A verdict is younger than
// its event; the time is twice that for which brokers keep records if not told
// otherwise, and doctor compares it with that of the input topics.
const (
	verdictPartitions = 12
	verdictRetention  = 14 * 24 * time.Hour
)

// ownTopics: the journal is never deleted from, control keeps the last value of
// each key, verdicts are found by the broker's time. Each but the last has one
// partition.
func (c *Client) ownTopics() []ownTopic {
	return []ownTopic{
		{name: c.cfg.Topics.Journal, settings: map[string]string{"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}},
		// Small segments: compaction leaves the newest one alone, and a takeover reads
		// the topic from its start.
		{name: c.cfg.Topics.Control, settings: map[string]string{"cleanup.policy": "compact", "segment.bytes": "16777216", "min.cleanable.dirty.ratio": "0.1"}},
		{name: c.cfg.Topics.Quarantine, settings: map[string]string{"cleanup.policy": "delete"}},
		{name: c.cfg.Topics.Verdicts, settings: map[string]string{"cleanup.policy": "delete", "message.timestamp.type": "LogAppendTime"},
			partitions: verdictPartitions, initial: map[string]string{"retention.ms": strconv.FormatInt(verdictRetention.Milliseconds(), 10)}},
	}
}

// EnsureTopics creates the topics of our own that do not exist, and reports
// those whose partitions or settings would break a promise.
func (c *Client) EnsureTopics(ctx context.Context) error {
	own := c.ownTopics()
	names := make([]string, len(own))
	for i, t := range own {
		names[i] = t.name
	}
	infos, err := c.CheckTopics(ctx, names)
	if err != nil {
		return err
	}
	var create []kafkago.TopicConfig
	for i, t := range own {
		if !infos[i].Exists && !infos[i].Denied {
			create = append(create, c.topicConfig(t))
		}
	}
	if len(create) > 0 {
		if err := c.create(ctx, create); err != nil {
			return err
		}
		if infos, err = c.awaitTopics(ctx, names); err != nil {
			return err
		}
	}
	var errs []error
	for i, t := range own {
		errs = append(errs, t.check(infos[i])...)
	}
	return errors.Join(errs...)
}

// createdWithin bounds how long a new topic may take to show.
const createdWithin = 10 * time.Second

// awaitTopics is CheckTopics for topics that were made just now, by us or by
// another daemon at the same moment: a broker answers before it shows them.
func (c *Client) awaitTopics(ctx context.Context, names []string) ([]TopicInfo, error) {
	for deadline := time.Now().Add(createdWithin); ; {
		infos, err := c.CheckTopics(ctx, names)
		missing := slices.ContainsFunc(infos, func(t TopicInfo) bool {
			return !t.Exists || errors.Is(t.SettingsErr, kafkago.UnknownTopicOrPartition)
		})
		if err != nil || !missing || time.Now().After(deadline) {
			return infos, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (c *Client) topicConfig(t ownTopic) kafkago.TopicConfig {
	factor := c.cfg.ReplicationFactor
	if factor == 0 {
		factor = -1
	}
	out := kafkago.TopicConfig{Topic: t.name, NumPartitions: max(1, t.partitions), ReplicationFactor: factor}
	for _, settings := range []map[string]string{t.settings, t.initial} {
		for k, v := range settings {
			out.ConfigEntries = append(out.ConfigEntries, kafkago.ConfigEntry{ConfigName: k, ConfigValue: v})
		}
	}
	if factor >= 3 {
		// Acknowledged by all in-sync replicas means little when that may be one.
		out.ConfigEntries = append(out.ConfigEntries, kafkago.ConfigEntry{ConfigName: "min.insync.replicas", ConfigValue: "2"})
	}
	return out
}

// create makes topics; one that another daemon made meanwhile is fine.
func (c *Client) create(ctx context.Context, topics []kafkago.TopicConfig) error {
	return c.wire.Retry(ctx, "create topics", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
		defer cancel()
		res, err := c.wire.Kafka().CreateTopics(ctx, &kafkago.CreateTopicsRequest{Topics: topics})
		if err != nil {
			return err
		}
		var errs []error
		for name, err := range res.Errors {
			if err != nil && !errors.Is(err, kafkago.TopicAlreadyExists) {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
		return errors.Join(errs...)
	})
}

// CreateTopic makes an input topic with the broker's time, for demonstrations
// and tests. A topic that exists is left as it is.
func (c *Client) CreateTopic(ctx context.Context, name string, partitions int, settings map[string]string) error {
	return c.create(ctx, []kafkago.TopicConfig{c.topicConfig(ownTopic{name: name, settings: settings, partitions: partitions})})
}

// check reports what is wrong with a topic of our own, with the fix.
func (t ownTopic) check(info TopicInfo) []error {
	if info.Denied {
		return []error{info.denied()}
	}
	if !info.Exists {
		return []error{fmt.Errorf("topic %s was created and is not there yet; try again", t.name)}
	}
	var errs []error
	if t.partitions == 0 && info.Partitions != 1 {
		errs = append(errs, fmt.Errorf("topic %s has %d partitions and must have 1; delete it if it is empty, or name another in the configuration", t.name, info.Partitions))
	}
	if info.SettingsErr != nil {
		return append(errs, fmt.Errorf("topic %s: its settings cannot be read: %w; grant DescribeConfigs on the topic to this user", t.name, info.SettingsErr))
	}
	var wrong, fix []string
	for _, k := range slices.Sorted(maps.Keys(t.settings)) {
		if got, ok := info.Settings[k]; ok && got != t.settings[k] {
			wrong = append(wrong, k+"="+got)
			fix = append(fix, k+"="+t.settings[k])
		}
	}
	if len(wrong) > 0 {
		errs = append(errs, fmt.Errorf("topic %s has %s; set it with: kafka-configs.sh --bootstrap-server HOST:PORT --alter --topic %s --add-config %s",
			t.name, strings.Join(wrong, " "), t.name, strings.Join(fix, ",")))
	}
	return errs
}
