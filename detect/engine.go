// Package detect judges events.
package detect

import (
	"log/slog"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/rules"
)

// Clocks tells what is known of a host's clock.
type Clocks interface {
	// Offset is how far the host's clock is ahead (negative: behind), and the
	// margin of that figure; ok is false unless the estimate is confident.
	Offset(network, host string) (offset, margin time.Duration, ok bool)
}

// Deps are what the engine works with.
type Deps struct {
	Rules   *rules.Set
	Clocks  Clocks // nil: no clock is known
	Logger  *slog.Logger
	Metrics *metrics.Registry
}

// Engine judges events. All its methods are safe for concurrent use.
type Engine struct {
	cfg Config
}

// New builds an engine. Rules that cannot be evaluated are logged and left out.
func New(cfg Config, deps Deps) (*Engine, error) { return &Engine{cfg: cfg}, nil }

// Lookback is how far back the windows reach, in nanoseconds.
func (e *Engine) Lookback() int64 { return 0 }

// Assign names the partitions that take part in the watermark.
func (e *Engine) Assign(parts []event.Partition) {}

// Replay fills windows and registries silently.
func (e *Engine) Replay(p event.Partition, events []event.Event) {}

// Observe judges events and returns what fired.
func (e *Engine) Observe(p event.Partition, events []event.Event) []finding.Finding { return nil }

// Progress tells how far a partition was read.
func (e *Engine) Progress(p event.Partition, position, highWatermark int64, now event.Instant) {}

// Tick lets time pass.
func (e *Engine) Tick(now event.Instant) []finding.Finding { return nil }

// Diagnose sets causes of re-read events without touching any state.
func (e *Engine) Diagnose(events []event.Event) {}

// SwapRules replaces the rules; the state of unchanged rules survives.
func (e *Engine) SwapRules(set *rules.Set) error { return nil }

// Restore loads what the journal knows to have fired: findings, and how their
// episodes went on. It is called before the first Replay or Observe.
func (e *Engine) Restore(findings []finding.Finding, episodes []journal.Episode) {}

// TakeEpisodeUpdates returns how episodes went on, for the journal.
func (e *Engine) TakeEpisodeUpdates() []journal.Episode { return nil }

// ApplyKey takes a fact about a server key from a run of our own.
func (e *Engine) ApplyKey(k journal.KeyChange) {}

// ApplyProbe announces a request of our own, so that its event is no signal.
func (e *Engine) ApplyProbe(p journal.Probe) {}

// KeyUse is what one host was seen to use of one key.
type KeyUse struct {
	Network, Host, Service string
	KeyID                  string
	First, Last            event.Instant // of successful mints with the key
	Mints                  uint64
	// HeartbeatKey is the key_id of the host's last heartbeat; empty when it
	// sends none.
	HeartbeatKey string
	HeartbeatAt  event.Instant
	// Live: the host is in the inventory now.
	Live bool
	// Scheduled: the host's service is one of scheduled_services.
	Scheduled bool
}

// KeyUse lists, for every host of the inventory of network, which keys it was
// seen to use: one row per host and key, and one with an empty KeyID for a live
// host that was not seen with any.
func (e *Engine) KeyUse(network string, now event.Instant) []KeyUse { return nil }

// ForeignUse is the use of a key by a host or address outside the inventory.
type ForeignUse struct {
	Network, KeyID, Host, SourceIP string
	First, Last                    event.Instant
	Succeeded, Refused             uint64
}

// ForeignUse lists the uses of keys of network from outside the inventory.
func (e *Engine) ForeignUse(network string) []ForeignUse { return nil }

// Key is one server key of the registry.
type Key struct {
	Network, KeyID string
	State          KeyState
	Created        event.Instant // zero: unknown
	Activated      event.Instant
	Retired        event.Instant
	Revoked        event.Instant
	Source         string // who told it: lifecycle, run
}

// KeyState is the state of a server key.
type KeyState string

// The states, in order of life. A retired key still works, but a successor was
// activated.
const (
	KeyCreated KeyState = "created"
	KeyActive  KeyState = "active"
	KeyRetired KeyState = "retired"
	KeyRevoked KeyState = "revoked"
)

// Keys lists the registry of network; all networks when it is empty.
func (e *Engine) Keys(network string) []Key { return nil }
