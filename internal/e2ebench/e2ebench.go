// Package e2ebench measures the whole product on servers of its own.
package e2ebench

import (
	"context"
	"errors"
	"io"
)

// Options say what to measure.
type Options struct {
	Version  string
	Broker   string // kfake or kafka
	Events   int
	Progress io.Writer
}

// Result is what was measured.
type Result struct {
	Broker           string  `json:"broker"`
	Events           int     `json:"events"`
	Rules            int     `json:"rules"`
	EventsPerS       float64 `json:"events_per_s"`
	FloorEventsPerS  float64 `json:"floor_events_per_s"`
	FloorRatio       float64 `json:"floor_ratio"`
	CPUUsPerEvent    float64 `json:"cpu_us_per_event"`
	ServerUsPerEvent float64 `json:"server_us_per_event"`
	PeakRSSMB        float64 `json:"peak_rss_mb"`
	AlertP50MS       float64 `json:"alert_p50_ms"`
	AlertP99MS       float64 `json:"alert_p99_ms"`
}

// Run measures.
func Run(context.Context, Options) (Result, error) {
	return Result{}, errors.New("not built yet")
}
