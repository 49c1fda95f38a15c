package httpingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/internal/secret"
)

const (
	gatewayToken = "gateway-token-0123456789"
	consoleToken = "console-token-0123456789"
)

// broker is a Producer that keeps what it is given.
type broker struct {
	mu   sync.Mutex
	got  map[string][]Record
	err  error
	hold chan struct{} // when not nil, nothing is acknowledged until it is closed
}

func (b *broker) Produce(ctx context.Context, topic string, records []Record) error {
	if b.hold != nil {
		select {
		case <-b.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	if b.got == nil {
		b.got = map[string][]Record{}
	}
	b.got[topic] = append(b.got[topic], records...)
	return nil
}

// lines are the records of a topic, each as key=value and its headers.
func (b *broker) lines(topic string) (out []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.got[topic] {
		line := string(r.Key) + "=" + string(r.Value)
		for _, h := range r.Headers {
			line += fmt.Sprintf(" %s=%s", h.Key, h.Value)
		}
		out = append(out, line)
	}
	return out
}

func (b *broker) count() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, list := range b.got {
		n += len(list)
	}
	return n
}

// rig is a handler with two sources, and what it writes.
type rig struct {
	*Handler
	broker  *broker
	metrics *metrics.Registry
	logs    *bytes.Buffer
}

// newRig makes it; change adapts the first source, gateway.
func newRig(t *testing.T, change func(*SourceConfig)) *rig {
	t.Helper()
	r := &rig{broker: &broker{}, metrics: metrics.New(), logs: &bytes.Buffer{}}
	cfg := Config{Sources: []SourceConfig{
		{Name: "gateway", Token: secret.Ref{Env: "GATEWAY"}, Topic: "gateway.events"},
		{Name: "console", Token: secret.Ref{Env: "CONSOLE"}, Topic: "console.events"},
	}}
	if change != nil {
		change(&cfg.Sources[0])
	}
	h, err := New(cfg, Deps{
		Producer: r.broker, Topics: []ingest.TopicConfig{{Name: "gateway.events"}, {Name: "console.events"}},
		Getenv: func(k string) string { return map[string]string{"GATEWAY": gatewayToken, "CONSOLE": consoleToken}[k] },
		Log:    slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})), Metrics: r.metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Handler = h
	return r
}

// post sends a body as the gateway; headers come in pairs and replace what is set.
func (r *rig) post(ctx context.Context, body string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, Path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+gatewayToken)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header[headers[i]] = nil
		if headers[i+1] != "" {
			req.Header[headers[i]] = []string{headers[i+1]}
		}
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

// counted is the value of a counter with these labels, in the order of its name.
func (r *rig) counted(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	families, err := r.metrics.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "keysentry_ingest_http_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if sameLabels(m.GetLabel(), labels) {
				return m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return 0
}

func sameLabels(got []*dto.LabelPair, want []string) bool {
	values := make([]string, len(got))
	for i, l := range got {
		values[i] = l.GetValue()
	}
	return cmp.Equal(values, append([]string{}, want...))
}

