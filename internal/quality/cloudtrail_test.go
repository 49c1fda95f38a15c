package quality

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/configs"
	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/published"
	"github.com/keysentry/keysentry/internal/secret"
	"github.com/keysentry/keysentry/rules"
	"github.com/keysentry/keysentry/rules/eval"
)

var update = flag.Bool("update", false, "rewrite the reference page")

// trail is a CloudTrail log and the attacks in it: which of its records each left.
type trail struct {
	name    string
	records [][]byte
	attacks map[string][]int
}

// day is the day of an attack exercise; the user agent tells one attack from another.
func attackDay(t *testing.T) trail {
	d := trail{name: "day", records: published.Lines(t, "cloudtrail-attacks/events.ndjson.gz"), attacks: map[string][]int{}}
	byEvent := map[string]string{}
	rows, err := csv.NewReader(bytes.NewReader(published.Read(t, "cloudtrail-attacks/detonations.csv"))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows[1:] {
		byEvent[r[0]] = r[len(r)-1]
	}
	calls := map[string]map[string]bool{}
	for i, raw := range d.records {
		var r struct{ EventID, EventSource, EventName string }
		if err := json.Unmarshal(raw, &r); err != nil {
			t.Fatal(err)
		}
		if agent := byEvent[r.EventID]; agent != "" {
			d.attacks[agent] = append(d.attacks[agent], i)
			if calls[agent] == nil {
				calls[agent] = map[string]bool{}
			}
			calls[agent][strings.TrimSuffix(r.EventSource, ".amazonaws.com")+":"+r.EventName] = true
		}
	}
	named := map[string][]int{} // an exercise is named by what it called
	for agent, refs := range d.attacks {
		name := strings.Join(slices.Sorted(maps.Keys(calls[agent])), ", ")
		named[name] = append(named[name], refs...)
	}
	d.attacks = named
	return d
}

// detonations are one attack a file.
func detonations(t *testing.T) []trail {
	var labels []struct{ Technique, File string }
	if err := json.Unmarshal(published.Read(t, "stratus-detonations/labels.json"), &labels); err != nil {
		t.Fatal(err)
	}
	var out []trail
	for _, l := range labels {
		d := trail{name: l.Technique, records: published.Lines(t, "stratus-detonations/"+l.File)}
		all := make([]int, len(d.records))
		for i := range all {
			all[i] = i
		}
		d.attacks = map[string][]int{l.Technique: all}
		out = append(out, d)
	}
	return out
}

// pack judges the records as the daemon does, through the mapping, and tells which
// rules fired on which records.
func pack(t *testing.T, d trail) map[string][]int {
	t.Helper()
	cfg := config.Default()
	cfg.Ingest.Topics = []ingest.TopicConfig{{Name: "cloudtrail", Origin: event.OriginConsole, Observed: ingest.ObservedProducer, Mapping: "cloudtrail"}}
	mappings, err := fs.Sub(configs.Mappings, "mappings")
	if err != nil {
		t.Fatal(err)
	}
	decoder, err := ingest.NewDecoder(cfg.Ingest.Config, ingest.DecoderDeps{Mappings: mappings, FingerprintKey: secret.New("of the test")})
	if err != nil {
		t.Fatal(err)
	}
	set, _, err := app.LoadRules(cfg.Rules)
	if err != nil {
		t.Fatal(err)
	}
	engine, err := detect.New(cfg.Detect, detect.Deps{Rules: set, Imported: func(string) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	p := event.Partition{Topic: "cloudtrail"}
	engine.Assign([]event.Partition{p})
	f := ingest.Fetched{Next: int64(len(d.records))}
	for i, r := range d.records {
		f.Records = append(f.Records, ingest.Record{Offset: int64(i), Value: r})
	}
	now := event.At(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	b, err := decoder.Decode(p, &f, 0, ingest.NewClock(0), now)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Rejects) > 0 {
		t.Errorf("%s: %d records are refused, the first: %s %s", d.name, len(b.Rejects), b.Rejects[0].Reason, b.Rejects[0].Detail)
	}
	found := engine.Observe(p, b.Events)
	// A day later everything has been judged.
	last := b.Events[len(b.Events)-1].Clone()
	last.Type, last.TS, last.Time, last.Ref.Offset = event.TypeLogRecord, last.TS.Add(26*time.Hour), last.TS.Add(26*time.Hour), f.Next
	found = append(found, engine.Observe(p, []event.Event{last})...)
	return firedOn(found)
}

func firedOn(found []finding.Finding) map[string][]int {
	out := map[string][]int{}
	for _, f := range found {
		if f.Severity == finding.Digest && f.Kind != finding.KeyCompromise {
			continue
		}
		for _, e := range f.Evidence {
			out[f.RuleTitle] = append(out[f.RuleTitle], int(e.Ref.Offset))
		}
	}
	return out
}

// sigma evaluates the public cloud rules on the raw records.
func sigma(t *testing.T, files []rules.File, d trail) map[string][]int {
	t.Helper()
	var in, out bytes.Buffer
	for _, r := range d.records {
		in.Write(r)
		in.WriteByte('\n')
	}
	if _, err := eval.Run(context.Background(), eval.Options{Rules: files, TimeField: "eventTime"}, &in, &out); err != nil {
		t.Fatal(err)
	}
	fired := map[string][]int{}
	for dec := json.NewDecoder(&out); ; {
		var m struct {
			RuleTitle string `json:"rule_title"`
			Events    []int
		}
		if err := dec.Decode(&m); errors.Is(err, io.EOF) {
			return fired
		} else if err != nil {
			t.Fatal(err)
		}
		fired[m.RuleTitle] = append(fired[m.RuleTitle], m.Events...)
	}
}

// cloudRules are the public Sigma rules for CloudTrail.
func cloudRules(t *testing.T) []rules.File {
	t.Helper()
	var out []rules.File
	for tr := tar.NewReader(bytes.NewReader(published.Read(t, "sigma/sigma-rules.tar.gz"))); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(h.Name, "rules/cloud/aws") && strings.HasSuffix(h.Name, ".yml") {
			text, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, rules.File{Name: h.Name, Data: text})
		}
	}
}

// TestCloudTrailAttacks: which published attacks the shipped rules and the public
// Sigma rules see, as the reference page has it.
func TestCloudTrailAttacks(t *testing.T) {
	t.Parallel()
	day := attackDay(t)
	files := cloudRules(t)
	var b strings.Builder
	b.WriteString(attacksHead)
	rows, seen := 0, [3]int{}
	table := func(d trail) {
		ours, theirs := pack(t, d), sigma(t, files, d)
		for _, name := range slices.Sorted(maps.Keys(d.attacks)) {
			refs := d.attacks[name]
			a, s := on(ours, refs), on(theirs, refs)
			rows++
			for i, ok := range []bool{len(a) > 0, len(s) > 0, len(a)+len(s) > 0} {
				if ok {
					seen[i]++
				}
			}
			fmt.Fprintf(&b, "| %s | %d | %s | %s |\n", name, len(refs), orNone(a), orNone(s))
		}
		if d.name == "day" {
			fmt.Fprintf(&b, "\nOn the %d records of that day that carry no such mark fired: of the pack %s; of Sigma %s.\n\n%s", len(d.records)-marked(d),
				counts(ours, d), counts(theirs, d), detonationsHead)
		}
	}
	table(day)
	for _, d := range detonations(t) {
		table(d)
	}
	fmt.Fprintf(&b, "\nOf these %d attacks the pack sees %d, the %d Sigma rules %d, together %d.\n", rows, seen[0], len(files), seen[1], seen[2])
	const page = "../../docs/reference/cloudtrail-attacks.md"
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(page); err != nil || string(got) != b.String() {
		t.Errorf("the page is not what the rules see now (%v); run: go test ./internal/quality -run CloudTrail -update\n%s", err, b.String())
	}
}

const attacksHead = `# Attacks in CloudTrail

Which published attacks the shipped rules see through the mapping of CloudTrail, and which the public Sigma rules for CloudTrail see on the raw records (` + "`keysentry rules eval --mapping none --time eventTime`" + `). The shipped rules are about tokens, keys and who may mint; most attacks below are about other things that an account holds, so bring Sigma's rules for those. Made by ` + "`go test ./internal/quality -run CloudTrail -update`" + ` from records that are no part of this project: a day of attack exercises (invictus-ir/aws_dataset) and the logs of Stratus Red Team's techniques (DataDog/stratus-red-team).

## A day of exercises

Each exercise is named by what it called; records that it made through a stolen role, and its set-up, are not marked in the data.

| calls | records | shipped rules | Sigma rules |
|---|---|---|---|
`

const detonationsHead = `## Single techniques

| technique | records | shipped rules | Sigma rules |
|---|---|---|---|
`

// on lists the rules that fired on one of the records.
func on(fired map[string][]int, refs []int) []string {
	var out []string
	for title, at := range fired {
		if slices.ContainsFunc(at, func(i int) bool { return slices.Contains(refs, i) }) {
			out = append(out, title)
		}
	}
	slices.Sort(out)
	return out
}

func orNone(titles []string) string {
	if len(titles) == 0 {
		return "-"
	}
	return strings.Join(titles, "; ")
}

func marked(d trail) (n int) {
	for _, refs := range d.attacks {
		n += len(refs)
	}
	return n
}

// counts says how many records that no attack left each rule fired on.
func counts(fired map[string][]int, d trail) string {
	hostile := map[int]bool{}
	for _, refs := range d.attacks {
		for _, i := range refs {
			hostile[i] = true
		}
	}
	var parts []string
	for _, title := range slices.Sorted(maps.Keys(fired)) {
		n := 0
		for _, i := range fired[title] {
			if !hostile[i] {
				n++
			}
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s (%d)", title, n))
		}
	}
	return orNone(parts)
}
