// Package torture breaks the daemon on purpose and counts what is stored
// afterwards.
package torture

import (
	"context"
	"fmt"
	"io"
)

// Options say what to break, and how often.
type Options struct {
	Version  string
	Fault    string // one of Faults, or all
	Broker   string // kfake or kafka
	Rounds   int
	Events   int
	Seed     uint64
	Progress io.Writer
}

// Result is one fault's outcome.
type Result struct {
	Fault          string  `json:"fault"`
	Rounds         int     `json:"rounds"`
	Events         int     `json:"events"`
	Seed           uint64  `json:"seed"`
	Lost           int64   `json:"lost"`
	Duplicates     int64   `json:"duplicates"`
	FindingsTwice  int     `json:"findings_twice"`
	OffsetWentBack int     `json:"offset_went_back"`
	PeakRSSMB      float64 `json:"peak_rss_mb"`
	RecoverySMax   float64 `json:"recovery_s_max"`
	OK             bool    `json:"ok"`
}

// Faults names what can be broken.
func Faults() []string { return []string{"kill"} }

// Run breaks the daemon and gives each fault's result to emit.
func Run(_ context.Context, o Options, _ func(Result) error) error {
	return fmt.Errorf("fault %q is not built yet", o.Fault)
}
