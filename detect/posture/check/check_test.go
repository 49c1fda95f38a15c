package check

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/event"
)

type registry struct {
	keys  []posture.ServerKey
	certs []posture.Certificate
	err   error
}

func (r registry) ServerKeys(context.Context) ([]posture.ServerKey, error)     { return r.keys, r.err }
func (r registry) Certificates(context.Context) ([]posture.Certificate, error) { return r.certs, r.err }

var now = time.Date(2026, 11, 23, 6, 10, 0, 0, time.UTC)

type verdict struct {
	Status   posture.Status
	Severity finding.Severity
	Stage    string
	Value    string
}

func TestKeyAge(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		created event.Instant
		state   string
		want    []verdict
	}{
		"new":                   {event.At(now.Add(-time.Hour)), "active", []verdict{{posture.Pass, finding.Ticket, "", "0 days"}}},
		"334 days":              {event.At(now.Add(-335*day + time.Second)), "active", []verdict{{posture.Pass, finding.Ticket, "", "334 days"}}},
		"335 days":              {event.At(now.Add(-335 * day)), "active", []verdict{{posture.Warn, finding.Ticket, "335", "335 days"}}},
		"365 days less a bit":   {event.At(now.Add(-365*day + time.Second)), "active", []verdict{{posture.Warn, finding.Ticket, "335", "364 days"}}},
		"365 days":              {event.At(now.Add(-365 * day)), "active", []verdict{{posture.Fail, finding.Ticket, "365", "365 days"}}},
		"retired but not dead":  {event.At(now.Add(-400 * day)), "retired", []verdict{{posture.Fail, finding.Ticket, "365", "400 days"}}},
		"revoked":               {event.At(now.Add(-400 * day)), "revoked", nil},
		"unknown age":           {0, "active", []verdict{{posture.Unknown, finding.Ticket, "unknown", "unknown age"}}},
		"created in the future": {event.At(now.Add(day)), "active", []verdict{{posture.Unknown, finding.Ticket, "unknown", "unknown age"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := KeyAge{registry{keys: []posture.ServerKey{{Network: "n", KeyID: "k", State: tc.state, Created: tc.created}}}}
			check(t, c, tc.want)
		})
	}
}

func TestCertificateLead(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		lead  time.Duration
		state string
		want  []verdict
	}{
		"a year":               {365 * day, "active", []verdict{{posture.Pass, finding.Digest, "", "365 days left"}}},
		"more than 45 days":    {45*day + time.Second, "active", []verdict{{posture.Pass, finding.Digest, "", "45 days left"}}},
		"45 days":              {45 * day, "active", []verdict{{posture.Warn, finding.Ticket, "45", "45 days left"}}},
		"30 days":              {30 * day, "active", []verdict{{posture.Warn, finding.Ticket, "45", "30 days left"}}},
		"less than 30 days":    {30*day - time.Second, "active", []verdict{{posture.Fail, finding.Ticket, "30", "29 days left"}}},
		"a week":               {7 * day, "active", []verdict{{posture.Fail, finding.Page, "7", "7 days left"}}},
		"a day":                {day, "issued", []verdict{{posture.Fail, finding.Page, "1", "1 day left"}}},
		"over":                 {-day, "active", []verdict{{posture.Fail, finding.Page, "expired", "0 days left"}}},
		"over, but disabled":   {-day, "disabled", nil},
		"requested has no end": {-day, "requested", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cert := posture.Certificate{Network: "n", CertID: "c", State: tc.state, NotAfter: event.At(now.Add(tc.lead))}
			check(t, CertificateLead{Registry: registry{certs: []posture.Certificate{cert}}}, tc.want)
		})
	}
	check(t, CertificateLead{Registry: registry{certs: []posture.Certificate{{CertID: "c", State: "active"}}}},
		[]verdict{{posture.Unknown, finding.Ticket, "unknown", "unknown end"}})
}

func check(t *testing.T, c posture.Check, want []verdict) {
	t.Helper()
	res, err := c.Run(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	var got []verdict
	for _, r := range res {
		got = append(got, verdict{r.Status, r.Severity, r.Stage, r.Value})
		if (r.Stage == "") != (r.Status == posture.Pass) || (r.Summary == "") != (r.Stage == "") || (r.Resolution == "") != (r.Stage == "") {
			t.Errorf("stage, summary and resolution belong together: %+v", r)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFaultsOfSourcesAreErrors(t *testing.T) {
	t.Parallel()
	fault := errors.New("no route")
	all := All(Sources{Registry: registry{err: fault}, Facts: facts{err: fault}, Coverage: coverage{err: fault}})
	if len(all) != 8 {
		t.Errorf("%d checks", len(all))
	}
	for _, c := range all {
		if _, err := c.Run(t.Context(), now); !errors.Is(err, fault) {
			t.Errorf("%s passed over a source that cannot be read: %v", c.Name(), err)
		}
		if !posture.ValidName(c.Name()) || c.Title() == "" || c.Target() == "" {
			t.Errorf("%s is not named well", c.Name())
		}
	}
}
