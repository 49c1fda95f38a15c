package mapping_test

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/configs"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/mapping"
	"github.com/keysentry/keysentry/internal/published"
)

var options = mapping.Options{Year: 2015, Key: []byte("test key")}

func shipped(t testing.TB, name string) *mapping.Mapping {
	t.Helper()
	sub, err := fs.Sub(configs.Mappings, "mappings")
	if err != nil {
		t.Fatal(err)
	}
	m, err := mapping.Load(sub, name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// mapAll maps every record and returns the events, failing on any that is none.
func mapAll(t *testing.T, m *mapping.Mapping, records [][]byte) []event.Event {
	t.Helper()
	var out []event.Event
	for i, r := range records {
		m.Map(r, options, func(_ int32, e *event.Event, err error) {
			if err == nil {
				err = e.ValidateMapped()
			}
			if err != nil {
				t.Errorf("record %d: %v: %.200s", i, err, r)
				return
			}
			out = append(out, *e)
		})
	}
	return out
}

func byType(events []event.Event) map[string]int {
	out := map[string]int{}
	for i := range events {
		out[events[i].Type.String()]++
	}
	return out
}

func TestOpenSSHLog(t *testing.T) {
	t.Parallel()
	all := published.Lines(t, "openssh/OpenSSH_2k.log")
	events := mapAll(t, shipped(t, "openssh"), all)
	if len(events) != len(all) || len(all) != 2000 {
		t.Fatalf("%d events of %d lines", len(events), len(all))
	}
	failed := 0
	for _, l := range all {
		if bytes.Contains(l, []byte("]: Failed ")) || bytes.Contains(l, []byte("[ Failed ")) {
			failed++
		}
	}
	want := map[string]int{"session.denied": failed, "session.created": 1, "log.record": 2000 - failed - 1}
	if d := cmp.Diff(want, byType(events)); d != "" {
		t.Error(d)
	}
	for i := range events {
		e := &events[i]
		if e.Type == event.TypeSessionDenied && (!e.Has(event.FieldUserID) && !bytes.Contains(all[i], []byte("invalid user  from")) || !e.SourceIP.IsValid()) {
			t.Errorf("line %d has no user or address: %s", i, all[i])
		}
		if e.Host != "LabSZ" || e.Time.Time().Year() != 2015 {
			t.Errorf("line %d: host %q, time %v", i, e.Host, e.Time)
		}
	}
}

func TestCloudTrailEvents(t *testing.T) {
	t.Parallel()
	all := published.Lines(t, "cloudtrail-attacks/events.ndjson.gz")
	events := mapAll(t, shipped(t, "cloudtrail"), all)
	if len(events) != len(all) || len(all) != 1233 {
		t.Fatalf("%d events of %d records", len(events), len(all))
	}
	got := byType(events)
	t.Log(got)
	if got["request.unauthorized"] < 20 || got["auth_token.issued"] == 0 || got["auth_token.denied"] == 0 || got["session.created"] != 1 {
		t.Errorf("types: %v", got)
	}
	total := 0
	for _, n := range got {
		total += n
	}
	if total != 1233 {
		t.Errorf("%d events", total)
	}
	for i := range events {
		e := &events[i]
		if e.Network != "123837392027" || e.UserID == "" || e.Endpoint == "" {
			t.Errorf("record %d: network %q, user %q, endpoint %q", i, e.Network, e.UserID, e.Endpoint)
		}
		out := string(event.Append(nil, e))
		for _, id := range accessKeys(all[i]) {
			if strings.Contains(out, id) {
				t.Errorf("record %d: an access key id got through", i)
			}
		}
		if e.Has(event.FieldKeyID) && !event.IsFingerprint(e.KeyID) {
			t.Errorf("record %d: key_id %q", i, e.KeyID)
		}
		var back event.Event
		if err := event.Decode([]byte(out), event.Limits{}, &back); err != nil {
			t.Errorf("record %d: the event is not canonical: %v", i, err)
		}
	}
}

// accessKeys finds the values of accessKeyId in a record.
func accessKeys(record []byte) []string {
	var out []string
	for _, p := range strings.Split(string(record), `"accessKeyId"`)[1:] {
		if f := strings.SplitN(p, `"`, 3); len(f) == 3 {
			out = append(out, f[1])
		}
	}
	return out
}

func TestShippedCases(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		mapping, record string
		typ             event.Type
		fields          map[string]string // "": absent
	}{
		"ssh password refused": {"openssh", "Dec 10 06:55:48 web-1 sshd[24200]: Failed password for invalid user webmaster from 173.234.31.186 port 38926 ssh2", event.TypeSessionDenied,
			map[string]string{"user_id": "webmaster", "source_ip": "173.234.31.186", "host": "web-1", "code": "invalid_user", "time": "2015-12-10T06:55:48Z", "service": "sshd"}},
		"ssh password of a known user": {"openssh", "Dec  1 06:55:48 web-1 sshd[1]: Failed password for root from 2001:db8::7 port 1 ssh2", event.TypeSessionDenied,
			map[string]string{"user_id": "root", "source_ip": "2001:db8::7", "code": "failed_password", "endpoint": "ssh/password"}},
		"a user who is called from": {"openssh", "Dec  1 06:55:48 w sshd[1]: Failed password for invalid user a from 1.2.3.4 from 5.6.7.8 port 1 ssh2", event.TypeSessionDenied,
			map[string]string{"user_id": "a from 1.2.3.4", "source_ip": "5.6.7.8"}},
		"no user at all": {"openssh", "Dec  1 06:55:48 w sshd[1]: Failed none for invalid user  from 5.6.7.8 port 1 ssh2", event.TypeSessionDenied,
			map[string]string{"user_id": "", "source_ip": "5.6.7.8"}},
		"ssh accepted": {"openssh", "Dec 10 09:32:20 w sshd[7]: Accepted password for fztu from 119.137.62.142 port 49116 ssh2", event.TypeSessionCreated,
			map[string]string{"user_id": "fztu", "source_ip": "119.137.62.142"}},
		"disconnect": {"openssh", "Dec 10 09:32:20 w sshd[7]: Received disconnect from 119.137.62.142: 11: Bye Bye [preauth]", event.TypeLogRecord,
			map[string]string{"source_ip": "119.137.62.142", "reason": "Received disconnect from 119.137.62.142: 11: Bye Bye [preauth]"}},
		"line without address": {"openssh", "Dec 10 09:32:20 w sshd[7]: pam_unix(sshd:auth): check pass; user unknown", event.TypeLogRecord,
			map[string]string{"source_ip": ""}},
		"call": {"cloudtrail", `{"eventName":"ListBuckets","eventSource":"s3.amazonaws.com","eventTime":"2023-07-10T11:42:36Z","recipientAccountId":"1","sourceIPAddress":"10.0.0.1","userIdentity":{"type":"Root"}}`,
			event.TypeRequestAllowed, map[string]string{"endpoint": "s3.amazonaws.com/ListBuckets", "network": "1", "user_id": "Root", "source_ip": "10.0.0.1", "key_id": ""}},
		"call by AWS itself": {"cloudtrail", `{"eventName":"X","eventSource":"s","eventTime":"2023-07-10T11:42:36Z","sourceIPAddress":"AWS Internal","userIdentity":{"accountId":"2","invokedBy":"AWS Internal"}}`,
			event.TypeRequestAllowed, map[string]string{"source_ip": "", "network": "2", "actor": "AWS Internal"}},
		"call refused": {"cloudtrail", `{"eventName":"X","eventSource":"s","eventTime":"2023-07-10T11:42:36Z","errorCode":"Client.UnauthorizedOperation","errorMessage":"no"}`,
			event.TypeRequestUnauthorized, map[string]string{"code": "Client.UnauthorizedOperation", "reason": "no"}},
		"call failed otherwise": {"cloudtrail", `{"eventName":"X","eventSource":"s","eventTime":"2023-07-10T11:42:36Z","errorCode":"NoSuchBucketPolicy"}`,
			event.TypeRequestAllowed, map[string]string{"code": "NoSuchBucketPolicy"}},
		"login refused": {"cloudtrail", `{"eventName":"ConsoleLogin","eventSource":"s","eventTime":"2023-07-10T11:42:36Z","responseElements":{"ConsoleLogin":"Failure"}}`,
			event.TypeSessionDenied, nil},
		"login": {"cloudtrail", `{"eventName":"ConsoleLogin","eventSource":"s","eventTime":"2023-07-10T11:42:36Z","responseElements":{"ConsoleLogin":"Success"}}`,
			event.TypeSessionCreated, nil},
		"mint": {"cloudtrail", `{"eventName":"AssumeRole","eventSource":"s","eventTime":"2023-07-10T11:42:36Z","userIdentity":{"accessKeyId":"AKIAX"},"responseElements":{"credentials":{"accessKeyId":"ASIAY","sessionToken":"t"}}}`,
			event.TypeAuthTokenIssued, map[string]string{"key_id": event.Fingerprint(options.Key, "AKIAX"), "token_id": event.Fingerprint(options.Key, "ASIAY")}},
		"mint refused": {"cloudtrail", `{"eventName":"GetSessionToken","eventSource":"s","eventTime":"2023-07-10T11:42:36Z","errorCode":"AccessDenied"}`,
			event.TypeAuthTokenDenied, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			events := mapAll(t, shipped(t, tc.mapping), [][]byte{[]byte(tc.record)})
			if len(events) != 1 || events[0].Type != tc.typ {
				t.Fatalf("got %v, want one %v", byType(events), tc.typ)
			}
			for field, want := range tc.fields {
				f, _ := event.ParseField(field)
				if got, _ := events[0].Text(f); got != want {
					t.Errorf("%s = %q, want %q", field, got, want)
				}
			}
		})
	}
}

func TestMapRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		mapping, record string
		problem         event.Problem
	}{
		"empty":               {"openssh", "", event.ProblemEmpty},
		"another program":     {"openssh", "Dec 10 06:55:48 w cron[1]: x", event.ProblemNotMapped},
		"invalid UTF-8":       {"openssh", "Dec 10 06:55:48 w sshd[1]: \xff", event.ProblemBadUTF8},
		"day 32":              {"openssh", "Dec 32 06:55:48 w sshd[1]: x", event.ProblemBadTime},
		"65 KiB of quotes":    {"nginx", "203.0.113.9 - - [01/Mar/2026:10:00:00 +0000] \"GET /" + strings.Repeat("x\"", 33<<10) + " HTTP/1.1\" 200 1 \"-\" \"-\"", event.ProblemTooLarge},
		"two megabytes":       {"openssh", strings.Repeat("x", 2<<20), event.ProblemTooLarge},
		"bad JSON":            {"cloudtrail", `{"eventName":`, event.ProblemBadJSON},
		"array":               {"cloudtrail", `[]`, event.ProblemNotObject},
		"deep":                {"cloudtrail", strings.Repeat(`[`, 10_000), event.ProblemTooDeep},
		"year 1":              {"cloudtrail", `{"eventName":"X","eventSource":"s","eventTime":"0001-01-01T00:00:00Z"}`, event.ProblemBadTime},
		"record is no object": {"cloudtrail", `{"Records":[1]}`, event.ProblemNotObject},
		"long id":             {"cloudtrail", `{"eventName":"X","eventSource":"s","eventTime":"2023-07-10T11:42:36Z","eventID":"` + strings.Repeat("x", 200) + `"}`, event.ProblemBadValue},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			shipped(t, tc.mapping).Map([]byte(tc.record), options, func(_ int32, e *event.Event, err error) {
				calls++
				var de *event.DecodeError
				if e != nil || !errors.As(err, &de) || de.Problem != tc.problem {
					t.Errorf("got %v, want %v", err, tc.problem)
				}
			})
			if calls != 1 {
				t.Errorf("emit was called %d times", calls)
			}
		})
	}
}

