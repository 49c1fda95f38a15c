package quality

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/configs"
	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/redact"
	"github.com/keysentry/keysentry/internal/secret"
	"github.com/keysentry/keysentry/internal/simulate"
	"github.com/keysentry/keysentry/rules"
)

// second is what the simulation's clock goes on by.
const second = event.Instant(time.Second)

// topics are where each origin's events arrive; the people's console is the only
// one that may tell of the life of keys and certificates.
var topics = []ingest.TopicConfig{
	{Name: "backend.events", Origin: event.OriginBackend},
	{Name: "gateway.events", Origin: event.OriginGateway},
	{Name: "platform.events", Origin: event.OriginPlatform},
	{Name: "client.events", Origin: event.OriginClient},
	{Name: "console.events", Origin: event.OriginConsole, Lifecycle: true},
}

// world is one daemon without its servers, in the simulation's time.
type world struct {
	now     event.Instant
	decoder *ingest.Decoder
	engine  *detect.Engine
	manager *alert.Manager
	journal *memory
	library *playbook.Library
	inputs  []*input
	heard   func(in *input, events []event.Event) // after the engine has judged them

	changed map[string]bool // incidents that records were about since the last look
	// found is the evidence of findings that have not joined an incident yet,
	// evidence that of an incident since it was opened or reopened last.
	found, evidence map[string][]event.Ref
	// titles are those of the findings in found, newest that of an incident's latest.
	titles, newest map[string]string
}

// input is one partition and what waits in it.
type input struct {
	id      event.Partition
	clock   *ingest.Clock
	fetched ingest.Fetched
	truths  []simulate.Truth // parallel to the records that wait
	texts   []byte           // their values
	ends    []int            // where each ends in texts
	at      []event.Instant  // append times
	seen    map[string]event.Instant
}

