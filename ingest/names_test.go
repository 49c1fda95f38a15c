package ingest

import (
	"testing"

	"github.com/keysentry/keysentry/internal/metrics"
)

// TestNamesOfUnknownFieldsAreMasked: they come from messages and are labels of a
// metric, which anyone on the port may read.
func TestNamesOfUnknownFieldsAreMasked(t *testing.T) {
	t.Parallel()
	reg := metrics.New()
	d := newCountedDecoder(t, reg)
	secret := "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
	for range 2 {
		decodeAll(t, d, testPart, Record{Time: testNow, Value: []byte(`{"` + secret + `":1}`)})
	}
	if got, _ := counted(t, reg, "unknown_fields_total", secret); got != 0 {
		t.Errorf("the secret is a label: %v", got)
	}
	if got, series := counted(t, reg, "unknown_fields_total", "[redacted:token]"); got != 2 || series != 1 {
		t.Errorf("masked names count %v in %d series, want 2 in 1", got, series)
	}
}
