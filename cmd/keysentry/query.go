package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/store"
)

func queryCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "query [NAME]",
		Short: "Ask ClickHouse one of the questions that analysts ask",
		Long: `Run a named query on ClickHouse. Without a name, list the queries and their
parameters. --sql prints the statement instead of running it, to begin your own
from.`,
		Example: `  keysentry query unauthorized
  keysentry query entity_timeline --param value=api-4 --param hours=48
  keysentry query key_age --sql`,
		Args: upTo(1),
	}
	path := configFlag(c)
	params := c.Flags().StringToStringP("param", "p", nil, "`NAME=VALUE` of a parameter; may be repeated")
	sql := c.Flags().Bool("sql", false, "print the SQL")
	format := formatFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		queries, err := store.Queries()
		if err != nil {
			return err
		}
		if len(args) == 0 {
			return list(std.out, *format, queries, func(w io.Writer) { listQueries(w, queries) })
		}
		for _, q := range queries {
			switch {
			case q.Name != strings.ReplaceAll(args[0], "-", "_"):
				continue
			case *sql:
				_, err := fmt.Fprintln(std.out, q.SQL)
				return err
			}
			if err := checkParams(q, *params); err != nil {
				return usage(err)
			}
			return runQuery(c.Context(), std, *path, *format, func(ctx context.Context, s *store.Client) (*store.Rows, error) {
				return s.Named(ctx, q.Name, *params)
			})
		}
		return usage(fmt.Errorf("there is no query %q; 'keysentry query' lists them", args[0]))
	}
	return c
}

// checkParams finds missing and unknown parameters before anything is connected.
func checkParams(q store.NamedQuery, given map[string]string) error {
	known := map[string]bool{}
	for _, p := range q.Params {
		known[p.Name] = true
		if _, ok := given[p.Name]; p.Required && !ok {
			return fmt.Errorf("query %s: give --param %s=VALUE: %s", q.Name, p.Name, p.Help)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !known[name] {
			return fmt.Errorf("query %s: there is no parameter %q; 'keysentry query' lists them", q.Name, name)
		}
	}
	return nil
}

func listQueries(w io.Writer, queries []store.NamedQuery) {
	fmt.Fprintln(w, "NAME\tQUESTION\tPARAMETERS")
	for _, q := range queries {
		var params []string
		for _, p := range q.Params {
			if p.Required {
				params = append(params, p.Name)
			} else {
				params = append(params, p.Name+"="+p.Default)
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", q.Name, q.Title, strings.Join(params, " "))
	}
}

// openStore connects to the ClickHouse of a configuration.
func openStore(path string) (*store.Client, error) {
	cfg, err := loadConfig(path)
	if err != nil {
		return nil, err
	}
	s, err := store.New(cfg.Store, store.Deps{Getenv: os.Getenv})
	return s, usage(err)
}

func runQuery(ctx context.Context, std stdio, path, format string, ask func(context.Context, *store.Client) (*store.Rows, error)) error {
	s, err := openStore(path)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	rows, err := ask(ctx, s)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	return printRows(std.out, format, rows)
}

// printRows prints a result: a table, or objects with the columns as keys. The
// values come from events, so they are made safe for a terminal.
func printRows(out io.Writer, format string, rows *store.Rows) error {
	var objects []map[string]any
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	if format == "text" {
		names := make([]string, len(rows.Columns))
		for i, c := range rows.Columns {
			names[i] = strings.ToUpper(c.Name)
		}
		fmt.Fprintln(w, strings.Join(names, "\t"))
	}
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			return err
		}
		if format == "text" {
			cells := make([]string, len(values))
			for i, v := range values {
				cells[i] = alert.Printable(store.Text(v))
			}
			fmt.Fprintln(w, strings.Join(cells, "\t"))
			continue
		}
		o := make(map[string]any, len(values))
		for i, v := range values {
			o[rows.Columns[i].Name] = v
		}
		objects = append(objects, o)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if format == "text" {
		return w.Flush()
	}
	return list(out, format, objects, nil)
}
