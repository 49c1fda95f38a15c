package mapping_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/configs"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/mapping"
)

var update = flag.Bool("update", false, "rewrite goldens and the reference page")

// ownNames lists the shipped mappings.
func ownNames(t testing.TB) []string {
	t.Helper()
	sub, err := fs.Sub(configs.Mappings, "mappings")
	if err != nil {
		t.Fatal(err)
	}
	names, err := mapping.Names(sub)
	if err != nil || len(names) < 10 {
		t.Fatalf("%d mappings: %v", len(names), err)
	}
	return names
}

// ownSamples reads testdata/samples/NAME.txt, which was written for these tests.
func ownSamples(t testing.TB, name string) [][]byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "samples", name+".txt"))
	if err != nil {
		t.Fatalf("every shipped mapping has samples: %v", err)
	}
	return records(t, shipped(t, name), text)
}

// golden is one line of testdata/golden/NAME.ndjson.
type golden struct {
	Record int             `json:"record"`
	Idx    int32           `json:"idx"`
	Event  json.RawMessage `json:"event,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// TestOwnSamples: each shipped mapping lets something in, refuses something and
// turns something malformed away, as its golden says.
func TestOwnSamples(t *testing.T) {
	t.Parallel()
	for _, name := range ownNames(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := shipped(t, name)
			var out bytes.Buffer
			enc := json.NewEncoder(&out)
			enc.SetEscapeHTML(false)
			for _, typ := range m.Types() {
				if typ.Lifecycle() {
					t.Errorf("makes %v: a foreign log does not tell of the life of our keys", typ)
				}
			}
			good, refused, malformed := 0, 0, 0
			for i, r := range ownSamples(t, name) {
				m.Map(r, options, func(idx int32, e *event.Event, err error) {
					line := golden{Record: i, Idx: idx}
					if err == nil {
						err = e.ValidateMapped()
					}
					if err != nil {
						malformed++
						line.Error = err.Error()
					} else {
						noSecrets(t, e)
						line.Event = event.Append(nil, e)
						if e.Refused() {
							refused++
						} else if e.Type != event.TypeLogRecord {
							good++
						}
					}
					if err := enc.Encode(line); err != nil {
						t.Fatal(err)
					}
				})
			}
			if good == 0 || refused == 0 || malformed == 0 {
				t.Errorf("%d let in, %d refused, %d malformed; want some of each", good, refused, malformed)
			}
			compareGolden(t, filepath.Join("testdata", "golden", name+".ndjson"), out.Bytes())
		})
	}
}

func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; make it with: go test ./ingest/mapping -update", err)
	}
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); d != "" {
		t.Errorf("%s: %s", path, d)
	}
}

// TestAutoTellsTheMappingsApart: each mapping's own samples are recognised by it
// and by no other; what is not recognised is malformed.
func TestAutoTellsTheMappingsApart(t *testing.T) {
	t.Parallel()
	set := shippedSet(t)
	if len(set.Mappings()) != len(ownNames(t)) {
		t.Errorf("auto knows %d of %d shipped mappings", len(set.Mappings()), len(ownNames(t)))
	}
	for _, name := range ownNames(t) {
		known := 0
		for i, r := range ownSamples(t, name) {
			choice, err := set.Choose(r, options)
			if err == nil {
				known++
				if choice.Canonical() || choice.Mapping().Name() != name {
					t.Errorf("%s, record %d: recognised as %v", name, i, choice.Mapping())
				}
				continue
			}
			var de *event.DecodeError
			if !errors.As(err, &de) || strings.Contains(de.Detail, "both") {
				t.Errorf("%s, record %d: %v", name, i, err)
			}
		}
		if known == 0 {
			t.Errorf("%s: no sample was recognised", name)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	set := shippedSet(t)
	withoutYear := options
	withoutYear.Year = 0
	for name, tc := range map[string]struct {
		record  string
		options mapping.Options
		want    string // mapping, or canonical
		problem event.Problem
	}{
		"canonical":                       {`{"type":"session.denied","time":"2026-03-01T00:00:00Z"}`, options, "canonical", 0},
		"canonical type of a Okta record": {`{"type":"heartbeat","eventType":"a","published":"b","uuid":"c"}`, options, "canonical", 0},
		"other object":                    {`{"type":"x"}`, options, "", event.ProblemUnknownFormat},
		"other text":                      {`hello`, options, "", event.ProblemUnknownFormat},
		"array":                           {`[{}]`, options, "", event.ProblemUnknownFormat},
		"cut":                             {`{"type":"session.denied"`, options, "", event.ProblemBadJSON},
		"nothing":                         {``, options, "", event.ProblemEmpty},
		"bytes":                           {"\xff\xfe", options, "", event.ProblemBadUTF8},
		"two formats at once":             {`{"eventType":"a","published":"b","uuid":"c","class_uid":1,"category_uid":2}`, options, "", event.ProblemUnknownFormat},
		"sshd":                            {"Mar  1 15:00:00 b sshd[1]: x", options, "openssh", 0},
		"sshd where no year is known":     {"Mar  1 15:00:00 b sshd[1]: x", withoutYear, "", event.ProblemNotMapped},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			choice, err := set.Choose([]byte(tc.record), tc.options)
			var de *event.DecodeError
			switch {
			case tc.want == "" && (!errors.As(err, &de) || de.Problem != tc.problem):
				t.Errorf("got %v, want %v", err, tc.problem)
			case tc.want == "canonical" && (err != nil || !choice.Canonical()):
				t.Errorf("got %v, %v", choice.Mapping(), err)
			case tc.want != "" && tc.want != "canonical" && (err != nil || choice.Canonical() || choice.Mapping().Name() != tc.want):
				t.Errorf("got %v, %v", choice.Mapping(), err)
			}
		})
	}
	if err := set.Ready(mapping.Options{}); err == nil || !strings.Contains(err.Error(), "fingerprint_key") {
		t.Errorf("without a key: %v", err)
	}
	if err := set.Ready(mapping.Options{Key: []byte("k")}); err != nil {
		t.Error(err)
	}
}

// TestUnread: the fields that nothing reads are named, whatever level they are on.
func TestUnread(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		yaml, record string
		want         []string
	}{
		"object":     {head + "fields: {host: a.b}", `{"a":{"b":1,"c":2},"d":[{"e":1},{"e":2}],"f":null}`, []string{"a.c", "d.e"}},
		"around":     {head + "each: l.m\nfields: {host: h, service: s}", `{"h":1,"l":[{"h":1,"x":1,"m":[{"s":1,"y":2}]}]}`, []string{"l.m.y", "l.x"}},
		"attributes": {head + "attributes: a\nfields: {host: a.x}", `{"a":[{"key":"x","value":1},{"key":"y","value":1}]}`, []string{"a.y"}},
		"condition":  {head + "cases:\n- {name: a, type: heartbeat, when: [{field: c, equals: '1'}]}\n- {name: b, type: heartbeat}", `{"c":1}`, []string{}},
		"text":       {"mapping: m\nformat: text\nline: '(?P<a>\\w) (?P<b>\\w)'\nfields: {host: a}", "x y", []string{"b"}},
		"pairs":      {head + "pairs: t\nfields: {host: t.a}", `{"t":"a=1, b=2"}`, []string{"t.b"}},
		"no record":  {head, `{`, nil},
		"not a line": {"mapping: m\nformat: text\nline: '^x$'", "y", nil},
	} {
		if !strings.Contains(tc.yaml, "cases:") {
			tc.yaml += "\ncases: [{name: any, type: heartbeat}]"
		}
		m, err := mapping.Parse("m", []byte(tc.yaml))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(tc.want, m.Unread([]byte(tc.record), options)); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestReader: a file falls into records as Kafka would hold them.
func TestReader(t *testing.T) {
	t.Parallel()
	text := func(more string) *mapping.Mapping {
		m, err := mapping.Parse("m", []byte("mapping: m\nformat: text\n"+more+"\ncases: [{name: any, type: heartbeat}]"))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	for name, tc := range map[string]struct {
		m    *mapping.Mapping
		file string
		want []string // LINE:VALUE
	}{
		"lines":                  {text(""), "a\r\n\nb\n  c", []string{"1:a", "3:b", "4:  c"}},
		"records over lines":     {text("record_start: '^[0-9]'"), "1 a\n  more\n\nx\n2 b\n", []string{"1:1 a\n  more\n\nx", "5:2 b"}},
		"before the first start": {text("record_start: '^[0-9]'"), "odd\n1 a", []string{"1:odd", "2:1 a"}},
		"NDJSON":                 {nil, "{\"a\":1}\n{\"b\":\"{\"}\n", []string{`1:{"a":1}`, `2:{"b":"{"}`}},
		"JSON over lines":        {nil, "{\n \"a\": [\n  1]\n}\n{\"b\":1}", []string{"1:{\n \"a\": [\n  1]\n}", `5:{"b":1}`}},
		"array":                  {nil, "[{\"a\":1},\n {\"b\":2}]\n{\"c\":3}", []string{`1:{"a":1}`, `1:{"b":2}`, `3:{"c":3}`}},
		"batch of CloudEvents":   {nil, "[\n {\"specversion\":\"1.0\"}]", []string{"1:[\n {\"specversion\":\"1.0\"}]"}},
		"cut object":             {nil, "{\"a\":\n{\"b\":1}", []string{`1:{"a":`, `2:{"b":1}`}},
		"text beside JSON":       {nil, "hello {\n{\"b\":1}", []string{`1:hello {`, `2:{"b":1}`}},
		"too long":               {text(""), strings.Repeat("x", 200) + "\nb", []string{"1:" + strings.Repeat("x", 101), "2:b"}},
		"too long over lines":    {text("record_start: '^[0-9]'"), "1" + strings.Repeat("\n"+strings.Repeat("x", 60), 9) + "\n2", []string{"1:1" + strings.Repeat("\n"+strings.Repeat("x", 60), 2), "11:2"}},
		"nothing":                {nil, "\n\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := mapping.NewReader(strings.NewReader(tc.file), tc.m, 100)
			var got []string
			for {
				rec, err := r.Next()
				if err != nil {
					break
				}
				got = append(got, fmt.Sprintf("%d:%s", rec.Line, rec.Value))
			}
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestFolders: a mapping of one's own replaces the shipped one and stands beside
// the others.
func TestFolders(t *testing.T) {
	t.Parallel()
	own := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(own, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("okta.yml", "mapping: okta\nformat: json\ncases: [{name: mine, type: heartbeat}]")
	write("mine.yml", "mapping: mine\nformat: json\ndetect: [[{field: mine, exists: true}]]\ncases: [{name: mine, type: heartbeat}]")
	sub, err := fs.Sub(configs.Mappings, "mappings")
	if err != nil {
		t.Fatal(err)
	}
	folders := mapping.Folders{os.DirFS(own), sub}
	names, err := mapping.Names(folders)
	if err != nil || len(names) != len(ownNames(t))+1 {
		t.Errorf("names %v, %v", names, err)
	}
	if m, err := mapping.Load(folders, "okta"); err != nil || m.Cases()[0] != "mine" {
		t.Errorf("okta: %v, %v", m, err)
	}
	if _, err := mapping.Load(folders, "nginx"); err != nil {
		t.Error(err)
	}
	set, err := mapping.LoadSet(folders)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := set.Choose([]byte(`{"mine":1}`), options); err != nil || c.Mapping().Name() != "mine" {
		t.Errorf("%v, %v", c.Mapping(), err)
	}
	write("mine.yml", "mapping: mine\nformat: xml")
	if _, err := mapping.LoadSet(folders); err == nil || !strings.Contains(err.Error(), "mine.yml:2: format") {
		t.Errorf("a broken mapping: %v", err)
	}
}