func zip(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

const structured = " content-type=application/cloudevents+json; charset=UTF-8"

func TestAccepts(t *testing.T) {
	t.Parallel()
	const ce = `{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"host":"h1"}}`
	for name, tc := range map[string]struct {
		body    string
		headers []string
		want    []string
	}{
		"an object":                  {`{"host":"h1","type":"x"}`, nil, []string{`h1={"host":"h1","type":"x"}`}},
		"an object amid white space": {"\r\n\t {\"a\": 1} \n", nil, []string{`={"a": 1}`}},
		"charset":                    {`{}`, []string{"Content-Type", "application/json; charset=UTF-8"}, []string{"={}"}},
		"an array":                   {"[{\"a\":1} ,\n\t{\"host\":\"h\"}]", nil, []string{`={"a":1}`, `h={"host":"h"}`}},
		"an empty array":             {" [ ] ", nil, nil},
		"the same spelling":          {`[{"n": 1.50, "s":"\u00e9\/"}]`, nil, []string{`={"n": 1.50, "s":"\u00e9\/"}`}},
		"lines":                      {"{\"a\":1}\n{\"a\":2}\n", []string{"Content-Type", typeLines}, []string{`={"a":1}`, `={"a":2}`}},
		"lines without the last end": {"\n\r\n{\"a\":1}\r\n  \n {\"a\":2}", []string{"Content-Type", typeLines}, []string{`={"a":1}`, `={"a":2}`}},
		"gzip":                       {zip(t, `{"a":1}`), []string{"Content-Encoding", "GZIP"}, []string{`={"a":1}`}},
		"two gzips in a row":         {zip(t, `{"a"`) + zip(t, `:1}`), []string{"Content-Encoding", "gzip"}, []string{`={"a":1}`}},
		"identity":                   {`{}`, []string{"Content-Encoding", "identity"}, []string{"={}"}},
		"scheme in other letters":    {`{}`, []string{"Authorization", "bearer " + gatewayToken}, []string{"={}"}},
		"a CloudEvent":               {ce, []string{"Content-Type", typeCloudEvent}, []string{"h1=" + ce + structured}},
		"a batch of CloudEvents":     {"[" + ce + "," + ce + "]", []string{"Content-Type", typeCloudBatch + "; charset=utf-8"}, []string{"h1=" + ce + structured, "h1=" + ce + structured}},
		"a CloudEvent in binary mode": {`{"host":"h2"}`, []string{"Ce-Specversion", "1.0", "Ce-Id", "%E2%82%AC 1", "Ce-Source", `"/a \"b\""`, "Ce-Type", "session.denied"},
			[]string{`h2={"host":"h2"} ce_id=€ 1 ce_source=/a "b" ce_specversion=1.0 ce_type=session.denied content-type=application/json`}},
		"a CloudEvent as plain JSON": {ce, nil, []string{"h1=" + ce}},
		"a host that is no text":     {`{"host":{"name":"h"},"data":[1]}`, nil, []string{`={"host":{"name":"h"},"data":[1]}`}},
		"a host that is too long":    {`{"host":"` + strings.Repeat("h", 254) + `"}`, nil, []string{`={"host":"` + strings.Repeat("h", 254) + `"}`}},
		"data that is a text":        {`{"data":"x","host":"h"}`, nil, []string{`h={"data":"x","host":"h"}`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			w := r.post(t.Context(), tc.body, tc.headers...)
			if want := fmt.Sprintf("{\"accepted\":%d}\n", len(tc.want)); w.Code != http.StatusAccepted || w.Body.String() != want {
				t.Fatalf("got %d %s, want 202 %s", w.Code, w.Body, want)
			}
			if diff := cmp.Diff(tc.want, r.broker.lines("gateway.events")); diff != "" {
				t.Errorf("records (-want +got):\n%s", diff)
			}
			if n := r.broker.count(); n != len(tc.want) {
				t.Errorf("%d records on all topics, want %d", n, len(tc.want))
			}
			if got := r.counted(t, "events_total", "gateway"); got != float64(len(tc.want)) {
				t.Errorf("counted %v events, want %d", got, len(tc.want))
			}
		})
	}
}

// TestRefuses: every refusal has its status and its words, and nothing is produced.
func TestRefuses(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return strings.Repeat(`{"a":`, n-1) + "{}" + strings.Repeat("}", n-1) }
	lines := []string{"Content-Type", typeLines}
	for name, tc := range map[string]struct {
		body    string
		headers []string
		status  int
		says    string
	}{
		"no token":                {`{}`, []string{"Authorization", ""}, 401, "bearer token"},
		"a wrong token":           {`{}`, []string{"Authorization", "Bearer gateway-token-9876543210"}, 401, "bearer token"},
		"a token's beginning":     {`{}`, []string{"Authorization", "Bearer " + gatewayToken[:20]}, 401, "bearer token"},
		"a token in capitals":     {`{}`, []string{"Authorization", "Bearer " + strings.ToUpper(gatewayToken)}, 401, "bearer token"},
		"another scheme":          {`{}`, []string{"Authorization", "Basic " + gatewayToken}, 401, "bearer token"},
		"only the scheme":         {`{}`, []string{"Authorization", "Bearer"}, 401, "bearer token"},
		"no type":                 {`{}`, []string{"Content-Type", ""}, 415, "Content-Type"},
		"a type that is none":     {`{}`, []string{"Content-Type", "json/"}, 415, "Content-Type"},
		"a form":                  {`{}`, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "application/x-ndjson"},
		"another charset":         {`{}`, []string{"Content-Type", "application/json; charset=latin1"}, 415, "UTF-8"},
		"another compression":     {`{}`, []string{"Content-Encoding", "br"}, 415, "gzip"},
		"two compressions":        {`{}`, []string{"Content-Encoding", "gzip, gzip"}, 415, "gzip"},
		"binary mode, text":       {`x`, []string{"Ce-Specversion", "1.0", "Content-Type", "text/plain"}, 415, "CloudEvent"},
		"binary mode, lines":      {"{}\n{}", []string{"Ce-Specversion", "1.0", "Content-Type", typeLines}, 415, "CloudEvent"},
		"binary mode, array":      {`[{}]`, []string{"Ce-Specversion", "1.0"}, 400, "not_object"},
		"binary mode, bad name":   {`{}`, []string{"Ce-Specversion", "1.0", "Ce-My-Id", "1"}, 400, "attribute"},
		"binary mode, no name":    {`{}`, []string{"Ce-Specversion", "1.0", "Ce-", "1"}, 400, "attribute"},
		"binary mode, bad escape": {`{}`, []string{"Ce-Specversion", "1.0", "Ce-Id", "%zz"}, 400, "attribute"},
		"binary mode, no UTF-8":   {`{}`, []string{"Ce-Specversion", "1.0", "Ce-Id", "%C0%A0"}, 400, "attribute"},
		"binary mode, open quote": {`{}`, []string{"Ce-Specversion", "1.0", "Ce-Id", `"x`}, 400, "attribute"},
		"binary mode, odd quote":  {`{}`, []string{"Ce-Specversion", "1.0", "Ce-Id", `"x\"`}, 400, "attribute"},
		"binary mode, two quotes": {`{}`, []string{"Ce-Specversion", "1.0", "Ce-Id", `"x"y"`}, 400, "attribute"},
		"a body above the limit":  {`{"a":"` + strings.Repeat("a", 4096) + `"}`, nil, 413, "4096 bytes"},
		"a bomb":                  {zip(t, `{"a":"`+strings.Repeat("a", 10<<20)+`"}`), []string{"Content-Encoding", "gzip"}, 413, "4096 bytes"},
		"too many events":         {strings.Repeat("{}\n", 1300), lines, 413, "at most 1000"},
		"no gzip":                 {`{}`, []string{"Content-Encoding", "gzip"}, 400, "no whole gzip"},
		"half a gzip":             {zip(t, `{"a":1}`)[:20], []string{"Content-Encoding", "gzip"}, 400, "no whole gzip"},
		"gzip and rubbish":        {zip(t, `{"a":1}`) + "rubbish", []string{"Content-Encoding", "gzip"}, 400, "no whole gzip"},
		"nothing":                 {"", nil, 400, "empty"},
		"white space":             {" \n ", lines, 400, "empty"},
		"a batch that is none":    {`{}`, []string{"Content-Type", typeCloudBatch}, 400, "a batch is an array"},
		"an array of CloudEvents": {`[{}]`, []string{"Content-Type", typeCloudEvent}, 400, "not_object"},
		"a text":                  {`"x"`, nil, 400, "not_object"},
		"null":                    {`null`, nil, 400, "not_object"},
		"two objects":             {`{} {}`, nil, 400, "bad_json"},
		"two objects in a line":   {"{}\n{} {}\n", lines, 400, "bad_json"},
		"an object over lines":    {"{\n}\n", lines, 400, "bad_json"},
		"bytes that are no text":  {"{\"a\":\"\xff\"}", nil, 400, "bad_utf8"},
		"half a surrogate":        {`{"a":"\ud800"}`, nil, 400, "bad_utf8"},
		"a byte order mark":       {"\xef\xbb\xbf{}", nil, 400, "bad_json"},
		"65 levels":               {deep(65), nil, 400, "too_deep"},
		"only brackets":           {strings.Repeat("[", 4096), nil, 400, "bad_json"},
		"an array without an end": {`[{}`, nil, 400, "bad_json"},
		"more after the array":    {`[{}] x`, nil, 400, "bad_json"},
		"a comma too much":        {`[{},]`, nil, 400, "bad_json"},
		"no comma":                {`[{}{}]`, nil, 400, "bad_json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(s *SourceConfig) { s.MaxBody, s.Rate = 4096, 100 })
			w := r.post(t.Context(), tc.body, tc.headers...)
			var got Refusal
			dec := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&got); err != nil || got.Error == "" {
				t.Fatalf("%d with a body that is no refusal: %v %s", w.Code, err, w.Body)
			}
			if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.says) {
				t.Errorf("got %d %s, want %d with %q", w.Code, w.Body, tc.status, tc.says)
			}
			if w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("Content-Type %q", w.Header().Get("Content-Type"))
			}
			if (w.Header().Get("Www-Authenticate") == "Bearer") != (tc.status == 401) {
				t.Errorf("%d with WWW-Authenticate %q", w.Code, w.Header().Get("Www-Authenticate"))
			}
			if n := r.broker.count(); n != 0 {
				t.Errorf("%d records were produced", n)
			}
			source := "gateway"
			if tc.status == 401 {
				source = ""
			}
			if n := r.counted(t, "requests_total", source, fmt.Sprint(tc.status)); n != 1 {
				t.Errorf("counted %v such requests, want 1", n)
			}
		})
	}
}

