package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/internal/quality"
	"github.com/keysentry/keysentry/internal/simulate"
)

func qualityCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "quality",
		Short: "Score detection on simulated networks with known attacks",
		Long: `Play simulated networks through the production code and compare what people would
have been told with what was true. Prints one JSON object per visibility; exits 1
when a bar is not met. docs/reference/quality.md has the table and says what each
figure means. A network of 30 days takes about two minutes of one processor.`,
		Args: noArgs,
	}
	o := quality.DefaultOptions()
	f := c.Flags()
	seeds := f.String("seeds", "1-3", "`A-B`, the networks to play")
	f.StringVar(&o.Scenarios, "scenarios", "", "`FOLDER` of scenario files to play in place of the shipped attacks")
	visibility := choiceFlag(f, "visibility", "what can be seen", "both", "platform", "backend")
	f.IntVar(&o.Days, "days", o.Days, "days of each network")
	f.IntVar(&o.BenignDays, "benign-days", 0, "days without any attack to play besides")
	f.IntVar(&o.Hosts, "hosts", o.Hosts, "hosts of a network")
	f.IntVar(&o.Users, "users", o.Users, "users of a network")
	f.Float64Var(&o.Rate, "rate", o.Rate, "mean events per second of a network")
	f.IntVar(&o.Workers, "workers", o.Workers, "networks to play at the same time")
	write := f.String("write", "", "`FILE` to write the table to, as Markdown")
	trace := f.Bool("trace", false, "tell every page, ticket and proposal on standard error")
	c.RunE = action(func(ctx context.Context) (err error) {
		if o.Seeds, err = quality.ParseSeeds(*seeds); err != nil {
			return usage(err)
		}
		if *visibility != "both" {
			o.Visibilities = []simulate.Visibility{simulate.Visibility(*visibility)}
		}
		if err := o.Validate(); err != nil {
			return usage(err)
		}
		o.Progress = std.err
		if *trace {
			o.Trace = std.err
		}
		lines, err := quality.Run(ctx, o)
		if err != nil {
			return err
		}
		if *write != "" {
			if err := writeQuality(*write, lines, o); err != nil {
				return err
			}
		}
		ok := true
		enc := json.NewEncoder(std.out)
		for _, l := range lines {
			ok = ok && len(l.Failed) == 0
			if err := enc.Encode(l); err != nil {
				return err
			}
		}
		if !ok {
			return bad
		}
		return nil
	})
	return c
}

func writeQuality(path string, lines []quality.Line, o quality.Options) error {
	d := quality.DefaultOptions()
	var b strings.Builder
	command := fmt.Sprintf("keysentry quality --seeds %d-%d", o.Seeds[0], o.Seeds[len(o.Seeds)-1])
	for _, flag := range []struct {
		name     string
		got, def any
	}{{"days", o.Days, d.Days}, {"benign-days", o.BenignDays, d.BenignDays}, {"hosts", o.Hosts, d.Hosts}, {"users", o.Users, d.Users}, {"rate", o.Rate, d.Rate}} {
		if flag.got != flag.def {
			command += fmt.Sprintf(" --%s %v", flag.name, flag.got)
		}
	}
	if err := quality.WriteTable(&b, command, lines); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write the table: %w", err)
	}
	return nil
}
