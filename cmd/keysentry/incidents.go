package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
)

func incidentsCommand(std stdio) *cobra.Command {
	c := group("incidents", "List, read and decide incidents", `Ask a running daemon for its incidents, and decide about them. Deciding wants
your personal credential (alert.people[].credential).`)
	d := addDaemonFlags(c)

	list_ := &cobra.Command{Use: "list", Short: "List incidents, newest first", Args: noArgs}
	all := list_.Flags().Bool("all", false, "ended ones too")
	list_.RunE = action(func(ctx context.Context) error { return listIncidents(ctx, std, d, *all) })

	showCmd := &cobra.Command{Use: "show ID", Short: "Show one incident with evidence and timeline", Args: exactArgs(1, "an incident's id")}
	showCmd.RunE = func(c *cobra.Command, args []string) error {
		client, err := d.client()
		if err != nil {
			return err
		}
		inc, err := client.Incident(c.Context(), args[0])
		if err != nil {
			return err
		}
		return show(std.out, *d.format, inc, func(w io.Writer) { writeIncident(w, inc) })
	}

	ack := &cobra.Command{Use: "ack ID", Short: "Acknowledge an incident: somebody looks after it", Args: exactArgs(1, "an incident's id")}
	ack.RunE = func(c *cobra.Command, args []string) error {
		return decide(c.Context(), std, d, journal.Decision{Action: journal.ActionAck, IncidentID: args[0]})
	}

	closeCmd := &cobra.Command{Use: "close ID", Short: "Close an incident with a verdict", Args: exactArgs(1, "an incident's id")}
	verdict := choiceFlag(closeCmd.Flags(), "verdict", "an attack or a fault; an error of the rule; known and harmless", "", "true", "false", "benign")
	closeReason := closeCmd.Flags().String("reason", "", "why")
	closeCmd.RunE = func(c *cobra.Command, args []string) error {
		if *verdict == "" {
			return usage(errors.New("give --verdict true, false or benign: the verdict counts for or against the rule"))
		}
		return decide(c.Context(), std, d, journal.Decision{Action: journal.ActionClose, IncidentID: args[0], Verdict: *verdict, Reason: *closeReason})
	}

	silence := &cobra.Command{Use: "silence ID", Short: "Hold an incident's messages for a while", Args: exactArgs(1, "an incident's id")}
	hold := silence.Flags().Duration("for", time.Hour, "how long")
	silenceReason := silence.Flags().String("reason", "", "why")
	silence.RunE = func(c *cobra.Command, args []string) error {
		return decide(c.Context(), std, d, journal.Decision{Action: journal.ActionSilence, IncidentID: args[0], Reason: *silenceReason,
			Until: event.At(time.Now().Add(*hold))})
	}
	c.AddCommand(list_, showCmd, ack, closeCmd, silence, reportLeakCommand(std, d))
	return c
}

func listIncidents(ctx context.Context, std stdio, d daemonFlags, all bool) error {
	client, err := d.client()
	if err != nil {
		return err
	}
	incidents, err := client.Incidents(ctx)
	if err != nil {
		return err
	}
	shown := incidents[:0]
	for _, i := range incidents {
		if all || i.State.Active() {
			shown = append(shown, i)
		}
	}
	if len(shown) == 0 && *d.format == "text" {
		fmt.Fprintln(std.err, "no incidents")
	}
	return list(std.out, *d.format, shown, func(w io.Writer) {
		fmt.Fprintln(w, "ID\tSEVERITY\tSTATE\tKIND\tSUBJECT\tOPENED\tFINDINGS\tWHAT")
		for _, i := range shown {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s=%s\t%s\t%d\t%s\n", i.ID, i.Severity, i.State, i.Kind, i.Subject.Field,
				alert.Printable(i.Subject.Value), i.OpenedAt.Time().Format(time.DateTime), i.Findings, alert.Printable(i.Lead.Summary))
		}
	})
}

// writeIncident prints an incident for people. What comes from events passes
// alert.Printable, so that no event can write to the terminal.
func writeIncident(w io.Writer, i incident.Incident) {
	p := alert.Printable
	fmt.Fprintf(w, "%s  %s  %s  %s\n%s\n\n", i.ID, i.Severity, i.State, i.Kind, i.Lead.Summary)
	fmt.Fprintf(w, "subject   %s=%s", i.Subject.Field, p(i.Subject.Value))
	if i.Subject.Network != "" {
		fmt.Fprintf(w, " in %s", p(i.Subject.Network))
	}
	fmt.Fprintf(w, "\nrule      %s\n", i.Lead.RuleTitle)
	if i.Lead.Cause != event.CauseNone {
		fmt.Fprintf(w, "cause     %s (confidence %.2f)\n", i.Lead.Cause, i.Lead.CauseConfidence)
	}
	fmt.Fprintf(w, "opened    %s\nfindings  %d over %d events\n", i.OpenedAt, i.Findings, i.Events)
	for _, a := range i.Affected {
		fmt.Fprintf(w, "%-9s", a.Field)
		for _, v := range a.Values {
			fmt.Fprintf(w, " %s", p(v))
		}
		fmt.Fprintln(w)
	}
	if a := i.Suspicion; a != nil {
		fmt.Fprintf(w, "\nwhy this score\n  %s\n", p(a.Words()))
		for k := range a.Contributions {
			fmt.Fprintf(w, "  %s\n", p(a.Contributions[k].Words()))
		}
		fmt.Fprintf(w, "  %s\n", p(a.Gate.Words()))
	}
	if i.Lead.Resolution != "" {
		fmt.Fprintf(w, "\nwhat to do\n  %s\n", i.Lead.Resolution)
	}
	if len(i.Lead.Evidence) > 0 {
		fmt.Fprintln(w, "\nevidence")
		for _, e := range i.Lead.Evidence {
			fmt.Fprintf(w, "  %s %s %s host=%s source=%s user=%s key=%s %s/%d@%d\n", e.TS, e.Type, e.Cause, p(e.Host), p(e.SourceIP),
				p(e.UserID), p(e.KeyID), e.Ref.Topic, e.Ref.Partition, e.Ref.Offset)
		}
	}
	fmt.Fprintln(w, "\ntimeline")
	for _, t := range i.Timeline {
		fmt.Fprintf(w, "  %s %s", t.Time, t.What)
		if t.Who != "" {
			fmt.Fprintf(w, " by %s", t.Who)
		}
		if t.Text != "" {
			fmt.Fprintf(w, ": %s", p(t.Text))
		}
		fmt.Fprintln(w)
	}
}

// decide sends a decision of its own id; sending it twice has one effect.
func decide(ctx context.Context, std stdio, d daemonFlags, dec journal.Decision) error {
	client, err := d.client()
	if err != nil {
		return err
	}
	id := make([]byte, 12)
	_, _ = rand.Read(id) // never fails
	dec.ID = "cli-" + hex.EncodeToString(id)
	dec, err = client.Decide(ctx, dec)
	if err != nil {
		return err
	}
	return show(std.out, *d.format, dec, func(w io.Writer) {
		fmt.Fprintf(w, "%s: recorded as %s\n", dec.Action, dec.Person)
		if dec.KeyID != "" && dec.IncidentID != "" {
			fmt.Fprintf(w, "incident %s about key %s\n", dec.IncidentID, alert.Printable(dec.KeyID))
		}
	})
}