// newWorld builds a daemon as shipped, told of the network what its people would
// have told it.
func newWorld(net simulate.Network, start event.Instant) (*world, error) {
	cfg := config.Default()
	cfg.Ingest.Topics = topics
	describe(cfg, net)
	cfg.Alert.People = []alert.Person{{ID: onCall, Roles: []string{"responder", "approver"}}}
	w := &world{now: start, journal: &memory{}, changed: map[string]bool{},
		found: map[string][]event.Ref{}, evidence: map[string][]event.Ref{}, titles: map[string]string{}, newest: map[string]string{}}
	redactor := redact.New()
	for _, v := range net.Secrets {
		redactor.AddValue(secret.New(string(net.FingerprintKey)), secret.New(v))
	}
	mappings, err := fs.Sub(configs.Mappings, "mappings")
	if err != nil {
		return nil, err
	}
	if w.decoder, err = ingest.NewDecoder(cfg.Ingest.Config, ingest.DecoderDeps{Redactor: redactor, Mappings: mappings}); err != nil {
		return nil, err
	}
	set, diags, err := app.LoadRules(cfg.Rules)
	if err != nil {
		return nil, err
	}
	for _, d := range diags {
		if d.Severity == rules.Error {
			return nil, fmt.Errorf("%s:%d: %s", d.File, d.Line, d.Message)
		}
	}
	if w.library, err = app.LoadPlaybooks(cfg.Playbook); err != nil {
		return nil, err
	}
	table, err := networksOf(net)
	if err != nil {
		return nil, err
	}
	if w.engine, err = detect.New(cfg.Detect, detect.Deps{Rules: set, Clocks: clocks{w}, Declared: declaredBy(net), Networks: table}); err != nil {
		return nil, err
	}
	if errs := w.engine.Problems(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	w.open()
	for _, k := range net.Keys { // what keys adopt would have told
		w.engine.ApplyKey(journal.KeyChange{Network: net.Name, KeyID: k.ID, State: journal.KeyAdopted, At: start, Person: onCall,
			Created: event.At(k.Created), Probe: journal.ProbeAgreed})
	}
	return w, w.startAlerting(cfg.Alert)
}

// open assigns one partition of every topic.
func (w *world) open() {
	var ids []event.Partition
	for _, t := range topics {
		in := &input{id: event.Partition{Topic: t.Name}, clock: ingest.NewClock(0), seen: map[string]event.Instant{}}
		w.inputs = append(w.inputs, in)
		ids = append(ids, in.id)
	}
	w.engine.Assign(ids)
}

// startAlerting makes the only member the leader.
func (w *world) startAlerting(cfg alert.Config) (err error) {
	w.manager, err = alert.New(cfg, alert.Deps{Journal: w.journal, Now: func() time.Time { return w.now.Time() }})
	if err != nil {
		return err
	}
	w.journal.readers = []func(journal.Record){w.manager.Apply, w.note}
	recs, err := w.journal.Append(context.Background(), journal.Entry{Kind: journal.KindTookOver, Time: w.now, Body: journal.TookOver{Member: "quality"}})
	if err == nil {
		w.manager.Lead(context.Background(), recs[0].Offset)
	}
	return err
}

// clocks are the estimates of all partitions; an anchored one counts first.
type clocks struct{ w *world }

var _ detect.Estimates = clocks{}

// Estimate implements detect.Estimates.
func (c clocks) Estimate(_, host string) (est offset.Estimate, ok bool) {
	for _, in := range c.w.inputs {
		if e, known := in.clock.Estimate(host); known && (!ok || e.Anchored && !est.Anchored) {
			est, ok = e, true
		}
	}
	return est, ok
}

// Offset implements detect.Clocks.
func (c clocks) Offset(network, host string) (off, margin time.Duration, ok bool) {
	est, ok := c.Estimate(network, host)
	return est.Offset, est.Error, ok && est.Confident
}

// arrive puts an event into its topic as the broker would, at its append time.
func (w *world) arrive(e *event.Event, t simulate.Truth) error {
	if e.Origin == event.OriginKeysentry && e.Type.Lifecycle() {
		w.ownRun(e)
		return nil
	}
	in := w.inputFor(e.Origin)
	if in == nil {
		return fmt.Errorf("an event of origin %s: no topic is for it", e.Origin)
	}
	in.texts = event.Append(in.texts, e)
	in.ends = append(in.ends, len(in.texts))
	in.at = append(in.at, e.ObservedAt)
	in.truths = append(in.truths, t)
	return nil
}

func (w *world) inputFor(o event.Origin) *input {
	if o == event.OriginKeysentry {
		o = event.OriginPlatform
	}
	for i, t := range topics {
		if t.Origin == o {
			return w.inputs[i]
		}
	}
	return nil
}

// step reads every partition once, lets time pass and journals what was found.
func (w *world) step(now event.Instant) error {
	w.now = now
	var found []finding.Finding
	for _, in := range w.inputs {
		fs, err := w.read(in)
		if err != nil {
			return err
		}
		found = append(found, fs...)
	}
	found = append(found, w.engine.Tick(now)...)
	if len(found) == 0 {
		return nil
	}
	return w.manager.Record(context.Background(), found)
}

// read is what one fetch of a partition leads to.
func (w *world) read(in *input) ([]finding.Finding, error) {
	first := in.fetched.Next
	in.fetched.Records = in.fetched.Records[:0]
	from := 0
	for i, end := range in.ends {
		in.fetched.Records = append(in.fetched.Records, ingest.Record{Offset: first + int64(i), Time: in.at[i], Appended: true, Value: in.texts[from:end:end]})
		from = end
	}
	in.fetched.Next = first + int64(len(in.ends))
	in.fetched.HighWatermark = in.fetched.Next
	var found []finding.Finding
	if len(in.ends) > 0 {
		b, err := w.decoder.Decode(in.id, &in.fetched, first, in.clock, w.now)
		if err != nil {
			return nil, err
		}
		if len(b.Rejects) > 0 {
			r := b.Rejects[0]
			return nil, fmt.Errorf("the simulation wrote an event that is refused: %s: %s %s: %s", r.Reason, r.Field, r.Detail, r.Excerpt)
		}
		found = append(w.engine.Observe(in.id, b.Events), ingest.OwnFindings(b, in.seen, w.now)...)
		w.heard(in, b.Events)
		b.Release()
		in.texts, in.ends, in.at, in.truths = in.texts[:0], in.ends[:0], in.at[:0], in.truths[:0]
	}
	w.engine.Progress(in.id, in.fetched.Next, in.fetched.HighWatermark, w.now)
	return found, nil
}

// proposes reports whether a rotation would be proposed for the incident.
func (w *world) proposes(inc *incident.Incident) bool {
	return (!inc.AboutKey() || inc.GateMetAt != 0) && len(w.library.Propose(inc.Kind, inc.Severity)) > 0
}
