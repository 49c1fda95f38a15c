package app_test

import (
	"bytes"

	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/playbook/action/encfile"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	httpingest "github.com/keysentry/keysentry/ingest/http"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/ingest/mapping"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/secret"
)

// planted is one secret as a producer might write it.
type planted struct {
	kind  string
	core  string // what nobody may read
	text  string // the core with the words around it that tell what it is
	named bool   // it is told by its form or its words, so that it is found in names too
}

// generator makes secrets of every kind that the redactor claims.
type generator struct{ *rand.Rand }

const (
	alnum = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	hexes = "0123456789abcdef"
)

func (g generator) of(alphabet string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[g.IntN(len(alphabet))]
	}
	return string(b)
}

// mixed is random text that has letters of both cases and digits, as nearly all of
// that length have.
func (g generator) mixed(n int) string { return g.of(alnum, n-9) + "aB3cD4eF5" }

// secrets are n of them, by turns of each kind; the first are the own keys.
func (g generator) secrets(n int, own []string) []planted {
	var out []planted
	for _, k := range own {
		out = append(out, planted{"own key", k, k, true})
	}
	for _, p := range []string{"ghp_", "github_pat_", "glpat-", "xoxb-", "sk_live_", "AIza", "npm_", "dop_v1_", "shpat_", "pypi-AgE", "whsec_", "sk-ant-", "hf_", "lin_api_", "glsa_"} {
		v := p + g.mixed(40)
		out = append(out, planted{"token " + p, v, v, true}, planted{"token in words", v, "used " + v + " here", true})
	}
	aws := "AKIA" + g.of("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)
	out = append(out, planted{"aws key", aws, aws, true})
	kinds := []func() planted{
		func() planted {
			head, body := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)), base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"`+g.of(alnum, 9)+`"}`))+"."+g.mixed(43)
			return planted{"jwt", body, head + "." + body, true}
		},
		func() planted { v := "hvs." + g.mixed(24); return planted{"vault", v, v, true} },
		func() planted { v := "xapp-" + g.mixed(30); return planted{"slack app", v, v, true} },
		func() planted {
			v := g.mixed(64)
			return planted{"private key", v, "-----BEGIN RSA " + "PRIVATE KEY-----\n" + v + "\n-----END RSA " + "PRIVATE KEY-----", true}
		},
		func() planted {
			v := g.of(alnum, 14)
			return planted{"password in a URL", v, "postgres://app:" + v + "@db/x", true}
		},
		func() planted { v := g.of(alnum, 14); return planted{"named", v, "password=" + v, true} },
		func() planted { v := g.of(alnum, 14); return planted{"in JSON", v, `{"api_key":"` + v + `"}`, true} },
		func() planted {
			v := g.of(alnum, 18)
			return planted{"bearer", v, "Authorization: Bearer " + v, true}
		},
		func() planted {
			v := g.of(hexes, 32)
			return planted{"digest", v, `Authorization: Digest username="bob", response="` + v + `"`, true}
		},
		func() planted { v := g.mixed(40); return planted{"random", v, "key " + v + " refused", false} },
		func() planted {
			v := g.of(hexes, 40) + "a1"
			return planted{"hexadecimal", v, "key " + v + " refused", false}
		},
		func() planted {
			v := g.of(alnum, 14)
			return planted{"percent-encoded", v, url.QueryEscape(`{"password":"` + v + `"}`), true}
		},
		func() planted {
			v := g.of(alnum, 14)
			return planted{"nested", v, `{"a":` + strconv.Quote(`{"client_secret":"`+v+`"}`) + `}`, true}
		},
		func() planted { v := g.of(alnum, 20); return planted{"code", v, "/cb?x=1&code=" + v, true} },
	}
	for i := 0; len(out) < n; i++ {
		out = append(out, kinds[i%len(kinds)]())
	}
	return out[:n]
}

// leakRig is an installation with two networks, whose keys are planted too.
type leakRig struct {
	*rig
	auth, mixed string // topics
	own         []string
	sent        int
}

func newLeakRig(t *testing.T, g generator) *leakRig {
	t.Helper()
	broker := devstacktest.FakeKafka(t)
	l := &leakRig{auth: sourceTopic(t, broker, 1, devstack.LogAppendTime()), mixed: sourceTopic(t, broker, 1, imported())}
	l.rig = newRig(t, broker, devstacktest.ClickHouse(t),
		ingest.TopicConfig{Name: l.auth, Origin: event.OriginGateway},
		ingest.TopicConfig{Name: l.mixed, Origin: event.OriginGateway, Observed: ingest.ObservedProducer, Mapping: mapping.Auto, Year: 2026})
	r := l.rig
	r.cfg.Store.TTLDays = 18250
	r.env["ADMIN_TOKEN"], r.env["NETWORK_KEY"], r.env["SOURCE"] = key16+"admin", key16+"network", sourceToken
	r.cfg.Ingest.HTTP.Sources = []httpingest.SourceConfig{{Name: "web", Token: secret.Ref{Env: "SOURCE"}, Topic: l.auth}}
	identity := filepath.Join(r.dir, "identity")
	if err := encfile.GenerateIdentity(identity); err != nil {
		t.Fatal(err)
	}
	r.cfg.Networks = map[string]config.NetworkSpec{}
	for name, key := range map[string]string{"n1": g.mixed(40), "n2": g.of(alnum, 10) + "/" + g.of(alnum, 12) + "." + g.of(alnum, 12)} {
		spec := config.NetworkSpec{FingerprintKey: secret.Ref{Env: "NETWORK_KEY"}, ProbeUser: "keysentry-probe"}
		spec.Provider.Type, spec.Provider.Timeout, spec.Provider.AdminToken = "simulated", time.Second, secret.Ref{Env: "ADMIN_TOKEN"}
		spec.Provider.URL = "http://127.0.0.1:1"
		spec.Secret.Type, spec.Secret.Name, spec.Secret.Config = "encfile", keyName, encfile.DefaultConfig()
		spec.Secret.Path, spec.Secret.IdentityFile = filepath.Join(r.dir, name+".age"), identity
		s, err := encfile.New(spec.Secret.Config)
		if err == nil {
			_, err = s.Put(t.Context(), keyName, secret.New(key), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		r.cfg.Networks[name] = spec
		l.own = append(l.own, key)
	}
	return l
}

// textFields are the fields of an event that hold text.
func textFields() (free, names, others []event.Field) {
	open := []event.Field{event.FieldReason, event.FieldUserAgent, event.FieldEndpoint, event.FieldActor, event.FieldCode}
	for _, f := range event.MessageFields() {
		switch {
		case f == event.FieldType:
		case f.Kind() != event.KindString || f.Spec().Fingerprint:
			others = append(others, f) // held to their form: the record is refused
		case slices.Contains(open, f):
			free = append(free, f)
		default:
			names = append(names, f)
		}
	}
	return free, names, others
}

func quoted(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// canonical is an event with other members.
func canonical(members string) []byte {
	return fmt.Appendf(nil, `{"type":"log.record","time":%q%s}`, time.Now().UTC().Format(time.RFC3339Nano), members)
}

// records are canonical ones with the secret in each place.
func (p planted) records() (out []kafka.Message) {
	add := func(value []byte, hs ...ingest.Header) {
		out = append(out, kafka.Message{Key: []byte("k"), Value: value, Headers: hs})
	}
	free, names, others := textFields()
	for _, f := range append(free, others...) {
		add(canonical(`,"` + f.String() + `":` + quoted(p.text)))
	}
	if p.named {
		for _, f := range names {
			add(canonical(`,"` + f.String() + `":` + quoted(p.text)))
		}
	}
	add(canonical(`,"extra":{"a":[{"b":` + quoted(p.text) + `},{` + quoted(p.text) + `:1}]}`))
	add(canonical(`,` + quoted(p.text) + `:1`))
	add(canonical(`,"reason":` + quoted(strings.Repeat("word ", 202)+p.text+strings.Repeat(" word", 500))))
	add(canonical(`,"x":"`+p.core+`"`), ingest.Header{Key: p.text, Value: []byte(p.text)}, ingest.Header{Key: "authorization", Value: []byte("Bearer " + p.core)})
	out = append(out, kafka.Message{Key: []byte(p.text), Value: canonical("")})
	// Records that are refused.
	for _, broken := range []string{p.text, `{"a":` + quoted(p.text), `{"a":` + quoted(p.text) + `,}`, "\xff " + p.text, `[` + quoted(p.text) + `]`,
		`{"type":` + quoted(p.text) + `}`, strings.Repeat("[", 20) + quoted(p.text), `{"x":` + quoted(p.text) + `,"y":"` + strings.Repeat("z ", 40_000) + `"}`,
		url.QueryEscape(p.text) + "{", `{"a":` + strings.ReplaceAll(quoted(p.text), "a", `\u0061`) + `:`} {
		add([]byte(broken))
	}
	return append(out, p.envelopes()...)
}

// envelopes are CloudEvents with the secret in each attribute.
func (p planted) envelopes() (out []kafka.Message) {
	id := "id-1"
	if p.named {
		id = p.text
	}
	base := `{"specversion":"1.0","id":` + quoted(id) + `,"source":` + quoted(p.text) + `,"type":TYPE,"subject":` + quoted(p.text) + `,"ext":` + quoted(p.text) + `,"data":DATA}`
	with := func(typ, data string) string { return strings.NewReplacer("TYPE", typ, "DATA", data).Replace(base) }
	good := string(canonical(`,"reason":` + quoted(p.text)))
	for _, v := range []string{with(`"log.record"`, good), with(quoted(p.text), `{"x":`+quoted(p.text)+`}`),
		"[" + with(`"log.record"`, good) + "," + with(quoted(p.text), quoted(p.text)) + "]"} {
		out = append(out, kafka.Message{Value: []byte(v)})
	}
	h := func(k, v string) ingest.Header { return ingest.Header{Key: k, Value: []byte(v)} }
	return append(out, kafka.Message{Value: []byte(good), Headers: []ingest.Header{h("ce_specversion", "1.0"), h("ce_id", id), h("ce_source", p.text),
		h("ce_type", "log.record"), h("ce_subject", p.text), h("ce_time", p.text)}},
		kafka.Message{Value: []byte(p.text), Headers: []ingest.Header{h("ce_specversion", p.text), h("content-type", p.text)}})
}

// leaf is a text of a JSON sample, or the user agent or target of a line.
var (
	leaf   = regexp.MustCompile(`"([A-Za-z_@.-]+)":\s*"([^"\\]*)"`)
	free   = regexp.MustCompile(`(?i)agent|message|reason|detail|body|referer`)
	inLine = regexp.MustCompile(`(?:"[A-Z]+ )(\S+)|"([^"]+)"$|sshd\[\d+\]: (.*)$`)
)

