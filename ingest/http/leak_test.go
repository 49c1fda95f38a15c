package httpingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/internal/secret"
)

// leaked stands where a secret may stand in a request.
const leaked = "hunter2-correct-horse-battery-staple"

// TestNothingLeaks: whatever a request holds and however it fails, no part of its
// body and no token stands in the answer or in the log.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	value := `{"secret":"` + leaked + `"}`
	cases := map[string]struct {
		body    string
		headers []string
		err     error
	}{
		"accepted":             {body: value},
		"refused by Kafka":     {body: value, err: errors.New("timeout")},
		"too large for Kafka":  {body: value, err: ErrTooLarge},
		"broken":               {body: value[:20] + "\x01" + value[20:]},
		"broken in an array":   {body: "[" + value + leaked + "]"},
		"broken in a name":     {body: `{` + leaked + `:1}`},
		"bytes that are none":  {body: `{"` + leaked + "\xff\":1}"},
		"no object":            {body: `"` + leaked + `"`},
		"text":                 {body: leaked},
		"gzip that is none":    {body: leaked, headers: []string{"Content-Encoding", "gzip"}},
		"a strange type":       {body: value, headers: []string{"Content-Type", "application/" + leaked}},
		"a strange charset":    {body: value, headers: []string{"Content-Type", "application/json; charset=" + leaked}},
		"a strange coding":     {body: value, headers: []string{"Content-Encoding", leaked}},
		"an unknown token":     {body: value, headers: []string{"Authorization", "Bearer " + leaked}},
		"a strange scheme":     {body: value, headers: []string{"Authorization", leaked + " x"}},
		"a strange attribute":  {body: value, headers: []string{"Ce-Specversion", "1.0", "Ce-" + leaked, "x"}},
		"a value of one":       {body: value, headers: []string{"Ce-Specversion", "1.0", "Ce-Id", "%zz" + leaked}},
		"larger than the body": {body: `{"secret":"` + strings.Repeat(leaked, 200) + `"}`},
		"many lines":           {body: strings.Repeat(leaked+"\n", 30), headers: []string{"Content-Type", typeLines}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(s *SourceConfig) { s.MaxBody = 4096 })
			r.broker.err = tc.err
			w := r.post(t.Context(), tc.body, tc.headers...)
			families, err := r.metrics.Gatherer().Gather()
			if err != nil {
				t.Fatal(err)
			}
			shown := fmt.Sprint(w.Code, w.Header(), w.Body, r.logs, families)
			for _, secret := range []string{leaked[:12], strings.ToUpper(leaked)[:12], gatewayToken[:12], consoleToken[:12]} {
				if strings.Contains(shown, secret) {
					t.Errorf("%q is to be read in\n%s", secret, shown)
				}
			}
		})
	}
}

// TestTheHandlerPrintsNoToken, whatever way it is printed.
func TestTheHandlerPrintsNoToken(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for _, s := range r.sources {
		if text := fmt.Sprintf("%v %+v %#v", s, s, *s); strings.Contains(text, "token-0123") {
			t.Errorf("a source prints its token: %s", text)
		}
	}
	for name, token := range map[string]string{"short": "secret-15-chars", "with a space": "secret secret secret", "no ASCII": "sécret-sécret-sécret", "a line end": "secret-secret-secret\nx"} {
		_, err := New(Config{Sources: []SourceConfig{{Name: "a", Token: secret.Ref{Env: "TOKEN"}, Topic: "t"}}}, Deps{Topics: topics("t"), Getenv: func(string) string { return token }})
		if err == nil || !strings.HasPrefix(err.Error(), "sources[0].token: ") || strings.Contains(err.Error(), "cret") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestASlowClient is told so when the server's time for reading is over, and one
// that breaks off leaves nothing behind.
func TestASlowClient(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		leave bool
		want  string
	}{"slow": {false, "HTTP/1.1 408 "}, "gone": {true, ""}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			served := make(chan struct{})
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				defer close(served)
				r.ServeHTTP(w, req)
			}))
			srv.Config.ReadTimeout = 200 * time.Millisecond
			if tc.leave {
				srv.Config.ReadTimeout = time.Minute
			}
			srv.Start()
			t.Cleanup(srv.Close)
			var d net.Dialer
			conn, err := d.DialContext(context.Background(), "tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"a\":", Path, gatewayToken)
			if tc.leave {
				if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			text, err := io.ReadAll(conn)
			<-served
			if err != nil || !strings.HasPrefix(string(text), tc.want) {
				t.Errorf("got %q, %v, want %q", text, err, tc.want)
			}
			if r.broker.count() != 0 || len(r.sources[0].slots) != 0 {
				t.Errorf("%d records, %d slots taken", r.broker.count(), len(r.sources[0].slots))
			}
			if n := r.counted(t, "requests_total", "gateway", map[bool]string{false: "408", true: "400"}[tc.leave]); n != 1 {
				t.Errorf("counted %v such requests", n)
			}
		})
	}
}
