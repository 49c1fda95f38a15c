package app

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/store"
)

// clocks answers detection's question about a host's clock from the estimates
// that ingest keeps per partition. A snapshot is made once a minute, so the
// index of them is too.
type clocks struct {
	source func() map[event.Partition]offset.Snapshot

	mu    sync.Mutex
	taken time.Time
	hosts map[string]offset.Estimate
}

// clocksEvery is how old the index may be.
const clocksEvery = 10 * time.Second

var _ detect.Estimates = (*clocks)(nil)

// Offset implements detect.Clocks.
func (c *clocks) Offset(network, host string) (off, margin time.Duration, ok bool) {
	e, known := c.Estimate(network, host)
	return e.Offset, e.Error, known && e.Confident
}

// Estimate implements detect.Estimates. Of several partitions that know the host,
// an anchored estimate counts before others, and of those the one that rests on
// most records.
func (c *clocks) Estimate(_, host string) (offset.Estimate, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.source == nil {
		return offset.Estimate{}, false
	}
	if now := time.Now(); now.Sub(c.taken) > clocksEvery {
		c.taken, c.hosts = now, map[string]offset.Estimate{}
		for _, snap := range c.source() {
			for _, h := range snap.Hosts {
				if old, known := c.hosts[h.Name]; !known || better(h.Current, old) {
					c.hosts[h.Name] = h.Current
				}
			}
		}
	}
	e, known := c.hosts[host]
	return e, known && e.AsOf != 0
}

// better says which of two estimates of one clock counts.
func better(a, b offset.Estimate) bool {
	if a.Anchored != b.Anchored {
		return a.Anchored
	}
	return a.Records > b.Records
}

// quarantining writes rejected records to the quarantine topic before the store
// has them: at least once, keyed by their coordinates.
type quarantining struct {
	ingest.EventWriter
	produce func(ctx context.Context, rejects []ingest.Reject) error
	log     *slog.Logger
}

// Append implements ingest.EventWriter.
func (q *quarantining) Append(ctx context.Context, b *ingest.Batch, acked func(next int64)) error {
	for wait := 100 * time.Millisecond; len(b.Rejects) > 0; wait = min(2*wait, 5*time.Second) {
		err := q.produce(ctx, b.Rejects)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		q.log.Warn("rejected records did not reach the quarantine topic; trying again", "records", len(b.Rejects), "error", err)
		_ = pause(ctx, wait)
	}
	return q.EventWriter.Append(ctx, b, acked)
}

// rejected is the value of a record of the quarantine topic.
type rejected struct {
	event.Ref
	ObservedAt event.Instant `json:"observed_at"`
	Reason     ingest.Reason `json:"reason"`
	Field      string        `json:"field,omitempty"`
	Detail     string        `json:"detail,omitempty"`
	Excerpt    string        `json:"excerpt,omitempty"`
	Size       int           `json:"size"`
}

// produceRejects writes them together: one request each would let a flood of
// broken records hold storage back for hours.
func (a *App) produceRejects(ctx context.Context, rejects []ingest.Reject) error {
	now := event.At(a.opts.Now())
	msgs := make([]kafka.Message, len(rejects))
	for i := range rejects {
		r := &rejects[i]
		value, err := json.Marshal(rejected{r.Ref, r.ObservedAt, r.Reason, r.Field, r.Detail, r.Excerpt, r.Size})
		if err != nil {
			return fmt.Errorf("encode rejected record: %w", err)
		}
		key := fmt.Sprintf("%s/%d/%d/%d", r.Ref.Topic, r.Ref.Partition, r.Ref.Offset, r.Ref.Idx)
		msgs[i] = kafka.Message{Time: now, Key: []byte(key), Value: value}
	}
	return a.kafka.ProduceBatch(ctx, a.cfg.Kafka.Topics.Quarantine, msgs)
}

// positions keeps detected positions, together with the clock estimates that
// belong to them, in the control topic.
type positions struct{ a *App }

// Save implements alert.Positions.
func (p positions) Save(ctx context.Context, detected map[event.Partition]int64) error {
	p.a.mu.Lock()
	s := p.a.session
	p.a.mu.Unlock()
	if s == nil {
		return alert.ErrNotLeader
	}
	now := event.At(p.a.opts.Now())
	snaps := s.pipeline.Clocks()
	points := make(map[event.Partition]kafka.Checkpoint, len(detected))
	for part, pos := range detected {
		cp := kafka.Checkpoint{Detected: pos, At: now}
		if snap, ok := snaps[part]; ok {
			b, err := json.Marshal(snap)
			if err != nil {
				return fmt.Errorf("encode clock estimates: %w", err)
			}
			cp.Clocks = b
		}
		points[part] = cp
	}
	if err := p.a.control.Save(ctx, points); err != nil {
		return err
	}
	p.a.kept.note(detected)
	return nil
}

// sink takes ingest's findings to the manager, with what only the registries know:
// whether a key whose value was found in an event is one that works.
type sink struct{ a *App }

// Deliver implements ingest.FindingSink.
func (s sink) Deliver(ctx context.Context, findings []finding.Finding, p event.Partition, position int64) error {
	s.weigh(findings)
	return s.a.manager.Deliver(ctx, findings, p, position)
}

// Journal implements ingest.FindingSink.
func (s sink) Journal(ctx context.Context, findings []finding.Finding) error {
	s.weigh(findings)
	return s.a.manager.Journal(ctx, findings)
}

