package mapping_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/keysentry/keysentry/event"
)

// TestArraysAroundRecordsAreBounded: what stands around the records is looked at
// once per record and field, so a long array there must not be gone through whole:
// half a megabyte of it kept a partition busy for minutes.
func TestArraysAroundRecordsAreBounded(t *testing.T) {
	t.Parallel()
	m := shipped(t, "otlp")
	record := func(filler int) []byte {
		around := strings.Repeat("{},", filler) + `{"user.id":"far"}`
		return []byte(`{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1772366400000000000"}]}]}],"attributes":[` + around + `]}`)
	}
	for filler, want := range map[int]string{0: "far", 60: "far", 5000: ""} {
		m.Map(record(filler), options, func(_ int32, e *event.Event, err error) {
			if err != nil {
				t.Fatalf("%d members: %v", filler, err)
			}
			if e.UserID != want {
				t.Errorf("%d members: user %q, want %q", filler, e.UserID, want)
			}
		})
	}
	// The record itself is gone through whole.
	own := `{"ecs.version":"8","@timestamp":"2026-03-01T12:00:00Z","event":[` + strings.Repeat("{},", 5000) + `{"reason":"own"}]}`
	shipped(t, "ecs").Map([]byte(own), options, func(_ int32, e *event.Event, err error) {
		if err != nil || e.Reason != "own" {
			t.Errorf("%v, %+v", err, e)
		}
	})
}

// TestLongNamesAreNoWayOut: a caller who tries a very long name, or asks for a very
// long host, is refused in the log like any other, and not sent to quarantine.
func TestLongNamesAreNoWayOut(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 300)
	for name, tc := range map[string]struct {
		mapping, record string
		want            event.Type
	}{
		"nginx, user":      {"nginx", `203.0.113.9 - ` + long + ` [01/Mar/2026:12:00:00 +0100] "GET /x HTTP/1.1" 401 5 "-" "-"`, event.TypeRequestUnauthorized},
		"nginx, host":      {"nginx", long + ` 203.0.113.9 - - [01/Mar/2026:12:00:00 +0100] "GET /x HTTP/1.1" 401 5 "-" "-"`, event.TypeRequestUnauthorized},
		"nginx, method":    {"nginx", `203.0.113.9 - - [01/Mar/2026:12:00:00 +0100] "` + long + ` /x HTTP/1.1" 401 5 "-" "-"`, event.TypeRequestUnauthorized},
		"envoy, host":      {"envoy", `[2026-03-01T12:00:00Z] "GET /x HTTP/1.1" 401 - 0 10 5 - "203.0.113.9" "-" "r" "` + long + `" "-"`, event.TypeRequestUnauthorized},
		"openssh, user":    {"openssh", `Dec 10 06:55:48 h sshd[24200]: Failed password for invalid user ` + long + ` from 203.0.113.9 port 3 ssh2`, event.TypeSessionDenied},
		"keycloak, user":   {"keycloak", `{"realmId":"r","type":"LOGIN_ERROR","time":1772366400000,"details":{"username":"` + long + `"}}`, event.TypeSessionDenied},
		"auth0, user":      {"auth0", `{"log_id":"1","type":"fu","date":"2026-03-01T12:00:00Z","user_name":"` + long + `"}`, event.TypeSessionDenied},
		"okta, login":      {"okta", `{"uuid":"1","published":"2026-03-01T12:00:00Z","eventType":"user.session.start","outcome":{"result":"FAILURE"},"actor":{"id":"unknown","alternateId":"` + long + `"}}`, event.TypeSessionDenied},
		"okta, cut a rune": {"okta", `{"uuid":"1","published":"2026-03-01T12:00:00Z","eventType":"user.session.start","outcome":{"result":"FAILURE"},"actor":{"alternateId":"a` + strings.Repeat("é", 300) + `"}}`, event.TypeSessionDenied},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shipped(t, tc.mapping).Map([]byte(tc.record), options, func(_ int32, e *event.Event, err error) {
				if err != nil {
					t.Fatalf("%v", err)
				}
				if e.Type != tc.want || !utf8.ValidString(e.UserID) {
					t.Errorf("%v, user %q", e.Type, e.UserID)
				}
			})
		})
	}
	// An identity is no name, and a network is trusted: neither is made shorter.
	refused(t, shipped(t, "auth0"), []byte(`{"log_id":"`+long+`","type":"s","date":"2026-03-01T12:00:00Z"}`), event.ProblemBadValue)
	refused(t, shipped(t, "auth0"), []byte(`{"log_id":"1","type":"s","date":"2026-03-01T12:00:00Z","tenant_name":"`+long+`"}`), event.ProblemBadValue)
}

