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
}

// maxRate is what the generator takes, in events per second.
const maxRate = 1e7

func simulateCommand(std stdio) *cobra.Command {
	var f simulateFlags
	names := make([]string, 0, 8)
	long := "Make audit events of a network that does not exist. The same options give the\nsame events, byte for byte.\n\nScenarios:\n"
	for _, s := range simulate.Scenarios() {
		names = append(names, s.Name)
		long += fmt.Sprintf("  %-20s %s\n", s.Name, s.About)
	}
	c := &cobra.Command{Use: "simulate --scenario NAME (--out FILE | --brokers ADDR)", Short: "Make events of a simulated network", Long: long, Args: noArgs,
		Example: "  keysentry simulate --scenario key-theft --seed 7 --duration 2h --out theft.ndjson --labels truth.ndjson"}
	fl := c.Flags()
	fl.StringVar(&f.opt.Scenario, "scenario", "ordinary", strings.Join(names, ", "))
	fl.Uint64Var(&f.opt.Seed, "seed", 1, "seed")
	fl.DurationVar(&f.opt.Duration, "duration", time.Hour, "span of event time")
	fl.Float64Var(&f.opt.Rate, "rate", 10, "events per second, on the average")
	fl.StringVar(&f.opt.Network, "network", "demo", "name of the network")
	fl.IntVar(&f.opt.Hosts, "hosts", 0, "hosts (0: the scenario's default)")
	fl.IntVar(&f.opt.Users, "users", 0, "users (0: the scenario's default)")
	start := fl.String("start", "", "RFC 3339 time of the first event (default 2026-01-05T00:00:00Z; now with --brokers)")
	fl.StringVarP(&f.out, "out", "o", "", "write NDJSON to `FILE`, or -")
	fl.StringVar(&f.brokers, "brokers", "", "produce to the Kafka at `ADDR`[,ADDR...] instead")
	fl.StringVar(&f.topic, "topic", "auth.events", "topic to produce to")
	fl.StringVar(&f.labels, "labels", "", "write the ground truth as NDJSON to `FILE`")
	c.RunE = action(func(ctx context.Context) error {
		if (f.out == "") == (f.brokers == "") {
			return usage(errors.New("give either --out FILE or --brokers ADDR"))
		}
		if f.opt.Duration <= 0 || f.opt.Rate <= 0 || f.opt.Rate > maxRate {
			return usage(fmt.Errorf("--duration and --rate must be above zero, and the rate at most %g", maxRate))
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
	label := func(simulate.Label) error { return nil }
	if f.labels != "" {
		file, err := os.Create(f.labels)
		if err != nil {
			return usage(err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		label = func(l simulate.Label) error { return json.NewEncoder(file).Encode(l) }
	}
	began, n := time.Now(), 0
	said := began
	err = simulate.Generate(f.opt, func(e *event.Event, _ simulate.Truth) error {
		if n++; n%10_000 == 0 {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if time.Since(said) > 2*time.Second {
				said = time.Now()
				fmt.Fprintf(std.err, "keysentry: %d events, at %s\n", n, e.Time)
			}
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
