package app_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/store"
)

// leaked looks like a token, so it must not be readable anywhere, broken message
// or not.
const leaked = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"

// broken is every kind of message that is no event, and why.
func broken(at time.Time) []struct {
	name, value string
	reason      ingest.Reason
} {
	stamp := at.UTC().Format(time.RFC3339Nano)
	with := func(rest string) string {
		return fmt.Sprintf(`{"type":"request.allowed","time":%q,"network":"n1","endpoint":"/x"%s}`, stamp, rest)
	}
	return []struct {
		name, value string
		reason      ingest.Reason
	}{
		{"nothing", "", ingest.ReasonEmpty},
		{"prose", "hello", ingest.ReasonBadJSON},
		{"truncated", strings.TrimSuffix(with(""), `"/x"}`), ingest.ReasonBadJSON},
		{"two objects", with("") + with(""), ingest.ReasonBadJSON},
		{"a trailing comma", with(","), ingest.ReasonBadJSON},
		{"single quotes", "{'type':'request.allowed'}", ingest.ReasonBadJSON},
		{"not a number", with(`,"status":NaN`), ingest.ReasonBadJSON},
		{"an array", "[" + with("") + "]", ingest.ReasonNotObject},
		{"a number", "42", ingest.ReasonNotObject},
		{"null", "null", ingest.ReasonNotObject},
		{"a text", `"request.allowed"`, ingest.ReasonNotObject},
		{"bytes that are no text", with(`,"reason":"` + "\xff\xfe" + `"`), ingest.ReasonBadUTF8},
		{"gzip", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", ingest.ReasonBadUTF8},
		{"a pit of brackets", with(`,"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200)), ingest.ReasonTooDeep},
		{"a field twice", with(`,"network":"n2"`), ingest.ReasonDuplicateField},
		{"no type", fmt.Sprintf(`{"time":%q,"endpoint":"/x"}`, stamp), ingest.ReasonMissingField},
		{"no time", `{"type":"request.allowed","endpoint":"/x"}`, ingest.ReasonMissingField},
		{"a mint without a key", fmt.Sprintf(`{"type":"auth_token.issued","time":%q,"network":"n1","user_id":"u","host":"h"}`, stamp), ingest.ReasonMissingField},
		{"an unknown type", fmt.Sprintf(`{"type":"coffee.made","time":%q}`, stamp), ingest.ReasonUnknownType},
		{"a number for a text", with(`,"host":7`), ingest.ReasonWrongType},
		{"an object for a text", with(`,"host":{"name":"h"}`), ingest.ReasonWrongType},
		{"an impossible status", with(`,"status":9999`), ingest.ReasonBadValue},
		{"an impossible address", with(`,"source_ip":"999.1.1.1"`), ingest.ReasonBadValue},
		{"a key in the clear", with(`,"key_id":"` + leaked + `"`), ingest.ReasonBadValue},
		{"a name with a line end", with(`,"host":"h\ninjected"`), ingest.ReasonBadValue},
		{"a name of ten thousand letters", with(`,"host":"` + strings.Repeat("h", 10_000) + `"`), ingest.ReasonBadValue},
		{"a time in words", `{"type":"request.allowed","time":"yesterday","endpoint":"/x"}`, ingest.ReasonBadTime},
		{"a time before computers", `{"type":"request.allowed","time":"1066-10-14T09:00:00Z","endpoint":"/x"}`, ingest.ReasonBadTime},
		{"a key's life on a topic for requests", fmt.Sprintf(`{"type":"server_key.revoked","time":%q,"network":"n1","key_id":%q}`, stamp, event.Fingerprint([]byte("k"), "v")), ingest.ReasonNotAllowedHere},
		{"somebody else's network", strings.Replace(with(""), `"n1"`, `"n9"`, 1), ingest.ReasonNotAllowedHere},
		{"half a megabyte", with(`,"reason":"` + strings.Repeat("r", 500_000) + `"`), ingest.ReasonTooLarge},
	}
}

// rejected is what quarantine says about one record.
type rejected struct {
	Offset int64
	Reason ingest.Reason
}

// TestBadInput: a broken message costs only itself. It is kept, with its place
// and the reason, in ClickHouse and in the quarantine topic, and the good ones
// around it are stored.
func TestBadInput(t *testing.T) {
	devstacktest.Brokers(t, func(t *testing.T, broker string) {
		topic := sourceTopic(t, broker, 1, devstack.LogAppendTime())
		r := newRig(t, broker, devstacktest.ClickHouse(t),
			ingest.TopicConfig{Name: topic, Origin: event.OriginGateway, Allow: ingest.AllowConfig{Networks: []string{"n1"}}})
		cases := broken(time.Now())
		if len(cases) < 20 {
			t.Fatalf("%d kinds of broken message, want at least 20", len(cases))
		}
		var msgs []kafka.Message
		var want []rejected
		msgs = append(msgs, request(0, time.Now()))
		for i, c := range cases {
			want = append(want, rejected{int64(len(msgs)), c.reason})
			msgs = append(msgs, kafka.Message{Value: []byte(c.value)}, request(i+1, time.Now()))
		}
		produce(t, broker, topic, msgs...)
		d := r.start("only", nil)
		r.storedBeside(topic, len(cases)+1, len(cases))

		rows, err := r.store.QuarantineList(t.Context(), store.QuarantineFilter{Topic: topic, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		inTable := map[int64]rejected{}
		for _, q := range rows {
			inTable[q.Ref.Offset] = rejected{q.Ref.Offset, q.Reason}
			if q.Ref.Topic != topic || q.Ref.Partition != 0 || q.Ref.Idx != 0 || q.ObservedAt == 0 {
				t.Errorf("quarantine holds a wrong place: %+v", q.Ref)
			}
			if strings.Contains(q.Excerpt+q.Detail, leaked[20:40]) {
				t.Errorf("the token is readable in quarantine: %q %q", q.Excerpt, q.Detail)
			}
		}
		inTopic := map[int64]rejected{}
		for _, rec := range readTopic(t, broker, r.cfg.Kafka.Topics.Quarantine) {
			var v struct {
				event.Ref
				Reason ingest.Reason `json:"reason"`
			}
			if err := json.Unmarshal(rec.Value, &v); err != nil {
				t.Fatalf("the quarantine topic holds %q: %v", rec.Value, err)
			}
			if key := fmt.Sprintf("%s/0/%d/0", topic, v.Offset); string(rec.Key) != key {
				t.Errorf("key %q of the quarantine topic, want %q", rec.Key, key)
			}
			if strings.Contains(string(rec.Value), leaked[20:40]) {
				t.Errorf("the token is readable in the quarantine topic: %s", rec.Value)
			}
			inTopic[v.Offset] = rejected{v.Offset, v.Reason}
		}
		for i, w := range want {
			if diff := cmp.Diff(w, inTable[w.Offset]); diff != "" {
				t.Errorf("%s, in the table (-want +got):\n%s", cases[i].name, diff)
			}
			if diff := cmp.Diff(w, inTopic[w.Offset]); diff != "" {
				t.Errorf("%s, in the topic (-want +got):\n%s", cases[i].name, diff)
			}
		}
		if strings.Contains(d.logs.String(), leaked[20:40]) {
			t.Error("the token is readable in the log")
		}
		// The partition goes on: what comes after the last broken message arrives.
		produce(t, broker, topic, requests(1000, 10)...)
		r.storedBeside(topic, len(cases)+11, len(cases))
	})
}

// readTopic reads what partition 0 of a topic holds.
func readTopic(t *testing.T, broker, topic string) (out []ingest.Record) {
	t.Helper()
	cfg := kafka.DefaultConfig()
	cfg.Brokers = []string{broker}
	c, err := kafka.NewClient(cfg, kafka.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for at := int64(0); ; {
		f, err := c.Fetch(t.Context(), event.Partition{Topic: topic}, at)
		if err != nil {
			t.Fatalf("read %s: %v", topic, err)
		}
		if f.Next == at {
			return out
		}
		for _, rec := range f.Records {
			rec.Key, rec.Value = []byte(string(rec.Key)), []byte(string(rec.Value))
			out = append(out, rec)
		}
		at = f.Next
	}
}
