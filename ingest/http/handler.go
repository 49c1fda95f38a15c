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
	ErrNotSent  = errors.New("no record was sent")
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
	return &Handler{sources: sources, producer: d.Producer, now: d.Now, log: d.Log, m: newHandlerMetrics(metrics.OrNew(d.Metrics))}, nil
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
	release, ok := s.enter(r.Context())
	if !ok {
		return refuse(http.StatusServiceUnavailable, "too many requests of this source are under way; nothing was accepted, send it again later").retryAfter(slotWait)
	}
	defer release()
	body, refused := readBody(w, r, s.maxBody)
	if refused != nil {
		return refused
	}
	records, refused := recordsOf(f, body, r.Header, s.maxEvent)
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
	begin := time.Now()
	err := h.producer.Produce(bounded, s.topic, records)
	h.m.produce.Observe(time.Since(begin).Seconds())
	if err == nil {
		h.m.accepted(s.name, records)
		return &answer{status: http.StatusAccepted, body: Accepted{len(records)}}
	}
	level := slog.LevelWarn
	if ctx.Err() != nil { // the client went away, or the daemon stops
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
