package mapping_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/mapping"
)

const referenceIntro = `# Mappings

<!-- Made from the source by: go test ./ingest/mapping -run Reference -update -->

A mapping turns records of a foreign format into [events](events.md). A topic names one (` + "`mapping: okta`" + `), or says ` + "`mapping: auto`" + `; without either its
records are canonical events. ` + "`keysentry map`" + ` shows what the records of a file become. [How to write one](../howto/map-a-source.md).

## Shipped

| name | records | format | events |
|---|---|---|---|
`

const referenceAuto = `
## Chosen by content

With ` + "`mapping: auto`" + ` a JSON object whose ` + "`type`" + ` is one of the canonical types is a canonical event. Any other record must be recognised by the ` + "`detect`" + ` of
exactly one mapping; one that none or several recognise goes to quarantine as ` + "`unknown_format`" + `. Order plays no part. A message is parsed once, and of a message
that holds many records ` + "`detect`" + ` sees the first.

## CloudEvents

CloudEvents 1.0 are opened on every topic, before a mapping or the decoder sees what is inside:

- **binary**: headers ` + "`ce_specversion`, `ce_id`, `ce_source`, `ce_type`" + `; the value is the data
- **structured**: header ` + "`content-type: application/cloudevents+json`" + `, or without it an object with ` + "`specversion`" + `; the data is in ` + "`data` or `data_base64`" + `, a text in ` + "`data`" + ` stands for what it says
- **batched**: header ` + "`content-type: application/cloudevents-batch+json`" + `, or without it an array of such objects; a bad event costs only itself

A canonical event inside an envelope may leave ` + "`id`, `type` and `time`" + ` to it. An envelope that lacks an attribute, has a specversion other than 1.0, is in an event
format that is not JSON, or holds data that is neither JSON nor text goes to quarantine as ` + "`bad_cloudevent`" + `; attributes without data, a tombstone, as ` + "`empty`" + `.

## The file

A name in a file is a **path**: names joined by points, where a name that holds points itself is tried first. An array stands for its members: a condition holds
when it holds for one of them, a field takes the first that has a value. Keys that are not listed here, expressions that do not compile, cases that can never be
reached and fields of a text that no expression names are faults; they are all reported at start, with file and line.
`

// reference is the page about mappings.
func reference(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(referenceIntro)
	for _, name := range ownNames(t) {
		m := shipped(t, name)
		var types []string
		for _, typ := range m.Types() {
			types = append(types, "`"+typ.String()+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, m.Description(), m.Format(), strings.Join(types, " "))
	}
	b.WriteString(referenceAuto)
	language := mapping.Language()
	for _, part := range []struct{ key, title string }{
		{"mapping", "Keys of a mapping"}, {"case", "Keys of a case"}, {"condition", "Keys of a condition"}, {"field", "Keys of a field"},
	} {
		fmt.Fprintf(&b, "\n### %s\n\n", part.title)
		switch part.key {
		case "condition":
			b.WriteString("One `field` and exactly one test.\n\n")
		case "field":
			b.WriteString("A path, a list of paths, or an object with exactly one of `from`, `value` and `template`. Rewriting goes `regex`, `map`, `case`.\n\n")
		}
		table(&b, "key", language[part.key])
	}
	b.WriteString("\n### Times\n\nThe values of `time`.\n\n")
	table(&b, "name", mapping.TimeLayouts())
	b.WriteString("\nTimes lie in the years 2000 to 2100. An address may have a port, which is dropped. An endpoint loses scheme and host, and after it was searched for secrets its query.\n" +
		"Text fields are cut or refused as [events](events.md) say.\n")
	return b.String()
}

func table(b *strings.Builder, first string, keys []mapping.Key) {
	fmt.Fprintf(b, "| %s | meaning |\n|---|---|\n", first)
	for _, k := range keys {
		fmt.Fprintf(b, "| `%s` | %s |\n", k.Name, strings.ReplaceAll(k.Doc, "|", "\\|"))
	}
}

func TestReference(t *testing.T) {
	t.Parallel()
	for part, keys := range mapping.Language() {
		for _, k := range keys {
			if k.Name == "" || k.Doc == "" {
				t.Errorf("%s: key %q has no description", part, k.Name)
			}
		}
	}
	path := filepath.Join("..", "..", "docs", "reference", "mappings.md")
	want := reference(t)
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s is out of date (%v); refresh it with: go test ./ingest/mapping -run Reference -update", path, err)
	}
}

// TestHowTo: the mapping of the how-to loads, and makes of its lines what the page
// shows.
func TestHowTo(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "howto", "map-a-source.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```(?:text|yaml)\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 3 {
		t.Fatalf("%d blocks", len(blocks))
	}
	m, err := mapping.Parse("vpn", []byte(blocks[1][1]))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, r := range records(t, m, []byte(blocks[0][1])) {
		m.Map(r, options, func(_ int32, e *event.Event, err error) {
			if err != nil {
				t.Fatal(err)
			}
			line := fmt.Sprintf("%d: %s id=input/0/%d/0", i+1, e.Type, i)
			for _, f := range event.MessageFields()[2:] {
				if v, ok := e.Text(f); ok {
					if strings.Contains(v, " ") {
						v = fmt.Sprintf("%q", v)
					}
					line += fmt.Sprintf(" %s=%s", f, v)
				}
			}
			got = append(got, line)
		})
	}
	if d := cmp.Diff(strings.Split(strings.TrimSpace(blocks[2][1]), "\n"), got); d != "" {
		t.Error(d)
	}
}
