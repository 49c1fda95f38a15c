package simulate_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/internal/simulate"
)

const good = `name: good
about: it is good
label: {kind: other, subject: source_ip}
actors:
  x: {from: vpn}
acts:
  - {do: mint, by: x, count: 1}
`

func TestParseScriptFaults(t *testing.T) {
	t.Parallel()
	if _, err := simulate.ParseScript("f.yml", []byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, fresh, want string }{
		"empty":          {good, "", "f.yml:1: the file is empty"},
		"no YAML":        {good, "a: [", "f.yml:"},
		"another field":  {"about:", "abuot:", "f.yml:2: field abuot"},
		"two documents":  {good, good + "---\n" + good, "more after it"},
		"too long":       {good, good + strings.Repeat("#", 1<<20), "at most"},
		"name":           {"name: good", "name: Good One", "f.yml:1: name"},
		"ordinary":       {"name: good", "name: ordinary", "f.yml:1: name"},
		"no about":       {"about: it is good\n", "", "about"},
		"at":             {"label:", "at: later\nlabel:", `at: "later"`},
		"share over 100": {"label:", "at: 140%\nlabel:", `at: "140%"`},
		"range":          {"label:", "at: 9h..3h\nlabel:", "9h..3h"},
		"two kinds":      {"label:", "at: 3h..50%\nlabel:", "3h..50%"},
		"hours":          {"label:", "hours: 40%\nlabel:", "after midnight"},
		"hours too many": {"label:", "hours: 20h..30h\nlabel:", "after midnight"},
		"kind":           {"kind: other", "kind: bad", `kind "bad"`},
		"subject":        {"subject: source_ip", "subject: me", `subject "me"`},
		"label key":      {"subject: source_ip", "subject: key_id, key: mine", `key "mine"`},
		"cause":          {"subject: source_ip", "subject: source_ip, cause: nope", `cause "nope"`},
		"from":           {"from: vpn", "from: moon", `f.yml:5: actor: from "moon"`},
		"no from":        {"from: vpn", "spread: true", "from is missing"},
		"addresses":      {"from: vpn", "from: vpn, addresses: 0", "f.yml:5"},
		"actor field":    {"from: vpn", "from: vpn, colour: red", `actor has no field "colour"`},
		"no acts":        {"acts:\n  - {do: mint, by: x, count: 1}\n", "", "acts: there are none"},
		"do":             {"do: mint", "do: dance", `f.yml:7: act: do "dance"`},
		"act is a word":  {"{do: mint, by: x, count: 1}", "mint", "f.yml:7"},
		"no do":          {"do: mint, ", "", `do ""`},
		"by":             {"by: x", "by: y", `by "y"`},
		"no by":          {"by: x, ", "", "by is missing"},
		"no gap":         {"count: 1", "count: 3", "give every"},
		"no end":         {"count: 1", "every: 3s", "give for"},
		"count":          {"count: 1", "count: many", `"many"`},
		"every":          {"count: 1", "every: -3s, for: 1m", `"-3s"`},
		"share":          {"count: 1", "share: 0, for: 1m", `share "0"`},
		"hostile":        {"count: 1", "count: 1, hostile: perhaps", `"perhaps"`},
		"list value":     {"count: 1", "count: 1, users: all", `users "all"`},
		"nested":         {"count: 1", "count: [1]", "give one value"},
		"service":        {"count: 1", "count: 1, as: nobody", `as "nobody"`},
		"no dormant key": {"count: 1", "count: 1, key: dormant", "dormant_key: true"},
		"console type":   {"do: mint, by: x, count: 1", "do: console, by: x, what: heartbeat", `what "heartbeat"`},
		"console by":     {"do: mint, by: x, count: 1", "do: console, what: admin_token.created", "by is missing"},
		"drift":          {"do: mint, by: x, count: 1", "do: drift, for: 1h", "clock"},
	} {
		text := strings.Replace(good, c.old, c.fresh, 1)
		if _, err := simulate.ParseScript("f.yml", []byte(text)); err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "f.yml") {
			t.Errorf("%s: %v, want f.yml... %s", name, err, c.want)
		}
	}
}

func TestLoadScripts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := simulate.LoadScripts(dir); err == nil {
		t.Error("an empty folder: no error")
	}
	if _, err := simulate.LoadScripts(filepath.Join(dir, "none.yml")); err == nil {
		t.Error("a file that is not there: no error")
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("a.yml", good)
	write("notes.txt", "no scenario")
	if list, err := simulate.LoadScripts(dir); err != nil || len(list) != 1 || list[0].Name != "good" {
		t.Errorf("%v, %v", list, err)
	}
	write("b.yml", "name: [")
	write("c.yml", "name: c")
	if _, err := simulate.LoadScripts(dir); err == nil || !strings.Contains(err.Error(), "b.yml") || !strings.Contains(err.Error(), "c.yml") {
		t.Errorf("two faulty files: %v", err)
	}
}

// TestLibrary: every attack names what it is modelled on, or is one of the two that
// are about a moment.
func TestLibrary(t *testing.T) {
	t.Parallel()
	incidents := 0
	for _, s := range simulate.Attacks() {
		if s.Incident != "" {
			incidents++
			if !strings.HasPrefix(s.Source, "https://") {
				t.Errorf("%s has no source", s.Name)
			}
		}
	}
	if incidents < 10 {
		t.Errorf("%d scenarios are modelled on public incidents, want 10", incidents)
	}
}

// TestReference: the page describes every field of a scenario file.
func TestReference(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/reference/simulator.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	var fields []string
	script := reflect.TypeFor[simulate.Script]()
	for i := range script.NumField() {
		f := script.Field(i)
		tag := f.Tag.Get("yaml")
		switch {
		case tag == "":
		case f.Type.Kind() == reflect.Struct:
			for k := range f.Type.NumField() {
				fields = append(fields, tag+"."+f.Type.Field(k).Tag.Get("yaml"))
			}
		case tag == "actors": // its fields stand with it
		default:
			fields = append(fields, tag)
		}
	}
	fields = append(fields, simulate.ActFields()...)
	if len(fields) < 25 {
		t.Fatalf("only the fields %v", fields)
	}
	for _, f := range fields {
		if !strings.Contains(page, "`"+f+"`") {
			t.Errorf("%s is not described", f)
		}
	}
	// The example is a scenario that plays.
	m := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(page)
	s, err := simulate.ParseScript("simulator.md", []byte(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	o := simulate.Options{Scripts: []*simulate.Script{s}, Seed: 1, Duration: 12 * time.Hour, Rate: 1}
	if r := run(t, o, nil); len(r.labels) != 1 || r.labels[0].Hostile == 0 {
		t.Errorf("labels %+v", r.labels)
	}
}
