package console

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/suspicion"
	"github.com/keysentry/keysentry/internal/secret"
)

const keyValue = "sk-live-0123456789"

func TestAdopt(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body, refuse string
		err          error
		code, asked  int
	}{
		"a key":             {`{"network":"net","value":"` + keyValue + `","created":"2026-03-01T00:00:00Z"}`, "", nil, http.StatusOK, 1},
		"refused":           {`{"network":"net","value":"` + keyValue + `"}`, "it does not work", nil, http.StatusConflict, 1},
		"not recorded":      {`{"network":"net","value":"` + keyValue + `"}`, "", errors.New("no leader"), http.StatusServiceUnavailable, 1},
		"nothing":           {`{"network":"net"}`, "", nil, http.StatusBadRequest, 0},
		"too much":          {`{"network":"net","value":"` + strings.Repeat("x", maxKey+1) + `"}`, "", nil, http.StatusBadRequest, 0},
		"in another field":  {`{"network":"net","key":"` + keyValue + `"}`, "", nil, http.StatusBadRequest, 0},
		"a date that isn't": {`{"network":"net","value":"` + keyValue + `","created":"soon"}`, "", nil, http.StatusBadRequest, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &office{refuse: tc.refuse, err: tc.err}
			code, text := post(t, serve(t, o, "").URL+"/api/v1/keys/adopt", "of ada", tc.body)
			if code != tc.code || len(o.adopted) != tc.asked {
				t.Fatalf("got %d %s, adopted %d; want %d and %d", code, text, len(o.adopted), tc.code, tc.asked)
			}
			if strings.Contains(text, keyValue) {
				t.Errorf("the answer holds the key: %s", text)
			}
			if tc.asked == 1 && (o.adopted[0].Person != "ada" || o.adopted[0].Value.Reveal() != keyValue) {
				t.Errorf("%+v", o.adopted[0])
			}
		})
	}
}

// The door for decisions takes no adoption: nobody is to say for the platform that
// it agreed.
func TestNobodySpeaksForThePlatform(t *testing.T) {
	t.Parallel()
	o := &office{}
	url := serve(t, o, "").URL + "/api/v1/decisions"
	if code, text := post(t, url, "of ada", `{"id":"x","action":"adopt_key","network":"net","key_id":"k","probe":"agreed"}`); code != http.StatusBadRequest || len(o.decided) != 0 {
		t.Errorf("got %d %s, decided %v", code, text, o.decided)
	}
	if code, _ := post(t, url, "of ada", `{"id":"x","action":"report_leak","network":"net","probe":"agreed","reason":"seen"}`); code != http.StatusOK || o.decided[0].Probe != "" || o.decided[0].Network != "net" {
		t.Errorf("got %d, decided %+v", code, o.decided)
	}
}

func TestClientOfKeys(t *testing.T) {
	t.Parallel()
	o := &office{}
	c, err := NewClient(serve(t, o, "").URL, secret.New("of ada"), "")
	if err != nil {
		t.Fatal(err)
	}
	if rows, err := c.Keys(t.Context(), "a&b"); err != nil || len(rows) != 1 || rows[0].Network != "a&b" {
		t.Errorf("%+v, %v", rows, err)
	}
	if d, err := c.Adopt(t.Context(), AdoptRequest{Network: "net", Value: keyValue}); err != nil || d.KeyID != "k" {
		t.Errorf("%+v, %v", d, err)
	}
	o.refuse = "it does not work"
	var refused *Refused
	if _, err := c.Adopt(t.Context(), AdoptRequest{Network: "net", Value: keyValue}); !errors.As(err, &refused) || refused.Message != o.refuse {
		t.Errorf("%v", err)
	}
}

// The page says why, and a rule's title stays text.
func TestPageSaysWhy(t *testing.T) {
	t.Parallel()
	o := &office{known: []incident.Incident{{ID: "i", Kind: finding.KeyCompromise, Suspicion: &suspicion.Assessment{LogOdds: 1,
		Contributions: []suspicion.Contribution{{RuleTitle: "<b>Outside</b>", Family: finding.Place, Adds: 3, Findings: 1}},
		Gate:          suspicion.Gate{Lacks: "a second signal"}}}}}
	text := get(t, serve(t, o, "").URL+"/incidents/i")
	if !strings.Contains(text, "&#43;3.0 place: &lt;b&gt;Outside") || !strings.Contains(text, "it lacks a second signal") {
		t.Error(text)
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
