package store

import (
	"slices"
	"strings"

	"github.com/ClickHouse/ch-go/proto"
)

// column is one column of a block that is being filled by row number. A row
// that nobody sets holds the type's zero, which stands for absent; a column
// that nobody set at all stays empty and is left out of the insert.
type column interface {
	proto.ColInput
	// pad fills up to rows with absent values.
	pad(rows int)
	// copyRow appends row i of src, a column of the same type, as row n.
	copyRow(n int, src column, i int)
	// size is the memory that the values take, in bytes.
	size() int
	reset()
}

// text is a String column.
type text struct{ proto.ColStr }

func (c *text) set(row int, v string) {
	c.pad(row)
	c.Append(v)
}

func (c *text) pad(rows int) {
	for len(c.Pos) < rows {
		c.Pos = append(c.Pos, proto.Position{Start: len(c.Buf), End: len(c.Buf)})
	}
}

func (c *text) copyRow(n int, src column, i int) {
	if s := src.(*text); i < s.Rows() {
		c.set(n, s.Row(i))
	}
}

func (c *text) size() int { return len(c.Buf) + 16*len(c.Pos) }
func (c *text) reset()    { c.Reset() }

// maxWords is how many words a dictionary keeps from one insert to the next.
const maxWords = 4096

// word is a LowCardinality(String) column. Its dictionary outlives the block,
// so that a word that comes again costs one look-up and no copy.
type word struct {
	words []string
	index map[string]uint32
	keys  []uint32
	last  uint32 // key of the last word: runs of one word are common
	wire  proto.ColLowCardinalityRaw
}

func (c *word) set(row int, v string) {
	if c.index == nil {
		c.index = map[string]uint32{"": 0}
		c.words = append(c.words, "")
	}
	c.pad(row)
	if c.words[c.last] != v {
		c.last = c.intern(v)
	}
	c.keys = append(c.keys, c.last)
}

func (c *word) intern(v string) uint32 {
	if k, ok := c.index[v]; ok {
		return k
	}
	v = strings.Clone(v)
	k := uint32(len(c.words))
	c.words = append(c.words, v)
	c.index[v] = k
	return k
}

func (c *word) at(row int) string {
	if row >= len(c.keys) {
		return ""
	}
	return c.words[c.keys[row]]
}

func (c *word) pad(rows int) {
	if n := rows - len(c.keys); n > 0 {
		c.keys = append(c.keys, make([]uint32, n)...)
	}
}

func (c *word) copyRow(n int, src column, i int) {
	if v := src.(*word).at(i); v != "" {
		c.set(n, v)
	}
}

func (c *word) size() int { return 4 * len(c.keys) }

func (c *word) reset() {
	c.keys = c.keys[:0]
	if len(c.words) > maxWords {
		*c = word{keys: c.keys}
	}
}

// Type is part of proto.ColInput, as are the methods below.
func (c *word) Type() proto.ColumnType { return "LowCardinality(String)" }

// Rows counts the rows.
func (c *word) Rows() int { return len(c.keys) }

// Prepare builds what goes over the wire, with the narrowest keys.
func (c *word) Prepare() error {
	dict := &proto.ColStr{}
	for _, v := range c.words {
		dict.Append(v)
	}
	c.wire.Index = dict
	switch n := len(c.words); {
	case n <= 1<<8:
		c.wire.Key = proto.KeyUInt8
		c.wire.Keys8 = narrow(c.wire.Keys8, c.keys)
	case n <= 1<<16:
		c.wire.Key = proto.KeyUInt16
		c.wire.Keys16 = narrow(c.wire.Keys16, c.keys)
	default:
		c.wire.Key = proto.KeyUInt32
		c.wire.Keys32 = narrow(c.wire.Keys32, c.keys)
	}
	return nil
}

func narrow[S ~[]T, T uint8 | uint16 | uint32](dst S, keys []uint32) S {
	dst = slices.Grow(dst[:0], len(keys))[:len(keys)]
	for i, k := range keys {
		dst[i] = T(k)
	}
	return dst
}

// EncodeState writes the version of the dictionary's encoding.
func (c *word) EncodeState(b *proto.Buffer) { c.wire.EncodeState(b) }

// EncodeColumn writes dictionary and keys.
func (c *word) EncodeColumn(b *proto.Buffer) { c.wire.EncodeColumn(b) }

// WriteColumn writes dictionary and keys.
func (c *word) WriteColumn(w *proto.Writer) { c.wire.WriteColumn(w) }

// fixed is a column of values of one width.
type fixed[T any, S interface {
	~[]T
	proto.ColInput
}] struct {
	values S
	typ    proto.ColumnType
	width  int
}

func (c *fixed[T, S]) set(row int, v T) {
	c.pad(row)
	c.values = append(c.values, v)
}

func (c *fixed[T, S]) pad(rows int) {
	if n := rows - len(c.values); n > 0 {
		c.values = append(c.values, make([]T, n)...)
	}
}

func (c *fixed[T, S]) copyRow(n int, src column, i int) {
	if s := src.(*fixed[T, S]); i < len(s.values) {
		c.set(n, s.values[i])
	}
}

func (c *fixed[T, S]) size() int { return c.width * len(c.values) }
func (c *fixed[T, S]) reset()    { c.values = c.values[:0] }

// Type is part of proto.ColInput, as are the methods below.
func (c *fixed[T, S]) Type() proto.ColumnType { return c.typ }

// Rows counts the rows.
func (c *fixed[T, S]) Rows() int { return len(c.values) }

// EncodeColumn writes the values.
func (c *fixed[T, S]) EncodeColumn(b *proto.Buffer) { c.values.EncodeColumn(b) }

// WriteColumn writes the values.
func (c *fixed[T, S]) WriteColumn(w *proto.Writer) { c.values.WriteColumn(w) }

// The fixed columns that the tables have.
type (
	instants  = fixed[int64, proto.ColInt64]
	int64s    = fixed[int64, proto.ColInt64]
	int32s    = fixed[int32, proto.ColInt32]
	uint64s   = fixed[uint64, proto.ColUInt64]
	uint16s   = fixed[uint16, proto.ColUInt16]
	float64s  = fixed[float64, proto.ColFloat64]
	float32s  = fixed[float32, proto.ColFloat32]
	bools     = fixed[bool, proto.ColBool]
	addresses = fixed[proto.IPv6, proto.ColIPv6]
)

func newInstants() *instants   { return &instants{typ: "DateTime64(9, 'UTC')", width: 8} }
func newInt64s() *int64s       { return &int64s{typ: "Int64", width: 8} }
func newInt32s() *int32s       { return &int32s{typ: "Int32", width: 4} }
func newUint64s() *uint64s     { return &uint64s{typ: "UInt64", width: 8} }
func newUint16s() *uint16s     { return &uint16s{typ: "UInt16", width: 2} }
func newFloat64s() *float64s   { return &float64s{typ: "Float64", width: 8} }
func newFloat32s() *float32s   { return &float32s{typ: "Float32", width: 4} }
func newBools() *bools         { return &bools{typ: "Bool", width: 1} }
func newAddresses() *addresses { return &addresses{typ: "IPv6", width: 16} }