func TestOnlyPostsAreTaken(t *testing.T) {
	t.Parallel()
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodOptions, http.MethodDelete} {
		r := newRig(t, nil)
		req := httptest.NewRequestWithContext(t.Context(), method, Path, strings.NewReader(`{}`))
		req.Header.Set("Authorization", "Bearer "+gatewayToken)
		req.Header.Set("Content-Type", typeJSON)
		w := httptest.NewRecorder()
		r.ServeHTTP(w, req)
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != http.MethodPost || r.broker.count() != 0 {
			t.Errorf("%s: got %d, Allow %q, %d records", method, w.Code, w.Header().Get("Allow"), r.broker.count())
		}
	}
}

// TestTheTokenChoosesTheTopic, and nothing else in a request does.
func TestTheTokenChoosesTheTopic(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	w := r.post(t.Context(), `{"topic":"gateway.events","source":"gateway"}`, "Authorization", "Bearer "+consoleToken)
	if w.Code != http.StatusAccepted || len(r.broker.lines("console.events")) != 1 || r.broker.count() != 1 {
		t.Errorf("got %d; on console.events %v of %d", w.Code, r.broker.lines("console.events"), r.broker.count())
	}
	// Two tokens at once are none.
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, Path, strings.NewReader(`{}`))
	req.Header = http.Header{"Content-Type": {typeJSON}, "Authorization": {"Bearer " + gatewayToken, "Bearer " + consoleToken}}
	rec := httptest.NewRecorder()
	r.ServeHTTP(rec, req)
	if rec.Code != http.StatusUnauthorized {
		t.Errorf("two tokens: got %d", rec.Code)
	}
}

