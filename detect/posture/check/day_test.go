package check

import (
	"context"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/event"
)

// facts are what a test says that the events hold.
type facts struct {
	mints    []posture.Mints
	refusals []posture.Refusals
	covered  []posture.MintCoverage
	failures []posture.Failures
	modes    []posture.SecureMode
	err      error
}

func (f facts) Mints(_ context.Context, since, until event.Instant) ([]posture.Mints, error) {
	if until.Sub(since) != day {
		panic("not a day")
	}
	return f.mints, f.err
}
func (f facts) Unauthorized(context.Context, event.Instant, event.Instant) ([]posture.Refusals, error) {
	return f.refusals, f.err
}
func (f facts) MintCoverage(context.Context, event.Instant, event.Instant) ([]posture.MintCoverage, error) {
	return f.covered, f.err
}
func (f facts) Failures(context.Context, event.Instant, event.Instant) ([]posture.Failures, error) {
	return f.failures, f.err
}
func (f facts) SecureModes(context.Context, event.Instant) ([]posture.SecureMode, error) {
	return f.modes, f.err
}

type coverage struct {
	held posture.Held
	err  error
}

func (c coverage) Coverage(context.Context, time.Time) (posture.Held, error) { return c.held, c.err }

// line is what a test wants of a result: network, subject, status, stage, value.
func line(r posture.Result) string {
	return strings.Join([]string{r.Subject.Network, r.Subject.Field + "=" + r.Subject.Value, string(r.Status), r.Stage, r.Value}, " | ")
}

