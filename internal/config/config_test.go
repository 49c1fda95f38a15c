package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestTheShippedConfigurationIsGood(t *testing.T) {
	t.Parallel()
	c, err := Load(filepath.Join("..", "..", "configs", "keysentry.yml"))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Ingest.Topics) != 3 {
		t.Errorf("got %d topics, want the 3 of the file", len(c.Ingest.Topics))
	}
}

// minimal is the least that is valid; cases add to it.
const minimal = "kafka: {brokers: [\"127.0.0.1:9092\"]}\nstore: {addrs: [\"127.0.0.1:9000\"]}\njournal: {key: {env: K}}\n"

func TestEveryFaultIsNamedByItsPath(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		yaml string
		want []string
	}{
		"nothing at all":      {"", []string{"kafka.brokers:", "journal.key:"}},
		"unknown key":         {minimal + "kafak: {}\n", []string{`line 4: unknown key "kafak"`}},
		"unknown nested key":  {minimal + "http: {listen: \"127.0.0.1:1\", prot: 3}\n", []string{`unknown key "prot"`}},
		"wrong type":          {minimal + "store: {addrs: 3}\n", []string{"line 3: want a list, got int"}},
		"two faults":          {minimal + "log: {level: loud, format: xml}\n", []string{"log.level:", "log.format:"}},
		"public port":         {minimal + "http: {listen: \"0.0.0.0:8340\"}\n", []string{"http.listen:", "not loopback"}},
		"no rules":            {minimal + "rules: {builtin: false}\n", []string{"rules:"}},
		"secret in the file":  {strings.Replace(minimal, "{env: K}", "hunter2", 1), []string{"line 3: want {file: PATH} or {env: NAME}"}},
		"secret named twice":  {strings.Replace(minimal, "{env: K}", "{env: K, file: f}", 1), []string{"journal.key:", "not both"}},
		"second document":     {minimal + "---\n{}\n", []string{"second YAML document"}},
		"not YAML":            {"a: [", []string{"did not find"}},
		"a wrong credential":  {minimal + "alert: {people: [{id: a, credential: {env: A, file: B}}]}\n", []string{"alert.people[0].credential:"}},
		"words of no list":    {minimal + "ingest: {topics: [{name: a, origin: mars}, {name: b, origin: moon}]}\n", []string{`ingest.topics[0].origin: unknown origin "mars" (line 4)`, "ingest.topics[1].origin:"}},
		"a half network":      {minimal + "networks: {acme: {fingerprint_key: {env: F}, provider: {type: simulated}}}\n", []string{"networks.acme.provider.url:", "networks.acme.secret.type:", "networks.acme.probe_user:"}},
		"unknown network key": {minimal + "networks:\n  acme:\n    fingerprint: {env: F}\n", []string{`line 6: unknown key "fingerprint"`}},
		"declared facts that contradict themselves": {minimal + "networks: {acme: {regions: [''], certificates: [{id: c1, cn: chat, not_before: 2026-02-01T00:00:00Z, not_after: 2026-01-01T00:00:00Z}, " +
			"{id: c1, cn: chat, not_after: tomorrow}, {cn: mail, disabled: true}, {id: c2}]}}\n",
			[]string{"networks.acme.regions[0]:", "networks.acme.certificates[0].not_after:", "networks.acme.certificates[1].not_after:", "networks.acme.certificates[1].id: c1 is declared twice",
				"networks.acme.certificates[2].id:", "networks.acme.certificates[3].cn:"}},
		"an unknown provider":   {minimal + "networks: {acme: {fingerprint_key: {env: F}, provider: {type: magic}}}\n", []string{`networks.acme.provider.type: "magic"`}},
		"an unknown authority":  {minimal + "alert: {authority: {fly: [a]}}\n", []string{"alert.authority.fly:"}},
		"events for no topic":   {minimal + "ingest: {http: {sources: [{name: gw, token: {env: T}, topic: nope}]}}\n", []string{"ingest.http.sources[0].topic:", `"nope"`}},
		"events from anybody":   {minimal + "ingest: {http: {sources: [{name: gw, topic: auth.events}]}}\n", []string{"ingest.http.sources[0].token:"}},
		"a token in the file":   {minimal + "ingest: {http: {sources: [{name: gw, token: hunter2, topic: auth.events}]}}\n", []string{"line 4: want {file: PATH} or {env: NAME}"}},
		"one source twice":      {minimal + "ingest: {http: {sources: [{name: gw, token: {env: T}, topic: auth.events}, {name: gw, token: {env: T}, topic: auth.events}]}}\n", []string{"ingest.http.sources[1].name:", "ingest.http.sources[1].token:"}},
		"unknown source key":    {minimal + "ingest: {http: {sources: [{nmae: gw}]}}\n", []string{`line 4: unknown key "nmae"`}},
		"tokens on a plain net": {minimal + "http: {listen: \"192.0.2.1:8340\"}\ningest: {http: {sources: [{name: gw, token: {env: T}, topic: auth.events}]}}\n", []string{"http.listen:", "not loopback"}},
		"tokens to a plain URL": {minimal + "http: {advertise: \"http://keysentry.example\"}\ningest: {http: {sources: [{name: gw, token: {env: T}, topic: auth.events}]}}\n", []string{"http.advertise:", "https"}},
		"a schedule of no sort": {minimal + "posture: {schedules: {key_age: soon}}\n", []string{"posture.schedules"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := tc.yaml
			if strings.Count(text, "store:") > 1 { // a case replaces the minimal section
				text = strings.Replace(text, "store: {addrs: [\"127.0.0.1:9000\"]}\n", "", 1)
			}
			c, err := Parse("k.yml", []byte(text))
			var faults *Faults
			if !errors.As(err, &faults) {
				t.Fatalf("got %v, %v, want faults", c, err)
			}
			if c != nil {
				t.Error("a configuration came with the faults")
			}
			for _, w := range tc.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("the message lacks %q:\n%s", w, err)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the message repeats what may be a secret:\n%s", err)
			}
		})
	}
}

