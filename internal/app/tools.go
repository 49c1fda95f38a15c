package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	kafkajournal "github.com/keysentry/keysentry/alert/journal/kafka"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/redact"
	"github.com/keysentry/keysentry/internal/secret"
)

// toolTimeout bounds a command that reads from Kafka.
const toolTimeout = time.Minute

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// kafkaOf connects to the Kafka of a configuration.
func kafkaOf(cfg *config.Config) (*kafka.Client, error) {
	return openKafka(cfg, os.Getenv)
}

func openKafka(cfg *config.Config, getenv func(string) string) (*kafka.Client, error) {
	password, err := cfg.Kafka.SASL.Password.Resolve(getenv)
	if err != nil {
		return nil, operator("kafka.sasl.password", err)
	}
	c, err := kafka.NewClient(cfg.Kafka, kafka.Deps{Password: password, Log: quiet()})
	return c, operator("kafka", err)
}

// ReplayRecord reads a record from Kafka and, if it decodes now, produces it to
// its topic once more. It returns the new place.
func ReplayRecord(ctx context.Context, cfg *config.Config, ref event.Ref) (event.Ref, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	client, err := kafkaOf(cfg)
	if err != nil {
		return event.Ref{}, err
	}
	defer client.Close()
	// A broker that does not answer would look like a topic that does not exist.
	if err := client.Ping(ctx); err != nil {
		return event.Ref{}, err
	}
	p := event.Partition{Topic: ref.Topic, ID: ref.Partition}
	f, err := client.Fetch(ctx, p, ref.Offset)
	var gone *ingest.OffsetGone
	switch {
	case errors.As(err, &gone):
		return event.Ref{}, fmt.Errorf("%s: Kafka no longer has the record; the topic begins at offset %d", p, gone.LogStart)
	case err != nil:
		return event.Ref{}, err
	case len(f.Records) == 0 || f.Records[0].Offset != ref.Offset:
		return event.Ref{}, fmt.Errorf("%s: there is no readable record at offset %d", p, ref.Offset)
	}
	record := f.Records[0]
	f.Records, f.Next = f.Records[:1], ref.Offset+1
	a := &App{cfg: cfg, opts: Options{Getenv: os.Getenv}, redactor: redact.New()}
	dec, err := a.newDecoder()
	if err != nil {
		return event.Ref{}, err
	}
	b, err := dec.Decode(p, f, ref.Offset, ingest.NewClock(1), event.At(time.Now()))
	if err != nil {
		return event.Ref{}, err
	}
	if len(b.Rejects) > 0 {
		r := b.Rejects[0]
		return event.Ref{}, fmt.Errorf("the record still is no event: %s %s: %s", r.Reason, r.Field, r.Detail)
	}
	return client.Produce(ctx, ref.Topic, kafka.Message{Time: record.Time, Key: record.Key, Value: record.Value, Headers: record.Headers})
}

// readJournal reads every record of the journal, strays included.
func readJournal(ctx context.Context, cfg *config.Config) ([]journal.Raw, secret.Value, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	key, err := cfg.Journal.Key.Resolve(os.Getenv)
	if err != nil {
		return nil, key, operator("journal.key", err)
	}
	client, err := kafkaOf(cfg)
	if err != nil {
		return nil, key, err
	}
	defer client.Close()
	log, err := kafkajournal.New(cfg.Journal, kafkajournal.Deps{Wire: client.Wire(), Topic: cfg.Kafka.Topics.Journal, Key: key, Log: quiet()})
	if err != nil {
		return nil, key, operator("journal", err)
	}
	raw, err := log.ReadAll(ctx)
	return raw, key, err
}

// VerifyJournal checks the whole journal; known may be zero.
func VerifyJournal(ctx context.Context, cfg *config.Config, known journal.Head) (*journal.Report, error) {
	raw, key, err := readJournal(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return journal.Verify(raw, key, known), nil
}

// ExportJournal calls emit for every accepted record, in order.
func ExportJournal(ctx context.Context, cfg *config.Config, emit func(journal.Record) error) error {
	raw, key, err := readJournal(ctx, cfg)
	if err != nil {
		return err
	}
	return accepted(raw, key, emit)
}

// accepted calls emit for the records that are part of the history.
func accepted(raw []journal.Raw, key secret.Value, emit func(journal.Record) error) error {
	chain := journal.NewChain(key)
	for _, r := range raw {
		rec, err := journal.Decode(r.Value)
		if err != nil || chain.Accept(rec) != nil {
			continue // a stray; verify tells of it
		}
		rec.Offset = r.Offset
		if err := emit(rec); err != nil {
			return err
		}
	}
	return nil
}

// replayJournal implements store.Replay on the journal's topic.
func (a *App) replayJournal(ctx context.Context, from int64, apply func(journal.Record) error) error {
	raw, err := a.journal.ReadAll(ctx)
	if err != nil {
		return err
	}
	key, err := a.cfg.Journal.Key.Resolve(a.opts.Getenv)
	if err != nil {
		return err
	}
	return accepted(raw, key, func(r journal.Record) error {
		if r.N < from {
			return nil
		}
		return apply(r)
	})
}

// Producer writes records to one topic in large batches.
type Producer struct {
	client  *kafka.Client
	topic   string
	pending []kafka.Message
}

// producerBatch is how many records go into one call.
const producerBatch = 5000

// NewProducer prepares a producer without TLS or credentials, for tools on
// development brokers.
func NewProducer(brokers []string, topic string) (*Producer, error) {
	cfg := kafka.DefaultConfig()
	cfg.Brokers = brokers
	client, err := kafka.NewClient(cfg, kafka.Deps{Log: quiet()})
	if err != nil {
		return nil, err
	}
	return &Producer{client: client, topic: topic}, nil
}

// Add takes a record; the producer keeps its memory until the next Flush.
func (p *Producer) Add(ctx context.Context, m kafka.Message) error {
	p.pending = append(p.pending, m)
	if len(p.pending) < producerBatch {
		return nil
	}
	return p.Flush(ctx)
}

// Flush writes what is pending and waits for the acknowledgement.
func (p *Producer) Flush(ctx context.Context) error {
	if len(p.pending) == 0 {
		return nil
	}
	err := p.client.ProduceBatch(ctx, p.topic, p.pending)
	p.pending = p.pending[:0]
	if err != nil {
		return fmt.Errorf("produce to %s: %w", p.topic, err)
	}
	return nil
}

// Close flushes and disconnects.
func (p *Producer) Close(ctx context.Context) error {
	defer p.client.Close()
	return p.Flush(ctx)
}