func lines(t *testing.T, c posture.Check, want ...string) []posture.Result {
	t.Helper()
	res, err := c.Run(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range res {
		got = append(got, line(r))
		if r.Stage != "" && (r.Summary == "" || r.Resolution == "" || r.Status == posture.Pass) {
			t.Errorf("a stage needs a summary and a resolution: %+v", r)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	return res
}

func TestUnauthorized(t *testing.T) {
	t.Parallel()
	f := facts{
		mints:    []posture.Mints{{Network: "clean", Issued: 5}, {Network: "bad", Issued: 9}},
		refusals: []posture.Refusals{{Network: "bad", Cause: "unknown_key", SourceIP: "203.0.113.9", Count: 1, Query: "SELECT 1"}, {Network: "bad", Cause: "cert_expired", Host: "mint-1", Count: 3}},
	}
	res := lines(t, Unauthorized{daily{f, []string{"bad", "silent"}}},
		"bad | source_ip=203.0.113.9 | fail | unknown_key | 1 attempt", "bad | host=mint-1 | fail | cert_expired | 3 attempts",
		"clean | network=clean | pass |  | 0", "silent | network=silent | unknown |  | no mint and no refusal")
	if res[0].Query != "SELECT 1" || res[0].Since != today(now) || res[0].Resolution == res[1].Resolution {
		t.Errorf("%+v", res[0])
	}
	lines(t, Unauthorized{daily{facts{}, nil}})
}

func TestMTLSCoverage(t *testing.T) {
	t.Parallel()
	f := facts{covered: []posture.MintCoverage{
		{Network: "n", Service: "all", Mints: 100, WithCert: 100},
		{Network: "n", Service: "most", Mints: 100_000, WithCert: 99_999, Hosts: []string{"a", "b"}, HostCount: 5},
		{Network: "n", Service: "none", Mints: 4, WithCert: 0},
	}}
	res := lines(t, MTLSCoverage{daily{f, []string{"n", "silent"}}},
		"n | service=all | pass |  | 100.0 % of 100 mints", "n | service=most | fail | below | 99.9 % of 100000 mints",
		"n | service=none | fail | below | 0.0 % of 4 mints", "silent | network=silent | unknown |  | no mint")
	if got := res[1].Facts[1].Value; got != "a, b and 3 more" {
		t.Error(got)
	}
}

func TestTokenFailure(t *testing.T) {
	t.Parallel()
	f := facts{failures: []posture.Failures{
		{Network: "n", Stage: "mint", Attempts: 1000, Failed: 19}, {Network: "n", Stage: "redeem", Attempts: 1000, Failed: 20, Causes: []string{"expired_auth_token"}},
		{Network: "m", Stage: "mint", Attempts: 10, Failed: 1},
	}}
	lines(t, TokenFailure{daily{f, []string{"silent"}}}, "n | stage=mint | pass |  | 1.9 % of 1000 attempts", "n | stage=redeem | fail | 2 | 2.0 % of 1000 attempts",
		"m | stage=mint | warn | 2-few | 10.0 % of 10 attempts", "silent | network=silent | unknown |  | no attempt")
}

func TestSecureMode(t *testing.T) {
	t.Parallel()
	f := facts{
		modes: []posture.SecureMode{{Network: "off", At: event.At(now.Add(-50 * day)), Actor: "eve"}, {Network: "on", On: true, At: 1}, {Network: "on-but", On: true, At: 1}},
		mints: []posture.Mints{{Network: "on-but", Issued: 10, Unsecure: 1}, {Network: "refused", RefusedOff: 2}, {Network: "mints", Issued: 3, Secure: 3}, {Network: "silent-mints", Issued: 3, Secure: 2}},
	}
	lines(t, SecureMode{daily{f, []string{"on", "unheard"}}},
		"mints | network=mints | pass |  | on, as every mint of the day says", "off | network=off | fail | off | off", "on | network=on | pass |  | on",
		"on-but | network=on-but | fail | unsecure | unsecure mints", "refused | network=refused | fail | refused | off",
		"silent-mints | network=silent-mints | unknown |  | not told", "unheard | network=unheard | unknown |  | no switch and no mint")
}

func TestActiveCertificates(t *testing.T) {
	t.Parallel()
	cert := func(network, id, state string, end time.Duration) posture.Certificate {
		return posture.Certificate{Network: network, CertID: id, State: state, NotAfter: event.At(now.Add(end))}
	}
	reg := registry{certs: []posture.Certificate{
		cert("two", "a", "active", day), cert("two", "b", "active", day), cert("two", "old", "active", -day), cert("two", "c", "disabled", day), cert("two", "d", "issued", day),
		cert("three", "a", "active", day), cert("three", "b", "active", day), {Network: "three", CertID: "c", State: "active"},
		cert("none", "a", "disabled", day),
	}}
	lines(t, ActiveCertificates{reg}, "none | network=none | pass |  | 0", "three | network=three | fail | above | 3", "two | network=two | pass |  | 2")
	lines(t, ActiveCertificates{registry{}})
}

func TestDataCoverage(t *testing.T) {
	t.Parallel()
	held := posture.Held{Networks: []posture.NetworkCoverage{{Network: "all", Expected: 10, Held: 10}, {Network: "part", Expected: 10, Held: 9}, {Network: "zero"},
		{Network: "quiet", Expected: 10, Held: 10, Silent: []string{"h"}}}, Lost: []string{"t/0 1-2 lost"}}
	res, err := DataCoverage{coverage{held: held}, []string{"all", "unmeasured"}}.Run(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range res {
		got = append(got, r.Subject.Value+" "+string(r.Status)+" "+r.Stage)
	}
	want := []string{"all pass ", "part fail partial", "zero unknown ", "quiet fail partial", "unmeasured unknown ", "lost fail lost"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDeployedCertificateFiles(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	dir := t.TempDir()
	end := now.Add(20 * day)
	made := a.issue("backend", end)
	file := filepath.Join(dir, "client.pem")
	writePEM(t, file, "CERTIFICATE", made.Certificate[0])
	k, err := ReadCertificate(CertFile{"n", file})
	if err != nil || k.CN != "backend" || k.NotAfter != event.At(end) || len(k.CertID) != 64 {
		t.Fatal(k, err)
	}
	told := func(change func(*posture.Certificate)) []posture.Certificate {
		c := k
		c.CertID = "hmac:1"
		change(&c)
		return []posture.Certificate{c}
	}
	for name, tc := range map[string]struct {
		certs []posture.Certificate
		want  []string
	}{
		"never told of":        {nil, []string{"cert_id=" + k.CertID + " fail 30"}},
		"told, keyed id":       {told(func(*posture.Certificate) {}), []string{"cert_id=hmac:1 fail 30"}},
		"told, other spelling": {told(func(c *posture.Certificate) { c.CertID = "SHA256:" + strings.ToUpper(k.CertID); c.CN = "" }), []string{"cert_id=SHA256:" + strings.ToUpper(k.CertID) + " fail 30"}},
		"another end": {told(func(c *posture.Certificate) { c.CertID, c.NotAfter = k.CertID, event.At(now.Add(300*day)) }),
			[]string{"cert_id=" + k.CertID + " pass ", "cert_id=" + k.CertID + " fail 30", "file=" + file + " warn mismatch"}},
		"disabled": {told(func(c *posture.Certificate) { c.State = "disabled" }), []string{"file=" + file + " warn mismatch"}},
		"another is active": {told(func(c *posture.Certificate) { c.NotAfter = event.At(now.Add(300 * day)) }),
			[]string{"cert_id=hmac:1 pass ", "cert_id=" + k.CertID + " fail 30", "file=" + file + " warn mismatch"}},
		"of another network": {told(func(c *posture.Certificate) { c.Network = "m" }), []string{"cert_id=hmac:1 fail 30", "cert_id=" + k.CertID + " fail 30"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, err := CertificateLead{registry{certs: tc.certs}, []CertFile{{"n", file}}}.Run(t.Context(), now)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range res {
				got = append(got, r.Subject.Field+"="+r.Subject.Value+" "+string(r.Status)+" "+r.Stage)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUnreadableCertificateFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(name string, text []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	made := newAuthority(t).issue("b", now)
	both := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("x")})...)
	for want, file := range map[string]string{
		"no such file":         filepath.Join(dir, "missing"),
		"holds no certificate": put("text", []byte("hello")),
		"holds a private key":  put("both", both),
		"parse certificate":    put("broken", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})),
		"is larger than":       put("large", make([]byte, maxPEM+1)),
	} {
		res := lines(t, CertificateLead{registry{}, []CertFile{{"n", file}}}, "n | file="+file+" | unknown | unreadable | not read")
		if got := res[0].Facts[0].Value; !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