// freeText reports whether the leaf is of a field that holds words; the name of an
// attribute of OpenTelemetry stands in the leaf before.
func freeText(s string, m []int) bool {
	name := s[m[2]:m[3]]
	if before := s[:m[0]]; name == "stringValue" {
		name = before[strings.LastIndex(before, `"key":`)+1:]
	}
	return free.MatchString(name)
}

// samples is the first record of each mapping's samples.
func samples(t *testing.T) (out []string) {
	t.Helper()
	files, err := filepath.Glob("../../ingest/mapping/testdata/samples/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("samples: %v, %v", files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := mapping.NewReader(bytes.NewReader(text), nil, 1<<20).Next()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(rec.Value))
	}
	return out
}

// mapped are the samples with the secret in the n-th of their texts that may hold it.
func (p planted) mapped(list []string, n int) (out []kafka.Message) {
	for _, s := range list {
		var at [][2]int
		if strings.HasPrefix(s, "{") {
			for _, m := range leaf.FindAllStringSubmatchIndex(s, -1) {
				if p.named || freeText(s, m) {
					at = append(at, [2]int{m[4], m[5]})
				}
			}
		} else {
			for _, m := range inLine.FindAllStringSubmatchIndex(s, -1) {
				for k := 2; k < len(m); k += 2 {
					if m[k] >= 0 {
						at = append(at, [2]int{m[k], m[k+1]})
					}
				}
			}
		}
		if len(at) == 0 {
			continue
		}
		place, text := at[n%len(at)], p.text
		if strings.HasPrefix(s, "{") {
			text = strings.Trim(quoted(text), `"`)
		}
		out = append(out, kafka.Message{Value: []byte(s[:place[0]] + text + s[place[1]:])})
	}
	return out
}

