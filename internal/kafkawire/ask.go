package kafkawire

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go/protocol"
)

// ask is a request of one version that writes and reads its own frame, because
// kafka-go leaves the authorized operations and the topic ids out, and answers
// metadata from a cache in which a topic that the user must not see is a topic that
// is not there.
type ask struct {
	key           protocol.ApiKey
	version       int16
	flexible      bool // the version has tagged fields (KIP-482)
	clientID      string
	correlationID int32
	body          []byte
	decode        func(*cursor)
}

var _ protocol.RawExchanger = (*ask)(nil)

// ApiKey is part of protocol.Message.
//
//nolint:revive // the interface spells it so
func (m *ask) ApiKey() protocol.ApiKey { return m.key }

// Required makes the connection call RawExchange.
func (m *ask) Required(map[protocol.ApiKey]int16) bool { return true }

// RawExchange sends the request and reads the response.
func (m *ask) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if _, err := rw.Write(m.encode()); err != nil {
		return nil, fmt.Errorf("write request: %w", err)
	}
	frame, err := readFrame(rw)
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return m, m.read(frame)
}

// encode is the frame: size, request header, body. The header is of version 1, or
// of version 2 for a flexible request.
func (m *ask) encode() []byte {
	b := be16(make([]byte, 4, 64+len(m.body)), int16(m.key))
	b = be16(b, m.version)
	b = be32(b, m.correlationID)
	b = beString(b, m.clientID)
	if m.flexible {
		b = append(b, 0) // no tagged fields
	}
	b = append(b, m.body...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// read hands the body of the answer on.
func (m *ask) read(frame []byte) error {
	d := cursor{b: frame}
	if id := d.i32(); id != m.correlationID {
		return fmt.Errorf("correlation id %d, want %d", id, m.correlationID)
	}
	if m.flexible {
		d.tags()
	}
	m.decode(&d)
	return d.err
}
