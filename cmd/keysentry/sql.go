package main

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/rules"
	"github.com/keysentry/keysentry/store"
)

// sqlRow is the SQL of one detection rule.
type sqlRow struct {
	ID        string `json:"id"`
	Title     string `json:"title"`
	Predicate string `json:"predicate"`
	Select    string `json:"select"`
}

func rulesSQLCommand(std stdio) *cobra.Command {
	c := &cobra.Command{Use: "sql --rule ID [PATH...]", Short: "Print a rule as a ClickHouse predicate",
		Long: `Print the condition of a rule as a ClickHouse expression over a row of the table
events: it is true of the rows on whose events the rule matches. With --select it
is a whole statement. Of a correlation the rules that it counts are printed, each
under its title.

The rule is named by id, name or title. Without paths the shipped rules are
meant, with --config those of the configuration. Exits 1 when a rule says
something that SQL cannot, with a code of docs/reference/rules.md.`}
	id := c.Flags().String("rule", "", "id, name or title of the rule")
	path := c.Flags().StringP("config", "c", "", "the rules of this configuration `FILE`")
	whole := c.Flags().Bool("select", false, "print a whole SELECT")
	format := formatFlag(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		if *id == "" {
			return usage(errors.New("give --rule ID; 'keysentry rules list' names the rules"))
		}
		cfg := config.RulesConfig{Builtin: len(args) == 0, Paths: args}
		database := store.DefaultConfig().Database
		if *path != "" {
			all, err := loadConfig(*path)
			if err != nil {
				return err
			}
			cfg, database = all.Rules, all.Store.Database
		}
		set, loaded, err := app.LoadRules(cfg)
		if err != nil {
			return usage(err)
		}
		which := rulesOf(set, *id)
		if len(which) == 0 {
			for _, d := range loaded {
				if d.Severity == rules.Error {
					fmt.Fprintln(std.err, d)
				}
			}
			return usage(fmt.Errorf("no rule has the id, name or title %q; see 'keysentry rules list'", *id))
		}
		counted := !slices.ContainsFunc(which, func(r *rules.Rule) bool { return *id == r.ID || *id == r.Name || *id == r.Title })
		return sqlOptions{*format, *whole, counted, database}.print(std, set, which)
	}
	return c
}

// sqlOptions say how to print.
type sqlOptions struct {
	format   string
	whole    bool
	counted  bool // the rules are those that a correlation counts
	database string
}

// rulesOf are the detection rules that a name stands for: one, or those that a
// correlation counts, each once.
func rulesOf(set *rules.Set, id string) []*rules.Rule {
	is := func(m *rules.Meta) bool { return m.ID == id || m.Name == id || m.Title == id }
	for _, r := range set.Rules {
		if is(&r.Meta) {
			return []*rules.Rule{r}
		}
	}
	var out []*rules.Rule
	seen := map[*rules.Rule]bool{}
	var add func(c *rules.Correlation)
	add = func(c *rules.Correlation) {
		for _, in := range c.Inputs {
			switch {
			case in.Rule == nil:
				add(in.Correlation)
			case !seen[in.Rule]:
				seen[in.Rule] = true
				out = append(out, in.Rule)
			}
		}
	}
	for _, c := range set.Correlations {
		if is(&c.Meta) {
			add(c)
			break
		}
	}
	return out
}

// print writes the SQL of rules of a set.
func (o sqlOptions) print(std stdio, set *rules.Set, which []*rules.Rule) error {
	var rows []sqlRow
	failed := false
	for _, r := range which {
		pred, diags := set.Predicate(r)
		for _, d := range diags {
			failed = true
			fmt.Fprintln(std.err, d)
		}
		if len(diags) == 0 {
			rows = append(rows, sqlRow{ID: r.ID, Title: r.Title, Predicate: pred, Select: selectOf(o.database, pred)})
		}
	}
	err := list(std.out, o.format, rows, func(w io.Writer) {
		for _, r := range rows {
			if len(which) > 1 || o.counted {
				fmt.Fprintf(w, "-- %s\n", r.Title)
			}
			if o.whole {
				fmt.Fprintf(w, "%s;\n", r.Select)
			} else {
				fmt.Fprintln(w, r.Predicate)
			}
		}
	})
	if err == nil && failed {
		return bad
	}
	return err
}

// selectOf is a statement that shows the events that satisfy a predicate.
func selectOf(database, predicate string) string {
	return "SELECT ts, type, network, host, user_id, source_ip, cause, topic, `partition`, `offset`, idx\nFROM " + database + ".events FINAL\nWHERE " + predicate +
		"\nORDER BY ts, topic, `partition`, `offset`, idx"
}
