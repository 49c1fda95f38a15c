package kafkawire

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/keysentry/keysentry/event"
)

// Message is a record to be produced.
type Message struct {
	// Time is the producer's; a LogAppendTime topic replaces it. Zero stays zero.
	Time       event.Instant
	Key, Value []byte
	Headers    []Header
}

// maxVarint is the most a varint takes.
const maxVarint = binary.MaxVarintLen64

// Size bounds the room that the message takes in a batch.
func (m *Message) Size() int {
	n := 6*maxVarint + 1 + len(m.Key) + len(m.Value)
	for _, h := range m.Headers {
		n += 2*maxVarint + len(h.Key) + len(h.Value)
	}
	return n
}

// EncodeBatch makes one uncompressed record batch of format 2, appended to b. It
// needs at least one message; the same messages give the same bytes.
func EncodeBatch(b []byte, msgs []Message) []byte {
	start := len(b)
	base := msgs[0].millis()
	last := base
	b = append(b, make([]byte, batchHead)...)
	var scratch []byte
	for i := range msgs {
		m := &msgs[i]
		ms := m.millis()
		last = max(last, ms)
		scratch = m.appendRecord(scratch[:0], ms-base, int64(i))
		b = binary.AppendVarint(b, int64(len(scratch)))
		b = append(b, scratch...)
	}
	h := b[start:]
	binary.BigEndian.PutUint32(h[8:], uint32(len(h)-lengthEnd))
	binary.BigEndian.PutUint32(h[12:], 0xffffffff) // leader epoch: the broker's to set
	h[magicAt] = 2
	binary.BigEndian.PutUint32(h[23:], uint32(len(msgs)-1))
	binary.BigEndian.PutUint64(h[27:], uint64(base))
	binary.BigEndian.PutUint64(h[35:], uint64(last))
	binary.BigEndian.PutUint64(h[43:], 0xffffffffffffffff) // no producer id
	binary.BigEndian.PutUint16(h[51:], 0xffff)
	binary.BigEndian.PutUint32(h[53:], 0xffffffff)
	binary.BigEndian.PutUint32(h[57:], uint32(len(msgs)))
	binary.BigEndian.PutUint32(h[crcAt:], crc32.Checksum(h[crcFrom:], castagnoli))
	return b
}

func (m *Message) millis() int64 { return int64(m.Time) / 1_000_000 }

func (m *Message) appendRecord(b []byte, dt, do int64) []byte {
	b = append(b, 0)
	b = binary.AppendVarint(b, dt)
	b = binary.AppendVarint(b, do)
	b = appendVarbytes(b, m.Key)
	b = appendVarbytes(b, m.Value)
	b = binary.AppendVarint(b, int64(len(m.Headers)))
	for _, h := range m.Headers {
		b = binary.AppendVarint(b, int64(len(h.Key)))
		b = append(b, h.Key...)
		b = appendVarbytes(b, h.Value)
	}
	return b
}

// appendVarbytes writes the length, -1 for nil, and the bytes.
func appendVarbytes(b, v []byte) []byte {
	if v == nil {
		return binary.AppendVarint(b, -1)
	}
	b = binary.AppendVarint(b, int64(len(v)))
	return append(b, v...)
}

// Produce sends one encoded batch once, acknowledged by all in-sync replicas,
// and returns the offset of its first record. After an error the batch may have
// been written all the same.
func (c *Client) Produce(ctx context.Context, topic string, partition int32, batch []byte) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RequestTimeout)
	defer cancel()
	res, err := c.kafka.RawProduce(ctx, &kafkago.RawProduceRequest{
		Topic:        topic,
		Partition:    int(partition),
		RequiredAcks: kafkago.RequireAll,
		// The library leaves the length before the records to the caller.
		RawRecords: protocol.RawRecordSet{Reader: io.MultiReader(
			bytes.NewReader(be32(nil, int32(len(batch)))), bytes.NewReader(batch))},
	})
	if err != nil {
		return -1, err
	}
	if res.Error != nil {
		return -1, res.Error
	}
	return res.BaseOffset, nil
}
