package eval

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

const conformance = "../testdata/conformance"

// TestConformance runs the conformance suite, whose README says what a case is:
// one folder with a rule file, records and what is expected.
func TestConformance(t *testing.T) {
	t.Parallel()
	for _, name := range conformanceCases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runConformance(t, filepath.Join(conformance, name))
		})
	}
}

func conformanceCases(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(conformance + "/*/rule.yml")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d cases, %v", len(files), err)
	}
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = filepath.Base(filepath.Dir(f))
	}
	return names
}

// caseOptions is options.json.
type caseOptions struct {
	Placeholders map[string][]string `json:"placeholders"`
	LogSource    map[string]string   `json:"logsource"`
	Lateness     string              `json:"lateness"`
	Canonical    bool                `json:"canonical"`
	Standalone   bool                `json:"standalone"`
}

func (o caseOptions) apply(t *testing.T, opt *Options) {
	opt.Placeholders, opt.LogSource, opt.Standalone = o.Placeholders, o.LogSource, o.Standalone
	if o.Lateness != "" {
		var err error
		if opt.Lateness, err = time.ParseDuration(o.Lateness); err != nil {
			t.Fatal(err)
		}
	}
	if o.Canonical {
		opt.Decode = func(raw []byte) ([]event.Event, error) {
			list := make([]event.Event, 1)
			return list, event.Decode(raw, event.Limits{}, &list[0])
		}
	}
}

func runConformance(t *testing.T, dir string) {
	opt := Options{Rules: []rules.File{{Name: "rule.yml", Data: readCase(t, dir, "rule.yml")}}}
	if b, err := os.ReadFile(filepath.Join(dir, "options.json")); err == nil {
		var o caseOptions
		dec := json.NewDecoder(bytes.NewReader(b))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&o); err != nil {
			t.Fatal(err)
		}
		o.apply(t, &opt)
	}
	var got []map[string]any
	var out bytes.Buffer
	opt.Diagnostics = func(d rules.Diagnostic) {
		if d.Severity == rules.Error {
			got = append(got, map[string]any{"kind": "error", "code": string(d.Code), "line": float64(d.Line), "says": d.Message + " (" + d.Hint + ")"})
		}
	}
	stats, err := Run(context.Background(), opt, bytes.NewReader(readCase(t, dir, "events.ndjson")), &out)
	if err != nil && !errors.Is(err, ErrRules) && err.Error() != "no rule could be loaded" || stats.Undecoded > 0 {
		t.Fatal(err, stats.Reason)
	}
	got = append(got, decodeLines(t, out.Bytes())...)
	want := decodeLines(t, readCase(t, dir, "expected.ndjson"))
	slices.SortStableFunc(got, compareLines)
	slices.SortStableFunc(want, compareLines)
	bad := len(got) != len(want)
	for i := 0; i < len(want) && !bad; i++ {
		for k, v := range want[i] {
			if k == "says" {
				said, _ := got[i][k].(string)
				bad = bad || !strings.Contains(said, v.(string))
				continue
			}
			bad = bad || !reflect.DeepEqual(got[i][k], v)
		}
	}
	if bad {
		t.Errorf("got\n%s\nwant\n%s", asLines(got), asLines(want))
	}
}

// compareLines puts lines in the order of the README: errors by line, matches by
// record, findings by time; then by name and group.
func compareLines(a, b map[string]any) int {
	ak, ap, at := lineOrder(a)
	bk, bp, bt := lineOrder(b)
	return cmp.Or(cmp.Compare(ak, bk), cmp.Compare(ap, bp), cmp.Compare(at, bt))
}

func lineOrder(l map[string]any) (kind int, place float64, text string) {
	switch l["kind"] {
	case "error":
		place, _ = l["line"].(float64)
		return 0, place, ""
	case "match":
		if e, ok := l["events"].([]any); ok && len(e) > 0 {
			place, _ = e[0].(float64)
		}
		return 1, place, fmt.Sprint(l["rule_name"])
	}
	group, err := json.Marshal(l["group"])
	return 2, 0, fmt.Sprint(l["time"], l["rule_name"], string(group), err)
}

func readCase(t *testing.T, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decodeLines(t *testing.T, b []byte) (list []map[string]any) {
	t.Helper()
	for dec := json.NewDecoder(bytes.NewReader(b)); dec.More(); {
		var l map[string]any
		if err := dec.Decode(&l); err != nil {
			t.Fatal(err)
		}
		list = append(list, l)
	}
	return list
}

func asLines(list []map[string]any) string {
	var b strings.Builder
	for _, l := range list {
		j, _ := json.Marshal(l)
		b.Write(append(j, '\n'))
	}
	return b.String()
}
