package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/store"
)

func quarantineCommand(std stdio) *cobra.Command {
	c := group("quarantine", "See what was not understood, and put it through again", `Records that are no events lie in quarantine, with a reason, their place in Kafka
and a redacted excerpt. The record itself stays in Kafka.`)
	path := c.PersistentFlags().StringP("config", "c", envOr("KEYSENTRY_CONFIG", "keysentry.yml"), "configuration `FILE` (or $KEYSENTRY_CONFIG)")
	format := formatFlag(c)

	listCmd := &cobra.Command{Use: "list", Short: "List the newest records in quarantine", Args: noArgs}
	topic := listCmd.Flags().String("topic", "", "only of this topic")
	reason := listCmd.Flags().String("reason", "", "only with this reason")
	since := listCmd.Flags().Duration("since", 0, "only stored within the last `DURATION`, as 2h; 0: all")
	limit := listCmd.Flags().Int("limit", 100, "at most so many")
	listCmd.RunE = action(func(ctx context.Context) error {
		if *since < 0 {
			return usage(fmt.Errorf("--since %v: give a duration above 0, as 2h", *since))
		}
		s, err := openStore(*path)
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		filter := store.QuarantineFilter{Topic: *topic, Reason: ingest.Reason(*reason), Limit: *limit}
		if *since > 0 {
			filter.Since = event.At(time.Now().Add(-*since))
		}
		rows, err := s.QuarantineList(ctx, filter)
		if err != nil {
			return err
		}
		return list(std.out, *format, rows, func(w io.Writer) {
			fmt.Fprintln(w, "RECORD\tREASON\tFIELD\tDETAIL\tSIZE\tOBSERVED")
			for _, r := range rows {
				observed := "-" // unknown
				if r.ObservedAt != 0 {
					observed = r.ObservedAt.Time().Format(time.DateTime)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\n", place(r.Ref), r.Reason, r.Field, alert.Printable(r.Detail), r.Size, observed)
			}
		})
	})

	showCmd := &cobra.Command{Use: "show RECORD", Short: "Show one record, as TOPIC/PARTITION@OFFSET", Args: exactArgs(1, "a record as TOPIC/PARTITION@OFFSET")}
	showCmd.RunE = func(c *cobra.Command, args []string) error {
		return showQuarantined(c.Context(), std, *path, *format, args[0])
	}

	replay := &cobra.Command{Use: "replay RECORD", Short: "Put one record through again",
		Long: `Read the record from Kafka, decode it with the configuration as it is now, and if
it has become an event, produce it to its topic once more. Exits 1 and says why
when it still is none, or when Kafka no longer has it.`,
		Args: exactArgs(1, "a record as TOPIC/PARTITION@OFFSET")}
	replay.RunE = func(c *cobra.Command, args []string) error {
		ref, err := parsePlace(args[0])
		if err != nil {
			return usage(err)
		}
		cfg, err := loadConfig(*path)
		if err != nil {
			return err
		}
		to, err := app.ReplayRecord(c.Context(), cfg, ref)
		if err != nil {
			return exitOf(err)
		}
		_, err = fmt.Fprintf(std.out, "%s was produced again as %s\n", place(ref), place(to))
		return err
	}
	c.AddCommand(listCmd, showCmd, replay)
	return c
}

func showQuarantined(ctx context.Context, std stdio, path, format, name string) error {
	ref, err := parsePlace(name)
	if err != nil {
		return usage(err)
	}
	s, err := openStore(path)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	r, ok, err := s.QuarantineGet(ctx, ref)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("quarantine does not hold %s", name)
	}
	return show(std.out, format, r, func(w io.Writer) {
		fmt.Fprintf(w, "record    %s\nobserved  %s\nreason    %s\nfield     %s\ndetail    %s\nsize      %d bytes\nexcerpt   %s\n",
			place(r.Ref), r.ObservedAt, r.Reason, r.Field, alert.Printable(r.Detail), r.Size, alert.Printable(r.Excerpt))
	})
}

func place(r event.Ref) string {
	s := fmt.Sprintf("%s/%d@%d", r.Topic, r.Partition, r.Offset)
	if r.Idx > 0 {
		s += fmt.Sprintf("#%d", r.Idx)
	}
	return s
}

// parsePlace reads what place writes.
func parsePlace(s string) (event.Ref, error) {
	fault := fmt.Errorf("%q is no record; write TOPIC/PARTITION@OFFSET, as auth.events/0@1234", s)
	where, offset, ok := strings.Cut(s, "@")
	slash := strings.LastIndexByte(where, '/')
	if !ok || slash <= 0 {
		return event.Ref{}, fault
	}
	offset, idx, many := strings.Cut(offset, "#")
	if !many {
		idx = "0"
	}
	p, err1 := strconv.ParseInt(where[slash+1:], 10, 32)
	o, err2 := strconv.ParseInt(offset, 10, 64)
	i, err3 := strconv.ParseInt(idx, 10, 32)
	if err1 != nil || err2 != nil || err3 != nil || p < 0 || o < 0 || i < 0 {
		return event.Ref{}, fault
	}
	return event.Ref{Topic: where[:slash], Partition: int32(p), Offset: o, Idx: int32(i)}, nil
}
