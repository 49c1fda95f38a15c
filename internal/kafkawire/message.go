package kafkawire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/segmentio/kafka-go/protocol"
)

// maxFrame bounds one response. A broker sends more than was asked for only
// when a single record batch is larger, and its own limit for that
// (message.max.bytes) is far below.
const maxFrame = 256 << 20

// Versions of the Fetch request that we speak. Version 4 is the first with
// record batches and transactions; 11 is the last before the flexible encoding.
const (
	minFetchVersion = 4
	maxFetchVersion = 11
)

// fetchMessage is a Fetch of one partition. kafka-go has a Fetch message of its
// own that decodes records on the way, and wrongly (see the package comment), so
// this one writes and reads its own frame (protocol.RawExchanger) and leaves the
// library's, and its registry, alone. A connection carries one request at a
// time, so the correlation id only has to differ from the one before.
type fetchMessage struct {
	clientID      string
	correlationID int32
	version       int16
	req           FetchRequest
}

var (
	_ protocol.BrokerMessage   = (*fetchMessage)(nil)
	_ protocol.PreparedMessage = (*fetchMessage)(nil)
	_ protocol.RawExchanger    = (*fetchMessage)(nil)
)

// correlation numbers the requests of the process.
type correlation struct{ n atomic.Int32 }

func (c *correlation) next() int32 { return c.n.Add(1) & 0x7fffffff }

// ApiKey is part of protocol.Message.
//
//nolint:revive // the interface spells it so
func (m *fetchMessage) ApiKey() protocol.ApiKey { return protocol.Fetch }

// Prepare learns the version that the connection negotiated.
func (m *fetchMessage) Prepare(version int16) { m.version = version }

// Required makes the connection call RawExchange.
func (m *fetchMessage) Required(map[protocol.ApiKey]int16) bool { return true }

// Broker routes to the partition's leader.
func (m *fetchMessage) Broker(c protocol.Cluster) (protocol.Broker, error) {
	t, ok := c.Topics[m.req.Topic]
	if !ok {
		return protocol.Broker{ID: -1}, protocol.NewErrNoTopic(m.req.Topic)
	}
	p, ok := t.Partitions[m.req.Partition]
	if !ok {
		return protocol.Broker{ID: -1}, protocol.NewErrNoPartition(m.req.Topic, m.req.Partition)
	}
	b, ok := c.Brokers[p.Leader]
	if !ok {
		return protocol.Broker{ID: -1}, protocol.NewErrNoLeader(m.req.Topic, m.req.Partition)
	}
	return b, nil
}

// RawExchange sends the request and reads the response.
func (m *fetchMessage) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if m.version < minFetchVersion || m.version > maxFetchVersion {
		return nil, fmt.Errorf("broker speaks Fetch version %d at most, need %d to %d", m.version, minFetchVersion, maxFetchVersion)
	}
	if _, err := rw.Write(m.encode()); err != nil {
		return nil, fmt.Errorf("write fetch: %w", err)
	}
	frame, err := readFrame(rw)
	if err != nil {
		return nil, fmt.Errorf("read fetch: %w", err)
	}
	res := &FetchResponse{}
	if err := res.decode(frame, m); err != nil {
		return nil, fmt.Errorf("decode fetch: %w", err)
	}
	return res, nil
}

// encode is the frame: size, request header version 1, body. The layout is that
// of https://kafka.apache.org/protocol#The_Messages_Fetch.
func (m *fetchMessage) encode() []byte {
	r := &m.req
	b := make([]byte, 4, 128+len(m.clientID)+len(r.Topic))
	b = be16(b, int16(protocol.Fetch))
	b = be16(b, m.version)
	b = be32(b, m.correlationID)
	b = beString(b, m.clientID)
	b = be32(b, -1) // replica id: a consumer
	b = be32(b, int32(r.MaxWait.Milliseconds()))
	b = be32(b, r.MinBytes)
	b = be32(b, r.MaxBytes)
	b = append(b, byte(r.Isolation))
	if m.version >= 7 {
		b = be32(b, 0)  // session id: none
		b = be32(b, -1) // session epoch: a full fetch outside of any session
	}
	b = be32(b, 1)
	b = beString(b, r.Topic)
	b = be32(b, 1)
	b = be32(b, r.Partition)
	if m.version >= 9 {
		b = be32(b, -1) // leader epoch: unknown
	}
	b = be64(b, r.Offset)
	if m.version >= 5 {
		b = be64(b, -1) // log start offset: for followers only
	}
	b = be32(b, r.MaxBytes)
	if m.version >= 7 {
		b = be32(b, 0) // forgotten topics
	}
	if m.version >= 11 {
		b = beString(b, "") // rack
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

func be16(b []byte, v int16) []byte { return binary.BigEndian.AppendUint16(b, uint16(v)) }
func be32(b []byte, v int32) []byte { return binary.BigEndian.AppendUint32(b, uint32(v)) }
func be64(b []byte, v int64) []byte { return binary.BigEndian.AppendUint64(b, uint64(v)) }

func beString(b []byte, s string) []byte { return append(be16(b, int16(len(s))), s...) }

// readFrame reads one response into one buffer, which its records alias.
func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := int(int32(binary.BigEndian.Uint32(size[:])))
	if n < 4 || n > maxFrame {
		return nil, fmt.Errorf("response of %d bytes", n)
	}
	frame := make([]byte, n)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, errors.Join(io.ErrUnexpectedEOF, err)
	}
	return frame, nil
}

// decode reads the frame; Records aliases it.
func (r *FetchResponse) decode(frame []byte, m *fetchMessage) error {
	d := cursor{b: frame}
	if id := d.i32(); id != m.correlationID {
		return fmt.Errorf("correlation id %d, want %d", id, m.correlationID)
	}
	d.i32() // throttle time
	if m.version >= 7 {
		r.code = d.i16()
		d.i32() // session id
	}
	for range d.count() {
		topic := string(d.bytes(int(d.i16())))
		for range d.count() {
			p := d.i32()
			if d.err == nil && (topic != m.req.Topic || p != m.req.Partition) {
				return fmt.Errorf("answer for %s/%d, asked for %s/%d", topic, p, m.req.Topic, m.req.Partition)
			}
			r.partition(&d, m.version)
		}
	}
	return d.err
}

func (r *FetchResponse) partition(d *cursor, version int16) {
	if c := d.i16(); c != 0 {
		r.code = c
	}
	r.HighWatermark = d.i64()
	r.LastStable = d.i64()
	r.LogStart = -1
	if version >= 5 {
		r.LogStart = d.i64()
	}
	for range d.count() {
		r.Aborted = append(r.Aborted, Aborted{ProducerID: d.i64(), FirstOffset: d.i64()})
	}
	if version >= 11 {
		d.i32() // preferred read replica
	}
	r.Records = d.bytes(int(d.i32()))
}

// cursor reads big-endian values; after the first short read everything is zero.
type cursor struct {
	b   []byte
	err error
}

func (d *cursor) bytes(n int) []byte {
	if n <= 0 {
		return nil
	}
	if n > len(d.b) {
		d.b, d.err = nil, io.ErrUnexpectedEOF
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

func (d *cursor) i16() int16 {
	if b := d.bytes(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (d *cursor) i32() int32 {
	if b := d.bytes(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (d *cursor) i64() int64 {
	if b := d.bytes(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

// count reads the length of an array; an element takes at least four bytes, so
// a length beyond that is a lie.
func (d *cursor) count() int {
	n := int(d.i32())
	if n > len(d.b)/4 {
		d.b, d.err = nil, io.ErrUnexpectedEOF
		return 0
	}
	return max(n, 0)
}
