package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/app"
)

func mapCommand(std stdio) *cobra.Command {
	c := &cobra.Command{Use: "map --events FILE", Short: "Show what the records of a file become", Args: noArgs,
		Example: `  keysentry map --mapping okta --events system-log.ndjson
  keysentry map --mapping my-source --mappings ./mappings --events log.txt --format text`,
		Long: `Decode the records of a file as the daemon decodes those of a topic, secrets
masked, and print for each the events that it becomes, or why it is refused.
--mapping names a mapping; auto, the default, recognises each record by its
content; canonical takes events as they are. CloudEvents are opened.

A record is a line; a JSON value may span lines, and so may a text whose mapping
says how a record begins. Fields that no mapping reads are counted by name on
standard error. Fingerprints are made with a key of this command's own, so they
differ from those of the daemon. Exits 1 when a record is refused.`}
	f := c.Flags()
	file := f.StringP("events", "e", "-", "`FILE` of records, or -")
	format := choiceFlag(f, "format", "how to print", "ndjson", "text")
	var o app.InputOptions
	f.StringVar(&o.Mapping, "mapping", "auto", "auto, canonical, or the `NAME` of a mapping")
	f.StringVar(&o.Folder, "mappings", "", "`FOLDER` of further mappings")
	f.StringVar(&o.Network, "network", "", "network of events that name none")
	f.StringVar(&o.Zone, "zone", "", "time zone of times that leave it out, such as Europe/Paris (default UTC)")
	f.IntVar(&o.Year, "year", 0, "year of times that leave it out (default this year)")
	c.RunE = func(*cobra.Command, []string) error {
		in, closeIn, err := openInput(std, *file)
		if err != nil {
			return usage(err)
		}
		defer closeIn()
		return mapFile(std, o, in, *format)
	}
	return c
}

func mapFile(std stdio, o app.InputOptions, in io.Reader, format string) error {
	if err := app.CheckInput(o); err != nil {
		return usage(fmt.Errorf("--mapping %q: use auto, canonical or one of %s: %w", o.Mapping, mappingNames(o.Folder), err))
	}
	out := bufio.NewWriterSize(std.out, 1<<16)
	show := mappedNDJSON(json.NewEncoder(out))
	if format == "text" {
		show = mappedText(out)
	}
	sum, err := app.MapFile(o, in, show)
	if err = errors.Join(err, out.Flush()); err != nil {
		return err
	}
	fmt.Fprintf(std.err, "keysentry: %d records: %d events, %d refused\n", sum.Records, sum.Events, sum.Rejects)
	names := make([]string, 0, len(sum.Unread))
	for n := range sum.Unread {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := sum.Unread[b] - sum.Unread[a]; d != 0 {
			return int(d)
		}
		return strings.Compare(a, b)
	})
	if len(names) > 0 {
		fmt.Fprintln(std.err, "keysentry: fields that the mapping does not read, by the number of records:")
	}
	for _, n := range names {
		fmt.Fprintf(std.err, "%8d  %s\n", sum.Unread[n], strings.Trim(strconv.Quote(n), `"`))
	}
	if sum.Rejects > 0 {
		return bad
	}
	return nil
}

// mappingNames lists the mappings for a message.
func mappingNames(folder string) string {
	names, err := app.MappingNames(folder)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	return strings.Join(names, ", ")
}

// mappedLine is one line of the output.
type mappedLine struct {
	Record   int64           `json:"record"` // from 0
	Line     int             `json:"line"`   // from 1
	Idx      int32           `json:"idx"`    // event inside the record
	Mapping  string          `json:"mapping,omitempty"`
	Event    json.RawMessage `json:"event,omitempty"`
	Rejected *rejectedLine   `json:"rejected,omitempty"`
}

type rejectedLine struct {
	Reason  string `json:"reason"`
	Field   string `json:"field,omitempty"`
	Detail  string `json:"detail"`
	Excerpt string `json:"excerpt"`
}

func mappedNDJSON(enc *json.Encoder) func(*app.Mapped) error {
	enc.SetEscapeHTML(false)
	return func(m *app.Mapped) error {
		l := mappedLine{Record: m.Record, Line: m.Line, Idx: m.Idx(), Mapping: m.Mapping}
		if m.Event != nil {
			l.Event = event.Append(nil, m.Event)
		} else {
			l.Rejected = &rejectedLine{string(m.Reject.Reason), m.Reject.Field, m.Reject.Detail, m.Reject.Excerpt}
		}
		return enc.Encode(l)
	}
}

func mappedText(out io.Writer) func(*app.Mapped) error {
	return func(m *app.Mapped) error {
		var b strings.Builder
		if r := m.Reject; r != nil {
			fmt.Fprintf(&b, "%d: refused, %s", m.Line, r.Reason)
			if r.Field != "" {
				fmt.Fprintf(&b, " in %s", r.Field)
			}
			fmt.Fprintf(&b, ": %s\n", r.Detail)
		} else {
			fmt.Fprintf(&b, "%d: %s", m.Line, m.Event.Type)
			for _, f := range event.MessageFields() {
				if v, ok := m.Event.Text(f); ok && f != event.FieldType {
					if strings.ContainsAny(v, " \"=\\") || strings.ContainsFunc(v, func(r rune) bool { return !strconv.IsPrint(r) }) {
						v = strconv.Quote(v)
					}
					fmt.Fprintf(&b, " %s=%s", f, v)
				}
			}
			b.WriteByte('\n')
		}
		_, err := io.WriteString(out, b.String())
		return err
	}
}
