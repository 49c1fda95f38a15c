package check

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/posture"
)

// ownSpec is a file of a user's check.
type ownSpec struct {
	Name       string            `yaml:"name"`
	Title      string            `yaml:"title"`
	Target     string            `yaml:"target"`
	Schedule   string            `yaml:"schedule"`
	Severity   string            `yaml:"severity"`
	Query      string            `yaml:"query"`
	Columns    map[string]string `yaml:"columns"`
	Row        rowSpec           `yaml:"row"`
	Empty      string            `yaml:"empty"`
	Resolution string            `yaml:"resolution"`

	file     string
	severity finding.Severity
	lines    map[string]int // of the keys, by path
}

// rowSpec says what a returned row means.
type rowSpec struct {
	Network string `yaml:"network"`
	Subject struct {
		Field  string `yaml:"field"`
		Column string `yaml:"column"`
	} `yaml:"subject"`
	Status      string `yaml:"status"`
	ValueText   string `yaml:"value"`
	SummaryText string `yaml:"summary"`

	Value, Summary template `yaml:"-"`
}

const (
	maxOwnFiles = 200
	maxOwnSize  = 64 << 10
	maxQuery    = 16 << 10
)

// LoadOwn reads the checks in files and folders (*.yml and *.yaml, folders within
// them too). Every fault of every file is told, as FILE:LINE: what; checks without
// one are returned beside it.
func LoadOwn(paths []string, querier posture.Querier) ([]posture.Check, error) {
	files, err := ownFiles(paths)
	errs := []error{err}
	var out []posture.Check
	names := map[string]string{}
	for _, c := range All(Sources{Probes: []posture.Probe{{}}}) {
		names[c.Name()] = "Keysentry"
	}
	for _, file := range files {
		spec, faults := readOwn(file)
		if len(faults) > 0 {
			errs = append(errs, faults...)
			continue
		}
		if other, taken := names[spec.Name]; taken {
			errs = append(errs, spec.fault("name", "%s is the name of a check of %s", spec.Name, other))
			continue
		}
		names[spec.Name] = file
		out = append(out, &Own{spec, querier})
	}
	return out, errors.Join(errs...)
}

func ownFiles(paths []string) ([]string, error) {
	var out []string
	for _, p := range paths {
		err := filepath.WalkDir(p, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case path != p && strings.HasPrefix(d.Name(), "."):
				if d.IsDir() {
					return fs.SkipDir
				}
			case !d.IsDir() && slices.Contains([]string{".yml", ".yaml"}, filepath.Ext(path)):
				out = append(out, path)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("posture.checks: %w", err)
		}
	}
	if len(out) > maxOwnFiles {
		return nil, fmt.Errorf("posture.checks: %d files, at most %d", len(out), maxOwnFiles)
	}
	return out, nil
}

func readOwn(file string) (ownSpec, []error) {
	spec := ownSpec{file: file}
	f, err := os.Open(file)
	if err != nil {
		return spec, []error{err}
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxOwnSize+1))
	if err != nil {
		return spec, []error{fmt.Errorf("%s: %w", file, err)}
	}
	if len(text) > maxOwnSize {
		return spec, []error{fmt.Errorf("%s: larger than %d bytes", file, maxOwnSize)}
	}
	return parseOwn(file, text)
}

var unknownKey = regexp.MustCompile(`^line (\d+): field (\S+) not found in type \S+$`)

func parseOwn(file string, text []byte) (ownSpec, []error) {
	spec := ownSpec{file: file, Schedule: posture.DefaultSchedule, Severity: "ticket", Empty: string(posture.Unknown)}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return spec, []error{fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))}
	}
	spec.lines = map[string]int{}
	noteLines(&doc, "", spec.lines)
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	err := dec.Decode(&spec)
	var typed *yaml.TypeError
	switch {
	case errors.As(err, &typed):
		var out []error
		for _, e := range typed.Errors {
			if m := unknownKey.FindStringSubmatch(e); m != nil {
				out = append(out, fmt.Errorf("%s:%s: unknown key %q", file, m[1], m[2]))
				continue
			}
			line, what, _ := strings.Cut(strings.TrimPrefix(e, "line "), ": ")
			out = append(out, fmt.Errorf("%s:%s: %s", file, line, what))
		}
		return spec, out
	case err != nil && !errors.Is(err, io.EOF):
		return spec, []error{fmt.Errorf("%s: %w", file, err)}
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return spec, []error{fmt.Errorf("%s: a file holds one check", file)}
	}
	return spec, spec.validate()
}

// noteLines keeps the line of every key.
func noteLines(n *yaml.Node, path string, lines map[string]int) {
	if n.Kind == yaml.DocumentNode && len(n.Content) > 0 {
		n = n.Content[0]
	}
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		at := strings.TrimPrefix(path+"."+n.Content[i].Value, ".")
		lines[at] = n.Content[i].Line
		noteLines(n.Content[i+1], at, lines)
	}
}