func TestMapManyRecordsInOneMessage(t *testing.T) {
	t.Parallel()
	one := `{"eventName":"X","eventSource":"s","eventTime":"2023-07-10T11:42:36Z"}`
	var got []int32
	shipped(t, "cloudtrail").Map([]byte(`{"Records":[`+one+`,{"eventName":"X","eventSource":"s","eventTime":"never"},`+one+`]}`), options,
		func(idx int32, e *event.Event, err error) {
			if (err != nil) != (idx == 1) {
				t.Errorf("record %d: %v", idx, err)
			}
			got = append(got, idx)
		})
	if d := cmp.Diff([]int32{0, 1, 2}, got); d != "" {
		t.Error(d)
	}
}

// FuzzMap: for every shipped mapping, what comes of a record is an event that is
// canonical or an error, and at least one; a record that is recognised becomes
// the same by its content as by name.
func FuzzMap(f *testing.F) {
	f.Add([]byte("Dec 10 06:55:48 w sshd[24200]: Failed password for invalid user webmaster from 173.234.31.186 port 38926 ssh2"))
	var all []*mapping.Mapping
	for _, name := range ownNames(f) {
		all = append(all, shipped(f, name))
		for _, r := range ownSamples(f, name) {
			f.Add(r)
		}
	}
	set := shippedSet(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		byName := map[string][]string{}
		for _, m := range all {
			m.Map(data, options, func(idx int32, e *event.Event, err error) {
				if int(idx) != len(byName[m.Name()]) {
					t.Fatalf("event %d came at %d", idx, len(byName[m.Name()]))
				}
				byName[m.Name()] = append(byName[m.Name()], outcome(t, e, err))
			})
			if len(byName[m.Name()]) == 0 {
				t.Fatalf("nothing came of the record by %s", m.Name())
			}
			m.Unread(data, options)
		}
		choice, err := set.Choose(data, options)
		if err != nil || choice.Canonical() {
			return
		}
		var got []string
		choice.Map(options, func(_ int32, e *event.Event, err error) { got = append(got, outcome(t, e, err)) })
		if d := cmp.Diff(byName[choice.Mapping().Name()], got); d != "" {
			t.Fatalf("by content it becomes another than by name: %s", d)
		}
	})
}

// outcome is one event, which must be canonical, or one error.
func outcome(t *testing.T, e *event.Event, err error) string {
	t.Helper()
	if (e == nil) == (err == nil) {
		t.Fatal("want either an event or an error")
	}
	if err != nil {
		return err.Error()
	}
	text := event.Append(nil, e)
	var back event.Event
	if derr := event.Decode(text, event.Limits{MaxBytes: 1 << 20}, &back); derr != nil {
		t.Fatalf("the event is not canonical: %v", derr)
	}
	return string(text)
}

// BenchmarkMap maps the first sample of each mapping, by name and by content.
func BenchmarkMap(b *testing.B) {
	set := shippedSet(b)
	for _, name := range ownNames(b) {
		m, record := shipped(b, name), ownSamples(b, name)[0]
		b.Run("by_name/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(record)))
			for b.Loop() {
				m.Map(record, options, func(int32, *event.Event, error) {})
			}
		})
		b.Run("auto/"+name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(record)))
			for b.Loop() {
				choice, err := set.Choose(record, options)
				if err != nil {
					b.Fatal(err)
				}
				choice.Map(options, func(int32, *event.Event, error) {})
			}
		})
	}
}