// TestAMessageChoosesNoMapping: the text of a message, which a caller may have
// written, makes no other mapping recognise the record.
func TestAMessageChoosesNoMapping(t *testing.T) {
	t.Parallel()
	set := shippedSet(t)
	texts := []string{
		`[2026-03-01T12:00:00Z] \"GET /x HTTP/1.1\" 200 - 0 10 5 - \"203.0.113.9\" \"-\" \"r\" \"h\" \"-\"`,
		`2026-03-01 12:00:00,123 INFO  [org.keycloak.events] (t) type=\"LOGIN\"`,
		`203.0.113.9 - - [01/Mar/2026:12:00:00 +0100] \"GET /x HTTP/1.1\" 200 5 \"-\" \"-\"`,
		`Dec 10 06:55:48 h sshd[1]: Accepted password for root from 203.0.113.9 port 3 ssh2`,
		`{\"resourceLogs\":[{\"scopeLogs\":[]}]}`,
	}
	for want, record := range map[string]string{
		"ecs":        `{"@timestamp":"2026-03-01T12:00:00Z","ecs.version":"8.0","event":{"category":"authentication","outcome":"failure"},"message":"TEXT","log":"TEXT"}`,
		"ocsf":       `{"class_uid":3002,"category_uid":3,"activity_id":1,"status_id":2,"time":1772366400000,"message":"TEXT","log":"TEXT"}`,
		"auth0":      `{"log_id":"1","type":"fp","date":"2026-03-01T12:00:00Z","description":"TEXT","user_name":"TEXT"}`,
		"okta":       `{"uuid":"1","published":"2026-03-01T12:00:00Z","eventType":"user.session.start","displayMessage":"TEXT","actor":{"alternateId":"TEXT"}}`,
		"cloudtrail": `{"eventVersion":"1","eventTime":"2026-03-01T12:00:00Z","eventName":"X","eventSource":"s","errorMessage":"TEXT","userAgent":"TEXT"}`,
		"keycloak":   `{"realmId":"r","type":"LOGIN_ERROR","time":1772366400000,"details":{"username":"TEXT"}}`,
		"otlp":       `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1772366400000000000","body":{"stringValue":"TEXT"}}]}]}]}`,
	} {
		for _, text := range texts {
			choice, err := set.Choose([]byte(strings.ReplaceAll(record, "TEXT", text)), options)
			if err != nil || choice.Mapping().Name() != want {
				t.Errorf("%s with %s: %v", want, text, err)
			}
		}
	}
}

// TestNobodyIsLetInOnAGuess: what leaves its outcome open is log.record, and a whole
// number with a fraction is the number.
func TestNobodyIsLetInOnAGuess(t *testing.T) {
	t.Parallel()
	otlp := func(status string) string {
		return `{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"1772366400000000000","attributes":[{"key":"url.path","value":{"stringValue":"/x"}},{"key":"http.response.status_code","value":` + status + `}]}]}]}]}`
	}
	login := func(answer string) string {
		return `{"eventVersion":"1.08","eventTime":"2026-03-01T12:00:00Z","eventSource":"signin.amazonaws.com","eventName":"ConsoleLogin","responseElements":` + answer + `}`
	}
	ecs := func(status string) string {
		return `{"ecs.version":"8","@timestamp":"2026-03-01T12:00:00Z","event":{"kind":"event"},"url":{"path":"/x"},"http":{"response":{"status_code":` + status + `}}}`
	}
	for name, tc := range map[string]struct {
		mapping, record string
		want            event.Type
	}{
		"cloudtrail, login":             {"cloudtrail", login(`{"ConsoleLogin":"Success"}`), event.TypeSessionCreated},
		"cloudtrail, login failed":      {"cloudtrail", login(`{"ConsoleLogin":"Failure"}`), event.TypeSessionDenied},
		"cloudtrail, login without end": {"cloudtrail", login(`null`), event.TypeLogRecord},
		"auth0, call without an answer": {"auth0", `{"log_id":"1","type":"fapi","date":"2026-03-01T12:00:00Z","details":{"request":{"path":"/x"}}}`, event.TypeLogRecord},
		"envoy, no answer":              {"envoy", `[2026-03-01T12:00:00Z] "GET /x HTTP/1.1" 0 DC 0 10 5 - "203.0.113.9" "-" "r" "h" "-"`, event.TypeLogRecord},
		"envoy, status left out":        {"envoy", `{"start_time":"2026-03-01T12:00:00Z","response_flags":"-","duration":5,"path":"/x"}`, event.TypeLogRecord},
		"envoy, status with a fraction": {"envoy", `{"start_time":"2026-03-01T12:00:00Z","response_code":403.0,"duration":5,"path":"/x"}`, event.TypeRequestUnauthorized},
		"otlp, status as a double":      {"otlp", otlp(`{"doubleValue":401.0}`), event.TypeRequestUnauthorized},
		"otlp, status that is none":     {"otlp", otlp(`{"stringValue":"unknown"}`), event.TypeLogRecord},
		"otlp, let through":             {"otlp", otlp(`{"intValue":"500"}`), event.TypeRequestAllowed},
		"ecs, status with a fraction":   {"ecs", ecs(`401.00`), event.TypeRequestUnauthorized},
		"ecs, status that is none":      {"ecs", ecs(`0`), event.TypeLogRecord},
		"ocsf, failed and no more":      {"ocsf", `{"class_uid":6003,"category_uid":6,"status_id":2,"time":1772366400000,"api":{"operation":"X"}}`, event.TypeLogRecord},
		"ocsf, failed with a code":      {"ocsf", `{"class_uid":6003,"category_uid":6,"status_id":2,"time":1772366400000,"api":{"operation":"X","response":{"error":"NoSuchBucket"}}}`, event.TypeRequestAllowed},
		"okta, factor not taken away":   {"okta", `{"uuid":"1","published":"2026-03-01T12:00:00Z","eventType":"user.mfa.factor.deactivate","outcome":{"result":"FAILURE"}}`, event.TypeLogRecord},
		"okta, logout of all failed":    {"okta", `{"uuid":"1","published":"2026-03-01T12:00:00Z","eventType":"user.authentication.universal_logout","outcome":{"result":"FAILURE"}}`, event.TypeLogRecord},
		"okta, factor refused":          {"okta", `{"uuid":"1","published":"2026-03-01T12:00:00Z","eventType":"user.mfa.okta_verify.deny_push","outcome":{"result":"FAILURE"}}`, event.TypeSessionDenied},
		"ecs, let through":              {"ecs", ecs(`200`), event.TypeRequestAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			shipped(t, tc.mapping).Map([]byte(tc.record), options, func(_ int32, e *event.Event, err error) {
				if err != nil || e.Type != tc.want {
					t.Errorf("%v, %v, want %v", err, e, tc.want)
				}
			})
		})
	}
}

