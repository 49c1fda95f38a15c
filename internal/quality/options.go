package quality

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keysentry/keysentry/internal/simulate"
)

// Options says what is played.
type Options struct {
	// Seeds are the networks, one per seed.
	Seeds []uint64
	// Scenarios is a folder of scenario files to play in place of the shipped
	// attacks; empty: those.
	Scenarios string
	// Visibilities to play each seed in; empty: all.
	Visibilities []simulate.Visibility
	// Days is how long each network is watched.
	Days int
	// BenignDays are days without any attack that are played besides, over as many
	// networks as that takes.
	BenignDays int
	// Hosts and Users are the least that a network has; Rate is its mean number of
	// events per second, beside heartbeats.
	Hosts, Users int
	Rate         float64
	// Workers play at the same time.
	Workers int
	// Progress takes a line per play; nil: none.
	Progress io.Writer
	// Trace takes a line per page, ticket and proposal, for people who look into a
	// figure; nil: none.
	Trace io.Writer
}

// DefaultOptions are those of the bars: 30 days of 200 hosts and a million users.
func DefaultOptions() Options {
	return Options{Seeds: []uint64{1, 2, 3}, Days: 30, Hosts: 200, Users: 1_000_000, Rate: 4, Workers: 2}
}

// Validate reports every fault.
func (o Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(o.Seeds) == 0 && o.BenignDays == 0 {
		bad("seeds: give at least one, as 1-3")
	}
	if o.Days < 8 {
		bad("days: at least 8, for seasons are learnt in a week")
	}
	if o.BenignDays < 0 {
		bad("benign days: must not be negative")
	}
	if o.Hosts < 10 || o.Users < 1000 {
		bad("a network has at least 10 hosts and 1,000 users")
	}
	if o.Rate <= 0 || o.Rate > 10_000 {
		bad("rate: must be above 0 and at most 10,000 events per second")
	}
	if o.Workers < 1 {
		bad("workers: at least 1")
	}
	for _, v := range o.Visibilities {
		if !slices.Contains(simulate.Visibilities(), v) {
			bad("visibility: %q is none of %v", v, simulate.Visibilities())
		}
	}
	return errors.Join(errs...)
}

// maxSeeds bounds a range of seeds.
const maxSeeds = 10_000

// ParseSeeds reads A, or A-B with both ends.
func ParseSeeds(s string) ([]uint64, error) {
	from, to, isRange := strings.Cut(s, "-")
	a, err := strconv.ParseUint(from, 10, 64)
	b := a
	if err == nil && isRange {
		b, err = strconv.ParseUint(to, 10, 64)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("seeds: %q is neither a number nor a range as 1-3", s)
	case b < a:
		return nil, fmt.Errorf("seeds: %q runs backwards", s)
	case b-a >= maxSeeds:
		return nil, fmt.Errorf("seeds: %q is more than %d seeds", s, maxSeeds)
	}
	out := make([]uint64, 0, b-a+1)
	for ; a <= b; a++ {
		out = append(out, a)
	}
	return out, nil
}

// start is the moment at which every network begins: a Monday, four weeks before
// the clocks of most of Europe change.
var start = time.Date(2026, 3, 9, 0, 0, 0, 0, time.UTC)
