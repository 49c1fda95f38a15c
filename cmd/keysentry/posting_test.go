package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	httpingest "github.com/keysentry/keysentry/ingest/http"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/secret"
)

// posted is a Kafka that keeps what it is given.
type posted struct{ records []httpingest.Record }

func (p *posted) Produce(_ context.Context, _ string, records []httpingest.Record) error {
	p.records = append(p.records, records...)
	return nil
}

var (
	shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)\n```")
	yamlBlock  = regexp.MustCompile("(?s)```yaml\n(.*?)```")
	expected   = regexp.MustCompile(`(?s)^(.*)\n# (\d{3}) (.*)$`)
)

// TestDocumentedPosts sends what docs/howto/send-events-over-http.md shows, as curl
// would, and holds the answers to those on the page. What was accepted are events.
func TestDocumentedPosts(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "howto", "send-events-over-http.md"))
	if err != nil {
		t.Fatal(err)
	}
	const token = "a-token-of-the-documentation"
	kafka := &posted{}
	h, err := httpingest.New(
		httpingest.Config{Sources: []httpingest.SourceConfig{{Name: "gateway", Token: secret.Ref{Env: "TOKEN"}, Topic: "gateway.events"}}},
		httpingest.Deps{Producer: kafka, Topics: []ingest.TopicConfig{{Name: "gateway.events"}}, Getenv: func(string) string { return token }})
	if err != nil {
		t.Fatal(err)
	}
	env := strings.NewReplacer("$KEYSENTRY", "http://127.0.0.1:8340", "$TOKEN", token)
	seen := 0
	for _, block := range shellBlock.FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(block[1], "curl ") {
			continue
		}
		seen++
		m := expected.FindStringSubmatch(block[1])
		if m == nil {
			t.Errorf("no answer is shown for\n%s", block[1])
			continue
		}
		req, err := curl(t, shellWords(env.Replace(m[1])), map[string][]byte{"events.ndjson": bytes.Join(values(kafka.records), []byte{'\n'})})
		if err != nil {
			t.Errorf("%v in\n%s", err, m[1])
			continue
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if got := fmt.Sprintf("%d %s", w.Code, strings.TrimSpace(w.Body.String())); got != m[2]+" "+m[3] {
			t.Errorf("got %s, the page says %s %s, for\n%s", got, m[2], m[3], m[1])
		}
	}
	if seen < 5 || len(kafka.records) < 6 {
		t.Errorf("%d posts with %d events were found; does the pattern still fit the page?", seen, len(kafka.records))
	}
	for _, r := range kafka.records {
		isEvent(t, r)
	}
}

func values(records []httpingest.Record) (out [][]byte) {
	for _, r := range records {
		out = append(out, r.Value)
	}
	return out
}

// isEvent decodes a record, or what its envelope holds.
func isEvent(t *testing.T, r httpingest.Record) {
	t.Helper()
	value := r.Value
	var envelope struct{ Data json.RawMessage }
	if err := json.Unmarshal(value, &envelope); err == nil && envelope.Data != nil {
		value = envelope.Data
	}
	var e event.Event
	err := event.Decode(value, event.Limits{}, &e)
	if err == nil {
		err = e.Validate()
	}
	if err != nil || string(r.Key) != e.Host {
		t.Errorf("%s with key %q is no event: %v", r.Value, r.Key, err)
	}
}

// curl makes the request of a command line; "gzip -c FILE |" may stand before it.
func curl(t *testing.T, words []string, files map[string][]byte) (*http.Request, error) {
	t.Helper()
	var piped bytes.Buffer
	if len(words) > 4 && words[0] == "gzip" && words[1] == "-c" && words[3] == "|" {
		w := gzip.NewWriter(&piped)
		if _, err := w.Write(files[words[2]]); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		words = words[4:]
	}
	if len(words) < 2 || words[0] != "curl" {
		return nil, fmt.Errorf("%q is no curl", words)
	}
	header := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}} // what curl gives
	url, body := "", ""
	for i := 1; i < len(words); i++ {
		switch {
		case words[i] == "-sS":
		case words[i] == "-H" && i+1 < len(words):
			i++
			name, value, ok := strings.Cut(words[i], ": ")
			if !ok {
				return nil, fmt.Errorf("header %q", words[i])
			}
			header.Set(name, value)
		case words[i] == "--data-binary" && i+1 < len(words):
			i++
			if body = words[i]; body == "@-" {
				body = piped.String()
			}
		case strings.HasPrefix(words[i], "http") && url == "":
			url = words[i]
		default:
			return nil, fmt.Errorf("word %q", words[i])
		}
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	req.Header = header
	if req.URL.Path != httpingest.Path {
		return nil, fmt.Errorf("posts to %s", url)
	}
	return req, nil
}

// shellWords splits at white space outside of quotes, which it drops.
func shellWords(s string) (words []string) {
	var word strings.Builder
	open, quote := false, rune(0)
	for _, c := range s {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '"' || c == '\'':
			quote, open = c, true
		case c == ' ' || c == '\n':
			if open {
				words = append(words, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(c)
			open = true
		}
	}
	if open {
		words = append(words, word.String())
	}
	return words
}

// TestDocumentedSources: the configuration on the page is one.
func TestDocumentedSources(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "howto", "send-events-over-http.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := yamlBlock.FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 1 {
		t.Fatalf("%d blocks of YAML, want 1", len(blocks))
	}
	c, err := config.Parse("page", []byte(blocks[0][1]+"kafka: {brokers: [\"127.0.0.1:9092\"]}\nstore: {addrs: [\"127.0.0.1:9000\"]}\njournal: {key: {env: K}}\n"))
	if err != nil || len(c.Ingest.HTTP.Sources) != 1 {
		t.Errorf("%v", err)
	}
}
