package store

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/event"
)

// deed is one event of a story about a key.
type deed struct {
	typ                                     event.Type
	ago                                     time.Duration
	key, host, source, user, token, session string
}

// TestBlastRadius: of what was done with a key since its first hostile event, the
// users and sessions that came of it from elsewhere are told apart from the fleet's.
func TestBlastRadius(t *testing.T) {
	t.Parallel()
	const key, thief = "v1:key", "203.0.113.9"
	issued, session := event.TypeAuthTokenIssued, event.TypeSessionCreated
	fleet := func(ago time.Duration, user, token string) deed {
		return deed{issued, ago, key, "api-1", "10.0.0.1", user, token, ""}
	}
	c := newClient(t)
	enact(t, c,
		fleet(80*time.Hour, "early", "t0"), fleet(49*time.Hour, "early", "t1"), fleet(time.Hour, "ours", "t2"),
		deed{session, time.Hour, "", "gw", "198.51.100.1", "ours", "t2", "s2"},
		deed{issued, 30 * time.Hour, key, "gw", thief, "before", "t3", ""}, // before the first hostile event that we know
		deed{issued, 2 * time.Hour, key, "gw", thief, "victim", "t4", ""},
		deed{issued, 2*time.Hour - time.Minute, key, "gw", thief, "victim", "t5", ""},
		deed{issued, 90 * time.Minute, key, "api-1", thief, "other", "t6", ""}, // in our host's name from elsewhere
		deed{issued, time.Hour, "v1:another", "gw", thief, "unrelated", "t7", ""},
		deed{session, time.Hour, "", "gw", "198.51.100.2", "victim", "t4", "s4"},
		deed{session, 50 * time.Minute, "", "gw", "198.51.100.3", "victim", "t4", "s5"},
		deed{event.TypeAuthTokenDenied, time.Hour, key, "gw", thief, "nobody", "", ""},
	)
	if err := c.conn.Exec(t.Context(), `INSERT INTO findings (id, n, time, rule_title, kind, subject_field, subject_value, network, first, last, fired) VALUES
		('f1', 1, now64(9), 'Outside', 'key_compromise', 'key_id', ?, 'net', now64(9) - toIntervalMinute(121), now64(9), now64(9)),
		('f2', 2, now64(9), 'Another', 'other', 'key_id', ?, 'net', now64(9) - toIntervalHour(70), now64(9), now64(9))`, key, key); err != nil {
		t.Fatal(err)
	}
	ask := func(name string, args map[string]string) []map[string]string {
		t.Helper()
		args["key_id"] = key
		rows, err := c.Named(t.Context(), name, args)
		if err != nil {
			t.Fatal(err)
		}
		names := rows.Columns
		var out []map[string]string
		for _, line := range table(t, rows) {
			m := map[string]string{}
			for i, v := range line {
				m[names[i].Name] = v
			}
			out = append(out, m)
		}
		return out
	}
	pick := func(rows []map[string]string, columns ...string) (out []string) {
		for _, r := range rows {
			var cells []string
			for _, name := range columns {
				cells = append(cells, r[name])
			}
			out = append(out, strings.Join(cells, " "))
		}
		return out
	}
	for _, tc := range []struct {
		what, query string
		args        map[string]string
		columns     []string
		want        []string
	}{
		{"by source", "blast_radius", map[string]string{}, []string{"host", "source", "outside_the_inventory", "mints", "users", "tokens_redeemed"},
			[]string{"gw 203.0.113.9 1 2 1 1", "api-1 203.0.113.9 1 1 1 0", "api-1 10.0.0.1 0 1 1 1"}},
		{"by source, from a given time", "blast_radius", map[string]string{"since": time.Now().UTC().Add(-40 * time.Hour).Format(time.DateTime)}, []string{"source", "outside_the_inventory", "mints"},
			[]string{"203.0.113.9 1 3", "203.0.113.9 1 1", "10.0.0.1 0 1"}},
		{"users", "blast_radius_users", map[string]string{}, []string{"user_id", "mints", "tokens", "sessions_opened", "session_ids", "sources"},
			[]string{"victim 2 2 2 [s4 s5] [203.0.113.9]", "other 1 1 0 [] [203.0.113.9]"}},
		{"timeline", "blast_radius_timeline", map[string]string{}, []string{"what", "user_id", "token_id", "session_id"},
			[]string{"finding: Outside   ", "token minted victim t4 ", "token minted victim t5 ", "token minted other t6 ", "session opened victim t4 s4", "session opened victim t4 s5"}},
	} {
		if diff := cmp.Diff(tc.want, pick(ask(tc.query, tc.args), tc.columns...)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.what, diff)
		}
	}
	// Without a finding about the key the last hours count.
	if err := c.conn.Exec(t.Context(), "TRUNCATE TABLE findings"); err != nil {
		t.Fatal(err)
	}
	if got := pick(ask("blast_radius_users", map[string]string{"hours": "100"}), "user_id"); len(got) != 5 {
		t.Errorf("users of the last 100 hours: %q", got)
	}
}

// enact stores a story, oldest first or not.
func enact(t *testing.T, c *Client, story ...deed) {
	t.Helper()
	w, _ := startWriter(t, c)
	assign(t, w, part0, 0)
	b := batch(part0, 0, int64(len(story)))
	for i, d := range story {
		e := event.Event{Type: d.typ, Origin: event.OriginGateway, Ref: b.Events[i].Ref, TS: event.At(time.Now().Add(-d.ago))}
		e.Time, e.ObservedAt = e.TS, e.TS
		e.SourceIP = netip.MustParseAddr(d.source)
		e.Present = e.Present.Set(event.FieldType).Set(event.FieldTime).Set(event.FieldSourceIP)
		for f, v := range map[event.Field]string{event.FieldNetwork: "net", event.FieldKeyID: d.key, event.FieldHost: d.host, event.FieldUserID: d.user,
			event.FieldTokenID: d.token, event.FieldSessionID: d.session} {
			if v != "" {
				e.SetString(f, v)
			}
		}
		b.Events[i] = e
	}
	appendBatch(t, w, b, nil)
	flush(t, w)
}