// weigh takes their weight from leaks of keys that work no longer.
func (s sink) weigh(findings []finding.Finding) {
	for i := range findings {
		f := &findings[i]
		if f.Risk == nil || f.Risk.Fact != finding.ValueSeen {
			continue
		}
		switch state := s.a.keyState(f.Subject.Network, f.Subject.Value); state {
		case detect.KeyRetired, detect.KeyRevoked:
			f.Risk = &finding.Risk{Family: f.Risk.Family}
			f.Facts = append(f.Facts, finding.Pair{Field: "key_state", Value: string(state)})
		}
	}
}

// desk is the console's view of the incident desk.
type desk struct{ a *App }

func (d desk) Incidents() []incident.Incident { return d.a.manager.Incidents() }
func (d desk) Incident(id string) (incident.Incident, bool) {
	return d.a.manager.Incident(id)
}
func (d desk) Runs() []incident.Run               { return d.a.manager.Runs() }
func (d desk) Run(id string) (incident.Run, bool) { return d.a.manager.RunByID(id) }
func (d desk) Decide(ctx context.Context, dec journal.Decision) (journal.Decision, error) {
	return d.a.manager.Decide(ctx, dec)
}

// Person looks a credential up by its digest, so that the time of the look-up
// says nothing about the credential.
func (d desk) Person(credential string) (string, bool) {
	id, ok := d.a.people[sha256.Sum256([]byte(credential))]
	return id, ok && credential != ""
}

// evidence is what a playbook may know of detection.
type evidence struct{ a *App }

// KeyUse implements playbook.Evidence.
func (e evidence) KeyUse(network string, now event.Instant) []playbook.KeyUse {
	engine := e.a.engine()
	if engine == nil {
		return nil
	}
	rows := engine.KeyUse(network, now)
	out := make([]playbook.KeyUse, 0, len(rows))
	for _, r := range rows {
		out = append(out, playbook.KeyUse{Host: r.Host, KeyID: r.KeyID, First: r.First, Last: r.Last, Mints: int(r.Mints),
			HeartbeatKey: r.HeartbeatKey, Live: r.Live})
	}
	for _, f := range engine.ForeignUse(network) {
		host := f.Host
		if host == "" {
			host = f.SourceIP
		}
		out = append(out, playbook.KeyUse{Host: host, KeyID: f.KeyID, First: f.First, Last: f.Last, Mints: int(f.Succeeded), Foreign: true})
	}
	return out
}

// Coverage implements playbook.Evidence: complete while every partition is read
// to its end by live detection, and not to be told otherwise.
func (e evidence) Coverage(string, event.Instant, event.Instant) (float64, bool) {
	e.a.mu.Lock()
	s := e.a.session
	e.a.mu.Unlock()
	if s == nil {
		return 0, false
	}
	parts := s.pipeline.Status()
	for _, p := range parts {
		if !p.Ready || p.End-p.Live > maxEvidenceLag {
			return 0, false
		}
	}
	return 1, len(parts) > 0
}

// maxEvidenceLag is how many records behind the end still count as live.
const maxEvidenceLag = 500

// history keeps the runs of posture checks in the journal.
type history struct{ a *App }

// LastRun implements posture.History.
func (h history) LastRun(check string) (event.Instant, bool) {
	p, ok := h.a.memory.lastPosture(check)
	return p.Due, ok
}

// Record implements posture.History: findings first, so that a crash between the
// two repeats the check rather than losing what it found.
func (h history) Record(ctx context.Context, run journal.PostureRun, findings []finding.Finding) error {
	if len(findings) > 0 {
		if err := h.a.manager.Deliver(ctx, findings, event.Partition{}, 0); err != nil {
			return err
		}
	}
	_, err := h.a.journal.Append(ctx, journal.Entry{Kind: journal.KindPosture, Time: event.At(h.a.opts.Now()), Body: run})
	return err
}

// registry gives posture the keys and certificates that the store knows.
type registry struct{ client *store.Client }

// ServerKeys implements posture.Registry.
func (r registry) ServerKeys(ctx context.Context) ([]posture.ServerKey, error) {
	rows, err := r.client.ServerKeys(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]posture.ServerKey, len(rows))
	for i, k := range rows {
		out[i] = posture.ServerKey{Network: k.Network, KeyID: k.KeyID, State: k.State, Created: k.Created}
	}
	return out, nil
}

// Certificates implements posture.Registry.
func (r registry) Certificates(ctx context.Context) ([]posture.Certificate, error) {
	rows, err := r.client.Certificates(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]posture.Certificate, len(rows))
	for i, c := range rows {
		out[i] = posture.Certificate{Network: c.Network, CertID: c.CertID, CN: c.CN, State: c.State, NotBefore: c.NotBefore, NotAfter: c.NotAfter}
	}
	return out, nil
}

// held tells posture what the store holds of what was sent.
type held struct{ client *store.Client }

// Coverage implements posture.Coverage.
func (h held) Coverage(ctx context.Context, now time.Time) (posture.Held, error) {
	networks, lost, err := h.client.Coverage(ctx, now.Add(-posture.CoverageSpan))
	out := posture.Held{Lost: lost}
	for _, n := range networks {
		out.Networks = append(out.Networks, posture.NetworkCoverage{Network: n.Network, Expected: n.Expected, Held: n.Held, Silent: n.Silent})
	}
	return out, err
}
