package app

import (
	"context"
	"errors"
	"fmt"

	httpingest "github.com/keysentry/keysentry/ingest/http"
	"github.com/keysentry/keysentry/ingest/kafka"
)

// buildEvents makes the door for events over HTTP, when somebody may use it.
func (a *App) buildEvents() error {
	if len(a.cfg.Ingest.HTTP.Sources) == 0 {
		return nil
	}
	var err error
	a.events, err = httpingest.New(a.cfg.Ingest.HTTP, httpingest.Deps{
		Producer: producing{a.kafka}, Topics: a.cfg.Ingest.Topics, Getenv: a.opts.Getenv, Log: a.log, Metrics: a.opts.Metrics,
	})
	if err != nil {
		return &OperatorError{fmt.Errorf("ingest.http.%w", err)}
	}
	return nil
}

// takeEvents keeps the door open until ctx ends.
func (a *App) takeEvents(ctx context.Context) error {
	if a.events == nil {
		return nil
	}
	return a.events.Run(ctx)
}

// producing writes posted events to Kafka.
type producing struct{ client *kafka.Client }

var _ httpingest.Producer = producing{}

// Produce implements httpingest.Producer.
func (p producing) Produce(ctx context.Context, topic string, records []httpingest.Record) error {
	msgs := make([]kafka.Message, len(records))
	for i, r := range records {
		msgs[i] = kafka.Message{Key: r.Key, Value: r.Value, Headers: r.Headers}
	}
	err := p.client.ProduceBatch(ctx, topic, msgs)
	switch {
	case errors.Is(err, kafka.ErrNotSent):
		return fmt.Errorf("%w: %w", httpingest.ErrNotSent, err)
	case errors.Is(err, kafka.ErrTooLarge):
		return fmt.Errorf("%w: %w", httpingest.ErrTooLarge, err)
	}
	return err
}
