package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/console"
)

func playbookCommand(std stdio) *cobra.Command {
	c := group("playbook", "List, plan, approve and follow responses", `Plan and decide runs of playbooks on a running daemon. A plan lists every call
that it would make; nothing is done before a person approves exactly that plan.`)
	d := addDaemonFlags(c)
	c.AddCommand(
		playbookListCommand(std, d),
		planCommand(std, d, "plan NAME", "Show every call that a run would make, and do nothing", true),
		planCommand(std, d, "run NAME", "Plan a run and ask for approval", false),
		playbookShowCommand(std, d),
		runDecision(std, d, "approve", "Approve a run's plan, as it is now", journal.ActionApprove),
		runDecision(std, d, "deny", "Deny a run's plan", journal.ActionDeny),
		runDecision(std, d, "stop", "Let the current step finish and start no other", journal.ActionStop),
		runDecision(std, d, "resume", "Go on with a stopped run", journal.ActionResume),
		chooseCommand(std, d),
	)
	return c
}

func playbookListCommand(std stdio, d daemonFlags) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List the playbooks of a configuration, or with --runs a daemon's runs", Args: noArgs}
	path := configFlag(c)
	runs := c.Flags().Bool("runs", false, "list runs instead")
	c.RunE = action(func(ctx context.Context) error {
		if *runs {
			return listRuns(ctx, std, d)
		}
		cfg := config.Default()
		if c.Flags().Changed("config") {
			var err error
			if cfg, err = loadConfig(*path); err != nil {
				return err
			}
		}
		lib, err := app.LoadPlaybooks(cfg.Playbook)
		if err != nil {
			return usage(err)
		}
		rows := lib.List()
		return list(std.out, *d.format, rows, func(w io.Writer) {
			fmt.Fprintln(w, "NAME\tTRIGGERED BY\tSTEPS\tWHAT")
			for _, p := range rows {
				fmt.Fprintf(w, "%s\t%v at %s\t%d\t%s\n", p.Name, p.Trigger.Kinds, p.Trigger.MinSeverity, len(p.Steps), p.Title)
			}
		})
	})
	return c
}

func listRuns(ctx context.Context, std stdio, d daemonFlags) error {
	client, err := d.client()
	if err != nil {
		return err
	}
	rows, err := client.Runs(ctx)
	if err != nil {
		return err
	}
	return list(std.out, *d.format, rows, func(w io.Writer) {
		fmt.Fprintln(w, "RUN\tPLAYBOOK\tNETWORK\tSTATE\tINCIDENT\tPLANNED")
		for _, r := range rows {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.Playbook, alert.Printable(r.Network), r.State, r.IncidentID, r.PlannedAt.Time().Format(time.DateTime))
		}
	})
}

func planCommand(std stdio, d daemonFlags, use, short string, dry bool) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: exactArgs(1, "a playbook's name")}
	network := c.Flags().String("network", "", "the network that it is about")
	inc := c.Flags().String("incident", "", "the incident that it answers")
	inputs := c.Flags().StringToString("input", nil, "`NAME=VALUE` of an input; may be repeated")
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := d.client()
		if err != nil {
			return err
		}
		planned, err := client.Plan(c.Context(), console.PlanRequest{Playbook: args[0], Network: *network, IncidentID: *inc, Inputs: *inputs, DryRun: dry})
		if err != nil {
			return err
		}
		return show(std.out, *d.format, planned, func(w io.Writer) { writePlan(w, planned) })
	}
	return c
}

func writePlan(w io.Writer, p journal.RunPlanned) {
	fmt.Fprintf(w, "%s\n", alert.Printable(p.Plan.Summary))
	for i, s := range p.Plan.Steps {
		note := ""
		if !s.Reversible {
			note = "  (cannot be undone)"
		}
		fmt.Fprintf(w, "%2d. %-16s %s%s\n", i+1, s.ID, s.Type, note)
		for _, call := range s.Calls {
			fmt.Fprintf(w, "      %s\n", alert.Printable(call))
		}
	}
	if p.DryRun {
		fmt.Fprintln(w, "dry run: nothing was done, and this plan cannot be approved")
		return
	}
	fmt.Fprintf(w, "run %s, plan %s, to be approved until %s\n", p.RunID, p.PlanHash, p.ExpiresAt)
}

func playbookShowCommand(std stdio, d daemonFlags) *cobra.Command {
	c := &cobra.Command{Use: "show RUN", Short: "Show a run: its plan, its state, its steps", Args: exactArgs(1, "a run's id")}
	c.RunE = func(c *cobra.Command, args []string) error {
		client, err := d.client()
		if err != nil {
			return err
		}
		run, err := client.Run(c.Context(), args[0])
		if err != nil {
			return err
		}
		return show(std.out, *d.format, run, func(w io.Writer) { writeRun(w, run) })
	}
	return c
}

func writeRun(w io.Writer, r incident.Run) {
	p := alert.Printable
	fmt.Fprintf(w, "%s  %s in %s  %s\n%s\n", r.ID, r.Playbook, p(r.Network), r.State, p(r.Plan.Summary))
	if r.Clock != "" {
		fmt.Fprintln(w, p(r.Clock))
	}
	if r.Reason != "" {
		fmt.Fprintln(w, p(r.Reason))
	}
	fmt.Fprintf(w, "plan %s\n", r.PlanHash)
	for _, s := range r.Steps {
		fmt.Fprintf(w, "  %s  %-12s %s %s\n", s.At, s.State, s.ID, p(s.Error))
	}
	if len(r.ApprovedBy) > 0 {
		fmt.Fprintf(w, "approved by %s\n", strings.Join(r.ApprovedBy, ", "))
	}
	if r.Waiting() {
		fmt.Fprintf(w, "waits for approval until %s\n", r.ExpiresAt)
	}
}

// runDecision is a command that decides about a run. The approval is bound to the
// plan that the run has at this moment.
func runDecision(std stdio, d daemonFlags, verb, short, act string) *cobra.Command {
	c := &cobra.Command{Use: verb + " RUN", Short: short, Args: exactArgs(1, "a run's id")}
	reason := c.Flags().String("reason", "", "why")
	plan := c.Flags().String("plan", "", "the `HASH` of the plan that you read; default: the present one")
	c.RunE = func(c *cobra.Command, args []string) error {
		return decideRun(c.Context(), std, d, args[0], journal.Decision{Action: act, PlanHash: *plan, Reason: *reason})
	}
	return c
}

func chooseCommand(std stdio, d daemonFlags) *cobra.Command {
	c := &cobra.Command{
		Use: "choose RUN CHOICE", Short: "Choose how an overdue overlap ends: extend, revoke_now or back_out",
		Args: exactArgs(2, "a run's id and a choice"),
	}
	reason := c.Flags().String("reason", "", "why")
	c.RunE = func(c *cobra.Command, args []string) error {
		return decideRun(c.Context(), std, d, args[0], journal.Decision{Action: journal.ActionChoose, Choice: args[1], Reason: *reason})
	}
	return c
}

// decideRun looks the run up and sends a decision about it.
func decideRun(ctx context.Context, std stdio, d daemonFlags, id string, dec journal.Decision) error {
	client, err := d.client()
	if err != nil {
		return err
	}
	run, err := client.Run(ctx, id)
	if err != nil {
		return err
	}
	dec.RunID, dec.IncidentID, dec.PlanHash = run.ID, run.IncidentID, cmp.Or(dec.PlanHash, run.PlanHash)
	return decide(ctx, std, d, dec)
}
