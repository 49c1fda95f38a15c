package eval

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/keysentry/keysentry/rules"
)

// TestConformance runs the conformance suite: one folder per case with a rule
// file, events and what is expected. Each expected line is a diagnostic, match or
// finding, in this order; only the keys that it names are compared.
func TestConformance(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob("../testdata/conformance/*")
	if err != nil || len(dirs) < 100 {
		t.Fatalf("%d cases, %v", len(dirs), err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			runConformance(t, dir)
		})
	}
}

func runConformance(t *testing.T, dir string) {
	read := func(name string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var got []map[string]any
	var out bytes.Buffer
	opt := Options{Rules: []rules.File{{Name: "rule.yml", Data: read("rule.yml")}}}
	opt.Diagnostics = func(d rules.Diagnostic) {
		if d.Severity == rules.Error {
			got = append(got, map[string]any{"kind": "error", "code": string(d.Code), "line": float64(d.Line), "message": d.Message})
		}
	}
	_, err := Run(context.Background(), opt, bytes.NewReader(read("events.ndjson")), &out)
	if err != nil && !errors.Is(err, ErrRules) && err.Error() != "no rule could be loaded" {
		t.Fatal(err)
	}
	decode := func(b []byte) (list []map[string]any) {
		for dec := json.NewDecoder(bytes.NewReader(b)); dec.More(); {
			var l map[string]any
			if err := dec.Decode(&l); err != nil {
				t.Fatal(err)
			}
			list = append(list, l)
		}
		return list
	}
	got = append(got, decode(out.Bytes())...)
	want := decode(read("expected.ndjson"))
	bad := len(got) != len(want)
	for i := 0; i < len(want) && !bad; i++ {
		for k, v := range want[i] {
			bad = bad || !reflect.DeepEqual(got[i][k], v)
		}
	}
	if bad {
		t.Errorf("got %v\nwant %v", got, want)
	}
}
