package httpingest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/secret"
)

// sink acknowledges at once.
type sink struct{}

func (sink) Produce(context.Context, string, []Record) error { return nil }

func BenchmarkServeHTTP(b *testing.B) {
	h, err := New(Config{Sources: []SourceConfig{{Name: "a", Token: secret.Ref{Env: "A"}, Topic: "t"}}},
		Deps{Producer: sink{}, Topics: []ingest.TopicConfig{{Name: "t"}}, Getenv: func(string) string { return gatewayToken }})
	if err != nil {
		b.Fatal(err)
	}
	const n = 1000
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf(`{"id":"5f0c-%d","type":"request.allowed","time":"2026-03-01T12:00:00.123Z","network":"shop","host":"gw-%d","user_id":"user-%d","endpoint":"/api/v3/posts","status":200,"source_ip":"203.0.113.9"}`, i, i%20, i)
	}
	for name, tc := range map[string]struct{ kind, body string }{
		"1000_events/lines": {typeLines, strings.Join(lines, "\n")},
		"1000_events/array": {typeJSON, "[" + strings.Join(lines, ",") + "]"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(tc.body)))
			for b.Loop() {
				req := httptest.NewRequestWithContext(b.Context(), http.MethodPost, Path, strings.NewReader(tc.body))
				req.Header = http.Header{"Authorization": {"Bearer " + gatewayToken}, "Content-Type": {tc.kind}}
				w := httptest.NewRecorder()
				if h.ServeHTTP(w, req); w.Code != http.StatusAccepted {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}
