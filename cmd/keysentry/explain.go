package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/store"
)

func explainCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "explain EVENT",
		Short: "Say why a request was refused, on which evidence, and what to do",
		Long: `Explain the cause of a refused event: how sure it is and what it rests on, which
other causes were ruled out and why, and what a person should do, with values.

EVENT is a place in Kafka (auth.events/0@1234, with #2 for the third event of a
message; auth.events/0/1234 is understood too), the id that a producer gave, or a
record that need not be stored: a FILE with a canonical event as JSON, or - for
standard input.

The cause of a stored event is the one that was decided when it came. The evidence
is read from what ClickHouse knows of the time before it: keys, certificates, the
mint of the token, sessions, hosts and clocks. Where that gives another cause, both
are shown: detection knew more then, or the facts came late. Exits 1 when the event
is not stored or nothing was refused.`,
		Example: `  keysentry explain auth.events/0@1234
  keysentry explain s1-4711 --format json
  echo '{"type":"auth_token.denied",...}' | keysentry explain - --origin gateway`,
		Args: exactArgs(1, "an event: TOPIC/PARTITION@OFFSET, an id, a FILE or -"),
	}
	path := configFlag(c)
	origin := c.Flags().String("origin", "backend", "who saw a record that is not stored: platform, gateway, backend, client, console, keysentry")
	format := formatFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		from, ok := event.ParseOrigin(*origin)
		if !ok {
			return usage(fmt.Errorf("--origin %q: use platform, gateway, backend, client, console or keysentry", *origin))
		}
		cfg, err := loadConfig(*path)
		if err != nil {
			return err
		}
		raw, isFile, err := recordOf(std, args[0])
		if err != nil {
			return usage(err)
		}
		s, err := store.New(cfg.Store, store.Deps{Getenv: os.Getenv})
		if err != nil {
			return usage(err)
		}
		defer func() { _ = s.Close() }()
		x := explainer{cfg: cfg, store: s, origin: from}
		got, err := x.explain(c.Context(), args[0], raw, isFile)
		if err != nil {
			return fmt.Errorf("%s: %w", alert.Printable(args[0]), err)
		}
		return printExplained(std.out, *format, got)
	}
	return c
}

// maxRecord bounds a record that is read from a file.
const maxRecord = 1 << 20