// TestForeignFormatsHaveNoKey: what they call host may be anything.
func TestForeignFormatsHaveNoKey(t *testing.T) {
	t.Parallel()
	b := &broker{}
	h, err := New(Config{Sources: []SourceConfig{{Name: "a", Token: secret.Ref{Env: "A"}, Topic: "t"}}},
		Deps{Producer: b, Topics: []ingest.TopicConfig{{Name: "t", Mapping: "cloudtrail"}}, Getenv: func(string) string { return gatewayToken }})
	if err != nil {
		t.Fatal(err)
	}
	large := `{"host":"h","a":"` + strings.Repeat("a", event.DefaultMaxBytes) + `"}` // foreign records may be larger
	w := (&rig{Handler: h}).post(t.Context(), large)
	if diff := cmp.Diff([]string{"=" + large}, b.lines("t")); diff != "" || w.Code != http.StatusAccepted {
		t.Errorf("got %d; records (-want +got):\n%s", w.Code, diff)
	}
}

// TestFaultsAreNamedByPlace: which event, which byte, which line.
func TestFaultsAreNamedByPlace(t *testing.T) {
	t.Parallel()
	long := `{"a":"` + strings.Repeat("a", event.DefaultMaxBytes) + `"}`
	for name, tc := range map[string]struct {
		kind, body string
		status     int
		malformed  int
		want       []Fault
	}{
		"lines": {typeLines, "{\"a\":1}\n{\"a\":}\n\n  [1]\n{\"a\":\"\xff\"}", 400, 3, []Fault{
			{1, 13, 2, ingest.ReasonBadJSON, ""}, {2, 18, 4, ingest.ReasonNotObject, ""}, {3, 28, 5, ingest.ReasonBadUTF8, ""}}},
		"a line that ends too early": {typeLines, "{}\n{\"a\":tru", 400, 1, []Fault{{1, 11, 2, ingest.ReasonBadJSON, ""}}},
		"a wrong last byte":          {typeLines, "{}\n{\"a\":1]", 400, 1, []Fault{{1, 9, 2, ingest.ReasonBadJSON, ""}}},
		"an array":                   {typeJSON, "[{},\n {},\n 1, null]", 400, 2, []Fault{{2, 11, 3, ingest.ReasonNotObject, ""}, {3, 14, 3, ingest.ReasonNotObject, ""}}},
		"an array that breaks":       {typeJSON, "[{},\n {\"a\" 1}]", 400, 1, []Fault{{1, 11, 2, ingest.ReasonBadJSON, ""}}},
		"an array that ends early":   {typeJSON, `[{},{}`, 400, 1, []Fault{{2, 6, 1, ingest.ReasonBadJSON, ""}}},
		"a large one":                {typeLines, "{}\n" + long, 413, 1, []Fault{{1, 3, 2, ingest.ReasonTooLarge, ""}}},
		"a large and a bad one":      {typeLines, long + "\nx", 400, 2, []Fault{{0, 0, 1, ingest.ReasonTooLarge, ""}, {1, len(long) + 1, 2, ingest.ReasonBadJSON, ""}}},
		"a broken object":            {typeJSON, " {]", 400, 1, []Fault{{0, 2, 1, ingest.ReasonBadJSON, ""}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			w := r.post(t.Context(), tc.body, "Content-Type", tc.kind)
			var got Refusal
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			for i := range got.Faults {
				if got.Faults[i].Detail == "" {
					t.Errorf("fault %d has no detail", i)
				}
				got.Faults[i].Detail = ""
			}
			if diff := cmp.Diff(tc.want, got.Faults); diff != "" || w.Code != tc.status || got.Malformed != tc.malformed {
				t.Errorf("got %d with %d malformed, want %d with %d; faults (-want +got):\n%s", w.Code, got.Malformed, tc.status, tc.malformed, diff)
			}
			if r.broker.count() != 0 {
				t.Error("something was produced")
			}
		})
	}
	t.Run("only the first ten are told", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, nil)
		w := r.post(t.Context(), strings.Repeat("x\n", 25), "Content-Type", typeLines)
		var got Refusal
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Malformed != 25 || len(got.Faults) != maxFaults {
			t.Errorf("got %v, %d malformed, %d told", err, got.Malformed, len(got.Faults))
		}
	})
}

