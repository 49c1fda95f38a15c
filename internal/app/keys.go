package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/console"
	"github.com/keysentry/keysentry/internal/secret"
)

var (
	_ alert.KeyBook   = keyBook{}
	_ console.KeyRoom = keyRoom{}
)

// keyBook answers what a person's report about a key has to be held against.
type keyBook struct{ a *App }

// Knows implements alert.KeyBook.
func (b keyBook) Knows(network string) bool {
	if _, ok := b.a.cfg.Networks[network]; ok {
		return true
	}
	engine := b.a.engine()
	return engine != nil && engine.Knows(network)
}

// Live implements alert.KeyBook.
func (b keyBook) Live(network string) string {
	if engine := b.a.engine(); engine != nil {
		return engine.LiveKey(network)
	}
	return ""
}

// keyRoom is where people look at the registry of keys and add to it.
type keyRoom struct{ a *App }

var errNotLeading = errors.New("this member does not lead yet; try again in a few seconds")

// Keys implements console.KeyRoom.
func (r keyRoom) Keys(network string) ([]console.Key, error) {
	engine := r.a.engine()
	if engine == nil {
		return nil, errNotLeading
	}
	var out []console.Key
	for _, k := range engine.Keys(network) {
		out = append(out, keyRow(k, true))
	}
	for _, k := range engine.Claims(network) {
		out = append(out, keyRow(k, false))
	}
	return out, nil
}

func keyRow(k detect.Key, believed bool) console.Key {
	return console.Key{Network: k.Network, KeyID: k.KeyID, State: string(k.State), Created: k.Created, Activated: k.Activated,
		Retired: k.Retired, Revoked: k.Revoked, ToldBy: k.Source, Probed: k.Probed, Believed: believed}
}

// Adopt implements console.KeyRoom: the key is named by its fingerprint, the
// platform is asked, and the decision is recorded with its answer. The value goes
// no further than to the platform.
func (r keyRoom) Adopt(ctx context.Context, req console.Adoption) (journal.Decision, error) {
	d := journal.Decision{ID: req.Person + "/adopt-" + rand.Text(), Action: journal.ActionAdoptKey, Person: req.Person, Via: "cli",
		Network: req.Network, Created: req.Created, Reason: req.Reason}
	if r.a.engine() == nil {
		return d, errNotLeading
	}
	key, known := r.a.keys[req.Network]
	if !known || !r.a.manager.May(req.Person, journal.ActionAdoptKey) {
		return r.a.manager.Decide(ctx, d) // which says why not
	}
	d.KeyID = event.Fingerprint([]byte(key.Reveal()), req.Value.Reveal())
	if target, ok := r.a.targets[req.Network]; ok && !req.NoProbe {
		answer, err := r.a.askPlatform(ctx, target, d.KeyID, req.Value)
		if err != nil {
			return d, err
		}
		d.Probe = answer
	}
	d, err := r.a.manager.Decide(ctx, d)
	if err == nil && d.Refused == "" {
		r.a.redactor.AddValue(key, req.Value)
	}
	return d, err
}

const (
	probeTimeout = 10 * time.Second
	probeUntil   = time.Minute
)

// askPlatform mints once with a key, after the probe is journaled, so that its own
// event is known for what it is.
func (a *App) askPlatform(ctx context.Context, t playbook.Target, keyID string, v secret.Value) (string, error) {
	id, now := "probe-"+rand.Text(), event.At(a.opts.Now())
	if _, err := a.journal.Append(ctx, journal.Entry{Kind: journal.KindProbe, Time: now,
		Body: journal.Probe{RequestID: id, KeyID: keyID, Until: now.Add(probeUntil)}}); err != nil {
		return "", fmt.Errorf("journal the probe: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	res, err := t.Provider.Mint(ctx, playbook.MintRequest{Key: v, UserID: t.ProbeUser, RequestID: id})
	const advice = "; try again, or adopt it with --no-probe: it is then listed, and believed once the platform agreed"
	switch {
	case err != nil:
		return "", fmt.Errorf("the platform could not be asked about the key: %w%s", err, advice)
	case res.OK:
		return journal.ProbeAgreed, nil
	case res.Dead:
		return journal.ProbeRefused, nil
	}
	return "", fmt.Errorf("the platform answered %d, which says nothing about the key%s", res.Status, advice)
}

// suspectsEvery is how often detection hears of the sources of open compromises.
const suspectsEvery = 2 * time.Second

// keepSuspects tells detection from where no host may enter the inventory.
func (a *App) keepSuspects(ctx context.Context) error {
	tick := time.NewTicker(suspectsEvery)
	defer tick.Stop()
	for {
		a.tellEngine(func(e *detect.Engine) { e.Bar(suspects(a.manager.Suspects())) })
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func suspects(named map[string][]string) []detect.Source {
	var out []detect.Source
	for network, values := range named {
		for _, v := range values {
			if addr, err := netip.ParseAddr(v); err == nil {
				out = append(out, detect.Source{Network: network, Addr: addr.Unmap()})
			}
		}
	}
	slices.SortFunc(out, func(x, y detect.Source) int { return x.Addr.Compare(y.Addr) })
	return out
}
