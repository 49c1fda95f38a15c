package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/internal/app"
)

func journalCommand(std stdio) *cobra.Command {
	c := group("journal", "Verify and export the record of incidents, decisions and steps", `The journal is a Kafka topic whose records are chained by hashes and signed with a
key that only the daemons hold.`)
	path := c.PersistentFlags().StringP("config", "c", envOr("KEYSENTRY_CONFIG", "keysentry.yml"), "configuration `FILE` (or $KEYSENTRY_CONFIG)")
	format := formatFlag(c)

	verify := &cobra.Command{Use: "verify", Short: "Check that nothing was changed, removed, reordered or forged", Args: noArgs,
		Long: `Read the whole journal and check hashes, signatures and order. With the number
and hash of a record that you know (--head N:HASH, from a digest or from
ClickHouse) a cut tail and a history that was written anew are found too.

Exits 1 when the history is not whole.`}
	head := verify.Flags().String("head", "", "`N:HASH` of a record that must be there")
	verify.RunE = action(func(ctx context.Context) error {
		cfg, err := loadConfig(*path)
		if err != nil {
			return err
		}
		known, err := journal.ParseHead(*head)
		if err != nil {
			return usage(err)
		}
		report, err := app.VerifyJournal(ctx, cfg, known)
		if err != nil {
			return exitOf(err)
		}
		err = show(std.out, *format, report, func(w io.Writer) { writeReport(w, report) })
		if err == nil && !report.Good() {
			return bad
		}
		return err
	})

	export := &cobra.Command{Use: "export", Short: "Print every accepted record as one JSON object a line", Args: noArgs}
	export.RunE = action(func(ctx context.Context) error {
		cfg, err := loadConfig(*path)
		if err != nil {
			return err
		}
		enc := json.NewEncoder(std.out)
		return exitOf(app.ExportJournal(ctx, cfg, func(r journal.Record) error { return enc.Encode(r) }))
	})
	c.AddCommand(verify, export)
	return c
}

func writeReport(w io.Writer, r *journal.Report) {
	fmt.Fprintf(w, "%d records, %d accepted, %d second copies, %d superseded\n", r.Records, r.Accepted, r.Duplicates, r.Superseded)
	if r.Accepted > 0 {
		fmt.Fprintf(w, "head %d:%s\n", r.Head.N, r.Head.Hash)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(w, "PROBLEM offset %d: %s: %s\n", p.Offset, p.Fault, p.Detail)
	}
	if r.Good() {
		fmt.Fprintln(w, "the history is whole")
	}
}
