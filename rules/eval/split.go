package eval

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// maxRecord bounds one record.
const maxRecord = 64 << 20

var (
	errTooLong   = errors.New("longer than 64 MiB")
	errNotObject = errors.New("not a JSON object")
	errCut       = errors.New("the input ends inside it")
)

// splitter cuts a stream into JSON objects: one per line, one after another, or
// the members of one array.
type splitter struct {
	r    io.Reader
	buf  []byte
	pos  int   // start of what is not handed out yet
	err  error // that ended the reading
	list bool  // inside an array
	// noLines: a line was found that is not one object, so lines are no use here.
	noLines bool
}

func newSplitter(r io.Reader) *splitter { return &splitter{r: r, buf: make([]byte, 0, 1<<18)} }

// next is the next object; it aliases the splitter's buffer until the next call.
// io.EOF ends the input.
func (s *splitter) next() ([]byte, error) {
	if err := s.start(); err != nil {
		return nil, err
	}
	depth, quoted, i := 0, false, s.pos
	for {
		for ; i < len(s.buf); i++ {
			c := s.buf[i]
			switch {
			case quoted:
				switch c {
				case '\\':
					i++ // the escaped byte, even if it is not read yet
				case '"':
					quoted = false
				}
			case c == '"':
				quoted = true
			case c == '{' || c == '[':
				depth++
			case c == '}' || c == ']':
				if depth--; depth == 0 {
					raw := s.buf[s.pos : i+1]
					s.pos = i + 1
					return raw, nil
				}
			}
		}
		from := s.pos
		if err := s.fill(); err != nil {
			if err == io.EOF {
				return nil, errCut
			}
			return nil, err
		}
		i -= from - s.pos
	}
}

// line is the next line, if it looks like an object and can be had without more
// memory. It is looked at only: taken goes past it, next starts over at it.
func (s *splitter) line() ([]byte, bool) {
	if s.noLines || s.start() != nil || s.list {
		return nil, false // next says what is wrong
	}
	for seen := 0; ; {
		rest := s.buf[s.pos:]
		if i := bytes.IndexByte(rest[seen:], '\n'); i >= 0 {
			return rest[:seen+i], true
		}
		if seen = len(rest); seen == cap(s.buf) || s.fill() != nil {
			s.noLines = true
			return s.buf[s.pos:], s.err == io.EOF
		}
	}
}

// taken goes past the line.
func (s *splitter) taken(line []byte) { s.pos += len(line) }

// start moves to the opening brace of the next object.
func (s *splitter) start() error {
	for {
		for ; s.pos < len(s.buf); s.pos++ {
			switch c := s.buf[s.pos]; {
			case c == ' ' || c == '\n' || c == '\r' || c == '\t':
			case c == '{':
				return nil
			case c == '[' && !s.list:
				s.list = true
			case c == ',' && s.list:
			case c == ']' && s.list:
				s.list = false
			default:
				return errNotObject
			}
		}
		if err := s.fill(); err != nil {
			return err
		}
	}
}

// fill reads more, after moving what is left to the front.
func (s *splitter) fill() error {
	if s.err != nil {
		return s.err
	}
	left := copy(s.buf, s.buf[s.pos:])
	s.buf, s.pos = s.buf[:left], 0
	if left == cap(s.buf) {
		if left >= maxRecord {
			return errTooLong
		}
		s.buf = append(s.buf, make([]byte, left)...)[:left]
	}
	n, err := s.r.Read(s.buf[left:cap(s.buf)])
	s.buf, s.err = s.buf[:left+n], err
	if n > 0 {
		return nil
	}
	return err
}

// lineSplitter cuts a stream into lines; empty ones are passed over.
type lineSplitter struct{ s *bufio.Scanner }

func newLineSplitter(r io.Reader) lineSplitter {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 1<<16), maxRecord)
	return lineSplitter{s}
}

// next is the next line without its end, until the next call. io.EOF ends the
// input.
func (l lineSplitter) next() ([]byte, error) {
	for l.s.Scan() {
		if line := bytes.TrimSuffix(l.s.Bytes(), []byte("\r")); len(line) > 0 {
			return line, nil
		}
	}
	switch err := l.s.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, errTooLong
	case err != nil:
		return nil, err
	}
	return nil, io.EOF
}
