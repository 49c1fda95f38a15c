package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/simulate"
)

// simulateFlags are the flags of simulate.
type simulateFlags struct {
	opt                         simulate.Options
	out, brokers, topic, labels string
	scenarios                   []string
	folder                      string
	list                        bool
}

// maxRate is what the generator takes, in events per second.
const maxRate = 1e7

func simulateCommand(std stdio) *cobra.Command {
	var f simulateFlags
	long := "Make audit events of a network that does not exist, in the order in which they\nwould arrive. The same options give the same events, byte for byte.\n\n" +
		"Scenarios (docs/reference/simulator.md says how to write one):\n"
	for _, s := range simulate.Scenarios() {
		long += fmt.Sprintf("  %-20s %s\n", s.Name, s.About)
	}
	c := &cobra.Command{Use: "simulate --scenario NAME (--out FILE | --brokers ADDR)", Short: "Make events of a simulated network", Long: long, Args: noArgs,
		Example: "  keysentry simulate --scenario key-theft --seed 7 --duration 2h --out theft.ndjson --labels truth.ndjson\n" +
			"  keysentry simulate --scenario enumeration@9d,infostealer --calendar --duration 720h --hosts 200 --users 1000000 --out month.ndjson"}
	fl := c.Flags()
	fl.StringSliceVar(&f.scenarios, "scenario", []string{simulate.Ordinary}, "`NAME`[@MOMENT] or FILE.yml of what is played, several with commas; a moment is a time (36h) or a share of the run (40%)")
	fl.StringVar(&f.folder, "scenarios", "", "play every scenario file of `DIR`")
	fl.BoolVar(&f.list, "list", false, "list the scenarios")
	fl.BoolVar(&f.opt.Calendar, "calendar", false, "play what happens in a month: deploys, a rotation, a sweep of sessions, a marketing peak, faults")
	fl.StringVar((*string)(&f.opt.Visibility), "visibility", string(simulate.VisibilityPlatform), "what is seen: platform (everything) or backend (own backends and clients only)")
	fl.DurationVar(&f.opt.Heartbeat, "heartbeat", 2*time.Minute, "how often each host speaks up")
	fl.Uint64Var(&f.opt.Seed, "seed", 1, "seed")
	fl.DurationVar(&f.opt.Duration, "duration", time.Hour, "span of event time")
	fl.Float64Var(&f.opt.Rate, "rate", 10, "events per second, on the average")
	fl.StringVar(&f.opt.Network, "network", "demo", "name of the network")
	fl.IntVar(&f.opt.Hosts, "hosts", 0, "hosts (0: 20)")
	fl.IntVar(&f.opt.Users, "users", 0, "users (0: 10000)")
	start := fl.String("start", "", "RFC 3339 time of the first event (default 2026-01-05T00:00:00Z; now with --brokers)")
	fl.StringVarP(&f.out, "out", "o", "", "write NDJSON to `FILE`, or -")
	fl.StringVar(&f.brokers, "brokers", "", "produce to the Kafka at `ADDR`[,ADDR...] instead")
	fl.StringVar(&f.topic, "topic", "auth.events", "topic to produce to")
	fl.StringVar(&f.labels, "labels", "", "write the ground truth as NDJSON to `FILE`: one line per scenario, and before them one per event that is hostile or refused")
	c.RunE = action(func(ctx context.Context) error {
		if f.list {
			for _, s := range simulate.Scenarios() {
				fmt.Fprintf(std.out, "%-20s %s\n", s.Name, s.About)
			}
			return nil
		}
		if (f.out == "") == (f.brokers == "") {
			return usage(errors.New("give either --out FILE or --brokers ADDR"))
		}
		if f.opt.Duration <= 0 || f.opt.Rate <= 0 || f.opt.Rate > maxRate {
			return usage(fmt.Errorf("--duration and --rate must be above zero, and the rate at most %g", maxRate))
		}
		if err := f.choose(); err != nil {
			return usage(err)
		}
		switch {
		case *start != "":
			t, err := time.Parse(time.RFC3339, *start)
			if err != nil {
				return usage(fmt.Errorf("--start: %w", err))
			}
			f.opt.Start = t
		case f.brokers != "":
			f.opt.Start = time.Now().Add(-f.opt.Duration).UTC()
		}
		return runSimulation(ctx, std, f)
	})
	return c
}

