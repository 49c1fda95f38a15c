package detect

import (
	"cmp"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/event"
)

// Past is what is known of the time before an event, as far as it bears on the
// event's cause.
type Past struct {
	Snapshot
	// Used are the keys that tokens of the network were minted with.
	Used []KeyUsed
	// Events are mints, sessions and lifecycle events, in order of time.
	Events []event.Event
	// MintsSince and SessionsSince say from when on all mints and opened sessions of
	// the network are known; zero: of none.
	MintsSince, SessionsSince event.Instant
	// Clocks are the estimates of hosts' clocks, by host.
	Clocks map[string]offset.Estimate
}

// KeyUsed is when tokens of the event's network were minted with a key.
type KeyUsed struct {
	KeyID       string
	First, Last event.Instant
}

// Explanation says why a request was refused.
type Explanation struct {
	Cause      event.Cause `json:"cause"`
	Confidence float32     `json:"confidence"`
	// Rediagnosed says that the cause was decided again on a re-read, without the
	// state that the live decision had.
	Rediagnosed bool `json:"rediagnosed,omitempty"`
	// Evidence is what the cause rests on.
	Evidence []Statement `json:"evidence"`
	// RuledOut are causes that a person would think of first, and why they are not
	// it.
	RuledOut []Alternative `json:"ruled_out"`
	// Resolution says what to do, with values; Facts are these values by name.
	Resolution string         `json:"resolution"`
	Facts      []finding.Pair `json:"facts,omitempty"`
	// Differs is the cause that follows from what is stored, when it is another one
	// than was decided when the event came: then more was known, or less.
	Differs event.Cause `json:"differs,omitempty"`
}

// Statement is one ground of a cause, in words with values.
type Statement struct {
	Ground string `json:"ground"`
	Text   string `json:"text"`
}

// Alternative is a cause that is not it.
type Alternative struct {
	Cause event.Cause `json:"cause"`
	Why   string      `json:"why"`
}

// clocksByHost is a Clocks of estimates by host.
type clocksByHost map[string]offset.Estimate

// Offset implements Clocks.
func (c clocksByHost) Offset(_, host string) (off, margin time.Duration, ok bool) {
	e := c[host]
	return e.Offset, e.Error, e.Confident
}

// Estimate implements Estimates.
func (c clocksByHost) Estimate(_, host string) (offset.Estimate, bool) {
	e, ok := c[host]
	return e, ok
}

// Explain says why a refused event was refused, from what is known of the time
// before. A cause that the event carries was decided when it came, and stands.
func Explain(cfg Config, declared map[string]Declared, past *Past, e *event.Event) Explanation {
	r := newRegistries(cfg, declared)
	r.load(past.Snapshot)
	for _, k := range r.keys.keys {
		if k.State == KeyActive && (k.Created != 0 || !k.byPerson()) {
			r.keys.retireBefore(k) // the store holds what was told, not what follows
		}
	}
	for _, u := range past.Used {
		n := keyName{e.Network, u.KeyID}
		r.facts.used[n] = &keyUsed{u.First, u.Last}
		r.hosts.minted[n] = true
	}
	for i := range past.Events {
		r.learn(&past.Events[i])
	}
	if past.MintsSince != 0 {
		r.mints.since[e.Network] = past.MintsSince
	}
	if past.SessionsSince != 0 {
		r.sessions.since[e.Network] = past.SessionsSince
	}
	return r.diagnoser(clocksByHost(past.Clocks), &cfg).explain(e)
}

// explain makes the explanation of a refused event.
func (d *diagnoser) explain(e *event.Event) Explanation {
	now := d.diagnose(e)
	x := Explanation{Cause: now.cause, Confidence: now.confidence, Rediagnosed: e.Rediagnosed}
	grounds := now.grounds
	if e.Cause != event.CauseNone {
		x.Cause, x.Confidence = e.Cause, e.CauseConfidence
		if e.Cause != now.cause {
			x.Differs, grounds = now.cause, 0
		}
		if e.CauseGrounds != 0 {
			grounds = e.CauseGrounds
		}
	}
	for _, g := range grounds.List() {
		x.Evidence = append(x.Evidence, Statement{g.String(), cmp.Or(d.tell(g, e), g.Doc())})
	}
	x.RuledOut = d.ruledOut(e, x.Cause)
	x.Resolution, x.Facts = d.resolve(e, x.Cause)
	return x
}

// figure writes a clock offset as people say it: "312 s fast".
func figure(est offset.Estimate) string {
	way := "fast"
	switch {
	case est.SlowOrDelayed:
		way = "slow, or its records are delayed by that"
	case est.Offset < 0:
		way = "slow"
	}
	text := fmt.Sprintf("%s +- %s %s", seconds(est.Offset.Abs()), seconds(est.Error), way)
	if drift := est.Slope; drift >= 0.05 || drift <= -0.05 {
		text += fmt.Sprintf(", drifting %+.1f s/h", drift)
	}
	return text
}

// seconds writes a span in seconds, with tenths below ten.
func seconds(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return fmt.Sprintf("%.0f s", d.Seconds())
}

// signed writes a span in seconds with its sign.
func signed(d time.Duration) string { return fmt.Sprintf("%+.1f s", d.Seconds()) }
