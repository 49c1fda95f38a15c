package playbook_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/configs"
	"github.com/keysentry/keysentry/detect/finding"
)

const good = `name: p
title: Do ${inputs.network}
trigger: {kinds: [key_compromise], min_severity: page}
inputs:
  network: {type: string, required: true}
  mode: {type: enum, values: [a, b], default: a}
  overlap: {type: duration, default: 1h, max: 2h}
steps:
  - {id: approve, type: approve}
  - {id: precheck, type: server_key.precheck}
  - {id: issue, type: server_key.issue, compensation: [undo]}
  - {id: wait, type: wait_for_evidence, inputs: {key: new, overlap: "${inputs.overlap}"}}
  - {id: tell, type: notify, when: inputs.mode == b, inputs: {text: "key ${steps.issue.new_key}"}}
compensations:
  - {id: undo, type: server_key.revoke, inputs: {key: new}}
`

func TestParseFaults(t *testing.T) {
	t.Parallel()
	if _, errs := playbook.Parse("p.yml", []byte(good)); len(errs) > 0 {
		t.Fatal(errors.Join(errs...))
	}
	for name, tc := range map[string]struct{ old, new, want string }{
		"unknown key":               {"title:", "titel:", "p.yml:2: field titel not found"},
		"unknown key of a step":     {"type: server_key.precheck}", "type: server_key.precheck, tiemout: 3s}", "p.yml:10: field tiemout not found"},
		"no YAML":                   {"title:", "\ttitle:", "p.yml:2: "},
		"two documents":             {"compensations:", "---\ncompensations:", "one playbook per file"},
		"bad name":                  {"name: p", "name: P x", "p.yml:1:7: name: "},
		"no trigger":                {"kinds: [key_compromise]", "kinds: []", "at least one incident kind"},
		"unknown kind":              {"[key_compromise]", "[theft]", `p.yml:3:19: unknown incident kind "theft"`},
		"unknown severity":          {"min_severity: page", "min_severity: loud", "unknown severity"},
		"unknown input type":        {"{type: string, required", "{type: text, required", `unknown type "text"`},
		"default out of the enum":   {"default: a}", "default: c}", `p.yml:6:9: input mode: default: "c" is none of a, b`},
		"default above the maximum": {"default: 1h", "default: 3h", "above the maximum of 2h"},
		"no approval first":         {"  - {id: approve, type: approve}\n", "", "the first step must be of type approve"},
		"a second approval":         {"{id: precheck, type: server_key.precheck}", "{id: precheck, type: approve}", "only the first step"},
		"unknown step type":         {"server_key.precheck}", "exec}", `unknown step type "exec"`},
		"unknown step input":        {"{key: new, overlap", "{kye: new, overlap", `p.yml:12:55: type wait_for_evidence has no input "kye"`},
		"a missing step input":      {`{key: new, overlap: "${inputs.overlap}"}`, "{key: new}", `needs the input "overlap"`},
		"a wrong literal":           {"{key: new, overlap", "{key: newest, overlap", `"newest" is none of old, new`},
		"a wrong type":              {"overlap: \"${inputs.overlap}\"", "overlap: \"${inputs.mode}\"", "input mode has type enum, wanted duration"},
		"two templates":             {"overlap: \"${inputs.overlap}\"", "overlap: \"${inputs.overlap}${inputs.overlap}\"", "exactly one template"},
		"an unclosed template":      {"key ${steps.issue.new_key}", "key ${steps.issue.new_key", "without its }"},
		"an unknown input":          {"Do ${inputs.network}", "Do ${inputs.net}", "p.yml:2:8: ${inputs.net} names nothing"},
		"an unknown output":         {"steps.issue.new_key", "steps.issue.value", "names nothing"},
		"an output of a later step": {"type: server_key.precheck}", "type: server_key.precheck, inputs: {old_key: \"${steps.issue.new_key}\"}}", "names nothing"},
		"a duplicate id":            {"id: precheck", "id: issue", `id "issue" is used twice`},
		"unreachable by its when":   {"== b", "== c", `p.yml:13:36: unreachable: inputs.mode is never "c"`},
		"a free-form when":          {"inputs.mode == b", "a shell command", "when: write it as"},
		"a when over no enum":       {"inputs.mode == b", "inputs.network == b", "no input of type enum"},
		"unreachable compensation":  {", compensation: [undo]", "", "p.yml:15:5: unreachable: no step names"},
		"unknown compensation":      {"[undo]", "[undo, redo]", `no compensation is named "redo"`},
		"unknown check":             {"compensation: [undo]", "compensation: [undo], verification: [all_good]", `unknown check "all_good"`},
		"a negative timeout":        {"compensation: [undo]", "compensation: [undo], timeout: -1s", "must not be negative"},
		"a compensation only":       {"type: server_key.precheck", "type: secret.restore", "as a compensation only"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.Replace(good, tc.old, tc.new, 1)
			if text == good {
				t.Fatal("the case changes nothing")
			}
			p, errs := playbook.Parse("p.yml", []byte(text))
			if p != nil || len(errs) == 0 {
				t.Fatal("it loads")
			}
			if all := errors.Join(errs...).Error(); !strings.Contains(all, tc.want) {
				t.Errorf("errors %q, want %q", all, tc.want)
			}
			for _, err := range errs {
				if !strings.HasPrefix(err.Error(), "p.yml:") {
					t.Errorf("error %q has no position", err)
				}
			}
		})
	}
}

