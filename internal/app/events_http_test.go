package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	httpingest "github.com/keysentry/keysentry/ingest/http"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/secret"
)

const sourceToken = "source-token-0123456789"

// answered is what a post to /v1/events got.
type answered struct {
	httpingest.Refusal
	Accepted int
	status   int
	retry    string
}

// post sends lines to a member, as a producer does; headers come in pairs.
func (d *daemon) post(token, lines string, headers ...string) answered {
	d.t.Helper()
	a, err := d.tryPost(token, lines, headers...)
	if err != nil {
		d.t.Fatal(err)
	}
	return a
}

func (d *daemon) tryPost(token, lines string, headers ...string) (a answered, err error) {
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodPost, d.app.URL()+httpingest.Path, strings.NewReader(lines))
	if err != nil {
		return a, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/x-ndjson")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	a.status, a.retry = res.StatusCode, res.Header.Get("Retry-After")
	return a, json.NewDecoder(res.Body).Decode(&a)
}

// hostLines are n events of some hosts in turn, the first with the given number.
func hostLines(first, n, hosts int) string {
	var b bytes.Buffer
	for i := first; i < first+n; i++ {
		fmt.Fprintf(&b, `{"id":"posted-%d","type":"request.allowed","time":%q,"network":"n1","host":"web-%d","endpoint":"/x"}`+"\n",
			i, time.Now().UTC().Format(time.RFC3339Nano), i%hosts)
	}
	return b.String()
}

// TestEventsOverHTTP: what a member, leader or standby, has accepted is stored once,
// and in one partition per host; what it has refused is nowhere, above all not when
// Kafka is gone.
func TestEventsOverHTTP(t *testing.T) {
	t.Parallel()
	const topic = "posted"
	opts := devstack.FakeOptions{Dir: t.TempDir(), Topics: []devstack.Topic{{Name: topic, Partitions: 4, Configs: devstack.LogAppendTime()}}}
	f, err := devstack.StartFakeKafka(t.Context(), opts)
	devstacktest.Check(t, err)
	t.Cleanup(func() { _ = f.Stop(context.Background()) })

	r := newRig(t, f.Addr(), devstacktest.ClickHouse(t), ingest.TopicConfig{Name: topic, Origin: event.OriginGateway})
	r.env["SOURCE"] = sourceToken
	r.cfg.Ingest.HTTP.Sources = []httpingest.SourceConfig{{Name: "web", Token: secret.Ref{Env: "SOURCE"}, Topic: topic}}
	leader := r.start("one", nil)
	leader.leads()
	standby := r.start("two", nil)
	standby.standsBy()

	for i, d := range []*daemon{leader, standby, leader} {
		if a := d.post(sourceToken, hostLines(i*200, 200, 20)); a.status != http.StatusAccepted || a.Accepted != 200 {
			t.Fatalf("%s: got %+v", d.name, a)
		}
	}
	r.stored(topic, 600)
	if got := r.number("SELECT count() FROM (SELECT host FROM events FINAL GROUP BY host HAVING uniqExact(partition) > 1)", nil); got != "0" {
		t.Errorf("%s hosts are in several partitions", got)
	}
	if got := r.number("SELECT uniqExact(partition) FROM events FINAL", nil); got == "1" {
		t.Error("all hosts are in one partition")
	}

	// CloudEvents, whose consumer takes from the envelope what the event leaves out.
	now := time.Now().UTC().Format(time.RFC3339Nano)
	inside := `{"network":"n1","host":"web-1","endpoint":"/x"}`
	envelope := func(id string) string {
		return fmt.Sprintf(`{"specversion":"1.0","id":"cloud-%s","source":"/s","type":"request.allowed","time":%q,"data":%s}`, id, now, inside)
	}
	for _, posted := range []answered{
		leader.post(sourceToken, envelope("a"), "Content-Type", "application/cloudevents+json"),
		leader.post(sourceToken, "["+envelope("b")+","+envelope("c")+"]", "Content-Type", "application/cloudevents-batch+json"),
		leader.post(sourceToken, inside, "Content-Type", "application/json", "ce-specversion", "1.0", "ce-id", "cloud%2Dd", "ce-source", "/s", "ce-type", "request.allowed", "ce-time", now),
	} {
		if posted.status != http.StatusAccepted {
			t.Errorf("a CloudEvent got %+v", posted)
		}
	}
	r.stored(topic, 604)
	if got := r.number("SELECT arrayStringConcat(arraySort(groupArray(id)), ' ') FROM events FINAL WHERE id LIKE 'cloud-%' AND host = 'web-1'", nil); got != "cloud-a cloud-b cloud-c cloud-d" {
		t.Errorf("of the CloudEvents %q are stored", got)
	}

	for name, tc := range map[string]struct {
		token, lines string
		want         int
	}{
		"somebody else":       {sourceToken + "x", hostLines(1000, 1, 1), http.StatusUnauthorized},
		"a person":            {r.env["CREDENTIAL"], hostLines(1000, 1, 1), http.StatusUnauthorized},
		"one bad among good":  {sourceToken, hostLines(1000, 5, 1) + "{\n" + hostLines(1005, 5, 1), http.StatusBadRequest},
		"more than may be":    {sourceToken, hostLines(1000, 20_000, 1), http.StatusRequestEntityTooLarge},
		"nothing but an end.": {sourceToken, "\n", http.StatusBadRequest},
	} {
		if a := leader.post(tc.token, tc.lines); a.status != tc.want || a.Error == "" {
			t.Errorf("%s: got %+v, want %d", name, a, tc.want)
		}
	}

	_, port, err := net.SplitHostPort(f.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if opts.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	if err := f.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := leader.post(sourceToken, hostLines(2000, 100, 20))
	if a.status != http.StatusServiceUnavailable || a.retry == "" || a.Accepted != 0 || !slices.Contains([]string{"none", "unknown"}, a.Written) {
		t.Errorf("without Kafka: got %+v", a)
	}
	t.Logf("without Kafka: %+v", a)
	opts.Topics = nil // they are in the folder
	if f, err = devstack.StartFakeKafka(t.Context(), opts); err != nil {
		t.Fatal(err)
	}
	// Once: after an unknown outcome a second try would be more events.
	if a = leader.post(sourceToken, hostLines(3000, 100, 20)); a.status != http.StatusAccepted {
		t.Fatalf("with Kafka again: got %+v", a)
	}
	r.stored(topic, 704)
	if got := r.number("SELECT countIf(id LIKE 'posted-1___' OR id LIKE 'posted-2___') FROM events FINAL", nil); got != "0" {
		t.Errorf("%s events that were refused are stored", got)
	}
	for _, d := range []*daemon{leader, standby} {
		if strings.Contains(d.logs.String(), sourceToken[:12]) || strings.Contains(d.logs.String(), "posted-2") {
			t.Errorf("the log of %s shows what was posted", d.name)
		}
	}
}
