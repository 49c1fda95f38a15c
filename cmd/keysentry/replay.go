package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/app"
)

// maxLine bounds one record of a replayed file.
const maxLine = 16 << 20

func replayCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "replay --brokers ADDR --topic TOPIC FILE...",
		Short: "Produce recorded events to Kafka, one record a line",
		Long: `Produce the lines of files to a topic, as they are: NDJSON, or a log in a format
that the topic has a mapping for. Files that end with .gz are unpacked; - is
standard input. Empty lines are passed over. Use a topic whose entry says
"observed: producer" for history, so that windows run on the events' own time.`,
		Args: atLeastOne("a file, or - for standard input"),
	}
	brokers := c.Flags().String("brokers", "", "the Kafka at `ADDR`[,ADDR...]")
	topic := c.Flags().String("topic", "auth.events", "topic to produce to")
	rate := c.Flags().Float64("rate", 0, "records per second (0: as fast as it goes)")
	c.RunE = func(c *cobra.Command, args []string) error {
		if *brokers == "" {
			return usage(errors.New("give --brokers ADDR"))
		}
		if *rate < 0 {
			return usage(errors.New("--rate: records per second, or 0 for as fast as it goes"))
		}
		p, err := app.NewProducer(strings.Split(*brokers, ","), *topic)
		if err != nil {
			return usage(err)
		}
		n := 0
		for _, name := range args {
			if err := replayFile(c.Context(), std, name, &pacer{rate: *rate, began: time.Now()}, func(line []byte) error {
				n++
				return p.Add(c.Context(), kafka.Message{Time: event.At(time.Now()), Value: line})
			}); err != nil {
				return errors.Join(fmt.Errorf("%s: %w", name, err), p.Close(c.Context()))
			}
		}
		if err := p.Close(c.Context()); err != nil {
			return err
		}
		_, err = fmt.Fprintf(std.out, "%d records produced to %s\n", n, *topic)
		return err
	}
	return c
}

// pacer holds a rate.
type pacer struct {
	rate  float64
	began time.Time
	n     int
}

func (p *pacer) wait(ctx context.Context) error {
	if p.n++; p.rate <= 0 {
		return ctx.Err()
	}
	due := p.began.Add(time.Duration(float64(p.n) / p.rate * float64(time.Second)))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(due)):
		return nil
	}
}

func replayFile(ctx context.Context, std stdio, name string, pace *pacer, add func(line []byte) error) error {
	in, closeIn, err := openInput(std, name)
	if err != nil {
		return usage(err)
	}
	defer closeIn()
	if strings.HasSuffix(name, ".gz") {
		z, err := gzip.NewReader(in)
		if err != nil {
			return fmt.Errorf("unpack: %w", err)
		}
		in = z
	}
	r := bufio.NewReaderSize(in, 1<<20)
	for no := 1; ; no++ {
		line, err := r.ReadBytes('\n')
		if len(line) > maxLine {
			return fmt.Errorf("line %d is longer than %d bytes", no, maxLine)
		}
		for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
			line = line[:len(line)-1]
		}
		if len(line) > 0 {
			if err := pace.wait(ctx); err != nil {
				return err
			}
			if err := add(line); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("line %d: %w", no, err)
		}
	}
}
