package mapping

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
)

// Reader cuts a file into records, which in Kafka would be one message each. A
// record is a line; a JSON value may span lines, and so may a text whose mapping
// says how a record begins. The members of a JSON array are records of their own,
// unless they are CloudEvents, whose batch is one message. A record that is
// longer than the limit is handed out cut, one byte over it, so that decoding
// refuses it.
type Reader struct {
	in      *bufio.Reader
	start   *regexp.Regexp
	json    bool // values may span lines
	limit   int
	no      int // line last read
	ahead   []byte
	aheadNo int
	members []json.RawMessage
	at      int // line of the array
	eof     bool
}

// FileRecord is one record of a file and the line at which it begins, from 1.
type FileRecord struct {
	Line  int
	Value []byte
}

// NewReader reads records of the mapping; nil stands for canonical events and for
// records of any format. limit bounds one record.
func NewReader(in io.Reader, m *Mapping, limit int) *Reader {
	r := &Reader{in: bufio.NewReaderSize(in, 1<<16), limit: limit}
	if m == nil || !m.Text() {
		r.json = true
		return r
	}
	r.start = m.recordStart
	return r
}

// Next is the next record, or io.EOF. Empty lines between records are passed over.
func (r *Reader) Next() (FileRecord, error) {
	if len(r.members) > 0 {
		m := r.members[0]
		r.members = r.members[1:]
		return FileRecord{r.at, m}, nil
	}
	line, no, err := r.line()
	for err == nil && len(bytes.TrimSpace(line)) == 0 {
		line, no, err = r.line()
	}
	if err != nil {
		return FileRecord{}, err
	}
	value := bytes.Clone(line)
	switch {
	case r.json && (value[0] == '{' || value[0] == '['):
		if value, err = r.value(value); err != nil {
			return FileRecord{}, err
		}
		if r.unpack(value) {
			r.at = no
			return r.Next()
		}
	case r.start != nil:
		if value, err = r.gather(value, func(next []byte) bool { return r.start.Match(next) }); err != nil {
			return FileRecord{}, err
		}
	}
	return FileRecord{no, value}, nil
}

// value completes a JSON value that goes on in the lines after it. A line that
// begins an object at its very start begins another record, so that one that was
// cut off does not take the rest of the file with it.
func (r *Reader) value(first []byte) ([]byte, error) {
	depth := nesting{}
	depth.read(first)
	if depth.open <= 0 {
		return first, nil
	}
	return r.gather(first, func(next []byte) bool {
		if depth.open <= 0 || len(next) > 0 && next[0] == '{' {
			return true
		}
		depth.read(next)
		return false
	})
}

// gather adds lines to a record until one begins the next.
func (r *Reader) gather(value []byte, begins func(next []byte) bool) ([]byte, error) {
	for {
		line, no, err := r.line()
		if errors.Is(err, io.EOF) {
			return bytes.TrimRight(value, "\n"), nil
		}
		if err != nil {
			return nil, err
		}
		if begins(line) {
			r.ahead, r.aheadNo = bytes.Clone(line), no
			return bytes.TrimRight(value, "\n"), nil
		}
		if len(value) <= r.limit {
			value = append(append(value, '\n'), line...)
		}
	}
}

// line is the next line without its end, until the next call.
func (r *Reader) line() ([]byte, int, error) {
	if r.ahead != nil {
		line := r.ahead
		r.ahead = nil
		return line, r.aheadNo, nil
	}
	if r.eof {
		return nil, 0, io.EOF
	}
	r.no++
	var out []byte
	for {
		part, err := r.in.ReadSlice('\n')
		if room := r.limit + 1 - len(out); room > 0 {
			out = append(out, part[:min(len(part), room)]...)
		}
		switch {
		case err == nil:
			return bytes.TrimRight(out, "\r\n"), r.no, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			r.eof = true
			if len(out) == 0 {
				return nil, 0, io.EOF
			}
			return bytes.TrimRight(out, "\r\n"), r.no, nil
		default:
			return nil, 0, err
		}
	}
}

// unpack takes the members of an array for the next records.
func (r *Reader) unpack(value []byte) bool {
	var members []json.RawMessage
	if value[0] != '[' || json.Unmarshal(value, &members) != nil || len(members) == 0 {
		return false
	}
	var first map[string]json.RawMessage
	if json.Unmarshal(members[0], &first) != nil {
		return false
	}
	if _, cloud := first["specversion"]; cloud {
		return false
	}
	r.members = members
	return true
}

// nesting follows the brackets of JSON over lines.
type nesting struct {
	open   int
	quoted bool
}

func (n *nesting) read(line []byte) {
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case n.quoted && c == '\\':
			i++
		case c == '"':
			n.quoted = !n.quoted
		case n.quoted:
		case c == '{' || c == '[':
			n.open++
		case c == '}' || c == ']':
			n.open--
		}
	}
	n.quoted = false // a text of JSON ends in its line
}
