package rules

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/event"
)

// authEvents are records of the size and shape of authentication events, about
// 380 bytes.
func authEvents(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = fmt.Appendf(nil, `{"id":"evt-%08d","type":"auth_token.issued","time":"2026-01-05T10:%02d:%02d.123456Z","network":"prod-eu","region":"eu-1","service":"chat-backend","host":"mint-%02d.internal","boot":"b7f3a9","seq":%d,"user_id":"user-%06d","key_id":"k1_9f8e7d6c5b4a","token_id":"t1_%016x","endpoint":"/api/v4/authentication/token","method":"POST","status":200,"source_ip":"10.1.%d.%d","user_agent":"backend/1.%d"}`,
			i, i/60%60, i%60, i%40, i, i*7919%1000000, i, i/256%256, i%256, i%10)
	}
	return out
}

// someRules is the first n rules of the corpus that compile.
func someRules(b testing.TB, n int) []File {
	var out []File
	for _, f := range corpus(b) {
		if len(out) == n {
			break
		}
		if strings.HasPrefix(f.Name, "rules/") {
			out = append(out, f)
		}
	}
	return out
}

func benchJSON(b *testing.B, files []File, opt Options, events [][]byte) {
	set, _ := Load(files, opt)
	m := NewMatcher(set.Program())
	var dst []int32
	size, matches, i := 0, 0, 0
	for _, e := range events {
		size += len(e)
		if _, err := m.MatchJSON(e, dst[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(size / len(events)))
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = m.MatchJSON(events[i%len(events)], dst[:0])
		matches += len(dst)
		i++
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(len(set.Rules)), "rules")
	b.ReportMetric(float64(matches)/float64(b.N), "matches/event")
}

func BenchmarkMatch(b *testing.B) {
	b.Run("500_rules/auth_event", func(b *testing.B) { benchJSON(b, someRules(b, 500), Options{}, authEvents(4096)) })
	b.Run("500_rules/auth_event/no_index", func(b *testing.B) {
		benchJSON(b, someRules(b, 500), Options{NoIndex: true}, authEvents(4096))
	})
	b.Run("all_rules/auth_event", func(b *testing.B) { benchJSON(b, corpus(b), Options{}, authEvents(4096)) })
	b.Run("all_rules/windows_event", func(b *testing.B) {
		var events [][]byte
		for _, r := range regressions(b) {
			for _, e := range r.events {
				events = append(events, e)
			}
		}
		benchJSON(b, corpus(b), Options{Mapping: WindowsMapping()}, events)
	})
}

func BenchmarkMatchEvent(b *testing.B) {
	b.Run("20_rules/auth_event", func(b *testing.B) {
		var text strings.Builder
		for i := range 20 {
			fmt.Fprintf(&text, "title: r%d\nlogsource: {product: keysentry}\ndetection:\n  sel: {type: auth_token.denied, cause: [unknown_key, clock_skew], key_id|contains: k%d}\n  net: {source_ip|cidr: 10.%d.0.0/16, status|gte: 400}\n  condition: sel or net\n---\n", i, i, i)
		}
		set, diags := Load([]File{{"r.yml", []byte(text.String())}}, Options{Layout: LayoutEvent})
		for _, d := range diags {
			if d.Severity == Error {
				b.Fatal(d)
			}
		}
		m := NewMatcher(set.Program())
		e := event.Event{Type: event.TypeAuthTokenDenied, Status: 401, Cause: event.CauseUnknownKey, SourceIP: netip.MustParseAddr("10.3.4.5")}
		e.Present = e.Present.Set(event.FieldStatus).Set(event.FieldSourceIP).Set(event.FieldType)
		e.SetString(event.FieldKeyID, "k1_9f8e7d6c5b4a")
		var dst []int32
		b.ReportAllocs()
		for b.Loop() {
			dst = m.MatchEvent(&e, dst[:0])
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	})
}

// TestNoAllocations: a warm matcher allocates nothing.
func TestNoAllocations(t *testing.T) {
	set, _ := Load([]File{{"r.yml", []byte(`title: r
logsource: {product: x}
detection:
  a: {user_id|contains: Ünknown, source_ip|cidr: 10.0.0.0/8}
  b: {host|re: '^mint-\d+', seq|gt: 5}
  c: [internal]
  condition: 1 of them
`)}}, Options{})
	m := NewMatcher(set.Program())
	events := authEvents(64)
	var dst []int32
	i := 0
	for range 200 {
		dst, _ = m.MatchJSON(events[i%64], dst[:0])
		i++
	}
	if n := testing.AllocsPerRun(500, func() {
		dst, _ = m.MatchJSON(events[i%64], dst[:0])
		i++
	}); n != 0 {
		t.Errorf("%v allocations per record", n)
	}
	if len(dst) != 1 {
		t.Errorf("%d matches: the test does not test what it says", len(dst))
	}
}
