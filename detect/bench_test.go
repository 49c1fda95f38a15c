package detect

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
	"github.com/keysentry/keysentry/rules/library"
)

// ordinaryLife is n events of a network of 200 hosts and many users: a mint, the
// session of it a moment later, a heartbeat now and then, and no attack.
func ordinaryLife(n int) []event.Event {
	out := make([]event.Event, 0, n)
	text := func(form string, k int) string { return fmt.Sprintf(form, k) }
	for i := 0; len(out) < n; i++ {
		ts := at(float64(i) / 500)
		h, u := i*7919%200, i*104729%100_000
		host := netip.AddrFrom4([4]byte{10, 20, 0, byte(h)})
		phone := netip.AddrFrom4([4]byte{100, 64 + byte(u>>14), byte(u >> 6), byte(u)})
		mint := ev{typ: event.TypeAuthTokenIssued, ts: ts, origin: event.OriginBackend, status: 200, source: host.String(), client: phone.String(), expires: ts.Add(10 * time.Minute),
			fields: fields("host", text("api-%d", h), "service", "chat", "release", "r1", "boot", text("b%d", h), "key_id", "v1:00000000000000000000000000000001", "user_id", text("user-%06d", u),
				"token_id", text("v1:%032x", i), "endpoint", mintPath, "region", "eu")}
		open := ev{typ: event.TypeSessionCreated, ts: ts.Add(200 * time.Millisecond), origin: event.OriginGateway, status: 200, source: phone.String(),
			fields: fields("host", "gw-1", "service", "chat", "user_id", text("user-%06d", u), "token_id", text("v1:%032x", i), "device_id", text("v1:%032x", u), "endpoint", "/api/v4/sessions")}
		out = append(out, mint.event(int64(len(out))), open.event(int64(len(out)+1)))
		if i%50 == 0 {
			out = append(out, heartbeat(ts, text("api-%d", h), "v1:00000000000000000000000000000001").event(int64(len(out)+2)))
		}
	}
	return out[:n]
}

func loadFiles(b *testing.B, files []rules.File) *rules.Set {
	b.Helper()
	set, diags := rules.Load(files, rules.Options{Layout: rules.LayoutEvent})
	for _, d := range diags {
		if d.Severity == rules.Error {
			b.Fatal(d)
		}
	}
	return set
}

// BenchmarkEngine is what an ordinary event costs in the engine, with no rules,
// with the shipped ones, and with each file of them alone.
func BenchmarkEngine(b *testing.B) {
	events := ordinaryLife(100_000)
	run := func(name string, files []rules.File) {
		b.Run(name, func(b *testing.B) {
			set := loadFiles(b, files)
			e, err := New(DefaultConfig(), Deps{Rules: set})
			if err != nil {
				b.Fatal(err)
			}
			e.Assign([]event.Partition{part0})
			b.ReportAllocs()
			batch := make([]event.Event, 0, 500)
			var shift time.Duration
			i := 0
			for b.Loop() {
				if i == len(events) {
					i, shift = 0, shift+events[len(events)-1].TS.Sub(events[0].TS)
				}
				ev := events[i]
				ev.TS, ev.Time, ev.ObservedAt = ev.TS.Add(shift), ev.Time.Add(shift), ev.ObservedAt.Add(shift)
				batch = append(batch, ev)
				if i++; len(batch) == cap(batch) {
					e.Observe(part0, batch)
					batch = batch[:0]
				}
			}
		})
	}
	one := []rules.File{{Name: "none.yml", Data: []byte("title: none\nid: none\nlogsource: {product: keysentry, service: log}\ndetection: {s: {type: log.record, user_id: nobody}, condition: s}\n")}}
	run("no_rules", one)
	run("shipped", library.Files())
	for _, f := range library.Files() {
		run(f.Name, []rules.File{f})
	}
}
