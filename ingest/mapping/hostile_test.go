package mapping_test

import (
	"strings"
	"testing"

	"github.com/keysentry/keysentry/event"
)

// TestArraysAroundRecordsAreBounded: what stands around the records is looked at
// once per record and field, so a long array there must not be gone through whole:
// half a megabyte of it kept a partition busy for minutes.
func TestArraysAroundRecordsAreBounded(t *testing.T) {
	t.Parallel()
	m := shipped(t, "otlp")
	record := func(filler int) []byte {
		around := strings.Repeat("{},", filler) + `{"user.id":"far"}`
		return []byte(`{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1772366400000000000"}]}]}],"attributes":[` + around + `]}`)
	}
	for filler, want := range map[int]string{0: "far", 60: "far", 5000: ""} {
		m.Map(record(filler), options, func(_ int32, e *event.Event, err error) {
			if err != nil {
				t.Fatalf("%d members: %v", filler, err)
			}
			if e.UserID != want {
				t.Errorf("%d members: user %q, want %q", filler, e.UserID, want)
			}
		})
	}
	// The record itself is gone through whole.
	own := `{"ecs.version":"8","@timestamp":"2026-03-01T12:00:00Z","event":[` + strings.Repeat("{},", 5000) + `{"reason":"own"}]}`
	shipped(t, "ecs").Map([]byte(own), options, func(_ int32, e *event.Event, err error) {
		if err != nil || e.Reason != "own" {
			t.Errorf("%v, %+v", err, e)
		}
	})
}
