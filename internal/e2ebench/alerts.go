package e2ebench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/stage"
)

const (
	sampleEvery = 137 * time.Millisecond // no multiple of loadEvery
	victim      = "latency"              // network of the keys that are retired
)

// timings are where triggers lie and when their alerts were seen, by key.
type timings struct {
	mu   sync.Mutex
	sent map[string]event.Ref
	seen map[string]event.Instant
}

// alerts times alerts at half load, by a daemon that was started again.
func (b *bench) alerts(ctx context.Context) (err error) {
	if b.daemon, err = b.stage.StartDaemon(b.cfg); err != nil {
		return err
	}
	if err := b.retireKeys(ctx); err != nil {
		return err
	}
	rate := b.result.EventsPerS / 2
	b.say("timing %d alerts at %.0f events/s", b.opt.Samples, rate)
	load, stop := context.WithCancel(ctx)
	defer stop()
	t := &timings{sent: map[string]event.Ref{}, seen: map[string]event.Instant{}}
	p := event.Partition{Topic: b.cfg.Kafka.Topics.Journal}
	_, end, err := b.kafka.Bounds(ctx, p)
	if err != nil {
		return err
	}
	ended := make(chan error, 2)
	go func() { ended <- b.load(load, rate) }()
	go func() { ended <- stage.TailFindings(load, b.kafka, p, end, t.arrived) }()
	err = b.trigger(ctx, t)
	stop()
	if err := errors.Join(err, <-ended, <-ended); err != nil {
		return err
	}
	b.result.PeakRSSMB = max(b.result.PeakRSSMB, b.daemon.PeakRSS())
	var all []time.Duration
	for key, ref := range t.sent {
		seen, ok := t.seen[key]
		if !ok {
			continue
		}
		appended, err := b.appended(ctx, ref)
		if err != nil {
			return err
		}
		all = append(all, seen.Sub(appended))
	}
	return b.judgeAlerts(all)
}

// appended is the broker's time of a record.
func (b *bench) appended(ctx context.Context, ref event.Ref) (event.Instant, error) {
	f, err := b.kafka.Fetch(ctx, event.Partition{Topic: ref.Topic, ID: ref.Partition}, ref.Offset)
	if err != nil {
		return 0, err
	}
	if len(f.Records) == 0 || f.Records[0].Offset != ref.Offset || !f.Records[0].Appended {
		return 0, fmt.Errorf("the record at %v cannot be read back", ref)
	}
	return f.Records[0].Time, nil
}

func (b *bench) judgeAlerts(all []time.Duration) error {
	if len(all) < b.opt.Samples {
		return fmt.Errorf("only %d of %d alerts came", len(all), b.opt.Samples)
	}
	slices.SortFunc(all, cmp.Compare)
	ms := func(q float64) float64 { return all[int(q*float64(len(all)-1))].Seconds() * 1000 }
	b.result.AlertP50MS, b.result.AlertP99MS = ms(0.5), ms(0.99)
	b.say("alerts: fastest %.1f ms, median %.1f ms, slowest %.1f ms", ms(0), ms(0.5), ms(1))
	return nil
}

func keyOf(i int) string {
	return event.Fingerprint([]byte("simulated network"), "retired key "+strconv.Itoa(i))
}

// retireKeys tells the daemon of keys that came and went, and waits until it
// knows.
func (b *bench) retireKeys(ctx context.Context) error {
	var msgs []kafka.Message
	n := 0
	tell := func(t event.Type, key string) {
		var e event.Event
		n++
		e.Type = t
		e.Present = e.Present.Set(event.FieldType)
		e.SetString(event.FieldID, "console-"+strconv.Itoa(n))
		e.SetString(event.FieldNetwork, victim)
		e.SetString(event.FieldActor, "console-admin")
		e.SetString(event.FieldActorRole, "admin")
		e.SetString(event.FieldKeyID, key)
		e.SetInstant(event.FieldTime, event.At(time.Now()))
		msgs = append(msgs, kafka.Message{Key: []byte(victim), Value: event.Append(nil, &e)})
	}
	for i := range b.opt.Samples + 1 {
		tell(event.TypeServerKeyCreated, keyOf(i))
		tell(event.TypeServerKeyActivated, keyOf(i))
		if i < b.opt.Samples {
			tell(event.TypeServerKeyRevoked, keyOf(i))
		}
	}
	if err := b.kafka.ProduceBatch(ctx, console, msgs); err != nil {
		return err
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		st, err := b.daemon.Status(ctx) // its port opens last
		if err != nil && b.daemon.Running() != nil {
			return b.daemon.Running()
		}
		for _, p := range st.Positions {
			if st.Ready && p.Partition == (event.Partition{Topic: console}).String() && p.Detected >= int64(n) {
				return nil
			}
		}
		if err := stage.Pause(ctx, lookEvery); err != nil {
			return err
		}
	}
	return fmt.Errorf("the daemon did not read the lifecycle of the keys within %v", patience)
}