// choose reads the scenario files, and leaves the names of others as they are.
func (f *simulateFlags) choose() error {
	for _, text := range f.scenarios {
		name, when, moved := strings.Cut(text, "@")
		if !strings.HasSuffix(name, ".yml") && !strings.HasSuffix(name, ".yaml") {
			f.opt.Scenarios = append(f.opt.Scenarios, text)
			continue
		}
		list, err := simulate.LoadScripts(name)
		if err != nil {
			return err
		}
		f.opt.Scripts = append(f.opt.Scripts, list...)
		if moved {
			f.opt.Scenarios = append(f.opt.Scenarios, list[0].Name+"@"+when)
		}
	}
	if f.folder != "" {
		list, err := simulate.LoadScripts(f.folder)
		if err != nil {
			return err
		}
		f.opt.Scripts = append(f.opt.Scripts, list...)
	}
	_, err := simulate.Describe(f.opt)
	return err
}

// told is one line of the labels about an event.
type told struct {
	ID string `json:"id"`
	simulate.Truth
}

func runSimulation(ctx context.Context, std stdio, f simulateFlags) (err error) {
	sink, closeSink, err := simulationSink(ctx, std, f)
	if err != nil {
		return err
	}
	closed := false
	defer func() {
		if !closed {
			err = errors.Join(err, closeSink())
		}
	}()
	label, truth := func(simulate.Label) error { return nil }, func(*event.Event, simulate.Truth) error { return nil }
	if f.labels != "" {
		file, err := os.Create(f.labels)
		if err != nil {
			return usage(err)
		}
		lines := bufio.NewWriter(file)
		defer func() { err = errors.Join(err, lines.Flush(), file.Close()) }()
		enc := json.NewEncoder(lines)
		label = func(l simulate.Label) error { return enc.Encode(l) }
		truth = func(e *event.Event, t simulate.Truth) error {
			if t.Attack < 0 && t.Cause == event.CauseNone {
				return nil
			}
			return enc.Encode(told{e.ID, t})
		}
	}
	began, n := time.Now(), 0
	said := began
	err = simulate.Generate(f.opt, func(e *event.Event, t simulate.Truth) error {
		if n++; n%10_000 == 0 {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if time.Since(said) > 2*time.Second {
				said = time.Now()
				fmt.Fprintf(std.err, "keysentry: %d events, at %s\n", n, e.Time)
			}
		}
		if err := truth(e, t); err != nil {
			return err
		}
		return sink(e)
	}, label)
	if errors.Is(err, simulate.ErrScenario) {
		return usage(err)
	}
	if err == nil {
		closed, err = true, closeSink()
	}
	if err == nil {
		fmt.Fprintf(std.err, "keysentry: %d events in %.1f s\n", n, time.Since(began).Seconds())
	}
	return err
}

// simulationSink writes events to a file or to Kafka; closing flushes.
func simulationSink(ctx context.Context, std stdio, f simulateFlags) (func(*event.Event) error, func() error, error) {
	if f.brokers != "" {
		p, err := app.NewProducer(strings.Split(f.brokers, ","), f.topic)
		if err != nil {
			return nil, nil, usage(err)
		}
		return func(e *event.Event) error {
			return p.Add(ctx, kafka.Message{Time: e.Time, Key: []byte(e.Host), Value: event.Append(nil, e)})
		}, func() error { return p.Close(ctx) }, nil
	}
	var out io.Writer = std.out
	closeFile := func() error { return nil }
	if f.out != "-" {
		file, err := os.Create(f.out)
		if err != nil {
			return nil, nil, usage(err)
		}
		out, closeFile = file, file.Close
	}
	w := bufio.NewWriterSize(out, 1<<20)
	var line []byte
	return func(e *event.Event) error {
			line = append(event.Append(line[:0], e), '\n')
			_, err := w.Write(line)
			return err
		}, func() error {
			return errors.Join(w.Flush(), closeFile())
		}, nil
}