// TestTheBoundsOfARequest: the last size that is taken and the first that is not.
func TestTheBoundsOfARequest(t *testing.T) {
	t.Parallel()
	fill := func(n int) string { return `{"a":"` + strings.Repeat("a", n-8) + `"}` }
	envelope := fill(event.DefaultMaxBytes + 1)
	for name, tc := range map[string]struct {
		body    string
		headers []string
		status  int
	}{
		"the largest body":            {fill(4096), nil, 202},
		"one byte more":               {fill(4097), nil, 413},
		"the largest, compressed":     {zip(t, fill(4096)), []string{"Content-Encoding", "gzip"}, 202},
		"one more, compressed":        {zip(t, fill(4097)), []string{"Content-Encoding", "gzip"}, 413},
		"64 levels":                   {strings.Repeat(`{"a":`, 63) + "{}" + strings.Repeat("}", 63), nil, 202},
		"a large envelope":            {envelope, []string{"Content-Type", typeCloudEvent}, 202},
		"its content without it":      {envelope, nil, 413},
		"as many events as may be":    {strings.Repeat("{}\n", maxEvents), []string{"Content-Type", typeLines}, 202},
		"one event more, lines":       {strings.Repeat("{}\n", maxEvents+1), []string{"Content-Type", typeLines}, 413},
		"one event more, in an array": {"[{}" + strings.Repeat(",{}", maxEvents) + "]", nil, 413},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(s *SourceConfig) {
				if strings.Contains(name, "byte") || strings.Contains(name, "body") || strings.Contains(name, "compressed") {
					s.MaxBody = 4096
				}
			})
			if w := r.post(t.Context(), tc.body, tc.headers...); w.Code != tc.status || (r.broker.count() > 0) != (tc.status == 202) {
				t.Errorf("got %d %.200s with %d records, want %d", w.Code, w.Body, r.broker.count(), tc.status)
			}
		})
	}
	t.Run("a body of unknown length", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, func(s *SourceConfig) { s.MaxBody = 4096 })
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, Path, io.MultiReader(strings.NewReader(fill(4097))))
		req.Header = http.Header{"Content-Type": {typeJSON}, "Authorization": {"Bearer " + gatewayToken}}
		w := httptest.NewRecorder()
		if r.ServeHTTP(w, req); req.ContentLength != -1 || w.Code != http.StatusRequestEntityTooLarge {
			t.Errorf("got %d", w.Code)
		}
	})
}

func TestKafkaFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err     error
		body    string
		status  int
		written string
		retry   string
	}{
		"not sent":              {fmt.Errorf("%w: no broker", ErrNotSent), `[{},{}]`, 503, "none", "5"},
		"no acknowledgement":    {errors.New("timeout"), `[{},{}]`, 503, "unknown", "5"},
		"one too large":         {fmt.Errorf("x: %w", ErrTooLarge), `{}`, 413, "none", ""},
		"one of many too large": {fmt.Errorf("x: %w", ErrTooLarge), `[{},{}]`, 413, "unknown", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			r.broker.err = tc.err
			w := r.post(t.Context(), tc.body)
			var got Refusal
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if w.Code != tc.status || got.Written != tc.written || w.Header().Get("Retry-After") != tc.retry || strings.Contains(w.Body.String(), "accepted") {
				t.Errorf("got %d %s, Retry-After %q", w.Code, w.Body, w.Header().Get("Retry-After"))
			}
			if !strings.Contains(r.logs.String(), "level=WARN") || !strings.Contains(r.logs.String(), "source=gateway") {
				t.Errorf("the log does not say it: %s", r.logs)
			}
			if n := r.counted(t, "events_total", "gateway"); n != 0 {
				t.Errorf("counted %v events as accepted", n)
			}
			if n := r.counted(t, "produce_seconds"); n != 1 {
				t.Errorf("counted %v attempts, want 1", n)
			}
		})
	}
}

