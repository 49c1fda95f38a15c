package devstack

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Append time on the fake Kafka.
//
// kfake keeps a topic's message.timestamp.type but does not act on it. When a
// batch comes in with the timestamp-type bit already set, it writes its own
// clock into the batch and leaves the checksum as it was, so the batch would be
// corrupt whenever two clock readings differ; and its loader drops corrupt
// batches. So the bit must not be set while kfake holds the batch. Instead,
// every connection passes through a filter:
//
//   - a batch on its way in, to a topic with LogAppendTime, gets the present
//     time as its first and largest timestamp, a mark in an attribute bit
//     that Kafka does not use, and a new checksum;
//   - a marked batch on its way out loses the mark, gets the timestamp-type bit
//     and a new checksum;
//   - the answer to the produce request says the append time, as a broker's.
//
// The mark is kept in the data folder with the batch, so a restart changes
// nothing. Time indexes (ListOffsets by time) see the append time.

// Layout of a record batch, version 2 (Kafka protocol guide, "Record Batch").
const (
	batchLength    = 8
	batchMagic     = 16
	batchCRC       = 17
	batchAttrs     = 21
	batchFirstTime = 27
	batchMaxTime   = 35
	batchHeader    = 61
	batchPrefix    = 12 // offset and length, which length does not count

	attrAppendTime = 0x0008
	attrMark       = 0x4000 // bits 7 to 15 are unused
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendTimes knows which topics have broker time.
type appendTimes struct {
	now    func() time.Time
	lookup func(topic string, id [16]byte) bool

	mu    sync.Mutex
	known map[topicKey]bool
	age   int // counts forgets, so that an answer from before one is not kept
}

type topicKey struct {
	name string
	id   [16]byte
}

func newAppendTimes(now func() time.Time, lookup func(string, [16]byte) bool) *appendTimes {
	return &appendTimes{now: now, lookup: lookup, known: map[topicKey]bool{}}
}

func (a *appendTimes) appends(k topicKey) bool {
	a.mu.Lock()
	yes, ok := a.known[k]
	age := a.age
	a.mu.Unlock()
	if ok {
		return yes
	}
	yes = a.lookup(k.name, k.id)
	a.mu.Lock()
	defer a.mu.Unlock()
	if age == a.age {
		a.known[k] = yes
	}
	return yes
}

// forget drops what is known: a topic came, went or changed.
func (a *appendTimes) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.known)
	a.age++
}

// stampListener puts the filter on each connection.
type stampListener struct {
	net.Listener
	times      *appendTimes
	advertised net.Addr // nil: where it listens
}

// Addr is what kfake tells its clients.
func (l *stampListener) Addr() net.Addr {
	if l.advertised != nil {
		return l.advertised
	}
	return l.Listener.Addr()
}

// Accept waits for a connection.
func (l *stampListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &stampConn{Conn: c, times: l.times, parked: newParked()}, nil
}

// stampConn is the filter. kfake reads from one goroutine and writes, one
// whole response at a time, from another.
type stampConn struct {
	net.Conn
	times  *appendTimes
	parked *parked

	frame   []byte // the request that is being read
	pending []byte // the part of it that kfake has not taken yet
	out     []byte // the response that is being written

	mu     sync.Mutex
	flying []request // requests without a response yet, in order
}

// request is what the filter remembers of a request until its response.
type request struct {
	correlation int32
	key         kmsg.Key
	version     int16
	stamped     map[topicKey]bool // produce: the topics that got a time
	stamp       int64             // milliseconds
}

// maxFrame is Kafka's default bound on a request (socket.request.max.bytes).
const maxFrame = 100 << 20

// Close ends the connection from kfake's side.
func (c *stampConn) Close() error {
	c.parked.close()
	return c.Conn.Close()
}

// Read hands out requests, filtered.
func (c *stampConn) Read(p []byte) (int, error) {
	if len(c.pending) == 0 {
		if err := c.readFrame(); err != nil {
			c.parked.wait()
			return 0, err
		}
	}
	n := copy(p, c.pending)
	c.pending = c.pending[n:]
	return n, nil
}

