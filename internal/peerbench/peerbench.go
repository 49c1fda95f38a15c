// Package peerbench measures the rule engine against another Sigma engine in one
// run: the same events, the same rule files, one thread each.
//
// Both are measured as their users run them, as a program that reads a file of
// NDJSON records: ours is `keysentry rules eval` with GOMAXPROCS=1, so reading
// the file, cutting it into records, reading the time of each and writing what
// matched are part of our figure as they are of the peer's. rsigma (`engine
// eval`) has one thread by itself; its input format is named, which spares it
// from guessing, and nothing that costs it time is switched on.
//
// What is measured is processor time, user and system, of the process: on an
// idle core that is the time that passes, and on a busy machine it is still the
// time that the work takes. Load time is taken off: every round runs each side
// on one event too. Both sides take turns, and the best of the rounds counts.
//
// A figure stands only if both sides found the same. Rules that one side cannot
// load are left out for both, and counted.
package peerbench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"
)

// Options say what to measure.
type Options struct {
	Corpus   string // the SigmaHQ rules: a .tar.gz, or a folder that holds such or rule files
	Self     string // our program
	Peer     string // the peer's program; empty: installed with cargo when missing
	Events   int    // per work; value_count always has 200,000
	Rounds   int
	Progress io.Writer
}

// Result is one work. Ours and Theirs are in Unit.
type Result struct {
	Work        string  `json:"work"`
	Peer        string  `json:"peer"`
	Unit        string  `json:"unit"`
	Ours        float64 `json:"ours"`
	Theirs      float64 `json:"theirs"`
	Ratio       float64 `json:"ratio"`
	OurResult   int     `json:"our_result"` // matches or findings
	TheirResult int     `json:"their_result"`
}

// ErrMissing marks what the person has to provide: the corpus, cargo.
var ErrMissing = errors.New("something is missing")

// minEvents keeps load time small beside the work.
const minEvents = 1000

// Run measures every work and hands each result to emit as it is known. It
// reports what is short of its bar, or differs; nil when all is well.
func Run(ctx context.Context, o Options, emit func(Result) error) (short []string, err error) {
	if o.Events < minEvents || o.Rounds < 1 {
		return nil, fmt.Errorf("%d events in %d rounds are too few to measure: give at least %d in one", o.Events, o.Rounds, minEvents)
	}
	corpus, err := readCorpus(o.Corpus)
	if err != nil {
		return nil, err
	}
	if o.Peer == "" {
		if o.Peer, err = installRsigma(ctx, o.Progress); err != nil {
			return nil, err
		}
	}
	b := &bench{Options: o, ours: keysentry(o.Self), theirs: rsigma(o.Peer)}
	return b.run(ctx, corpus, emit)
}

// bench is one run.
type bench struct {
	Options
	ours, theirs contestant
	dir          string
}

func (b *bench) run(ctx context.Context, corpus []ruleFile, emit func(Result) error) (short []string, err error) {
	if b.dir, err = os.MkdirTemp("", "keysentry-peers-"); err != nil {
		return nil, fmt.Errorf("make a folder for the rules and events: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	both, err := b.loadable(ctx, corpus)
	if err != nil {
		return nil, err
	}
	b.say("%d of %d rule files load on both sides; %d are left out", len(both), len(corpus), len(corpus)-len(both))
	for _, w := range works(both, b.Events) {
		r, err := b.measure(ctx, w)
		if err != nil {
			return short, fmt.Errorf("%s: %w", w.name, err)
		}
		if err := emit(r); err != nil {
			return short, fmt.Errorf("write: %w", err)
		}
		short = append(short, w.judge(r)...)
	}
	return short, nil
}

// measure runs one work on both sides.
func (b *bench) measure(ctx context.Context, w work) (Result, error) {
	dir := filepath.Join(b.dir, w.name)
	rules, err := writeRules(filepath.Join(dir, "rules"), w.rules)
	if err != nil {
		return Result{}, err
	}
	one, all := filepath.Join(dir, "one.ndjson"), filepath.Join(dir, "all.ndjson")
	if err := errors.Join(writeEvents(one, w.event, 1), writeEvents(all, w.event, w.events)); err != nil {
		return Result{}, err
	}
	defer func() { _ = os.Remove(all) }() // they are large
	r := Result{Work: w.name, Peer: b.theirs.name, Unit: "events/s"}
	ours, theirs := bests{math.MaxInt64, math.MaxInt64}, bests{math.MaxInt64, math.MaxInt64}
	for round := range b.Rounds {
		b.say("%s: %d rules, %d events, round %d of %d", w.name, len(w.rules), w.events, round+1, b.Rounds)
		if r.OurResult, err = ours.round(ctx, b.ours, w, rules, one, all); err != nil {
			return r, err
		}
		if r.TheirResult, err = theirs.round(ctx, b.theirs, w, rules, one, all); err != nil {
			return r, err
		}
	}
	if r.Ours, err = ours.rate(w.events); err != nil {
		return r, err
	}
	if r.Theirs, err = theirs.rate(w.events); err != nil {
		return r, err
	}
	r.Ratio = math.Round(r.Ours/r.Theirs*100) / 100
	return r, nil
}

// bests are the shortest times of one side.
type bests struct{ one, all time.Duration }

// round runs one side on one event and on all, and returns how many lines it
// wrote about all.
func (t *bests) round(ctx context.Context, c contestant, w work, rules, one, all string) (int, error) {
	load, _, err := c.run(ctx, w, rules, one)
	if err != nil {
		return 0, err
	}
	full, lines, err := c.run(ctx, w, rules, all)
	t.one, t.all = min(t.one, load), min(t.all, full)
	return lines, err
}

// rate is events per second without the load.
func (t *bests) rate(events int) (float64, error) {
	if t.all <= t.one {
		return 0, fmt.Errorf("%d events take no longer than one: give more", events)
	}
	return math.Round(float64(events-1) / (t.all - t.one).Seconds()), nil
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.Progress, "keysentry: "+format+"\n", args...)
}
