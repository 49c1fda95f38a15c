package httpingest

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/keysentry/keysentry/ingest"
)

// Bounds of a source's requests.
const (
	// slots is how many requests of a source are read and produced at a time. Each
	// source has its own, so that none waits for the slow clients of another.
	slots        = 8
	slotWait     = 3 * time.Second
	burstSeconds = 10
)

// source is one producer at work.
type source struct {
	name    string
	topic   string
	digest  [sha256.Size]byte // of the token
	maxBody int
	// maxEvent bounds one event as the topic does.
	maxEvent int
	// keyed says that the topic holds canonical events, whose host is known.
	keyed bool
	slots chan struct{}
	limit *rate.Limiter // nil: no bound
}

// newSources resolves the tokens; topics are those that the daemon reads.
func newSources(cfg Config, topics []ingest.TopicConfig, getenv func(string) string) ([]*source, error) {
	known := map[string]ingest.TopicConfig{}
	for _, t := range topics {
		known[t.Name] = t
	}
	out := make([]*source, len(cfg.Sources))
	for i, c := range cfg.Sources {
		topic, ok := known[c.Topic]
		if !ok {
			return nil, fmt.Errorf("sources[%d].topic: %q is none of ingest.topics", i, c.Topic)
		}
		token, err := c.Token.Resolve(getenv)
		if err == nil {
			err = checkToken(token.Reveal())
		}
		if err != nil {
			return nil, fmt.Errorf("sources[%d].token: %w", i, err)
		}
		s := &source{name: c.Name, topic: c.Topic, digest: sha256.Sum256([]byte(token.Reveal())), maxBody: c.MaxBody,
			maxEvent: topic.MessageBytes(), keyed: topic.Mapping == "", slots: make(chan struct{}, slots)}
		if s.maxBody == 0 {
			s.maxBody = defaultMaxBody
		}
		if c.Rate > 0 {
			s.limit = rate.NewLimiter(rate.Limit(c.Rate), int(math.Ceil(c.Rate*burstSeconds)))
		}
		for _, other := range out[:i] {
			if other.digest == s.digest {
				return nil, fmt.Errorf("sources[%d].token: is the token of %s too", i, other.name)
			}
		}
		out[i] = s
	}
	return out, nil
}

// checkToken: what a header cannot carry would never match.
func checkToken(token string) error {
	if len(token) < minToken {
		return fmt.Errorf("has fewer than %d characters", minToken)
	}
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return errors.New("holds a character that is not visible ASCII")
		}
	}
	return nil
}

// authenticate finds the source whose token the request carries, or nil. Digests
// are compared, each of them whole, so that the time says nothing of a token.
func authenticate(sources []*source, h http.Header) *source {
	if len(h.Values("Authorization")) != 1 {
		return nil
	}
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	digest := sha256.Sum256([]byte(strings.TrimSpace(token)))
	var found *source
	for _, s := range sources {
		if subtle.ConstantTimeCompare(digest[:], s.digest[:]) == 1 {
			found = s
		}
	}
	return found
}

// enter waits for a slot, until closing. release gives it back.
func (s *source) enter(ctx context.Context, closing <-chan struct{}) (release func(), ok bool) {
	select {
	case <-closing:
		return nil, false
	default:
	}
	timer := time.NewTimer(slotWait)
	defer timer.Stop()
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots }, true
	case <-timer.C:
	case <-closing:
	case <-ctx.Done():
	}
	return nil, false
}

// exhausted refuses before the body is read: when not even one event would pass.
func (s *source) exhausted(now time.Time) *answer {
	if s.limit == nil {
		return nil
	}
	missing := 1 - s.limit.TokensAt(now)
	if missing <= 0 {
		return nil
	}
	return s.tooFast(time.Duration(missing / float64(s.limit.Limit()) * float64(time.Second)))
}

// take spends n events of the rate, or refuses and spends none.
func (s *source) take(now time.Time, n int) *answer {
	if s.limit == nil {
		return nil
	}
	r := s.limit.ReserveN(now, n)
	if !r.OK() {
		return refuse(http.StatusRequestEntityTooLarge, "%d events in one request are more than this source's rate ever lets through at once; send at most %d", n, s.limit.Burst())
	}
	wait := r.DelayFrom(now)
	if wait <= 0 {
		return nil
	}
	r.CancelAt(now)
	return s.tooFast(wait)
}

func (s *source) tooFast(wait time.Duration) *answer {
	return refuse(http.StatusTooManyRequests, "this source may send %v events a second; nothing was accepted, send it again later", float64(s.limit.Limit())).retryAfter(wait)
}