func (c *stampConn) readFrame() error {
	var size [4]byte
	if _, err := io.ReadFull(c.Conn, size[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrame {
		return fmt.Errorf("a request of %d bytes is too large", n)
	}
	c.frame = append(c.frame[:0], size[:]...)
	if cap(c.frame) < int(n)+4 {
		c.frame = append(make([]byte, 0, int(n)+4), size[:]...)
	}
	c.frame = c.frame[:n+4]
	if _, err := io.ReadFull(c.Conn, c.frame[4:]); err != nil {
		return err
	}
	c.incoming(c.frame[4:])
	c.pending = c.frame
	return nil
}

// incoming remembers a request and stamps it when it is a produce request.
func (c *stampConn) incoming(b []byte) {
	if len(b) < 8 {
		return // kfake refuses it
	}
	r := request{
		key:         kmsg.Key(binary.BigEndian.Uint16(b)),
		version:     int16(binary.BigEndian.Uint16(b[2:])),
		correlation: int32(binary.BigEndian.Uint32(b[4:])),
	}
	if r.key == kmsg.Produce {
		c.stampProduce(&r, b[8:])
	}
	if parks(r.key) {
		c.parked.add(1)
	}
	c.mu.Lock()
	c.flying = append(c.flying, r)
	c.mu.Unlock()
}

// stampProduce stamps the batches of a produce request in place. A request
// that cannot be read is left to kfake, which refuses it.
func (c *stampConn) stampProduce(r *request, b []byte) {
	req := kmsg.NewPtrProduceRequest()
	req.SetVersion(r.version)
	body, ok := afterClientID(b, req.IsFlexible())
	if !ok || req.ReadFrom(body) != nil {
		return
	}
	r.stamp = c.times.now().UnixMilli()
	r.stamped = map[topicKey]bool{}
	for _, t := range req.Topics {
		k := topicKey{t.Topic, t.TopicID}
		if !c.times.appends(k) {
			continue
		}
		r.stamped[k] = true
		for _, p := range t.Partitions {
			eachBatch(p.Records, func(batch []byte) { stampBatch(batch, r.stamp) })
		}
	}
}

// afterClientID skips the rest of a request's header: the client's name and,
// in flexible versions, tagged fields.
func afterClientID(b []byte, flexible bool) ([]byte, bool) {
	r := kbin.Reader{Src: b}
	r.NullableString()
	if flexible {
		kmsg.SkipTags(&r)
	}
	return r.Src, r.Ok()
}

// eachBatch calls do for every whole record batch in b.
func eachBatch(b []byte, do func(batch []byte)) {
	for len(b) >= batchHeader {
		n := int64(binary.BigEndian.Uint32(b[batchLength:])) + batchPrefix
		if n < batchHeader || n > int64(len(b)) {
			return
		}
		if b[batchMagic] == 2 {
			do(b[:n:n])
		}
		b = b[n:]
	}
}

// stampBatch writes the append time and the mark into a batch whose checksum
// is right; another is kfake's to refuse.
func stampBatch(b []byte, millis int64) {
	if binary.BigEndian.Uint32(b[batchCRC:]) != crc32.Checksum(b[batchAttrs:], castagnoli) {
		return
	}
	attrs := binary.BigEndian.Uint16(b[batchAttrs:])
	setTimes(b, millis)
	seal(b, attrs&^attrAppendTime|attrMark)
}

// unmarkBatch gives a marked batch the form that readers know.
func unmarkBatch(b []byte) {
	attrs := binary.BigEndian.Uint16(b[batchAttrs:])
	if attrs&attrMark == 0 {
		return
	}
	// Compaction makes the largest timestamp anew from the records' own.
	setTimes(b, int64(binary.BigEndian.Uint64(b[batchFirstTime:])))
	seal(b, attrs&^attrMark|attrAppendTime)
}

func setTimes(b []byte, millis int64) {
	binary.BigEndian.PutUint64(b[batchFirstTime:], uint64(millis))
	binary.BigEndian.PutUint64(b[batchMaxTime:], uint64(millis))
}

func seal(b []byte, attrs uint16) {
	binary.BigEndian.PutUint16(b[batchAttrs:], attrs)
	binary.BigEndian.PutUint32(b[batchCRC:], crc32.Checksum(b[batchAttrs:], castagnoli))
}

// Write takes one response and sends it, filtered.
func (c *stampConn) Write(p []byte) (int, error) {
	if len(p) < 8 {
		return c.Conn.Write(p)
	}
	r, ok := c.answered(int32(binary.BigEndian.Uint32(p[4:])))
	if !ok {
		return c.Conn.Write(p)
	}
	if parks(r.key) {
		c.parked.add(-1)
	}
	out := p
	var err error
	switch r.key {
	case kmsg.Produce:
		if len(r.stamped) > 0 {
			out, err = c.outProduce(r, p)
		}
	case kmsg.Fetch:
		out, err = c.outFetch(r, p)
	case kmsg.CreateTopics, kmsg.DeleteTopics, kmsg.AlterConfigs, kmsg.IncrementalAlterConfigs:
		c.times.forget()
	}
	if err != nil {
		return 0, err
	}
	if _, err := c.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// answered finds the request of a response and drops it and those before it,
// which got none (produce with acks=0).
func (c *stampConn) answered(correlation int32) (request, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, r := range c.flying {
		if r.correlation == correlation {
			c.flying = append(c.flying[:0], c.flying[i+1:]...)
			return r, true
		}
	}
	return request{}, false
}

// outProduce writes the append time into the answer for each stamped topic.
func (c *stampConn) outProduce(r request, p []byte) ([]byte, error) {
	resp := kmsg.NewPtrProduceResponse()
	resp.SetVersion(r.version)
	head := responseHeader(resp)
	if len(p) < head {
		return nil, fmt.Errorf("filter a produce response: it is only %d bytes long", len(p))
	}
	if err := resp.ReadFrom(p[head:]); err != nil {
		return nil, fmt.Errorf("filter a produce response: %w", err)
	}
	for i := range resp.Topics {
		t := &resp.Topics[i]
		for j := range t.Partitions {
			if t.Partitions[j].ErrorCode == 0 && c.stampedTopic(r, t.Topic, t.TopicID) {
				t.Partitions[j].LogAppendTime = r.stamp
			}
		}
	}
	c.out = resp.AppendTo(append(c.out[:0], p[:head]...))
	binary.BigEndian.PutUint32(c.out, uint32(len(c.out)-4))
	return c.out, nil
}

// stampedTopic finds a response's topic, which older versions name and newer
// ones number; kfake fills in both.
func (c *stampConn) stampedTopic(r request, name string, id [16]byte) bool {
	return r.stamped[topicKey{name: name}] || r.stamped[topicKey{id: id}] || r.stamped[topicKey{name, id}]
}

// outFetch gives marked batches their proper form, in a copy.
func (c *stampConn) outFetch(r request, p []byte) ([]byte, error) {
	c.out = append(c.out[:0], p...)
	resp := kmsg.NewPtrFetchResponse()
	resp.SetVersion(r.version)
	head := responseHeader(resp)
	if len(p) < head {
		return nil, fmt.Errorf("filter a fetch response: it is only %d bytes long", len(p))
	}
	// The batches that it reads are parts of c.out, not copies.
	if err := resp.ReadFrom(c.out[head:]); err != nil {
		return nil, fmt.Errorf("filter a fetch response: %w", err)
	}
	for _, t := range resp.Topics {
		for _, part := range t.Partitions {
			eachBatch(part.RecordBatches, unmarkBatch)
		}
	}
	return c.out, nil
}

// responseHeader is the length of what stands before a response's body: size,
// correlation id and, in flexible versions, an empty set of tagged fields.
func responseHeader(r kmsg.Response) int {
	if r.IsFlexible() {
		return 9
	}
	return 8
}
