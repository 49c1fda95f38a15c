package simulate

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// script is what a scenario adds to ordinary life.
type script struct {
	about string
	// play puts the scenario's acts into the generator; nil: ordinary life only.
	play func(g *generator)
}

func scripts() []struct {
	name string
	script
} {
	return []struct {
		name string
		script
	}{
		{"ordinary", script{"backends mint and users open sessions, by day more than by night; nothing is wrong", nil}},
		{"unauthorized-spike", script{"someone outside tries a server key that never existed", (*generator).playSpike}},
		{"retired-key", script{"the key is rotated; later a foreign address tries the old one", (*generator).playRetiredKey}},
		{"clock-skew", script{"one host's clock runs fast until the platform refuses its tokens", (*generator).playClockSkew}},
		{"key-theft", script{"a stolen live key mints from a foreign address for one user after the other", (*generator).playKeyTheft}},
	}
}

// Scenarios lists what Generate knows.
func Scenarios() []Scenario {
	var out []Scenario
	for _, s := range scripts() {
		out = append(out, Scenario{Name: s.name, About: s.about})
	}
	return out
}

// act is something that happens besides ordinary traffic: at a time, and then
// again whenever do says (zero: never again).
type act struct {
	at event.Instant
	do func(now event.Instant) (next event.Instant, err error)
}

// share is a moment of the run, 0 at its start and 1 at its end.
func (g *generator) share(x float64) event.Instant {
	return g.start.Add(time.Duration(x * float64(g.opt.Duration)))
}

// foreign is where attackers come from: an address that no backend has.
func foreign() netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, 66}) }

// attackEvery spaces hostile events: a twentieth of the traffic, at least one a
// second.
func (g *generator) attackEvery() time.Duration {
	return time.Duration(float64(time.Second) / max(1, g.opt.Rate/20))
}

// playSpike tries an unknown key from half of the run on, for at most ten
// minutes.
func (g *generator) playSpike() {
	key := g.fingerprint("sk_live_guessed")
	g.label = Label{Kind: string(finding.Other), Field: "source_ip", Value: foreign().String(), Cause: event.CauseUnknownKey}
	end := min(g.share(0.9), g.share(0.5).Add(10*time.Minute))
	g.repeat(g.share(0.5), end, g.attackEvery(), func(now event.Instant) error {
		g.gatewayMint(now, mint{key: key, from: foreign(), status: 401, code: "invalid_server_key", user: g.anyUser()})
		return g.hostile()
	})
}

// playRetiredKey rotates at 30 %, and has the old key tried from 60 % on.
func (g *generator) playRetiredKey() {
	old, fresh := g.key, g.fingerprint("sk_live_second")
	g.label = Label{Kind: string(finding.KeyCompromise), Field: "key_id", Value: old, Cause: event.CauseRetiredKeyForeign}
	g.once(g.share(0.3), func(now event.Instant) error {
		g.lifecycle(event.TypeServerKeyCreated, fresh, now)
		if err := g.out(); err != nil {
			return err
		}
		g.lifecycle(event.TypeServerKeyActivated, fresh, now)
		return g.out()
	})
	for i := range g.hosts { // one host after the other loads the new key
		at := g.share(0.3 + 0.1*float64(i+1)/float64(len(g.hosts)))
		g.once(at, func(event.Instant) error { g.hosts[i].key = fresh; return nil })
	}
	g.once(g.share(0.45), func(now event.Instant) error {
		g.key = fresh
		g.lifecycle(event.TypeServerKeyRevoked, old, now)
		return g.out()
	})
	g.repeat(g.share(0.6), g.share(0.95), 10*time.Second, func(now event.Instant) error {
		g.gatewayMint(now, mint{key: old, from: foreign(), status: 401, code: "invalid_server_key", user: g.anyUser()})
		return g.hostile()
	})
}

// playClockSkew lets a host's clock gain from 20 % on, so that it is two minutes
// ahead at the end; beyond the leeway its users' tokens are refused.
func (g *generator) playClockSkew() {
	h := &g.hosts[len(g.hosts)/2]
	g.label = Label{Kind: string(finding.ClockSkew), Field: "host", Value: h.name, Cause: event.CauseClockSkew}
	from, end := g.share(0.2), g.share(1)
	h.clock = func(now event.Instant) time.Duration {
		if now < from {
			return 0
		}
		return time.Duration(float64(2*time.Minute) * float64(now-from) / float64(end-from))
	}
}

// playKeyTheft mints with the live key from a foreign address, user by user, and
// opens a session for each.
func (g *generator) playKeyTheft() {
	g.label = Label{Kind: string(finding.KeyCompromise), Field: "key_id", Value: g.key}
	n := 0
	g.repeat(g.share(0.5), g.share(0.95), g.attackEvery(), func(now event.Instant) error {
		user := g.users[n%len(g.users)]
		n++
		token := g.token()
		g.gatewayMint(now, mint{key: g.key, from: foreign(), status: 200, user: user, token: token})
		if err := g.hostile(); err != nil {
			return err
		}
		g.push(opening{at: now.Add(90 * time.Millisecond), user: user, token: token, client: foreign(), hostile: true})
		return nil
	})
}

func generate(opt Options, emit func(*event.Event) error, label func(Label) error) error {
	for _, s := range scripts() {
		if s.name != opt.Scenario {
			continue
		}
		g, err := newGenerator(opt, emit)
		if err != nil {
			return err
		}
		if s.play != nil {
			s.play(g)
		}
		if err := g.run(); err != nil {
			return err
		}
		if label == nil {
			return nil
		}
		g.label.Scenario = opt.Scenario
		return label(g.label)
	}
	var names []string
	for _, s := range scripts() {
		names = append(names, s.name)
	}
	return fmt.Errorf("%w %q: there are %s", ErrScenario, opt.Scenario, strings.Join(names, ", "))
}
