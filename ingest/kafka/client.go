package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/kafkawire"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/internal/secret"
)

// Deps are what a Client needs besides its configuration.
type Deps struct {
	// Password is the resolved sasl.password.
	Password secret.Value
	Log      *slog.Logger
	Metrics  *metrics.Registry
}

// Client is the connection to the brokers. It is safe for concurrent use.
type Client struct {
	cfg     Config
	log     *slog.Logger
	wire    *kafkawire.Client
	decoder kafkawire.Decoder
	met     *clientMetrics
	spread  atomic.Uint32 // counts records without a key
}

var _ ingest.Source = (*Client)(nil)

// NewClient reads the certificates; it does not connect.
func NewClient(cfg Config, deps Deps) (*Client, error) {
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	wire, err := kafkawire.New(cfg.Config, kafkawire.Deps{Password: deps.Password, Log: deps.Log})
	if err != nil {
		return nil, err
	}
	return &Client{
		cfg:     cfg,
		log:     deps.Log,
		wire:    wire,
		decoder: kafkawire.Decoder{MaxDecompressed: cfg.Fetch.MaxDecompressed},
		met:     newClientMetrics(metrics.OrNew(deps.Metrics)),
	}, nil
}

// Wire is the connection pool, which the journal's log shares.
func (c *Client) Wire() *kafkawire.Client { return c.wire }

// Close ends the connections.
func (c *Client) Close() { c.wire.Close() }

// Ping reports whether a broker answers.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	if _, err := c.wire.Kafka().ApiVersions(ctx, &kafkago.ApiVersionsRequest{}); err != nil {
		return fmt.Errorf("no answer from the Kafka brokers %v: %w", c.cfg.Brokers, c.wire.Explain(err))
	}
	return nil
}

// Refused reports whether err stands until a person changes something:
// credentials, certificates or rights.
func Refused(err error) bool { return kafkawire.Refused(err) }

// ErrBeyondEnd says that an offset lies after the end of its partition: the
// topic was made anew, or lost its tail.
var ErrBeyondEnd = errors.New("the offset lies beyond the end of the partition: the topic was made anew or truncated; read it under a new topic name, or into a fresh database with a new kafka.group.id and kafka.topics.control")

// damagedTries is how often a batch that does not fit its checksum is read
// before it counts as unreadable: the fault may have happened on the way.
const damagedTries = 3

// Fetch implements ingest.Source; records of open and aborted transactions are
// not returned.
func (c *Client) Fetch(ctx context.Context, p event.Partition, offset int64) (*ingest.Fetched, error) {
	req := kafkawire.FetchRequest{
		Topic: p.Topic, Partition: p.ID, Offset: offset,
		MinBytes: c.cfg.Fetch.MinBytes, MaxBytes: c.cfg.Fetch.MaxBytes, MaxWait: c.cfg.Fetch.MaxWait,
		Isolation: kafkawire.ReadCommitted,
	}
	start := time.Now()
	for try := 1; ; try++ {
		res, err := c.wire.Fetch(ctx, req)
		if errors.Is(err, kafkago.OffsetOutOfRange) {
			err = c.outOfRange(ctx, p, offset)
		}
		if err != nil {
			return nil, err
		}
		out, dec := c.decode(res, offset)
		if dec.Cut {
			// A broker of today sends a first batch whole; this is for one that cuts.
			if dec.Need <= int(req.MaxBytes) {
				return nil, fmt.Errorf("%s at %d: %w", p, offset, kafkawire.ErrCut)
			}
			req.MaxBytes = int32(dec.Need)
			continue
		}
		if len(dec.Gaps) > 0 && dec.Gaps[0].Damaged && try < damagedTries {
			c.met.refetched.Inc()
			continue
		}
		c.met.fetched(out, len(res.Records), time.Since(start))
		for _, g := range out.Unreadable {
			c.log.Warn("unreadable offsets", "partition", p.String(), "from", g.From, "to", g.To, "reason", g.Reason)
		}
		return out, nil
	}
}

func (c *Client) decode(res *kafkawire.FetchResponse, offset int64) (*ingest.Fetched, kafkawire.Decoded) {
	out := &ingest.Fetched{HighWatermark: res.HighWatermark, LogStart: res.LogStart}
	if n := len(res.Records); n > 0 {
		// An audit event takes about 300 bytes; a wrong guess costs one copy.
		out.Records = make([]ingest.Record, 0, n/256+1)
	}
	dec := c.decoder.Decode(res, offset, func(r *kafkawire.Record) {
		out.Records = append(out.Records, ingest.Record{
			Offset: r.Offset, Time: r.Time, Appended: r.Appended, Key: r.Key, Value: r.Value, Headers: headers(r.Headers),
		})
	})
	out.Next = dec.Next
	for _, g := range dec.Gaps {
		out.Unreadable = append(out.Unreadable, ingest.Unreadable{From: g.From, To: g.To, Reason: g.Reason})
	}
	return out, dec
}

func headers(hs []kafkawire.Header) []ingest.Header {
	if len(hs) == 0 {
		return nil
	}
	out := make([]ingest.Header, len(hs))
	for i, h := range hs {
		out[i] = ingest.Header{Key: string(h.Key), Value: h.Value}
	}
	return out
}

// outOfRange says on which side of the partition the offset lies.
func (c *Client) outOfRange(ctx context.Context, p event.Partition, offset int64) error {
	first, end, err := c.wire.Bounds(ctx, p.Topic, p.ID)
	switch {
	case err != nil:
		return err
	case offset < first:
		c.met.gone.Add(float64(first - offset))
		return &ingest.OffsetGone{Partition: p, Wanted: offset, LogStart: first}
	case offset > end:
		return fmt.Errorf("%s: wanted %d, the end is %d: %w", p, offset, end, ErrBeyondEnd)
	}
	return fmt.Errorf("%s: offset %d was out of range and is not any more; try again: %w", p, offset, kafkago.OffsetNotAvailable)
}

// OffsetAt implements ingest.Source. Kafka keeps milliseconds, so t is rounded
// up.
func (c *Client) OffsetAt(ctx context.Context, p event.Partition, t event.Instant) (int64, error) {
	ms := (int64(t) + 999_999) / 1_000_000
	offset, err := c.wire.OffsetAt(ctx, p.Topic, p.ID, max(ms, 0))
	if err == nil && offset < 0 {
		offset, err = c.wire.OffsetAt(ctx, p.Topic, p.ID, kafkawire.Latest)
	}
	return offset, err
}

// Bounds are the first offset that is still there and the one after the last.
func (c *Client) Bounds(ctx context.Context, p event.Partition) (first, end int64, err error) {
	return c.wire.Bounds(ctx, p.Topic, p.ID)
}
