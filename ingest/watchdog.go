package ingest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
)

// WatchdogConfig says how long something may make no progress.
type WatchdogConfig struct {
	// StuckAfter is how long a partition may wait for an answer of Kafka, or for
	// detection or the journal, before the connections are made anew, and once more
	// before the daemon ends with an error. 0: it is never looked.
	StuckAfter time.Duration `yaml:"stuck_after"`
	// StoreStuckAfter is how long nothing may be stored, although ClickHouse
	// answers, before the daemon ends with an error. 0: it is never looked.
	StoreStuckAfter time.Duration `yaml:"store_stuck_after"`
}

func (c WatchdogConfig) validate() []error {
	var errs []error
	if c.StuckAfter != 0 && (c.StuckAfter < time.Second || c.StuckAfter > time.Hour) {
		errs = append(errs, fmt.Errorf("watchdog.stuck_after: %v is outside 1s to 1h, and is not 0, which switches it off", c.StuckAfter))
	}
	if c.StoreStuckAfter != 0 && (c.StoreStuckAfter < time.Second || c.StoreStuckAfter > 24*time.Hour) {
		errs = append(errs, fmt.Errorf("watchdog.store_stuck_after: %v is outside 1s to 24h, and is not 0, which switches it off", c.StoreStuckAfter))
	}
	return errs
}

// The kinds of what is watched.
const (
	WatchGroup     = "group"
	WatchDetection = "detection"
	WatchStorage   = "storage"
)

// Watched is one thing that has to get on, as it stands now.
type Watched struct {
	Kind, Name string
	// Busy says that it has something to do and nobody known keeps it from that.
	Busy bool
	// Steps grow with all that it does; Troubles with failures that are no sign of
	// being stuck.
	Steps, Troubles int64
	// Patience is how long it may take for a step; 0: as long as it likes.
	Patience time.Duration
	// Kafka says that it waits for Kafka: new connections may help.
	Kafka bool
	// Detail says what it is at, where, and what failed last.
	Detail string
}

// Stuck is something that has made no step for longer than it may.
type Stuck struct {
	Watched
	For time.Duration
}

// Error says what is stuck and what to look at.
func (s Stuck) Error() string {
	look := "the goroutines of the process (send it SIGQUIT before it ends) and its log: this is a fault of keysentry, please report it"
	switch {
	case s.Kafka:
		look = "the brokers' logs, and whatever lies between here and them: connections are taken and not answered"
	case s.Kind == WatchStorage:
		look = "system.processes and the log of ClickHouse, and the rights on the topic of quarantined records"
	}
	return fmt.Sprintf("%s of %s makes no progress for %v: %s; look at %s", s.Kind, s.Name, s.For.Round(time.Second), s.Detail, look)
}

// Advice is what to do.
type Advice int

// The values of Advice.
const (
	Wait Advice = iota
	// Reconnect: make the connections to Kafka anew and join the group as a new
	// member.
	Reconnect
	// GiveUp: end with an error, so that a supervisor starts the daemon again.
	GiveUp
)

// Watchdog decides what to do when something makes no progress. It is told the
// time and how things stand, and does nothing itself. Things that wait for Kafka
// are helped once by new connections; if one of them is stuck again before all
// that were helped made a step, and for anything else at once, it advises to give
// up. It is for one goroutine.
type Watchdog struct {
	things map[string]*watchedThing
	// helped are the names of what was stuck when connections were made anew and has
	// made no step since.
	helped map[string]bool
	m      *watchdogMetrics
}

type watchedThing struct {
	steps, troubles int64
	since           event.Instant
	stuck           bool
}

type watchdogMetrics struct {
	stuck      *prometheus.CounterVec
	reconnects prometheus.Counter
	away       prometheus.Counter
}

// NewWatchdog returns a Watchdog that has seen nothing.
func NewWatchdog(r *metrics.Registry) *Watchdog {
	r = metrics.OrNew(r)
	return &Watchdog{things: map[string]*watchedThing{}, helped: map[string]bool{}, m: &watchdogMetrics{
		stuck:      r.Counters(subsystem, "stuck_total", "Times that something made no progress for longer than it may, by what.", "what"),
		reconnects: r.Counter(subsystem, "reconnects_total", "Times that the connections to Kafka were made anew because nothing progressed."),
		away:       r.Counter(subsystem, "kafka_away_total", "Times that nothing progressed because no broker could be reached; the daemon waits."),
	}}
}