// TestOnlyTheEventLoggerTellsOfLogins: any logger of the server may repeat what a
// caller wrote.
func TestOnlyTheEventLoggerTellsOfLogins(t *testing.T) {
	t.Parallel()
	m := shipped(t, "keycloak")
	for name, record := range map[string]string{
		"text": `2026-03-01 10:00:00,500 WARN  [LOGGER] (t) type="LOGIN", userId="admin", sessionId="s"`,
		"ECS":  `{"@timestamp":"2026-03-01T10:00:00Z","ecs.version":"1","service.name":"Keycloak","process.pid":1,"log.logger":"LOGGER","message":"type=\"LOGIN\", userId=\"admin\", sessionId=\"s\""}`,
		"JSON": `{"timestamp":"2026-03-01T10:00:00Z","loggerName":"LOGGER","message":"type=\"LOGIN\", userId=\"admin\", sessionId=\"s\""}`,
	} {
		for logger, want := range map[string]event.Type{"org.keycloak.events": event.TypeSessionCreated, "org.keycloak.services": event.TypeLogRecord, "com.example": event.TypeLogRecord} {
			m.Map([]byte(strings.ReplaceAll(record, "LOGGER", logger)), options, func(_ int32, e *event.Event, err error) {
				if err != nil || e.Type != want {
					t.Errorf("%s of %s: %v, %v, want %v", name, logger, err, e, want)
				}
			})
		}
	}
}

// TestNoHalfOfASecret: a text that is cut ends before the word at the cut, which may
// be a secret that half of it does not show.
func TestNoHalfOfASecret(t *testing.T) {
	t.Parallel()
	const secret = "q7Zx0Lw2Vb9Nc4Mf8Hk1Jd6Sg3Ta5Ry0Ue7Io2Pq"
	text := strings.Repeat("x ", 505) + " " + secret
	want := strings.TrimSuffix(text, secret)
	shipped(t, "okta").Map([]byte(`{"uuid":"1","published":"2026-03-01T12:00:00Z","eventType":"x","outcome":{"reason":"`+text+`"}}`), options, func(_ int32, e *event.Event, err error) {
		if err != nil || e.Reason != want {
			t.Errorf("mapped: %v, %v", err, e)
		}
	})
	var e event.Event
	if err := event.Decode([]byte(`{"type":"session.denied","time":"2026-03-01T12:00:00Z","reason":"`+text+`"}`), event.Limits{}, &e); err != nil || e.Reason != want {
		t.Errorf("canonical: %v, %q", err, e.Reason)
	}
	// One word is all there is, and the end of a word is no half of it.
	for in, want := range map[string]string{strings.Repeat("a", 20): "aaaaaaaaaa", "aaaaa bbbb cc": "aaaaa bbbb", "aaaaa bbbbb": "aaaaa ", "é" + strings.Repeat("é", 9): "ééééé"} {
		if got := event.Cut(in, 10); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
