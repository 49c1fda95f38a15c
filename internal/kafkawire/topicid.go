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
		found := map[string]string{}
		_, err := c.transport.RoundTrip(ctx, c.addr, askTopicIDs(c.cfg.ClientID, c.ids.next(), topics, found))
		if err != nil {
			return err
		}
		out = found
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

// askTopicIDs is a Metadata request that puts the ids of the topics that have one
// into found. Both layouts are those of
// https://kafka.apache.org/protocol#The_Messages_Metadata.
func askTopicIDs(clientID string, correlationID int32, topics []string, found map[string]string) *ask {
	b := binary.AppendUvarint(make([]byte, 0, 32*len(topics)+8), uint64(len(topics))+1)
	for _, t := range topics {
		b = append(b, make([]byte, 16)...) // asked for by name
		b = binary.AppendUvarint(b, uint64(len(t))+1)
		b = append(b, t...)
		b = append(b, 0)
	}
	b = append(b, 0, 0, 0, 0) // create none, list no operations, no tagged fields
	return &ask{key: protocol.Metadata, version: topicIDsVersion, flexible: true,
		clientID: clientID, correlationID: correlationID, body: b, decode: func(d *cursor) { decodeTopicIDs(d, found) }}
}

// decodeTopicIDs reads the ids of the topics that have one; of a damaged answer,
// none.
func decodeTopicIDs(d *cursor, found map[string]string) {
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
			found[name] = hex.EncodeToString(id)
		}
	}
	if d.err != nil {
		clear(found)
	}
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