// Look takes in how everything stands and returns what to do and what for.
func (w *Watchdog) Look(now event.Instant, list []Watched) (Advice, []Stuck) {
	var stuck []Stuck
	for _, x := range list {
		t := w.things[x.Kind+" "+x.Name]
		if t == nil {
			t = &watchedThing{steps: x.Steps, troubles: x.Troubles, since: now}
			w.things[x.Kind+" "+x.Name] = t
		}
		// A member that works again has been helped, whether or not the journal, whose
		// records are its steps, has anything to say.
		if x.Steps > t.steps || x.Kind == WatchGroup && !x.Busy {
			delete(w.helped, x.Kind+" "+x.Name)
		}
		if !x.Busy || x.Steps != t.steps || x.Troubles != t.troubles {
			t.steps, t.troubles, t.since, t.stuck = x.Steps, x.Troubles, now, false
			continue
		}
		if x.Patience > 0 && now.Sub(t.since) >= x.Patience {
			stuck = append(stuck, Stuck{x, now.Sub(t.since)})
			if !t.stuck {
				t.stuck = true
				w.m.stuck.WithLabelValues(x.Kind).Inc()
			}
		}
	}
	switch {
	case len(stuck) == 0:
		return Wait, nil
	case len(w.helped) > 0, slices.ContainsFunc(stuck, func(s Stuck) bool { return !s.Kafka }):
		return GiveUp, stuck
	}
	return Reconnect, stuck
}

// Reconnected says that the connections were made anew for what was stuck.
func (w *Watchdog) Reconnected(now event.Instant, stuck []Stuck) {
	w.m.reconnects.Inc()
	for _, s := range stuck {
		w.helped[s.Kind+" "+s.Name] = true
	}
	w.again(now)
}

// Away says that no broker can be reached: nothing is stuck.
func (w *Watchdog) Away(now event.Instant) {
	w.m.away.Inc()
	w.again(now)
}

// StandsBy says that another member works: what was helped here is its business.
func (w *Watchdog) StandsBy() { clear(w.helped) }

func (w *Watchdog) again(now event.Instant) {
	for _, t := range w.things {
		t.since, t.stuck = now, false
	}
}

// Helped names what has made no step since connections were made anew for it.
func (w *Watchdog) Helped() string {
	names := make([]string, 0, len(w.helped))
	for n := range w.helped {
		names = append(names, n)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// StuckError is the error of a daemon that gives up.
func StuckError(stuck []Stuck) error {
	errs := make([]error, len(stuck))
	for i, s := range stuck {
		errs[i] = errors.New(s.Error())
	}
	return errors.Join(errs...)
}

// Watched are the partition's two sides; storing says that ClickHouse answers and
// takes inserts.
func (s Status) Watched(c WatchdogConfig, storing bool) []Watched {
	p := s.Progress
	detection := Watched{Kind: WatchDetection, Name: s.Partition.String(), Busy: s.Running, Steps: p.Steps, Troubles: p.Troubles, Patience: c.StuckAfter,
		Kafka:  p.Doing == DoingRead || p.Doing == DoingDeliver,
		Detail: fmt.Sprintf("%s at offset %d of %d", p.Doing, s.Live, s.End)}
	if p.Failure != "" {
		detection.Detail += ", the last error is: " + p.Failure
	}
	storage := Watched{Kind: WatchStorage, Name: s.Partition.String(), Busy: s.Running && s.Ready && storing && s.Stored < s.Live, Steps: s.Stored,
		Patience: c.StoreStuckAfter, Detail: fmt.Sprintf("stored up to offset %d, detection is at %d", s.Stored, s.Live)}
	if s.StoreFailure != "" {
		storage.Detail += ", the last error is: " + s.StoreFailure
	}
	return []Watched{detection, storage}
}
