package kafkawire

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// ErrNoTopicIDs says that the brokers are older than topic ids (Kafka 2.8).
var ErrNoTopicIDs = errors.New("the brokers know no topic ids")

// topicIDsVersion is the first version of Metadata with topic ids; kafka-go ends
// at 8, and answers its own from memory.
const topicIDsVersion = 10

// TopicIDs are the ids of topics, 32 hexadecimal digits each: a topic that was
// deleted and made again has another one. A topic that does not exist is left
// out. The brokers are asked each time.
func (c *Client) TopicIDs(ctx context.Context, topics []string) (map[string]string, error) {
	if err := c.knowsTopicIDs(ctx); err != nil {
		return nil, err
	}
	var out map[string]string
	err := c.Retry(ctx, "topic ids", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
		defer cancel()
		m, err := c.transport.RoundTrip(ctx, c.addr, &topicIDs{clientID: c.cfg.ClientID, correlationID: c.ids.next(), topics: topics})
		if err != nil {
			return err
		}
		res, ok := m.(*topicIDsResponse)
		if !ok {
			return errors.New("the answer does not fit the question")
		}
		out = res.ids
		return nil
	})
	return out, err
}

// knowsTopicIDs asks a broker once whether it speaks the version.
func (c *Client) knowsTopicIDs(ctx context.Context) error {
	if c.topicIDs.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	res, err := c.kafka.ApiVersions(ctx, &kafkago.ApiVersionsRequest{})
	if err != nil {
		return fmt.Errorf("ask for the broker's versions: %w", err)
	}
	for _, k := range res.ApiKeys {
		if k.ApiKey == int(protocol.Metadata) && k.MinVersion <= topicIDsVersion && k.MaxVersion >= topicIDsVersion {
			c.topicIDs.Store(true)
			return nil
		}
	}
	return ErrNoTopicIDs
}

// topicIDs is a Metadata request of version 10 that exchanges its own frame, as
// fetchMessage does.
type topicIDs struct {
	clientID      string
	correlationID int32
	topics        []string
}

type topicIDsResponse struct{ ids map[string]string }

var (
	_ protocol.Message      = (*topicIDs)(nil)
	_ protocol.RawExchanger = (*topicIDs)(nil)
)

// ApiKey is part of protocol.Message.
//
//nolint:revive // the interface spells it so
func (m *topicIDs) ApiKey() protocol.ApiKey { return protocol.Metadata }

// ApiKey makes the response a protocol.Message.
//
//nolint:revive // the interface spells it so
func (r *topicIDsResponse) ApiKey() protocol.ApiKey { return protocol.Metadata }

// Required makes the connection call RawExchange.
func (m *topicIDs) Required(map[protocol.ApiKey]int16) bool { return true }

// RawExchange sends the request and reads the response.
func (m *topicIDs) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if _, err := rw.Write(m.encode()); err != nil {
		return nil, fmt.Errorf("write metadata: %w", err)
	}
	frame, err := readFrame(rw)
	if err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	ids, err := m.decode(frame)
	if err != nil {
		return nil, fmt.Errorf("decode metadata: %w", err)
	}
	return &topicIDsResponse{ids}, nil
}

// encode is the frame: size, request header version 2, body. The layout is that
// of https://kafka.apache.org/protocol#The_Messages_Metadata.
func (m *topicIDs) encode() []byte {
	b := make([]byte, 4, 64+32*len(m.topics))
	b = be16(b, int16(protocol.Metadata))
	b = be16(b, topicIDsVersion)
	b = be32(b, m.correlationID)
	b = beString(b, m.clientID)
	b = append(b, 0) // no tagged fields
	b = binary.AppendUvarint(b, uint64(len(m.topics))+1)
	for _, t := range m.topics {
		b = append(b, make([]byte, 16)...) // asked for by name
		b = binary.AppendUvarint(b, uint64(len(t))+1)
		b = append(b, t...)
		b = append(b, 0)
	}
	b = append(b, 0, 0, 0, 0) // create none, list no operations, no tagged fields
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// decode reads the ids of the topics that have one.
func (m *topicIDs) decode(frame []byte) (map[string]string, error) {
	d := &cursor{b: frame}
	if id := d.i32(); id != m.correlationID {
		return nil, fmt.Errorf("correlation id %d, want %d", id, m.correlationID)
	}
	d.tags()
	d.i32()                  // throttle time
	for range d.elements() { // brokers
		d.i32()
		d.compact() // host
		d.i32()
		d.compact() // rack
		d.tags()
	}
	d.compact() // cluster id
	d.i32()     // controller
	out := map[string]string{}
	for range d.elements() {
		code, name, id := d.i16(), string(d.compact()), d.bytes(16)
		d.bytes(1) // internal
		for range d.elements() {
			d.bytes(2 + 4 + 4 + 4) // error, index, leader, epoch
			for range 3 {          // replicas, in sync, offline
				d.bytes(4 * d.elements())
			}
			d.tags()
		}
		d.i32() // authorized operations
		d.tags()
		if code == 0 && len(id) == 16 && [16]byte(id) != ([16]byte{}) {
			out[name] = hex.EncodeToString(id)
		}
	}
	if d.err != nil {
		return nil, d.err
	}
	return out, nil
}

// uvarint reads an unsigned varint of at most 31 bits.
func (d *cursor) uvarint() int {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > 1<<31-1 {
		d.b, d.err = nil, io.ErrUnexpectedEOF
		return 0
	}
	d.b = d.b[n:]
	return int(v)
}

// elements reads the length of a compact array; an element takes at least a byte.
func (d *cursor) elements() int {
	n := d.uvarint() - 1
	if n > len(d.b) {
		d.b, d.err = nil, io.ErrUnexpectedEOF
		return 0
	}
	return max(n, 0)
}

// compact reads a compact string; null is empty.
func (d *cursor) compact() []byte { return d.bytes(d.uvarint() - 1) }

// tags passes over tagged fields.
func (d *cursor) tags() {
	for n := d.uvarint(); n > 0 && d.err == nil; n-- {
		d.uvarint()
		d.bytes(d.uvarint())
	}
}
