package torture

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// Options say what to break, and how often.
type Options struct {
	Version string
	Fault   string // one of Faults, or all
	Broker  string // kfake or kafka
	// Rounds and Events: 0 is the fault's own.
	Rounds, Events int
	Seed           uint64
	// Outage and Rate are of clickhouse-outage: how long ClickHouse is away, and
	// how many events a second flow meanwhile. 0: the defaults.
	Outage   time.Duration
	Rate     float64
	Progress io.Writer
}

// The defaults of Options.
const (
	DefaultOutage = 10 * time.Minute
	DefaultRate   = 5000
)

// Faults names what can be broken.
func Faults() []string {
	var out []string
	for _, f := range faults() {
		out = append(out, f.name)
	}
	return out
}

// Describe gives each fault in one line, with its name.
func Describe() [][2]string {
	var out [][2]string
	for _, f := range faults() {
		out = append(out, [2]string{f.name, f.what})
	}
	return out
}

// Check says what is wrong with o, before anything is started.
func Check(o Options) error {
	_, err := choose(o)
	return err
}

// chosen is a fault with its options.
type chosen struct {
	fault
	opt Options
}

func choose(o Options) ([]chosen, error) {
	var out []chosen
	for _, f := range faults() {
		if o.Fault != f.name && o.Fault != "all" {
			continue
		}
		own, err := f.options(o)
		if err != nil {
			return nil, err
		}
		out = append(out, chosen{f, own})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("there is no fault %q", o.Fault)
	}
	return out, nil
}

// Run breaks the daemon and gives each fault's result to emit. A broken promise
// is a result that is not OK; an error means that there is no result.
func Run(ctx context.Context, o Options, emit func(Result) error) error {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	all, err := choose(o)
	if err != nil {
		return err
	}
	for _, f := range all {
		r, err := try(ctx, f.opt, f.fault)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if err := emit(r); err != nil {
			return err
		}
	}
	return nil
}

// options are o with the fault's own values where o has none.
func (f fault) options(o Options) (Options, error) {
	if o.Rounds < 0 || o.Events < 0 || o.Rate < 0 || o.Outage < 0 {
		return o, errors.New("rounds, events, rate and outage must not be negative")
	}
	if o.Outage == 0 {
		o.Outage = DefaultOutage
	}
	if o.Rate == 0 {
		o.Rate = DefaultRate
	}
	if o.Rounds == 0 {
		o.Rounds = f.rounds
	}
	if f.events == nil {
		if o.Events == 0 {
			o.Events = defaultEvents
		}
	} else {
		o.Events = f.events(o)
	}
	if least := leastShare * (o.Rounds + 1); o.Events < least {
		return o, fmt.Errorf("%s: give %d events for each round and for the end: %d rounds want %d, got %d", f.name, leastShare, o.Rounds, least, o.Events)
	}
	return o, nil
}

// defaultEvents is how many events a trial has, and leastShare how many each
// round must have.
const (
	defaultEvents = 200_000
	leastShare    = 100
)
