package peerbench

import (
	"fmt"
	"math"
	"time"

	"github.com/keysentry/keysentry/rules"
)

// work is something that both sides do.
type work struct {
	name       string
	rules      []ruleFile
	event      func(dst []byte, i int) []byte
	events     int
	correlates bool
	finds      bool // something must be found

	// Bars: of the ratio, and of our events per second.
	minRatio, minOurs float64
}

// judge says in words what of a result is not as it must be.
func (w work) judge(r Result) (short []string) {
	say := func(format string, args ...any) {
		short = append(short, w.name+": "+fmt.Sprintf(format, args...))
	}
	if r.OurResult != r.TheirResult {
		say("we found %d, %s %d", r.OurResult, r.Peer, r.TheirResult)
	}
	if w.finds && r.OurResult == 0 {
		say("nothing was found, so equal results mean nothing")
	}
	if r.Ratio < w.minRatio {
		say("%.2f times %s, the bar is %g", r.Ratio, r.Peer, w.minRatio)
	}
	if r.Ours < w.minOurs {
		say("%.0f events/s, the bar is %.0f", r.Ours, w.minOurs)
	}
	return short
}

// Storing is the result of storing one topic in the same table twice, and what of
// it is short of the bar: twice the peer's events a second, the same rows.
func Storing(peer string, ours, theirs float64, ourRows, theirRows int) (Result, []string) {
	r := Result{Work: "store_topic", Peer: peer, Unit: "events/s", Ours: ours, Theirs: theirs,
		Ratio: math.Round(ours/theirs*100) / 100, OurResult: ourRows, TheirResult: theirRows}
	return r, work{name: r.Work, finds: true, minRatio: 2}.judge(r)
}

const valueCountEvents = 200_000

// works is what is measured, with the bars of the engine. Every rule applies to
// every event, whatever its log source.
func works(corpus []ruleFile, events int) []work {
	few := spread(silent(corpus, events), 500)
	return []work{
		{name: "500_rules_no_match", rules: few, event: authEvent, events: events, minRatio: 2, minOurs: 600_000},
		{name: "500_rules_some_match", rules: append(authRules(), few...), event: attackedEvent, events: events, finds: true},
		{name: "all_rules", rules: corpus, event: authEvent, events: events, minRatio: 3, minOurs: 300_000},
		{name: "value_count_30_keys_10m", rules: []ruleFile{{Name: "users.yml", Data: []byte(usersRule)}}, event: authEvent, events: valueCountEvents,
			correlates: true, finds: true, minRatio: 20, minOurs: 500_000},
	}
}

// silent is the files of which no rule matches any event.
func silent(files []ruleFile, events int) []ruleFile {
	set, _ := rules.Load(files, rules.Options{AnyLogSource: true})
	m := rules.NewMatcher(set.Program())
	loud := map[string]bool{}
	var line []byte
	var hits []int32
	for i := range events {
		line = authEvent(line[:0], i)
		hits, _ = m.MatchJSON(line, hits[:0]) // the event is ours
		for _, h := range hits {
			loud[set.Rules[h].File] = true
		}
	}
	var out []ruleFile
	for _, f := range files {
		if !loud[f.Name] {
			out = append(out, f)
		}
	}
	return out
}

// spread takes n of the files, evenly.
func spread(files []ruleFile, n int) []ruleFile {
	if len(files) <= n {
		return files
	}
	out := make([]ruleFile, n)
	for i := range out {
		out[i] = files[i*len(files)/n]
	}
	return out
}

// authEvent is an authentication event of about 380 bytes, one in ten
// milliseconds. One of 30 keys is used, by ever new users.
func authEvent(dst []byte, i int) []byte { return event(dst, i, "backend/1.", 200) }

// attackedEvent is authEvent, but one in 97 comes from a tool and one in 101 is
// refused.
func attackedEvent(dst []byte, i int) []byte {
	agent, status := "backend/1.", 200
	if i%97 == 0 {
		agent = "Python-Requests/2."
	}
	if i%101 == 0 {
		status = 401
	}
	return event(dst, i, agent, status)
}

func event(dst []byte, i int, agent string, status int) []byte {
	t := time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC).Add(time.Duration(i) * 10 * time.Millisecond)
	return fmt.Appendf(dst, `{"id":"evt-%08d","type":"auth_token.issued","time":"%s","network":"prod-eu","region":"eu-1","service":"chat-backend","host":"mint-%02d.internal","boot":"b7f3a9","seq":%d,"user_id":"user-%06d","key_id":"k1_9f8e7d6c5b%02d","token_id":"t1_%016d","endpoint":"/api/v4/authentication/token","method":"POST","status":%d,"source_ip":"10.1.%d.%d","user_agent":"%s%d"}`,
		i, t.Format("2006-01-02T15:04:05.000Z"), i%40, i, i*7919%1000000, i%30, i, status, i/256%256, i%256, agent, i%10)
}

// usersRule counts the users of each key. Each of the 30 keys crosses the bar
// once and stays above it: 10 minutes hold 2,000 events of a key.
const usersRule = `title: Token issued
id: 5f0c7a55-1d8e-4d9b-9a57-2f3f0c3b7a01
status: test
logsource: {product: keysentry}
detection:
  selection: {type: auth_token.issued}
  condition: selection
level: low
---
title: Many users of one key
id: 5f0c7a55-1d8e-4d9b-9a57-2f3f0c3b7a02
status: test
correlation:
  type: value_count
  rules: [5f0c7a55-1d8e-4d9b-9a57-2f3f0c3b7a01]
  group-by: [key_id]
  timespan: 10m
  condition: {gte: 1500, field: user_id}
level: high
`

// authRules match what attackedEvent has, by predicates of every kind.
func authRules() []ruleFile {
	var out []ruleFile
	for i, detection := range []string{
		`{sel: {user_agent|contains: python-requests}, condition: sel}`,
		`{sel: {status: 401}, condition: sel}`,
		`{sel: {status|gte: 400, endpoint|startswith: /api/v4/}, own: {source_ip|cidr: 10.1.0.0/20}, condition: sel and not own}`,
		`{sel: {user_agent|re: '^Python-Requests/2\.[0-4]$'}, own: {host|endswith: '0.internal'}, condition: sel and not own}`,
		`{tool: [python-requests], refused: {status: 401, method: post}, condition: all of them}`,
		`{sel: {type: auth_token.issued, user_agent: 'python-requests/*', boot|exists: true, reason: null}, condition: sel}`,
	} {
		out = append(out, ruleFile{Name: fmt.Sprintf("auth-%d.yml", i), Data: fmt.Appendf(nil,
			"title: Auth %d\nid: 5f0c7a55-1d8e-4d9b-9a57-2f3f0c3b7b0%d\nstatus: test\nlogsource: {product: keysentry}\ndetection: %s\nlevel: low\n", i, i, detection)})
	}
	return out
}