// post sends secrets to the door for events over HTTP.
func (l *leakRig) post(d *daemon, list []planted) {
	var lines bytes.Buffer
	for _, p := range list {
		fmt.Fprintf(&lines, "%s\n", canonical(`,"reason":`+quoted(p.text)+`,"extra":`+quoted(p.text)))
	}
	if a := d.post(sourceToken, lines.String()); a.status != http.StatusAccepted || a.Accepted != len(list) {
		l.t.Fatalf("posted: %+v", a)
	}
	l.sent += len(list)
	for i := 0; i < len(list); i += 10 {
		p := list[i]
		d.post(sourceToken, `{"a":`+quoted(p.text), "X-Secret", url.QueryEscape(p.text), "Content-Type", "application/"+url.QueryEscape(p.core))
		d.post(p.core, `{}`, "Authorization-2", url.QueryEscape(p.text))
		res, err := http.Get(d.app.URL() + httpingest.Path + "?token=" + url.QueryEscape(p.text))
		if err != nil {
			l.t.Fatal(err)
		}
		_ = res.Body.Close()
	}
}

// pieces are the windows of at least twelve characters of every form of the secrets.
type pieces map[string]planted

const window = 12

func newPieces(list []planted) pieces {
	out := pieces{}
	for _, p := range list {
		for _, form := range []string{p.core, url.QueryEscape(p.core), strings.Trim(quoted(p.core), `"`), base64.StdEncoding.EncodeToString([]byte(p.core)), strings.ToLower(p.core)} {
			for i := 0; i+window <= len(form); i++ {
				out[form[i:i+window]] = p
			}
		}
	}
	return out
}

