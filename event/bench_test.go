package event_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
)

// message is a mint as a backend sends it, of about 380 bytes.
func message() []byte {
	e := mint()
	e.SetInstant(event.FieldSentAt, e.Time.Add(40*time.Millisecond))
	e.SetString(event.FieldRelease, "2026.9.1")
	return event.Append(nil, &e)
}

// struct380 is what encoding/json fills for the same message.
type struct380 struct {
	Type, Network, Service, Host, Release, Boot string
	Time                                        time.Time
	SentAt                                      time.Time `json:"sent_at"`
	Seq                                         uint64
	UserID                                      string `json:"user_id"`
	KeyID                                       string `json:"key_id"`
	TokenID                                     string `json:"token_id"`
	Endpoint                                    string
	Status                                      uint16
	SourceIP                                    string `json:"source_ip"`
}

func BenchmarkDecode(b *testing.B) {
	text := message()
	b.Run("event.Decode/mint", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		var e event.Event
		for b.Loop() {
			if err := event.Decode(text, event.Limits{}, &e); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("event.Decode+Validate/mint", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		var e event.Event
		for b.Loop() {
			if err := event.Decode(text, event.Limits{}, &e); err != nil {
				b.Fatal(err)
			}
			if err := e.Validate(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("encoding-json/mint", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			var v struct380
			if err := json.Unmarshal(text, &v); err != nil {
				b.Fatal(err)
			}
		}
	})
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
