package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/console"
)

func keysCommand(std stdio) *cobra.Command {
	c := group("keys", "List, adopt and deny server keys", `Ask a running daemon for the server keys that it knows, and tell it of others.
Until it knows a key of a network, rules on unknown keys are learning. Adopting
and denying want your personal credential (alert.people[].credential).`)
	d := addDaemonFlags(c)
	c.AddCommand(keysListCommand(std, d), keysAdoptCommand(std, d), keysDenyCommand(std, d))
	return c
}

func keysListCommand(std stdio, d daemonFlags) *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List the server keys that the daemon knows, and who told it", Args: noArgs}
	network := c.Flags().String("network", "", "of this network only")
	c.RunE = action(func(ctx context.Context) error {
		client, err := d.client()
		if err != nil {
			return err
		}
		rows, err := client.Keys(ctx, *network)
		if err != nil {
			return err
		}
		if len(rows) == 0 && *d.format == "text" {
			fmt.Fprintln(std.err, "no keys are known: rules on unknown keys are learning; 'keysentry keys adopt' tells of one")
		}
		return list(std.out, *d.format, rows, func(w io.Writer) { listKeys(w, rows) })
	})
	return c
}

func listKeys(w io.Writer, rows []console.Key) {
	p := alert.Printable
	fmt.Fprintln(w, "NETWORK\tKEY\tSTATE\tCREATED\tACTIVE SINCE\tENDED\tTOLD BY\tPROBE")
	for _, k := range rows {
		probe := "-"
		switch {
		case k.Probed:
			probe = "agreed"
		case !k.Believed:
			probe = "none: the entry is not believed"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p(k.Network), p(k.KeyID), k.State, dateOf(k.Created), dateOf(k.Activated),
			dateOf(max(k.Retired, k.Revoked)), p(k.ToldBy), probe)
	}
}

func dateOf(i event.Instant) string {
	if i == 0 {
		return "unknown"
	}
	return i.Time().Format(time.DateOnly)
}

func keysAdoptCommand(std stdio, d daemonFlags) *cobra.Command {
	c := &cobra.Command{
		Use: "adopt", Short: "Tell the daemon of a server key that exists",
		Long: `Register an existing server key. The value is read from the terminal without echo,
or from standard input, and never from an argument. The daemon names it by the
network's fingerprint key, asks the platform whether it works where the network
has a provider, and records who told it. It keeps no value.

Without a probe the entry is listed and believed by nobody: it changes no cause
and starts no step.`,
		Example: `  keysentry keys adopt --network acme --created 2026-02-14
  vault kv get -field=key secret/acme | keysentry keys adopt --network acme --created unknown`,
		Args: noArgs,
	}
	network := c.Flags().String("network", "", "the network whose key it is")
	created := c.Flags().String("created", "", "when the key was made: a `DATE` (2006-01-02, or RFC 3339), or unknown")
	noProbe := c.Flags().Bool("no-probe", false, "do not ask the platform; the entry is then listed, and not believed")
	reason := c.Flags().String("reason", "", "a note for the journal")
	c.RunE = func(c *cobra.Command, _ []string) error {
		at, err := creation(*created)
		switch {
		case *network == "":
			return usage(errors.New("give --network NAME"))
		case err != nil:
			return usage(err)
		}
		client, err := d.client()
		if err != nil {
			return err
		}
		value, err := readKey(std, *network)
		if err != nil {
			return usage(err)
		}
		dec, err := client.Adopt(c.Context(), console.AdoptRequest{Network: *network, Value: value, Created: at, NoProbe: *noProbe, Reason: *reason})
		if err != nil {
			return err
		}
		return show(std.out, *d.format, dec, func(w io.Writer) {
			believed := "the platform agreed that it works"
			if dec.Probe != journal.ProbeAgreed {
				believed = "the platform was not asked: it is listed and not believed"
			}
			fmt.Fprintf(w, "%s: adopted by %s; %s\n", dec.KeyID, dec.Person, believed)
		})
	}
	return c
}

// creation reads a date of creation. Nobody is to leave it out without a thought:
// an unknown age is a ticket of its own.
func creation(s string) (event.Instant, error) {
	switch s {
	case "unknown":
		return 0, nil
	case "":
		return 0, errors.New("give --created DATE, or --created unknown")
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			if t.After(time.Now()) {
				return 0, fmt.Errorf("--created %s lies in the future", s)
			}
			return event.At(t), nil
		}
	}
	return 0, fmt.Errorf("--created %q is no date: give 2006-01-02, RFC 3339, or unknown", s)
}

// maxKeyInput bounds what is read as a key.
const maxKeyInput = 4096

// readKey reads a key from the terminal without echo, or from standard input.
func readKey(std stdio, network string) (string, error) {
	var raw []byte
	var err error
	if f, ok := std.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		fmt.Fprintf(std.err, "Server key of %s (not shown): ", alert.Printable(network))
		raw, err = term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(std.err)
	} else {
		raw, err = io.ReadAll(io.LimitReader(std.in, maxKeyInput+1))
	}
	if err != nil {
		return "", fmt.Errorf("read the key: %w", err)
	}
	value := strings.TrimSpace(string(raw))
	switch {
	case value == "":
		return "", errors.New("no key was given: type it, or pipe it to standard input")
	case len(value) > maxKeyInput || strings.ContainsAny(value, "\r\n\x00"):
		return "", errors.New("that is no key: one line of at most 4096 bytes is wanted")
	}
	return value, nil
}

func keysDenyCommand(std stdio, d daemonFlags) *cobra.Command {
	c := &cobra.Command{
		Use: "deny KEY_ID", Short: "Say that a key that works is none of ours",
		Long: `Say that nobody here made a key that was seen to work. That opens an incident: who
made it can make others.`,
		Args: exactArgs(1, "a key's id, as the ticket shows it"),
	}
	network := c.Flags().String("network", "", "the network that the key works for")
	reason := c.Flags().String("reason", "", "what is known of it")
	c.RunE = func(c *cobra.Command, args []string) error {
		switch {
		case *network == "":
			return usage(errors.New("give --network NAME"))
		case !event.IsFingerprint(args[0]):
			return usage(errNoFingerprint)
		}
		return decide(c.Context(), std, d, journal.Decision{Action: journal.ActionDenyKey, Network: *network, KeyID: args[0], Reason: *reason})
	}
	return c
}

var errNoFingerprint = errors.New("that is no key's id, which begins with v1: and is its fingerprint; never give the key itself as an argument")

func reportLeakCommand(std stdio, d daemonFlags) *cobra.Command {
	c := &cobra.Command{
		Use: "report-leak", Short: "Open an incident from what a person knows: a key is in other hands",
		Long: `Report that a server key is in other hands: pasted into a chat, pushed to a
repository, on a laptop that was stolen. It opens a page and suffices to propose
the rotation; nothing is rotated before somebody approves.`,
		Example: `  keysentry incidents report-leak --network acme --note "pasted into a public issue at 14:05"`,
		Args:    noArgs,
	}
	network := c.Flags().String("network", "", "the network whose key it is")
	key := c.Flags().String("key", "", "the `ID` of the key (its fingerprint, never its value); default: the live key")
	note := c.Flags().String("note", "", "what leaked, where, and how you know")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *network == "" || *note == "" {
			return usage(errors.New("give --network NAME and --note TEXT"))
		}
		if *key != "" && !event.IsFingerprint(*key) {
			return usage(errNoFingerprint)
		}
		return decide(c.Context(), std, d, journal.Decision{Action: journal.ActionReportLeak, Network: *network, KeyID: *key, Reason: *note})
	}
	return c
}