// TestNoAnswerBeforeTheAcknowledgement: while Kafka is silent there is no answer,
// and after the longest wait it is a 503.
func TestNoAnswerBeforeTheAcknowledgement(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]time.Duration{"in time": produceTimeout - time.Second, "never": time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, nil)
			r.broker.hold = make(chan struct{})
			answered := make(chan *httptest.ResponseRecorder, 1)
			begin := time.Now()
			go func() { answered <- r.post(t.Context(), `{"a":1}`) }()
			time.Sleep(min(late, produceTimeout-time.Second))
			synctest.Wait()
			if len(answered) > 0 {
				t.Fatalf("%s: answered %d without an acknowledgement", name, (<-answered).Code)
			}
			if late < produceTimeout {
				close(r.broker.hold)
			}
			w := <-answered
			took := time.Since(begin)
			if want := map[bool]int{true: 202, false: 503}[late < produceTimeout]; w.Code != want || took != min(late, produceTimeout) {
				t.Errorf("%s: got %d %s after %v, want %d", name, w.Code, w.Body, took, want)
			}
		})
	}
}

// TestAClientThatLeaves takes its request along.
func TestAClientThatLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.broker.hold = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		w := r.post(ctx, `{}`)
		if took := time.Since(begin); w.Code != 503 || took != time.Second {
			t.Errorf("got %d after %v", w.Code, took)
		}
		if strings.Contains(r.logs.String(), "WARN") || !strings.Contains(r.logs.String(), "INFO") {
			t.Errorf("a client's leaving is no warning: %s", r.logs)
		}
	})
}

// TestRequestsWaitForASlot for a while, each source for its own.
func TestRequestsWaitForASlot(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.broker.hold = make(chan struct{})
		var wg sync.WaitGroup
		codes := make(chan int, slots+1)
		for range slots {
			wg.Go(func() { codes <- r.post(t.Context(), `{}`).Code })
		}
		synctest.Wait()
		begin := time.Now()
		w := r.post(t.Context(), `{}`)
		if took := time.Since(begin); w.Code != 503 || took != slotWait || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "nothing was accepted") {
			t.Errorf("without a slot: %d %s after %v", w.Code, w.Body, took)
		}
		// One that waits gets the slot that is freed; another source never waited.
		wg.Go(func() { codes <- r.post(t.Context(), `{}`).Code })
		wg.Go(func() {
			if w := r.post(t.Context(), `{}`, "Authorization", "Bearer "+consoleToken); w.Code != 202 {
				t.Errorf("another source: %d %s", w.Code, w.Body)
			}
		})
		synctest.Wait()
		close(r.broker.hold)
		wg.Wait()
		close(codes)
		for code := range codes {
			if code != 202 {
				t.Errorf("a request with a slot got %d", code)
			}
		}
		if n := len(r.broker.lines("gateway.events")); n != slots+1 {
			t.Errorf("%d events, want %d", n, slots+1)
		}
	})
}

