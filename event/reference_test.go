package event_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/event"
)

var update = flag.Bool("update", false, "rewrite the reference pages")

func TestReferenceIsCurrent(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][]byte{"event.schema.json": schema(t), "events.md": page()} {
		path := filepath.Join("..", "docs", "reference", name)
		if *update {
			if err := os.WriteFile(path, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("%v; make it with: go test ./event -run Reference -update", err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is out of date; refresh it with: go test ./event -run Reference -update", path)
		}
	}
}

// schema is the contract as JSON Schema 2020-12.
func schema(t *testing.T) []byte {
	t.Helper()
	props := map[string]any{}
	for _, f := range event.MessageFields() {
		props[f.String()] = property(f)
	}
	var rules []any
	for _, typ := range event.Types() {
		rules = append(rules, map[string]any{
			"if":   map[string]any{"properties": map[string]any{"type": map[string]any{"const": typ.String()}}, "required": []string{"type"}},
			"then": map[string]any{"required": fieldNames(typ.Required())},
		})
	}
	out, err := json.MarshalIndent(map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Keysentry audit event",
		"description": "One JSON object per Kafka message. Fields that are not listed are counted by name and dropped. null is the same as absent.",
		"type":        "object", "properties": props, "required": []string{"time", "type"}, "allOf": rules, "additionalProperties": true,
	}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(out, '\n')
}

func property(f event.Field) map[string]any {
	spec := f.Spec()
	p := map[string]any{"description": spec.Doc}
	switch f.Kind() {
	case event.KindInstant:
		p["type"], p["format"] = "string", "date-time"
	case event.KindAddr:
		p["type"], p["anyOf"] = "string", []any{map[string]any{"format": "ipv4"}, map[string]any{"format": "ipv6"}}
	case event.KindFloat:
		p["type"] = "number"
	case event.KindUint:
		p["type"], p["minimum"] = "integer", 0
		if f == event.FieldStatus {
			p["minimum"], p["maximum"] = 100, 599
		}
	case event.KindEnum:
		p["type"], p["enum"] = "string", enumNames(f)
	default:
		p["type"] = "string"
		switch {
		case spec.Fingerprint:
			p["pattern"] = "^v[0-9]{1,3}:[0-9a-f]{32}$"
		case !spec.Cut:
			p["maxLength"] = spec.MaxBytes
		}
	}
	return p
}

func enumNames(f event.Field) []string {
	var out []string
	if f == event.FieldType {
		for _, t := range event.Types() {
			out = append(out, t.String())
		}
		return out
	}
	for _, m := range event.AuthModes() {
		out = append(out, m.String())
	}
	return out
}

func fieldNames(s event.FieldSet) []string {
	var out []string
	for _, f := range event.MessageFields() {
		if s.Has(f) {
			out = append(out, f.String())
		}
	}
	return out
}

// page is the contract for people.
func page() []byte {
	var b bytes.Buffer
	b.WriteString(`# Events

<!-- Made from the tables of package event by: go test ./event -run Reference -update -->

One Kafka message holds one event: one JSON object in UTF-8 of at most 64 KiB, without a byte order mark, nested at most 16 deep.
A CloudEvents 1.0 envelope around it is opened first, and foreign formats are [mapped](mappings.md).
The same contract as JSON Schema: [event.schema.json](event.schema.json). Go producers import the package event and use Append and Fingerprint.

A field that is not listed here is counted by name and dropped. null is the same as absent. A known field may stand only once.
Times are RFC 3339 with up to nine digits of fraction, in the years 2000 to 2100. Who saw an event (its origin) is configured per topic and never read from a message.

## Fields

| field | kind | limit | meaning |
|---|---|---|---|
`)
	for _, f := range event.MessageFields() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f, kind(f), limit(f), f.Spec().Doc)
	}
	b.WriteString(`
A **fingerprint** is ` + "`v1:`" + ` and the first 32 hexadecimal digits of HMAC-SHA-256 of the value, under a key of the network that backends and daemon share.
A value of another form is refused, because it may be the secret itself. A limit marked *cut* shortens the text; any other limit refuses the event, which then
goes to quarantine. Names may not hold control characters.

## Types and what each requires

Every event has a type and a time. Events that a mapping made from a foreign format need not carry ` + "`user_id`, `key_id`, `token_id`, `host`, `boot` and `seq`." + `

| type | requires | refusal | lifecycle |
|---|---|---|---|
`)
	for _, t := range event.Types() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", t, "`"+strings.Join(fieldNames(t.Required()&^(1<<event.FieldType)), "` `")+"`", mark(t.Refusal()), mark(t.Lifecycle()))
	}
	b.WriteString("\nLifecycle types are taken only from a topic that is configured with `lifecycle: true`.\n")
	b.WriteString(`
## What the daemon adds

These fields are never read from a message. Rules and the table events have them under the same names.

| field | meaning |
|---|---|
`)
	for _, f := range event.DaemonFields() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", f, f.Spec().Doc)
	}
	b.WriteString(`
## Traits

| word | meaning |
|---|---|
`)
	for _, x := range event.AllTraits() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", x, x.Doc())
	}
	return b.Bytes()
}

func kind(f event.Field) string {
	switch f.Kind() {
	case event.KindInstant:
		return "time"
	case event.KindAddr:
		return "IP address"
	case event.KindUint:
		return "whole number"
	case event.KindFloat:
		return "number"
	case event.KindEnum:
		if f == event.FieldType {
			return "one of the types below"
		}
		return "`" + strings.Join(enumNames(f), "` `") + "`"
	}
	if f.Spec().Fingerprint {
		return "fingerprint"
	}
	return "text"
}

func limit(f event.Field) string {
	spec := f.Spec()
	switch {
	case spec.MaxBytes == 0:
		return ""
	case spec.Cut:
		return fmt.Sprintf("%d bytes, cut", spec.MaxBytes)
	}
	return fmt.Sprintf("%d bytes", spec.MaxBytes)
}

func mark(b bool) string {
	if b {
		return "yes"
	}
	return ""
}