// errLoad says that this machine is too busy for the load.
var errLoad = errors.New("the load could not be produced")

// loadEvery is how often the load is written.
const loadEvery = 10 * time.Millisecond

// load writes the first events of the topic again and again, at rate a second.
func (b *bench) load(ctx context.Context, rate float64) error {
	tick := time.NewTicker(loadEvery)
	defer tick.Stop()
	began, sent, at := time.Now(), 0, 0
	for {
		select {
		case <-ctx.Done():
			achieved := float64(sent) / time.Since(began).Seconds()
			b.say("the load was %.0f events/s", achieved)
			if achieved < 0.8*rate {
				return fmt.Errorf("%w: %.0f events/s instead of %.0f", errLoad, achieved, rate)
			}
			return nil
		case <-tick.C:
		}
		due := int(time.Since(began).Seconds()*rate) - sent
		for due > 0 {
			n := min(due, len(b.sample)-at)
			if err := b.kafka.ProduceBatch(ctx, topic, b.sample[at:at+n]); err != nil {
				if ctx.Err() != nil {
					break
				}
				return fmt.Errorf("load: %w", err)
			}
			sent, due, at = sent+n, due-n, (at+n)%len(b.sample)
		}
	}
}

// trigger sends the samples and waits for their alerts.
func (b *bench) trigger(ctx context.Context, t *timings) error {
	if err := stage.Pause(ctx, 2*time.Second); err != nil { // let the load get going
		return err
	}
	for i := range b.opt.Samples {
		var e event.Event
		e.Type, e.Mode, e.Status = event.TypeAuthTokenDenied, event.ModeSecure, 401
		e.SourceIP = netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
		e.Present = e.Present.Set(event.FieldType).Set(event.FieldAuthMode).Set(event.FieldStatus).Set(event.FieldSourceIP)
		e.SetString(event.FieldID, "trigger-"+strconv.Itoa(i))
		e.SetString(event.FieldNetwork, victim)
		e.SetString(event.FieldHost, "elsewhere-"+strconv.Itoa(i))
		e.SetString(event.FieldCode, "invalid_server_key")
		e.SetString(event.FieldEndpoint, "/api/v4/authentication/token")
		e.SetString(event.FieldKeyID, keyOf(i))
		e.SetInstant(event.FieldTime, event.At(time.Now()))
		ref, err := b.kafka.Produce(ctx, topic, kafka.Message{Key: []byte(e.Host), Value: event.Append(nil, &e)})
		if err != nil {
			return fmt.Errorf("send a trigger: %w", err)
		}
		t.mu.Lock()
		t.sent[keyOf(i)] = ref
		t.mu.Unlock()
		if err := stage.Pause(ctx, sampleEvery); err != nil {
			return err
		}
	}
	for range int(10 * time.Second / lookEvery) {
		t.mu.Lock()
		all := len(t.seen) == b.opt.Samples
		t.mu.Unlock()
		if all {
			return nil
		}
		if err := stage.Pause(ctx, lookEvery); err != nil {
			return err
		}
	}
	return nil // judgeAlerts says how many are missing
}

// arrived notes the first finding about each key of the network; it may come
// before the answer to the producer.
func (t *timings) arrived(f finding.Finding, at time.Time) {
	key, ours := "", false
	for _, g := range f.Group {
		switch g.Field {
		case event.FieldKeyID.String():
			key = g.Value
		case event.FieldNetwork.String():
			ours = g.Value == victim
		}
	}
	if !ours || key == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.seen[key]; !known {
		t.seen[key] = event.At(at)
	}
}