// fault is an error at a key, or at the nearest one around it.
func (s *ownSpec) fault(key, format string, args ...any) error {
	line := 1
	for at := key; at != ""; {
		if n, ok := s.lines[at]; ok {
			line = n
			break
		}
		i := strings.LastIndexByte(at, '.')
		at = at[:max(i, 0)]
	}
	return fmt.Errorf("%s:%d: %s: %s", s.file, line, key, fmt.Sprintf(format, args...))
}

// columnTypes maps the words of a file to beginnings of ClickHouse's types.
var columnTypes = map[string][]string{
	"text":   {"String", "FixedString", "Enum", "UUID", "IPv"},
	"number": {"Int", "UInt", "Float", "Decimal"},
	"time":   {"Date"},
	"bool":   {"Bool", "UInt8"},
}

var fieldName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

func (s *ownSpec) validate() []error {
	var errs []error
	add := func(key, format string, args ...any) { errs = append(errs, s.fault(key, format, args...)) }
	if !posture.ValidName(s.Name) {
		add("name", "%q must be small letters, digits, _ and -, at most 64", s.Name)
	}
	if s.Title == "" || len(s.Title) > 100 {
		add("title", "say in at most 100 characters what is measured")
	}
	if s.Target == "" || len(s.Target) > 100 {
		add("target", "say in at most 100 characters what is aimed at")
	}
	if err := posture.ValidSchedule(s.Schedule); err != nil {
		add("schedule", "%v", err)
	}
	if err := s.severity.UnmarshalText([]byte(s.Severity)); err != nil {
		add("severity", "%q is not digest, ticket or page", s.Severity)
	}
	if s.Empty != string(posture.Pass) && s.Empty != string(posture.Unknown) {
		add("empty", "%q is not pass or unknown: what it means that no row is returned", s.Empty)
	}
	if s.Resolution == "" {
		add("resolution", "say what a person should do about a row")
	}
	if err := oneSelect(s.Query); err != nil {
		add("query", "%v", err)
	}
	for _, c := range slices.Sorted(maps.Keys(s.Columns)) {
		if columnTypes[s.Columns[c]] == nil {
			add("columns."+c, "%q is not text, number, time or bool", s.Columns[c])
		}
	}
	return append(errs, s.validateRow()...)
}

func (s *ownSpec) validateRow() []error {
	var errs []error
	column := func(key, name string) {
		if _, ok := s.Columns[name]; !ok {
			errs = append(errs, s.fault(key, "%q is none of the columns that the file declares", name))
		}
	}
	r := &s.Row
	if r.Network != "" {
		column("row.network", r.Network)
	}
	if !fieldName.MatchString(r.Subject.Field) {
		errs = append(errs, s.fault("row.subject.field", "%q: name what a row is about, as key_id or actor", r.Subject.Field))
	}
	column("row.subject.column", r.Subject.Column)
	if name, ok := strings.CutPrefix(r.Status, "column "); ok {
		column("row.status", name)
	} else if !validStatus(r.Status) {
		errs = append(errs, s.fault("row.status", "%q is not pass, unknown, warn or fail, nor: column NAME", r.Status))
	}
	var err error
	if r.Value, err = parseTemplate(r.ValueText, s.Columns); err != nil {
		errs = append(errs, s.fault("row.value", "%v", err))
	}
	if r.Summary, err = parseTemplate(r.SummaryText, s.Columns); err != nil {
		errs = append(errs, s.fault("row.summary", "%v", err))
	}
	if r.SummaryText == "" {
		errs = append(errs, s.fault("row.summary", "say in one sentence what a row means"))
	}
	return errs
}

func validStatus(s string) bool {
	return slices.Contains([]posture.Status{posture.Pass, posture.Unknown, posture.Warn, posture.Fail}, posture.Status(s))
}

// fits holds the answer's columns against the declared ones.
func (s *ownSpec) fits(columns []posture.Column) (map[string]int, error) {
	places := map[string]int{}
	for i, c := range columns {
		places[c.Name] = i
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.Columns)) {
		i, ok := places[name]
		if !ok {
			errs = append(errs, s.fault("columns."+name, "the query returns no such column"))
			continue
		}
		bare := bareType(columns[i].Type)
		if !slices.ContainsFunc(columnTypes[s.Columns[name]], func(p string) bool { return strings.HasPrefix(bare, p) }) {
			errs = append(errs, s.fault("columns."+name, "the query returns %s, the file says %s", columns[i].Type, s.Columns[name]))
		}
	}
	return places, errors.Join(errs...)
}

// bareType is a ClickHouse type without what surrounds it.
func bareType(t string) string {
	for _, around := range []string{"LowCardinality(", "Nullable("} {
		if inner, ok := strings.CutPrefix(t, around); ok {
			return bareType(strings.TrimSuffix(inner, ")"))
		}
	}
	return t
}
