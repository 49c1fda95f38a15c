package event_test

import (
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/bytedance/sonic"

	"github.com/keysentry/keysentry/event"
)

// message is a mint as a backend sends it, of about 380 bytes.
func message() []byte {
	e := mint()
	e.SetInstant(event.FieldSentAt, e.Time.Add(40*time.Millisecond))
	e.SetString(event.FieldRelease, "2026.9.1")
	return event.Append(nil, &e)
}

// plain is what the other decoders fill: the same fields, with types of the
// standard library. None of them holds a value to the contract.
type plain struct {
	ID       string     `json:"id"`
	Type     string     `json:"type"`
	Time     time.Time  `json:"time"`
	SentAt   time.Time  `json:"sent_at"`
	Network  string     `json:"network"`
	Region   string     `json:"region"`
	Service  string     `json:"service"`
	Host     string     `json:"host"`
	Release  string     `json:"release"`
	Boot     string     `json:"boot"`
	Seq      uint64     `json:"seq"`
	AuthMode string     `json:"auth_mode"`
	UserID   string     `json:"user_id"`
	KeyID    string     `json:"key_id"`
	TokenID  string     `json:"token_id"`
	IssuedAt time.Time  `json:"issued_at"`
	Expires  time.Time  `json:"expires_at"`
	Endpoint string     `json:"endpoint"`
	Method   string     `json:"method"`
	Status   uint16     `json:"status"`
	Code     string     `json:"code"`
	Reason   string     `json:"reason"`
	SourceIP netip.Addr `json:"source_ip"`
	ClientIP netip.Addr `json:"client_ip"`
	Agent    string     `json:"user_agent"`
	Request  string     `json:"request_id"`
}

// others are decoders of JSON that are measured beside ours; build tags add to
// them (make bench-decode).
func others() map[string]func(text []byte, v *plain) error {
	return map[string]func([]byte, *plain) error{
		"encoding_json":    func(text []byte, v *plain) error { return json.Unmarshal(text, v) },
		"sonic_default":    func(text []byte, v *plain) error { return sonic.ConfigDefault.Unmarshal(text, v) },
		"sonic_fastest":    func(text []byte, v *plain) error { return sonic.ConfigFastest.Unmarshal(text, v) },
		"encoding_json_v2": unmarshalV2,
	}
}

// BenchmarkDecode is the table of decoders: one mint of about 380 bytes, one
// thread.
func BenchmarkDecode(b *testing.B) {
	text := message()
	measure := func(name string, decode func() error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				if err := decode(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	var e event.Event
	measure("keysentry", func() error { return event.Decode(text, event.Limits{}, &e) })
	measure("keysentry_and_validate", func() error {
		if err := event.Decode(text, event.Limits{}, &e); err != nil {
			return err
		}
		return e.Validate()
	})
	all := others()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if unmarshal := all[name]; unmarshal != nil {
			measure(name, func() error {
				var v plain
				return unmarshal(text, &v)
			})
		}
	}
}

// TestOthersDecodeTheSame: the table compares decoders that all read the message.
func TestOthersDecodeTheSame(t *testing.T) {
	text := message()
	var e event.Event
	if err := event.Decode(text, event.Limits{}, &e); err != nil {
		t.Fatal(err)
	}
	for name, unmarshal := range others() {
		if unmarshal == nil {
			continue
		}
		var v plain
		if err := unmarshal(text, &v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if event.At(v.Time) != e.Time || v.UserID != e.UserID || v.KeyID != e.KeyID || v.SourceIP != e.SourceIP || v.Seq != e.Seq || v.Host != e.Host {
			t.Errorf("%s read %+v", name, v)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	e := mint()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = event.Append(buf[:0], &e)
	}
}

func TestDecodeAllocatesNothing(t *testing.T) {
	text := message()
	var e event.Event
	if n := testing.AllocsPerRun(100, func() {
		if err := event.Decode(text, event.Limits{}, &e); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per event, want none", n)
	}
}
