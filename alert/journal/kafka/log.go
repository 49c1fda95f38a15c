package kafkajournal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/internal/kafkawire"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/internal/secret"
)

// Config is the section journal of the configuration; the topic is that of
// kafka.topics.journal.
type Config struct {
	// Key is the secret that only the daemons hold.
	Key secret.Ref `yaml:"key"`
	// AppendTimeout bounds the writing of records, until they were read back.
	AppendTimeout time.Duration `yaml:"append_timeout"`
}

// DefaultConfig gives up on a write before a standby takes over.
func DefaultConfig() Config { return Config{AppendTimeout: 8 * time.Second} }

// Validate reports every fault; each error begins with the field's path.
func (c Config) Validate() []error {
	var errs []error
	if err := c.Key.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("key: %w", err))
	}
	if c.AppendTimeout < 100*time.Millisecond || c.AppendTimeout > time.Minute {
		errs = append(errs, errors.New("append_timeout: must lie between 100ms and 1m"))
	}
	return errs
}

// minKey is the least length of the key in bytes.
const minKey = 16

// CheckKey refuses a key that is too short to keep anybody from guessing it.
func CheckKey(key secret.Value) error {
	if len(key.Reveal()) < minKey {
		return fmt.Errorf("journal.key: the key has fewer than %d bytes; make one with: openssl rand -hex 32", minKey)
	}
	return nil
}

// Deps are what a Log needs besides its configuration.
type Deps struct {
	Wire  *kafkawire.Client
	Topic string
	// Key is the resolved key, at least 16 bytes.
	Key     secret.Value
	Log     *slog.Logger
	Metrics *metrics.Registry
	// OnStray, when set, is called for every stray from the goroutine of Run. It
	// must not block. A journal.StrayBadMAC or StrayBadHash is somebody else's
	// writing.
	OnStray func(Stray)
}

// Stray is a record that is not part of the history.
type Stray struct {
	Offset int64
	Reason journal.Reason
	Detail string
}

// The errors of a Log.
var (
	// ErrNotLeading refuses an Append outside of a leadership.
	ErrNotLeading = errors.New("journal: this process does not lead")
	// ErrLostLeadership says that another writer's record was accepted first: ours
	// have no effect, and this process leads no more.
	ErrLostLeadership = errors.New("journal: another process leads now; the records have no effect")
	// ErrUnknownOutcome says that the records were not read back in time: they may
	// yet appear.
	ErrUnknownOutcome = errors.New("journal: it is not known whether the records were written")
	// ErrBeginningGone says that the topic has lost its first records, which only
	// a person or a wrong retention does.
	ErrBeginningGone = errors.New("journal: the first records of the topic are gone; restore the topic, and set retention.ms=-1 and retention.bytes=-1")
)

// Log is the journal in its topic. It is safe for concurrent use.
type Log struct {
	cfg  Config
	deps Deps
	log  *slog.Logger
	met  *logMetrics
	subs []func(journal.Record)
	// produce is Wire.Produce; a test loses its answers.
	produce func(ctx context.Context, topic string, partition int32, batch []byte) (int64, error)

	requests chan *request
	ended    chan struct{} // closed when Run is over

	mu      sync.Mutex
	chain   *journal.Chain
	next    int64         // the next offset to read
	moved   chan struct{} // closed and replaced whenever next moved
	pending *pending
	leading bool
	epoch   int64
}

// New prepares a Log; it does not connect.
func New(cfg Config, deps Deps) (*Log, error) {
	if deps.Wire == nil || deps.Topic == "" {
		return nil, errors.New("journal: the connection or the topic is missing")
	}
	if err := CheckKey(deps.Key); err != nil {
		return nil, err
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	return &Log{
		cfg: cfg, deps: deps, log: deps.Log,
		produce:  deps.Wire.Produce,
		met:      newLogMetrics(metrics.OrNew(deps.Metrics)),
		requests: make(chan *request),
		ended:    make(chan struct{}),
		chain:    journal.NewChain(deps.Key),
		moved:    make(chan struct{}),
	}, nil
}

// Subscribe adds a receiver of accepted records. It must be called before Run.
// The receivers are called one after the other, in the order of subscription,
// from Run's goroutine; they must not call Append, CaughtUp or TakeOver.
func (l *Log) Subscribe(f func(journal.Record)) { l.subs = append(l.subs, f) }

// Head is the last accepted record that was read.
func (l *Log) Head() journal.Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.chain.Head()
}