// TestTheDoorShuts: at the end nobody enters, who is in may finish for a moment, and
// Run waits for them, but not for ever.
func TestTheDoorShuts(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		acknowledged time.Duration // after the stop
		body         io.Reader
		want         int
		took         time.Duration // of Run's end
	}{
		"nobody is in":   {took: 0},
		"a quick one":    {500 * time.Millisecond, strings.NewReader(`{}`), 202, 500 * time.Millisecond},
		"a silent Kafka": {time.Hour, strings.NewReader(`{}`), 503, stopGrace},
		"a slow client":  {time.Hour, slowReader{}, 400, 2 * stopGrace},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, nil)
			r.broker.hold = make(chan struct{})
			ctx, stop := context.WithCancel(t.Context())
			ran := make(chan error, 1)
			go func() { ran <- r.Run(ctx) }()
			under := make(chan int, 1)
			if tc.body != nil {
				go func() {
					req := httptest.NewRequestWithContext(context.Background(), http.MethodPost, Path, tc.body)
					req.Header = http.Header{"Content-Type": {typeJSON}, "Authorization": {"Bearer " + gatewayToken}}
					w := httptest.NewRecorder()
					r.ServeHTTP(w, req)
					under <- w.Code
				}()
			}
			synctest.Wait()
			begin := time.Now()
			stop()
			time.AfterFunc(tc.acknowledged, func() { close(r.broker.hold) })
			synctest.Wait()
			if w := r.post(context.Background(), `{}`); w.Code != 503 || time.Since(begin) != 0 || w.Header().Get("Retry-After") == "" {
				t.Errorf("%s: one that came late got %d after %v", name, w.Code, time.Since(begin))
			}
			if err := <-ran; err != nil || time.Since(begin) != tc.took {
				t.Errorf("%s: Run ended after %v with %v, want %v", name, time.Since(begin), err, tc.took)
			}
			if tc.body == nil {
				return
			}
			if code := <-under; code != tc.want {
				t.Errorf("%s: the one under way got %d, want %d", name, code, tc.want)
			}
		})
	}
}

// slowReader is a body that does not come for a minute, and then breaks off.
type slowReader struct{}

func (slowReader) Read([]byte) (int, error) {
	time.Sleep(time.Minute)
	return 0, io.ErrUnexpectedEOF
}

func TestTheRateOfASource(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(s *SourceConfig) { s.Rate = 2 }) // a burst of 20
		many := func(n int) string { return "[{}" + strings.Repeat(",{}", n-1) + "]" }
		step := func(what string, n, want int, retry string) {
			t.Helper()
			w := r.post(t.Context(), many(n))
			if w.Code != want || w.Header().Get("Retry-After") != retry {
				t.Errorf("%s: got %d %s, Retry-After %q, want %d, %q", what, w.Code, w.Body, w.Header().Get("Retry-After"), want, retry)
			}
		}
		step("more than ever", 21, 413, "")
		step("most of the burst", 15, 202, "")
		step("more than is left", 8, 429, "2") // 1.5 s, not earlier
		step("a refusal spends nothing", 5, 202, "")
		step("nothing is left", 1, 429, "1")
		time.Sleep(4 * time.Second)
		step("later", 8, 202, "")
		if w := r.post(t.Context(), many(20), "Authorization", "Bearer "+consoleToken); w.Code != 202 {
			t.Errorf("a source without a rate: %d", w.Code)
		}
		if n := len(r.broker.lines("gateway.events")); n != 28 {
			t.Errorf("%d events, want 28", n)
		}
	})
}

// TestAnExhaustedSourceIsNotRead: its body costs nothing.
func TestAnExhaustedSourceIsNotRead(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(s *SourceConfig) { s.Rate = 0.1 })
	now := time.Now()
	r.now = func() time.Time { return now }
	if w := r.post(t.Context(), `{}`); w.Code != 202 {
		t.Fatalf("got %d", w.Code)
	}
	read := false
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, Path, readerFunc(func([]byte) (int, error) {
		read = true
		return 0, io.EOF
	}))
	req.Header = http.Header{"Content-Type": {typeJSON}, "Authorization": {"Bearer " + gatewayToken}}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "10" || read {
		t.Errorf("got %d, Retry-After %q, read %t", w.Code, w.Header().Get("Retry-After"), read)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