// search reports what of the secrets a place holds, each kind once.
func (p pieces) search(t *testing.T, where, text string) {
	t.Helper()
	told := map[string]bool{}
	for i := 0; i+window <= len(text); i++ {
		if s, hit := p[text[i:i+window]]; hit && !told[s.kind] {
			told[s.kind] = true
			t.Errorf("%s holds a part of a secret (%s): ...%s...", where, s.kind, text[max(0, i-60):min(len(text), i+60)])
		}
	}
}

// places are all texts that leave the daemon, by name.
func (l *leakRig) places(d *daemon) map[string]string {
	t := l.t
	out := map[string]string{"log": d.logs.String(), "slack": l.slack.Text() + fmt.Sprintf("%+v %+v", l.slack.Messages(), l.slack.Views())}
	for _, table := range l.column("SELECT name FROM system.tables WHERE database = currentDatabase() AND engine NOT LIKE '%View%'") {
		out["table "+table] = strings.Join(l.column("SELECT formatRowNoNewline('JSONEachRow', *) FROM `"+table+"`"), "\n")
	}
	for _, topic := range []string{l.cfg.Kafka.Topics.Journal, l.cfg.Kafka.Topics.Control, l.cfg.Kafka.Topics.Quarantine} {
		var b strings.Builder
		for _, rec := range readTopic(t, l.cfg.Kafka.Brokers[0], topic) {
			fmt.Fprintf(&b, "%s %s %s\n", rec.Key, rec.Value, rec.Headers)
		}
		out["topic "+strings.TrimPrefix(topic, l.cfg.Kafka.Group.ID)] = b.String()
	}
	paths := []string{"/", "/metrics", "/api/v1/status", "/api/v1/incidents", "/api/v1/runs", "/api/v1/posture"}
	for _, inc := range d.incidents() {
		paths = append(paths, "/incidents/"+inc.ID, "/api/v1/incidents/"+inc.ID)
	}
	for _, path := range paths {
		out["http "+path] = l.get(d, path)
	}
	return out
}

