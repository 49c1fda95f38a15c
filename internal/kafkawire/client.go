package kafkawire

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/listoffsets"
	"github.com/segmentio/kafka-go/sasl"

	"github.com/keysentry/keysentry/internal/secret"
)

// Deps are what a Client needs besides its configuration.
type Deps struct {
	// Password is the resolved sasl.password.
	Password secret.Value
	Log      *slog.Logger
}

// Client is one connection pool. Its methods may be called concurrently.
type Client struct {
	cfg       Config
	log       *slog.Logger
	addr      net.Addr
	tls       *tls.Config
	sasl      sasl.Mechanism
	transport *kafkago.Transport
	kafka     *kafkago.Client
	ids       correlation
	conns     connections
	topicIDs  atomic.Bool // the brokers know them

	mu        sync.Mutex
	refreshed time.Time
}

// New reads the certificates and prepares the pool; it does not connect.
func New(cfg Config, deps Deps) (*Client, error) {
	tlsConfig, err := cfg.TLS.load()
	if err != nil {
		return nil, err
	}
	mechanism, err := cfg.SASL.load(deps.Password)
	if err != nil {
		return nil, err
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, log: deps.Log, addr: kafkago.TCP(cfg.Brokers...), tls: tlsConfig, sasl: mechanism}
	c.transport = &kafkago.Transport{
		ClientID:    cfg.ClientID,
		TLS:         tlsConfig,
		SASL:        mechanism,
		DialTimeout: cfg.RequestTimeout,
		Dial:        c.conns.dial,
	}
	c.kafka = &kafkago.Client{Addr: c.addr, Transport: c.transport, Timeout: cfg.RequestTimeout}
	return c, nil
}

// Close ends idle connections; those in use end with their request.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Config is the configuration the client was made with.
func (c *Client) Config() Config { return c.cfg }

// Kafka is the library's client on the same pool, for administration.
func (c *Client) Kafka() *kafkago.Client { return c.kafka }

// Dialer makes connections of their own with the same security, as a consumer
// group needs them.
func (c *Client) Dialer() *kafkago.Dialer {
	return &kafkago.Dialer{
		ClientID:      c.cfg.ClientID,
		Timeout:       c.cfg.RequestTimeout,
		TLS:           c.tls,
		SASLMechanism: c.sasl,
		DialFunc:      c.conns.dial,
	}
}

// Isolation says which records of transactions a fetch returns.
type Isolation int8

// The isolation levels. With ReadCommitted an open transaction stops the reader
// at its first record.
const (
	ReadUncommitted Isolation = 0
	ReadCommitted   Isolation = 1
)

// FetchRequest asks for records of one partition from Offset on.
type FetchRequest struct {
	Topic     string
	Partition int32
	Offset    int64
	MinBytes  int32
	MaxBytes  int32
	MaxWait   time.Duration
	Isolation Isolation
}

// Aborted is an aborted transaction that begins at FirstOffset.
type Aborted struct{ ProducerID, FirstOffset int64 }

// FetchResponse is the broker's answer; Records holds undecoded record batches,
// the last one possibly cut.
type FetchResponse struct {
	HighWatermark int64
	LastStable    int64
	LogStart      int64 // -1 when the broker does not tell
	Aborted       []Aborted
	Records       []byte

	code int16
}

// ApiKey makes the response a protocol.Message.
//
//nolint:revive // the interface spells it so
func (r *FetchResponse) ApiKey() protocol.ApiKey { return protocol.Fetch }

// Fetch sends one request. It retries what may pass (a leader that moved, a
// broken connection) with backoff, for at most the configured time.
func (c *Client) Fetch(ctx context.Context, req FetchRequest) (*FetchResponse, error) {
	var res *FetchResponse
	err := c.Retry(ctx, "fetch", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, req.MaxWait+c.cfg.RequestTimeout)
		defer cancel()
		m, err := c.transport.RoundTrip(ctx, c.addr, &fetchMessage{
			clientID: c.cfg.ClientID, correlationID: c.ids.next(), req: req,
		})
		if err != nil {
			return err
		}
		res = m.(*FetchResponse)
		if res.code != 0 {
			return kafkago.Error(res.code)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s/%d at %d: %w", req.Topic, req.Partition, req.Offset, err)
	}
	return res, nil
}