// Leading reports the leadership and its epoch.
func (l *Log) Leading() (epoch int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch, l.leading
}

// StepDown ends the leadership. A write under way ends by itself.
func (l *Log) StepDown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose()
}

// lose ends the leadership; l.mu is held.
func (l *Log) lose() {
	l.leading, l.epoch = false, 0
	l.met.leading.Set(0)
}

// CaughtUp returns when everything that was in the topic at the time of the call
// has been read.
func (l *Log) CaughtUp(ctx context.Context) error {
	end, err := l.deps.Wire.OffsetAt(ctx, l.deps.Topic, 0, kafkawire.Latest)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	for {
		l.mu.Lock()
		next, moved := l.next, l.moved
		l.mu.Unlock()
		if next >= end {
			return nil
		}
		select {
		case <-l.ended:
			return errEnded
		case <-ctx.Done():
			return fmt.Errorf("journal: read %d of %d: %w", next, end, ctx.Err())
		case <-moved:
		}
	}
}

var errEnded = errors.New("journal: the reader has ended")

// Run reads the topic until ctx ends, and writes what Append is given. It
// returns nil at the end of ctx.
func (l *Log) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var writer sync.WaitGroup
	writer.Go(func() { l.writeLoop(ctx) })
	err := l.tail(ctx)
	close(l.ended)
	l.StepDown()
	cancel()
	writer.Wait()
	return err
}

// maxPause is the longest pause after a failed fetch.
const maxPause = time.Second

// tail fetches and accepts. A broker that does not answer is waited for without
// end: others report it.
func (l *Log) tail(ctx context.Context) error {
	next := int64(0)
	for {
		batch, err := l.fetch(ctx, next)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, ErrBeginningGone):
			return err
		case err != nil:
			l.met.fetchErrors.Inc()
			l.log.Warn("reading the journal failed; trying again", "offset", next, "error", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(maxPause):
			}
			continue
		}
		for _, raw := range batch.records {
			l.take(raw)
		}
		next = batch.next
		l.mu.Lock()
		if l.next != next {
			l.next = next
			l.wake()
		}
		l.mu.Unlock()
	}
}

// wake tells the waiters that next moved; l.mu is held.
func (l *Log) wake() {
	close(l.moved)
	l.moved = make(chan struct{})
}

// take accepts one record, or counts it as a stray.
func (l *Log) take(raw journal.Raw) {
	r, err := journal.Decode(raw.Value)
	r.Offset = raw.Offset
	l.mu.Lock()
	if err == nil {
		err = l.chain.Accept(r)
	}
	if err == nil && r.Kind == journal.KindTookOver && l.leading && (l.pending == nil || !l.pending.owns(r)) {
		l.lose()
		l.log.Warn("another process took the journal over", "offset", r.Offset)
	}
	l.mu.Unlock()
	if err != nil {
		l.stray(raw.Offset, err)
		return
	}
	l.met.accepted.Inc()
	l.met.head.Set(float64(r.N))
	for _, f := range l.subs {
		f(r)
	}
	l.mu.Lock()
	if l.pending != nil {
		l.pending.accepted(r)
	}
	l.mu.Unlock()
}

func (l *Log) stray(offset int64, err error) {
	s := Stray{Offset: offset, Reason: journal.StrayBadJSON, Detail: err.Error()}
	var e *journal.StrayError
	if errors.As(err, &e) {
		s.Reason, s.Detail = e.Reason, e.Detail
	}
	l.met.strays.WithLabelValues(string(s.Reason)).Inc()
	level := slog.LevelInfo
	if s.Reason != journal.StrayWrongPrev {
		level = slog.LevelError
	}
	l.log.Log(context.Background(), level, "stray record in the journal", "offset", offset, "reason", s.Reason)
	if l.deps.OnStray != nil {
		l.deps.OnStray(s)
	}
}
