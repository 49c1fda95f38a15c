package kafkawire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// codec is the compression of a record batch.
type codec int16

const (
	codecNone codec = iota
	codecGzip
	codecSnappy
	codecLZ4
	codecZstd
)

// errTooLarge begins the reason of a batch beyond the limit.
var errTooLarge = errors.New("larger than the limit when decompressed")

// Decompressors are costly to make and keep no reference to what they read, so
// they are pooled; a pool is safe for concurrent use.
var (
	gzipPool = sync.Pool{New: func() any { return new(gzip.Reader) }}
	lz4Pool  = sync.Pool{New: func() any { return lz4.NewReader(nil) }}
	zstdPool = sync.Pool{New: func() any {
		// The options are constants that the library accepts, so there is no error.
		z, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20))
		return z
	}}
)

// decompress returns the records of a compressed batch, at most limit bytes.
func decompress(c codec, b []byte, limit int) ([]byte, error) {
	switch c {
	case codecGzip:
		z := gzipPool.Get().(*gzip.Reader)
		defer gzipPool.Put(z)
		if err := z.Reset(bytes.NewReader(b)); err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		return readAll("gzip", z, len(b), limit)
	case codecSnappy:
		return unsnappy(b, limit)
	case codecLZ4:
		z := lz4Pool.Get().(*lz4.Reader)
		defer lz4Pool.Put(z)
		z.Reset(bytes.NewReader(b))
		return readAll("lz4", z, len(b), limit)
	case codecZstd:
		z := zstdPool.Get().(*zstd.Decoder)
		defer zstdPool.Put(z)
		if err := z.Reset(bytes.NewReader(b)); err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return readAll("zstd", z, len(b), limit)
	}
	return nil, fmt.Errorf("unknown compression codec %d", c)
}

// readAll reads r to its end, which must come before limit.
func readAll(name string, r io.Reader, packed, limit int) ([]byte, error) {
	buf := make([]byte, 0, min(max(4*packed, 4<<10), limit+1))
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if len(buf) > limit {
			return nil, fmt.Errorf("%s: %w of %d bytes", name, errTooLarge, limit)
		}
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(buf) == cap(buf) {
			next := make([]byte, len(buf), min(2*cap(buf), limit+1))
			copy(next, buf)
			buf = next
		}
	}
}

// xerial begins a stream of the Java library snappy-java: the magic, two version
// numbers, then blocks of a big-endian length and snappy's raw format.
var xerial = []byte{0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHead = 16

func unsnappy(b []byte, limit int) ([]byte, error) {
	if !bytes.HasPrefix(b, xerial) {
		return appendSnappy(nil, b, limit)
	}
	if len(b) < xerialHead {
		return nil, errors.New("snappy: cut header")
	}
	var out []byte
	for b = b[xerialHead:]; len(b) > 0; {
		if len(b) < 4 {
			return nil, errors.New("snappy: cut block length")
		}
		n := int(int32(binary.BigEndian.Uint32(b)))
		b = b[4:]
		if n < 0 || n > len(b) {
			return nil, errors.New("snappy: impossible block length")
		}
		var err error
		if out, err = appendSnappy(out, b[:n], limit); err != nil {
			return nil, err
		}
		b = b[n:]
	}
	return out, nil
}

// appendSnappy appends the content of one block to out.
func appendSnappy(out, block []byte, limit int) ([]byte, error) {
	n, err := snappy.DecodedLen(block)
	if err != nil {
		return nil, fmt.Errorf("snappy: %w", err)
	}
	if n > limit-len(out) {
		return nil, fmt.Errorf("snappy: %w of %d bytes", errTooLarge, limit)
	}
	// A block of p bytes cannot expand to more than 64 bytes for each two (a copy
	// element), so a length far beyond that is a lie that must not be allocated.
	if n > 64*len(block)+64 {
		return nil, errors.New("snappy: impossible decompressed length")
	}
	old := len(out)
	if cap(out)-old < n {
		grown := make([]byte, old, max(2*cap(out), old+n))
		copy(grown, out)
		out = grown
	}
	dst, err := snappy.Decode(out[old:old:cap(out)][:n], block)
	if err != nil {
		return nil, fmt.Errorf("snappy: %w", err)
	}
	return out[:old+len(dst)], nil
}
