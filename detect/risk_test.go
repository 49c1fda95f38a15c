package detect

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// riskRules say something of a key by a mint, by refusals, by a session without a
// key, and by both kinds.
const riskRules = `
title: Outside
id: 11111111-1111-4111-8111-111111111111
name: outside
logsource: {product: keysentry}
detection:
  mint: {type: auth_token.issued, source_ip: 203.0.113.9}
  condition: mint
level: medium
incident: key_compromise
risk: {subject: key_id, score: 3, family: place}
---
title: Refused
name: refused
logsource: {product: keysentry}
detection:
  mint: {type: auth_token.denied, source_ip: 203.0.113.9}
  condition: mint
level: medium
incident: key_compromise
risk: {subject: key_id, score: 3, family: possession}
---
title: Refused and then not
name: in_the_end
correlation:
  type: event_count
  rules: [tried]
  group-by: [network, key_id]
  timespan: 1m
  condition: {gte: 2}
level: medium
incident: key_compromise
risk: {subject: key_id, score: 3, family: sequence}
---
title: Tried
name: tried
logsource: {product: keysentry}
detection:
  mint: {type: ["auth_token.denied", "auth_token.issued"], source_ip: 203.0.113.9}
  condition: mint
level: low
---
title: Session from nowhere
name: session
logsource: {product: keysentry}
detection:
  made: {type: session.created, source_ip: 203.0.113.9}
  condition: made
level: medium
incident: key_compromise
risk: {subject: key_id, score: 4, family: sequence}
---
title: Weightless
name: weightless
logsource: {product: keysentry}
detection:
  made: {type: session.revoked}
  condition: made
level: medium
`

func TestRisk(t *testing.T) {
	t.Parallel()
	set := loadRules(t, riskRules)
	stranger := func(v ev) ev { v.source = "203.0.113.9"; return v }
	session := func(typ event.Type, ts event.Instant) ev {
		return ev{typ: typ, ts: ts, origin: event.OriginClient, source: "203.0.113.9", fields: fields("user_id", "u", "session_id", "s", "token_id", "t")}
	}
	type said struct {
		Rule    string
		Subject finding.Subject
		Risk    *finding.Risk
	}
	key := func(k string) finding.Subject { return finding.Subject{Network: "n1", Field: "key_id", Value: k} }
	for name, tc := range map[string]struct {
		before []ev
		events []ev
		want   []said
	}{
		"a mint weighs what its rule says": {settled(), []ev{stranger(minted(at(1), "", "k2"))},
			[]said{{"outside", key("k2"), &finding.Risk{Family: "place", Score: 3}}}},
		"a refused request weighs nothing, about a live key either": {settled(), []ev{stranger(refused(at(1), "", "k2", ""))},
			[]said{{"refused", key("k2"), &finding.Risk{Family: "possession"}}}},
		"two refusals weigh nothing": {settled(), []ev{refused(at(1), "", "k2", "203.0.113.9"), refused(at(2), "", "k2", "203.0.113.9")},
			[]said{{"refused", key("k2"), &finding.Risk{Family: "possession"}}, {"in_the_end", key("k2"), &finding.Risk{Family: "sequence"}}}},
		"a refusal and a success weigh": {settled(), []ev{refused(at(1), "", "k2", "203.0.113.9"), stranger(minted(at(2), "", "k2"))},
			[]said{{"refused", key("k2"), &finding.Risk{Family: "possession"}}, {"outside", key("k2"), &finding.Risk{Family: "place", Score: 3}},
				{"in_the_end", key("k2"), &finding.Risk{Family: "sequence", Score: 3}}}},
		"a session speaks of the live key": {settled(), []ev{session(event.TypeSessionCreated, at(1))},
			[]said{{"session", key("k2"), &finding.Risk{Family: "sequence", Score: 4}}}},
		"the newest of two that are active": {append(settled(), lifecycle(event.TypeServerKeyActivated, at(0), "k3")), []ev{session(event.TypeSessionCreated, at(1))},
			[]said{{"session", key("k3"), &finding.Risk{Family: "sequence", Score: 4}}}},
		"a session where no key is known": {nil, []ev{session(event.TypeSessionCreated, at(1))},
			[]said{{"session", finding.Subject{Network: "n1", Field: "network", Value: "n1"}, &finding.Risk{Family: "sequence", Score: 4}}}},
		"a rule that says nothing of risk": {settled(), []ev{session(event.TypeSessionRevoked, at(1))},
			[]said{{"weightless", finding.Subject{Network: "n1", Field: "network", Value: "n1"}, nil}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := DefaultConfig()
			cfg.InventoryAge = 0
			e, err := New(cfg, Deps{Rules: set})
			if err != nil {
				t.Fatal(err)
			}
			e.Assign([]event.Partition{part0})
			observe(e, 0, tc.before...)
			fs, _ := observe(e, 100, tc.events...)
			var got []said
			for _, f := range fs {
				got = append(got, said{f.RuleName, f.Subject, f.Risk})
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