// recordOf reads the record that an argument names, if it names one.
func recordOf(std stdio, arg string) (raw []byte, isFile bool, err error) {
	in := std.in
	if arg != "-" {
		f, err := os.Open(arg)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil, false, nil
		case err != nil:
			return nil, false, err
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	raw, err = io.ReadAll(io.LimitReader(in, maxRecord+1))
	switch {
	case err != nil:
		return nil, true, err
	case len(raw) > maxRecord:
		return nil, true, fmt.Errorf("%s is longer than 1 MiB: give one event", arg)
	}
	return bytes.TrimSpace(raw), true, nil
}

type explainer struct {
	cfg    *config.Config
	store  *store.Client
	origin event.Origin
}

// explainTimeout bounds the questions to ClickHouse.
const explainTimeout = time.Minute

func (x explainer) explain(ctx context.Context, arg string, raw []byte, isFile bool) ([]app.Explained, error) {
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	if isFile {
		return app.ExplainRecord(ctx, x.cfg, x.store, raw, x.origin)
	}
	if ref, ok := coordinates(arg); ok {
		return app.ExplainRef(ctx, x.cfg, x.store, ref)
	}
	return app.ExplainID(ctx, x.cfg, x.store, arg)
}

// coordinates reads TOPIC/PARTITION@OFFSET[#IDX], or the same with slashes.
func coordinates(s string) (event.Ref, bool) {
	if ref, err := parsePlace(s); err == nil {
		return ref, true
	}
	parts := strings.Split(s, "/")
	if len(parts) < 3 || len(parts) > 4 || parts[0] == "" {
		return event.Ref{}, false
	}
	n := [3]int64{}
	for i, p := range parts[1:] {
		v, err := strconv.ParseInt(p, 10, 64)
		if err != nil || v < 0 || i != 1 && v > 1<<31-1 {
			return event.Ref{}, false
		}
		n[i] = v
	}
	return event.Ref{Topic: parts[0], Partition: int32(n[0]), Offset: n[1], Idx: int32(n[2])}, true
}

// explainedLine is an explanation for programs.
type explainedLine struct {
	Ref   *event.Ref      `json:"ref,omitempty"` // nil: it is not stored
	TS    event.Instant   `json:"ts"`
	Event json.RawMessage `json:"event"`
	detect.Explanation
}

func printExplained(out io.Writer, format string, got []app.Explained) error {
	lines := make([]explainedLine, len(got))
	for i := range got {
		e := &got[i].Event
		lines[i] = explainedLine{TS: e.TS, Event: event.Append(nil, e), Explanation: got[i].Explanation}
		if stored(e) {
			lines[i].Ref = &e.Ref
		}
	}
	if format != "text" {
		return list(out, format, lines, nil)
	}
	for i := range got {
		if i > 0 {
			fmt.Fprintln(out)
		}
		explainText(out, &got[i])
	}
	return nil
}

// stored reports whether the event was read from ClickHouse: a file is no topic.
func stored(e *event.Event) bool { return e.Ref.Topic != "input" }

func explainText(out io.Writer, x *app.Explained) {
	e, d := &x.Event, &x.Explanation
	if stored(e) {
		fmt.Fprintf(out, "%s  ", place(e.Ref))
	}
	fmt.Fprintf(out, "%s  %s\n", e.Type, e.TS)
	for _, f := range []event.Field{event.FieldNetwork, event.FieldRegion, event.FieldService, event.FieldHost, event.FieldUserID, event.FieldKeyID, event.FieldTokenID, event.FieldSessionID,
		event.FieldDeviceID, event.FieldCertID, event.FieldCertCN, event.FieldSourceIP, event.FieldMethod, event.FieldEndpoint, event.FieldStatus, event.FieldCode, event.FieldReason, event.FieldTLSAlert} {
		if v, ok := e.Text(f); ok && v != "" {
			fmt.Fprintf(out, "  %-10s %s\n", f, alert.Printable(v))
		}
	}
	fmt.Fprintf(out, "\ncause      %s, confidence %.2f\n", d.Cause, d.Confidence)
	switch {
	case d.Rediagnosed:
		fmt.Fprintln(out, "decided    again on a re-read (rediagnosed), without the state of the live decision")
	case stored(e) && e.Cause != event.CauseNone:
		fmt.Fprintln(out, "decided    when the event came")
	default:
		fmt.Fprintln(out, "decided    now, by what is stored")
	}
	if d.Differs != event.CauseNone {
		fmt.Fprintf(out, "but        what is stored gives %s: detection knew more then, or the facts came late\n", d.Differs)
	}
	explainList(out, "evidence", len(d.Evidence), func(i int) (string, string) { return d.Evidence[i].Ground, d.Evidence[i].Text })
	explainList(out, "ruled out", len(d.RuledOut), func(i int) (string, string) { return d.RuledOut[i].Cause.String(), d.RuledOut[i].Why })
	fmt.Fprintf(out, "\nwhat to do\n  %s\n", alert.Printable(d.Resolution))
	for _, f := range d.Facts {
		fmt.Fprintf(out, "  %-18s %s\n", f.Field, alert.Printable(f.Value))
	}
}

func explainList(out io.Writer, title string, n int, row func(int) (name, text string)) {
	if n == 0 {
		return
	}
	fmt.Fprintf(out, "\n%s\n", title)
	for i := range n {
		name, text := row(i)
		fmt.Fprintf(out, "  %-22s %s\n", name, alert.Printable(text))
	}
}