func TestSourcesOfEventsOverHTTP(t *testing.T) {
	t.Parallel()
	for _, section := range []string{"", "http: {advertise: \"https://keysentry.example\"}\n", "http: {advertise: \"http://127.0.0.1:8340\"}\n", "http: {listen: \"192.0.2.1:8340\", tls: {cert_file: c, key_file: k}}\n"} {
		c, err := Parse("k.yml", []byte(minimal+section+"ingest: {http: {sources: [{name: gw, token: {env: T}, topic: auth.events, events_per_second: 0.5}]}}\n"))
		if err != nil {
			t.Errorf("%q: %v", section, err)
			continue
		}
		if s := c.Ingest.HTTP.Sources; len(s) != 1 || s[0].Rate != 0.5 || len(c.Ingest.Topics) != 1 {
			t.Errorf("%q: got %+v", section, c.Ingest)
		}
	}
	// Without a producer nobody sends a token to a plain address.
	if _, err := Parse("k.yml", []byte(minimal+"http: {advertise: \"http://keysentry.example\"}\n")); err != nil {
		t.Error(err)
	}
}

func TestPrintAndLoadAgree(t *testing.T) {
	t.Parallel()
	c, err := Parse("k.yml", []byte(minimal+"networks: {acme: {fingerprint_key: {env: F}, probe_user: p}, "+
		"declared: {regions: [eu], certificates: [{id: c1, cn: chat, service: chat, not_after: 2026-12-31T00:00:00Z}, {cn: mail}]}}\n"+
		"ingest: {http: {sources: [{name: gw, token: {env: T}, topic: auth.events, max_body_bytes: 4096}]}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	again, err := Parse("printed.yml", out.Bytes())
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if diff := cmp.Diff(c, again, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("printed and loaded again (-before +after):\n%s", diff)
	}
}

func TestLoadNamesAMissingFile(t *testing.T) {
	t.Parallel()
	if _, err := Load(filepath.Join(t.TempDir(), "none.yml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want one that is os.ErrNotExist", err)
	}
}
