package kafkawire

import (
	"strings"
	"testing"
)

// TestDecodeBoundsOneAnswer: small batches that each stay below the limit must
// not grow without bound together, nor may records of nearly no bytes.
func TestDecodeBoundsOneAnswer(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	for name, tc := range map[string]struct {
		batches, perBatch int
		value             string
	}{
		"large records": {20, 1, strings.Repeat("x", limit*2/5)},
		"empty records": {3, maxRecords, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var raw []byte
			next := int64(0)
			for range tc.batches {
				values := make([]string, tc.perBatch)
				for i := range values {
					values[i] = tc.value
				}
				raw = append(raw, oracle{base: next, attrs: int16(codecZstd), values: values, compress: zstded}.encode()...)
				next += int64(tc.perBatch)
			}
			var got, calls int64
			for got < next {
				size, n, from := 0, 0, got
				dec := Decoder{MaxDecompressed: 16 << 20}
				if tc.value != "" {
					dec.MaxDecompressed = limit
				}
				out := dec.Decode(&FetchResponse{Records: raw}, from, func(r *Record) {
					if r.Offset != got {
						t.Fatalf("offset %d, want %d", r.Offset, got)
					}
					got++
					n++
					size += len(r.Key) + len(r.Value)
				})
				if len(out.Gaps) > 0 || out.Cut || out.Next != got || out.Next == from {
					t.Fatalf("from %d: %+v after %d records", from, out, n)
				}
				if size > 2*dec.MaxDecompressed || n > maxRecords {
					t.Fatalf("one answer became %d records of %d bytes", n, size)
				}
				calls++
			}
			if calls < 2 {
				t.Errorf("%d calls: the case proves nothing", calls)
			}
		})
	}
}