func TestLoadKeepsTheGood(t *testing.T) {
	t.Parallel()
	lib, errs := playbook.Load(fstest.MapFS{
		"a.yml": {Data: []byte(good)}, "b.yml": {Data: []byte(good)}, "c.yml": {Data: []byte("name: [")}, "d.txt": {Data: []byte("no")}})
	if len(errs) != 2 {
		t.Errorf("%d errors, want one for the second of the same name and one for c.yml: %v", len(errs), errs)
	}
	if got := len(lib.List()); got != 1 {
		t.Errorf("%d playbooks, want 1", got)
	}
	if got := lib.Propose(finding.KeyCompromise, finding.Page); len(got) != 1 {
		t.Errorf("%d proposals for a page, want 1", len(got))
	}
	if got := lib.Propose(finding.KeyCompromise, finding.Ticket); len(got) != 0 {
		t.Errorf("%d proposals for a ticket, want none", len(got))
	}
}

func TestLaterSourceReplaces(t *testing.T) {
	t.Parallel()
	lib, errs := playbook.Load(fstest.MapFS{"a.yml": {Data: []byte(good)}},
		fstest.MapFS{"x.yml": {Data: []byte(strings.Replace(good, "Do ", "Redo ", 1))}})
	if len(errs) > 0 {
		t.Fatal(errors.Join(errs...))
	}
	if p, ok := lib.Get("p"); !ok || p.Title != "Redo ${inputs.network}" {
		t.Errorf("the later source does not replace: %v", p)
	}
}

func TestShippedPlaybooksLoad(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../configs/playbooks/*")
	if err != nil {
		t.Fatal(err)
	}
	if got := len(loadLibrary(t).List()); got != len(files) || got == 0 {
		t.Errorf("%d of %d files are playbooks", got, len(files))
	}
	embedded, err := configs.Playbooks.ReadFile("playbooks/rotate-server-key.yml")
	if err != nil {
		t.Fatal(err)
	}
	onDisk, err := os.ReadFile("../../configs/playbooks/rotate-server-key.yml")
	if err != nil {
		t.Fatal(err)
	}
	if string(embedded) != string(onDisk) {
		t.Error("the embedded file differs from the one on disk")
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	if errs := playbook.DefaultConfig().Validate(); len(errs) > 0 {
		t.Errorf("the default has faults: %v", errs)
	}
	var got []string
	for _, err := range (playbook.Config{NewLeaderWait: -1, Cooldown: -1, ApprovalMax: 3 << 42, ProbeMaxAge: 3 << 42}).Validate() {
		path, _, _ := strings.Cut(err.Error(), ":")
		got = append(got, path)
	}
	want := "max_intent_age approval_window evidence_every clock_every proof_quiet new_leader_wait approval_max probe_max_age cooldown budget_per_hour laggards_at proof_mints proof_coverage"
	if strings.Join(got, " ") != want {
		t.Errorf("faults at %v, want %s", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	if b, err := os.ReadFile("../../configs/playbooks/rotate-server-key.yml"); err == nil {
		f.Add(b)
	}
	f.Add([]byte("name: p\nsteps: [{}]\n"))
	f.Add([]byte("[]"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, errs := playbook.Parse("f.yml", text)
		if (p == nil) != (len(errs) > 0) {
			t.Errorf("playbook %v with %d errors", p, len(errs))
		}
	})
}
