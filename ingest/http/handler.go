package httpingest

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/metrics"
)

// Producer writes to Kafka.
type Producer interface {
	// Produce returns nil once Kafka has acknowledged every record, by all in-sync
	// replicas; records with one key keep their order. On an error some may be
	// written, unless it is ErrNotSent. ErrTooLarge says that sending the same
	// again will not help. It keeps nothing of the records.
	Produce(ctx context.Context, topic string, records []Record) error
}

// Record is one event on its way to Kafka.
type Record struct {
	Key, Value []byte // Key nil: to any partition
	Headers    []ingest.Header
}

// The errors of a Producer that are more than "try again".
var (
	ErrNotSent  = errors.New("nothing was written")
	ErrTooLarge = errors.New("larger than Kafka takes")
)

// produceTimeout leaves an answer within the port's write timeout (30 s), after
// a body that took all of its read timeout (10 s) and a wait for a slot.
const produceTimeout = 12 * time.Second

// kafkaRetryAfter is when to try again after Kafka failed.
const kafkaRetryAfter = 5 * time.Second

// Deps is what a Handler needs besides its configuration.
type Deps struct {
	Producer Producer
	Topics   []ingest.TopicConfig // what the daemon reads
	Getenv   func(string) string  // nil: os.Getenv
	Now      func() time.Time     // nil: time.Now
	Log      *slog.Logger         // nil: nowhere
	Metrics  *metrics.Registry    // nil: nowhere
}

// Handler serves Path.
type Handler struct {
	sources  []*source
	producer Producer
	now      func() time.Time
	log      *slog.Logger
	m        *handlerMetrics
	// closing is closed when Run is told to stop: from then on nobody enters. What is
	// being produced goes on until open ends.
	closing chan struct{}
	open    context.Context
	shut    context.CancelFunc
}

var _ http.Handler = (*Handler)(nil)

// New resolves the tokens. Its error is the operator's and begins with the path
// below the section.
func New(cfg Config, d Deps) (*Handler, error) {
	if errs := cfg.Validate(); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if d.Getenv == nil {
		d.Getenv = os.Getenv
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	sources, err := newSources(cfg, d.Topics, d.Getenv)
	if err != nil {
		return nil, err
	}
	h := &Handler{sources: sources, producer: d.Producer, now: d.Now, log: d.Log, m: newHandlerMetrics(metrics.OrNew(d.Metrics)),
		closing: make(chan struct{})}
	h.open, h.shut = context.WithCancel(context.Background())
	return h, nil
}

// stopGrace is how long requests under way may go on at the end, and how long it
// may take them to notice that they may not.
const stopGrace = time.Second

// Run keeps the door open until ctx ends. Then nobody enters; who is in has a
// moment for Kafka to acknowledge, so that an ordinary stop leaves no producer in
// doubt. It is run once.
func (h *Handler) Run(ctx context.Context) error {
	<-ctx.Done()
	close(h.closing)
	defer h.shut()
	defer time.AfterFunc(stopGrace, h.shut).Stop()
	end := time.NewTimer(2 * stopGrace)
	defer end.Stop()
	for _, s := range h.sources {
		for range slots { // whoever holds all of them is alone
			select {
			case s.slots <- struct{}{}:
			case <-end.C: // a slow client; the port cuts it off
				return nil
			}
		}
	}
	return nil
}

// ServeHTTP answers one request; see the package comment for what it promises.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := ""
	a := refuse(http.StatusMethodNotAllowed, "events are posted here").with("Allow", http.MethodPost)
	if r.Method == http.MethodPost {
		a = refuse(http.StatusUnauthorized, "give the token of a source (ingest.http.sources[].token) as a bearer token").with("WWW-Authenticate", "Bearer")
		if s := authenticate(h.sources, r.Header); s != nil {
			name, a = s.name, h.accept(w, r, s)
		}
	}
	h.m.requests.WithLabelValues(name, strconv.Itoa(a.status)).Inc()
	a.write(w)
}

// accept takes the request of a known source, cheapest checks first.
func (h *Handler) accept(w http.ResponseWriter, r *http.Request, s *source) *answer {
	f, refused := formatOf(r.Header)
	if refused != nil {
		return refused
	}
	if refused := s.exhausted(h.now()); refused != nil {
		return refused
	}
	release, ok := s.enter(r.Context(), h.closing)
	if !ok {
		return refuse(http.StatusServiceUnavailable, "too many requests of this source are under way, or the daemon stops; nothing was accepted, send it again later").retryAfter(slotWait)
	}
	defer release()
	body, refused := readBody(w, r, s.maxBody)
	if refused != nil {
		return refused
	}
	records, refused := recordsOf(f, body, r.Header, s)
	if refused != nil {
		return refused
	}
	if refused := s.take(h.now(), len(records)); refused != nil {
		return refused
	}
	return h.produce(r.Context(), s, records)
}

func (h *Handler) produce(ctx context.Context, s *source, records []Record) *answer {
	if len(records) == 0 { // an empty array
		return &answer{status: http.StatusAccepted, body: Accepted{}}
	}
	bounded, cancel := context.WithTimeout(ctx, produceTimeout)
	defer cancel()
	defer context.AfterFunc(h.open, cancel)()
	begin := time.Now()
	err := h.producer.Produce(bounded, s.topic, records)
	h.m.produce.Observe(time.Since(begin).Seconds())
	if err == nil {
		h.m.accepted(s.name, records)
		return &answer{status: http.StatusAccepted, body: Accepted{len(records)}}
	}
	level := slog.LevelWarn
	if ctx.Err() != nil || h.open.Err() != nil { // the client went away, or the daemon stops
		level = slog.LevelInfo
	}
	h.log.Log(ctx, level, "posted events were not accepted: Kafka did not acknowledge them", "source", s.name, "topic", s.topic, "events", len(records), "error", err)
	return failed(err, len(records))
}

// failed is the answer when Kafka has not acknowledged all of n events.
func failed(err error, n int) *answer {
	if errors.Is(err, ErrTooLarge) {
		written := writtenUnknown
		if n == 1 {
			written = writtenNone
		}
		return &answer{status: http.StatusRequestEntityTooLarge, body: Refusal{
			Error: "an event, or the events together, are larger than Kafka takes on this topic; send smaller ones, or fewer at once", Written: written}}
	}
	refusal := Refusal{Error: "Kafka did not acknowledge the events; some of them may be written: send all of them again", Written: writtenUnknown}
	if errors.Is(err, ErrNotSent) {
		refusal = Refusal{Error: "Kafka cannot be reached; no event was written: send all of them again", Written: writtenNone}
	}
	return (&answer{status: http.StatusServiceUnavailable, body: refusal}).retryAfter(kafkaRetryAfter)
}