// The two special times of OffsetAt.
const (
	Earliest int64 = kafkago.FirstOffset // the log start
	Latest   int64 = kafkago.LastOffset  // the high watermark
)

// OffsetAt is the first offset whose time in milliseconds is at or after ms, or
// -1 when there is none; ms may be Earliest or Latest.
func (c *Client) OffsetAt(ctx context.Context, topic string, partition int32, ms int64) (int64, error) {
	offset := int64(-1)
	err := c.Retry(ctx, "list offsets", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
		defer cancel()
		m, err := c.transport.RoundTrip(ctx, c.addr, &listoffsets.Request{
			ReplicaID: -1,
			Topics: []listoffsets.RequestTopic{{Topic: topic, Partitions: []listoffsets.RequestPartition{{
				Partition: partition, CurrentLeaderEpoch: -1, Timestamp: ms,
			}}}},
		})
		if err != nil {
			return err
		}
		res, ok := m.(*listoffsets.Response)
		if !ok || len(res.Topics) != 1 || len(res.Topics[0].Partitions) != 1 {
			return errors.New("the answer does not fit the question")
		}
		p := res.Topics[0].Partitions[0]
		if p.ErrorCode != 0 {
			return kafkago.Error(p.ErrorCode)
		}
		offset = p.Offset
		return nil
	})
	if err != nil {
		return -1, fmt.Errorf("%s/%d: %w", topic, partition, err)
	}
	return offset, nil
}

// Bounds are the first offset that is still there and the one after the last.
func (c *Client) Bounds(ctx context.Context, topic string, partition int32) (first, end int64, err error) {
	if first, err = c.OffsetAt(ctx, topic, partition, Earliest); err != nil {
		return 0, 0, err
	}
	if end, err = c.OffsetAt(ctx, topic, partition, Latest); err != nil {
		return 0, 0, err
	}
	return first, end, nil
}

// Retry calls f until it succeeds, fails for good, or the configured time is
// over. Between attempts it waits 50 ms, doubling to 1 s, and asks for fresh
// metadata when a leader moved.
func (c *Client) Retry(ctx context.Context, what string, f func(context.Context) error) error {
	deadline := time.Now().Add(c.cfg.RetryFor)
	backoff := 50 * time.Millisecond
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("%s: %w", what, err)
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
		if !Transient(err) || time.Now().Add(backoff).After(deadline) {
			return err
		}
		if moved(err) {
			c.refresh()
		}
		c.log.Debug("kafka request will be tried again", "error", err, "backoff", backoff)
		timer := time.NewTimer(backoff/2 + rand.N(backoff/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		case <-timer.C:
		}
		backoff = min(2*backoff, time.Second)
	}
}

// refresh renews the metadata, at most once a second.
func (c *Client) refresh() {
	c.mu.Lock()
	now := time.Now()
	due := now.Sub(c.refreshed) >= time.Second
	if due {
		c.refreshed = now
	}
	c.mu.Unlock()
	if due {
		c.Refresh()
	}
}

// Refresh renews the metadata before the next request. It drops the pool,
// because the library has no other way; requests under way end undisturbed.
func (c *Client) Refresh() { c.transport.CloseIdleConnections() }

// Transient reports whether the same request may succeed later.
func Transient(err error) bool {
	if unknownPlace(err) {
		return true
	}
	if tlsFault(err) {
		return false
	}
	var code kafkago.Error
	if errors.As(err, &code) {
		return code.Temporary()
	}
	var op net.Error
	return errors.As(err, &op) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, context.DeadlineExceeded)
}

// moved reports whether the metadata may be out of date.
func moved(err error) bool {
	return unknownPlace(err) || errors.Is(err, kafkago.NotLeaderForPartition) ||
		errors.Is(err, kafkago.LeaderNotAvailable) || errors.Is(err, kafkago.UnknownTopicOrPartition) ||
		errors.Is(err, kafkago.FencedLeaderEpoch) || errors.Is(err, kafkago.UnknownLeaderEpoch)
}

// unknownPlace reports that the library knows no connection to the leader.
func unknownPlace(err error) bool {
	return errors.Is(err, protocol.ErrNoTopic) || errors.Is(err, protocol.ErrNoPartition) ||
		errors.Is(err, protocol.ErrNoLeader) || errors.Is(err, kafkago.BrokerNotAvailable)
}
