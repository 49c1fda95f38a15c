package store

import (
	"cmp"
	"context"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

//go:embed queries/*.sql
var queryFiles embed.FS

// NamedQuery is one question of the catalogue that `keysentry query NAME` asks.
type NamedQuery struct {
	Name  string
	Title string
	SQL   string
	// Params are the parameters in order of first use.
	Params []Param
}

// Param is one server-side parameter of a named query.
type Param struct {
	Name    string
	Type    string // ClickHouse type
	Help    string
	Default string
	// Required: there is no default.
	Required bool
}

var (
	paramUse  = regexp.MustCompile(`\{([a-z_]+):([^{}]+)\}`)
	paramHead = regexp.MustCompile(`^-- ([a-z_]+)( = ([^:]*))?: (.+)$`)
)

// Queries lists the catalogue by name.
func Queries() ([]NamedQuery, error) {
	names, err := fs.Glob(queryFiles, "queries/*.sql")
	if err != nil {
		return nil, err
	}
	out := make([]NamedQuery, 0, len(names))
	for _, name := range names {
		b, err := fs.ReadFile(queryFiles, name)
		if err != nil {
			return nil, err
		}
		q, err := parseQuery(strings.TrimSuffix(path.Base(name), ".sql"), string(b))
		if err != nil {
			return nil, err
		}
		out = append(out, q)
	}
	slices.SortFunc(out, func(a, b NamedQuery) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

// parseQuery reads a file of the catalogue: its first line is "-- Title.", the
// comment lines after it describe parameters as "-- name = default: help", or
// "-- name: help" for one that must be given.
func parseQuery(name, text string) (NamedQuery, error) {
	q := NamedQuery{Name: name}
	described := map[string]Param{}
	var body []string
	for i, line := range strings.Split(text, "\n") {
		switch m := paramHead.FindStringSubmatch(line); {
		case i == 0 && strings.HasPrefix(line, "-- "):
			q.Title = strings.TrimPrefix(line, "-- ")
		case m != nil:
			described[m[1]] = Param{Name: m[1], Help: m[4], Default: m[3], Required: m[2] == ""}
		case strings.HasPrefix(line, "--"):
			return q, fmt.Errorf("query %s, line %d: a comment must read `-- name = default: help`", name, i+1)
		default:
			body = append(body, line)
		}
	}
	q.SQL = strings.TrimSpace(strings.Join(body, "\n"))
	if q.Title == "" || q.SQL == "" {
		return q, fmt.Errorf("query %s: a title in the first line and a statement are required", name)
	}
	for _, m := range paramUse.FindAllStringSubmatch(q.SQL, -1) {
		p, ok := described[m[1]]
		if !ok {
			if slices.ContainsFunc(q.Params, func(p Param) bool { return p.Name == m[1] }) {
				continue
			}
			return q, fmt.Errorf("query %s: parameter %s is not described", name, m[1])
		}
		delete(described, m[1])
		p.Type = m[2]
		q.Params = append(q.Params, p)
	}
	for p := range described {
		return q, fmt.Errorf("query %s: parameter %s is described but not used", name, p)
	}
	return q, nil
}

// Named asks a question of the catalogue. args override the defaults; the server
// parses them as the parameter's type, so they cannot change the statement.
func (c *Client) Named(ctx context.Context, name string, args map[string]string) (*Rows, error) {
	all, err := Queries()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(q NamedQuery) bool { return q.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("no query is named %q", name)
	}
	full, err := all[i].bind(args)
	if err != nil {
		return nil, err
	}
	return c.Query(ctx, all[i].SQL, full)
}

func (q NamedQuery) bind(args map[string]string) (map[string]string, error) {
	full := make(map[string]string, len(q.Params))
	for _, p := range q.Params {
		v, ok := args[p.Name]
		switch {
		case ok:
			full[p.Name] = v
		case p.Required:
			return nil, fmt.Errorf("query %s: parameter %s is required: %s", q.Name, p.Name, p.Help)
		default:
			full[p.Name] = p.Default
		}
	}
	for name := range args {
		if _, ok := full[name]; !ok {
			return nil, fmt.Errorf("query %s has no parameter %q", q.Name, name)
		}
	}
	return full, nil
}

// Rows is an answer, read row by row. Close it.
type Rows struct {
	Columns []Column
	rows    driver.Rows
	cells   []any // pointers for Scan
}

// Column names one column of an answer and its ClickHouse type.
type Column struct{ Name, Type string }

// Query runs sql with server-side parameters ({name:Type}), read-only whoever
// the user is.
func (c *Client) Query(ctx context.Context, sql string, params map[string]string) (*Rows, error) {
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters(params)),
		clickhouse.WithSettings(clickhouse.Settings{"readonly": 2, "do_not_merge_across_partitions_select_final": 1}))
	rows, err := c.conn.Query(ctx, sql)
	if err != nil {
		return nil, explain(err)
	}
	out := &Rows{rows: rows}
	out.prepare()
	return out, nil
}

// prepare reads what the columns are.
func (r *Rows) prepare() {
	for _, t := range r.rows.ColumnTypes() {
		r.Columns = append(r.Columns, Column{t.Name(), t.DatabaseTypeName()})
		r.cells = append(r.cells, reflect.New(t.ScanType()).Interface())
	}
}

// Next reads the next row; false at the end or after an error.
func (r *Rows) Next() bool { return r.rows.Next() }

// Values is the row that Next read, one Go value per column; nil is NULL.
func (r *Rows) Values() ([]any, error) {
	if err := r.rows.Scan(r.cells...); err != nil {
		return nil, fmt.Errorf("read row: %w", err)
	}
	out := make([]any, len(r.cells))
	for i, c := range r.cells {
		v := reflect.ValueOf(c).Elem()
		for v.Kind() == reflect.Pointer && !v.IsNil() {
			v = v.Elem()
		}
		if v.Kind() != reflect.Pointer {
			out[i] = v.Interface()
		}
	}
	return out, nil
}

// Err is the error that ended the rows, if one did.
func (r *Rows) Err() error {
	if err := r.rows.Err(); err != nil {
		return explain(err)
	}
	return nil
}

// Close ends the answer.
func (r *Rows) Close() error { return r.rows.Close() }

// Text writes a value of Rows.Values for a person: times as RFC 3339, the
// absent time and NULL as an empty text.
func Text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case time.Time:
		if v.Unix() == 0 && v.Nanosecond() == 0 {
			return ""
		}
		return v.UTC().Format(time.RFC3339Nano)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case float32:
		return strconv.FormatFloat(float64(v), 'f', -1, 32)
	}
	return fmt.Sprint(v)
}

// arrayParam writes numbers as a server-side parameter of an array type.
func arrayParam[T uint32 | uint64](ns []T) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, n := range ns {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(n), 10))
	}
	b.WriteByte(']')
	return b.String()
}