func (l *leakRig) get(d *daemon, path string) string {
	req, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, d.app.URL()+path, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+l.env["CREDENTIAL"])
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		l.t.Fatalf("%s: %s, %v", path, res.Status, err)
	}
	return string(b)
}

func (l *leakRig) column(sql string) (out []string) {
	rows, err := l.store.Query(l.t.Context(), sql, nil)
	if err != nil {
		l.t.Fatalf("%s: %v", sql, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			l.t.Fatal(err)
		}
		out = append(out, fmt.Sprint(values[0]))
	}
	return out
}

// processed waits until every record is an event or in quarantine, and the journal in
// ClickHouse.
func (l *leakRig) processed(d *daemon) {
	await(l.t, fmt.Sprintf("%d records in ClickHouse", l.sent), func() bool {
		d.failed()
		n := l.number("SELECT count() FROM (SELECT DISTINCT topic, partition, offset FROM events UNION DISTINCT SELECT DISTINCT topic, partition, offset FROM quarantine)", nil)
		return n == strconv.Itoa(l.sent)
	})
	l.mirrored()
}

// marker is an innocent text that is looked for where secrets must not be, so that
// the search is known to look there.
const marker = "innocent-marker"

// TestNoSecretIsReadableAnywhere: 200 secrets of every kind in every place of every
// message leave no trace of twelve characters in anything that the daemon writes.
func TestNoSecretIsReadableAnywhere(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("KEYSENTRY_SECRETS_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("KEYSENTRY_SECRETS_SEED=%d", seed)
	g := generator{rand.New(rand.NewPCG(seed, 1))}
	l := newLeakRig(t, g)
	list := g.secrets(200, l.own)
	d := l.start("only", nil)
	d.leads()

	innocent := planted{"innocent", marker, marker, true}
	sources := samples(t)
	var auth, mixed []kafka.Message
	for i, p := range append([]planted{innocent}, list...) {
		auth = append(auth, p.records()...)
		for k := range 3 {
			mixed = append(mixed, p.mapped(sources, 3*i+k)...)
		}
	}
	produce(t, l.cfg.Kafka.Brokers[0], l.auth, auth...)
	produce(t, l.cfg.Kafka.Brokers[0], l.mixed, mixed...)
	l.sent = len(auth) + len(mixed)
	l.post(d, append([]planted{innocent}, list...))
	l.processed(d)
	for _, key := range l.own {
		id := event.Fingerprint([]byte(l.env["NETWORK_KEY"]), key)
		d.incident("an incident about an own key", func(inc incident.Incident) bool {
			return inc.Kind == finding.SecretLeak && inc.Subject.Value == id && inc.Severity == finding.Page
		})
		l.told(pageTo, id[:12])
	}
	l.processed(d)

	pieces := newPieces(list)
	places := l.places(d)
	size := 0
	for where, text := range places {
		size += len(text)
		pieces.search(t, where, text)
	}
	t.Logf("%d records, %d places, %d bytes searched, %d pieces", l.sent, len(places), size, len(pieces))
	// The search can fail: what is no secret is there.
	for _, where := range []string{"table events", "table quarantine", "topic .quarantine", "http /metrics"} {
		if !strings.Contains(places[where], marker) {
			t.Errorf("%s does not hold the marker (%d bytes)", where, len(places[where]))
		}
	}
	for _, where := range []string{"table journal", "table findings", "topic .journal", "slack", "http /", "http /api/v1/incidents"} {
		if !strings.Contains(places[where], "secret") && !strings.Contains(places[where], "server key") {
			t.Errorf("%s tells of no secret (%d bytes)", where, len(places[where]))
		}
	}
	probe := planted{"probe", "ProbeOfTheSearch1", "", false}
	if _, found := newPieces([]planted{probe})[strings.Repeat("x", 3)+probe.core[:9]]; found {
		t.Error("the search finds what is not there")
	}
	if _, found := newPieces([]planted{probe})[probe.core[3:3+window]]; !found {
		t.Error("the search finds nothing")
	}
}
