// Package slack brings messages to a Slack workspace and takes clicks from it.
//
// What may come from an event appears only as code elements of rich_text, with
// everything that could hide or act written as an escape; no text is ever given
// to Slack's markup parser. Each message carries our id in its metadata, so that
// it can be found again after a lost answer.
package slack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	slackapi "github.com/slack-go/slack"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/metrics"
	"github.com/keysentry/keysentry/internal/secret"
)

// Decider takes a person's decision; alert.Manager is one.
type Decider interface {
	Decide(ctx context.Context, d journal.Decision) (journal.Decision, error)
}

// Deps is what the package needs of others.
type Deps struct {
	// Getenv resolves secrets kept in the environment; nil knows none.
	Getenv func(string) string
	// Decider gets the clicks; nil refuses them.
	Decider Decider
	Now     func() time.Time
	Logger  *slog.Logger
	Metrics *metrics.Registry
}

// Slack is one workspace. It starts nothing and needs no closing.
type Slack struct {
	cfg     Config
	deps    Deps
	api     *slackapi.Client
	signing secret.Value
	log     *slog.Logger
	clicks  *prometheus.CounterVec
	replays *replays
}

var (
	_ alert.Notifier = (*Slack)(nil)
	_ alert.Charter  = (*Slack)(nil)
)

// New reads the secrets; it calls nobody.
func New(cfg Config, deps Deps) (*Slack, error) {
	if err := errors.Join(cfg.Validate()...); err != nil {
		return nil, fmt.Errorf("slack: %w", err)
	}
	if !cfg.Enabled() {
		return nil, errors.New("slack: token: none is given")
	}
	if deps.Getenv == nil {
		deps.Getenv = func(string) string { return "" }
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	token, err := cfg.Token.Resolve(deps.Getenv)
	if err != nil {
		return nil, fmt.Errorf("slack: token: %w", err)
	}
	signing, err := cfg.SigningSecret.Resolve(deps.Getenv)
	if err != nil {
		return nil, fmt.Errorf("slack: signing_secret: %w", err)
	}
	client := &http.Client{Timeout: cfg.Timeout}
	return &Slack{
		cfg: cfg, deps: deps, signing: signing, log: deps.Logger, replays: newReplays(),
		api: slackapi.New(token.Reveal(), slackapi.OptionAPIURL(cfg.APIURL), slackapi.OptionHTTPClient(client)),
		clicks: metrics.OrNew(deps.Metrics).Counters("slack", "clicks_total",
			"Requests to the interactivity address, by outcome: accepted, refused, failed, asked, bad_request, bad_signature, replayed, foreign.", "outcome"),
	}, nil
}

// TokenError says that Slack answered and that the token will not do: somebody
// has to change the configuration. It is a permanent alert.NotifyError.
type TokenError struct{ Reason string }

func (e *TokenError) Error() string { return "slack.token: " + e.Reason }

// Unwrap gives the class.
func (e *TokenError) Unwrap() error {
	return &alert.NotifyError{Class: alert.Permanent, Err: errors.New(e.Reason)}
}

// CheckToken asks Slack whether the token is good and belongs to the team that
// the configuration names. Its error is one line for a person: a *TokenError, or
// that Slack cannot be asked.
func (s *Slack) CheckToken(ctx context.Context) error {
	r, err := s.api.AuthTestContext(ctx)
	if err != nil {
		var refused slackapi.SlackErrorResponse
		if errors.As(err, &refused) {
			if class, _ := refusal(refused.Err); class == alert.Permanent {
				return &TokenError{"Slack refuses the token: " + alert.Printable(refused.Err)}
			}
		}
		return fmt.Errorf("slack: %s cannot be asked: %w", s.cfg.APIURL, err)
	}
	if s.cfg.TeamID != "" && r.TeamID != s.cfg.TeamID {
		return &TokenError{fmt.Sprintf("the token is for team %s, the configuration names %s", alert.Printable(r.TeamID), s.cfg.TeamID)}
	}
	return nil
}

const (
	metadataType = "keysentry_message"
	metadataID   = "id"
)

// Post publishes a message, with our id in its metadata.
func (s *Slack) Post(ctx context.Context, m alert.Message) (string, error) {
	ts, err := s.post(ctx, m, blocks(m))
	// A message that Slack finds malformed is said in its plainest form: an
	// alert that arrives poor is better than none.
	if c := (&alert.NotifyError{}); errors.As(err, &c) && c.Class == alert.Refused {
		s.log.Error("Slack refused a message's blocks, it is sent as one line", "message", m.ID, "error", err)
		ts, err = s.post(ctx, m, nil)
	}
	return ts, err
}

func (s *Slack) post(ctx context.Context, m alert.Message, blocks []slackapi.Block) (string, error) {
	opts := s.options(m, blocks)
	if m.Thread != "" {
		opts = append(opts, slackapi.MsgOptionTS(m.Thread))
		if m.Broadcast {
			opts = append(opts, slackapi.MsgOptionBroadcast())
		}
	}
	_, ts, err := s.api.PostMessageContext(ctx, m.Channel, opts...)
	if err == nil && ts == "" {
		err = errors.New("Slack answered without a message timestamp")
	}
	if err != nil {
		return "", failure(err)
	}
	return ts, nil
}

// Update edits a message.
func (s *Slack) Update(ctx context.Context, m alert.Message, ts string) error {
	opts := append(s.options(m, blocks(m)), slackapi.MsgOptionUpdate(ts))
	if _, _, _, err := s.api.SendMessageContext(ctx, m.Channel, opts...); err != nil {
		return failure(err)
	}
	return nil
}

func (s *Slack) options(m alert.Message, blocks []slackapi.Block) []slackapi.MsgOption {
	opts := []slackapi.MsgOption{
		slackapi.MsgOptionText(fallback(m), true),
		slackapi.MsgOptionDisableMarkdown(), slackapi.MsgOptionParse(false), slackapi.MsgOptionLinkNames(false),
		slackapi.MsgOptionDisableLinkUnfurl(), slackapi.MsgOptionDisableMediaUnfurl(),
		slackapi.MsgOptionMetadata(slackapi.SlackMetadata{EventType: metadataType,
			EventPayload: map[string]any{metadataID: m.ID, "incident": m.IncidentID}}),
	}
	if len(blocks) > 0 {
		opts = append(opts, slackapi.MsgOptionBlocks(blocks...))
	}
	return opts
}

const (
	lookBack  = 10 * time.Minute // clocks may differ that much
	pageSize  = 200
	pageLimit = 10
)

// Lookup finds the message with our id, in the channel or in its thread.
func (s *Slack) Lookup(ctx context.Context, m alert.Message) (string, bool, error) {
	oldest := stamp(m.Since.Add(-lookBack))
	if m.Since == 0 {
		oldest = ""
	}
	cursor := ""
	for range pageLimit {
		msgs, next, err := s.page(ctx, m, oldest, cursor)
		if err != nil {
			return "", false, failure(err)
		}
		for i := range msgs {
			if meta := msgs[i].Metadata; meta.EventType == metadataType && meta.EventPayload[metadataID] == m.ID {
				return msgs[i].Timestamp, true, nil
			}
		}
		if cursor = next; cursor == "" {
			return "", false, nil
		}
	}
	return "", false, failure(fmt.Errorf("message not among the last %d of the channel, and there are more", pageSize*pageLimit))
}

func (s *Slack) page(ctx context.Context, m alert.Message, oldest, cursor string) ([]slackapi.Message, string, error) {
	if m.Thread != "" {
		msgs, more, next, err := s.api.GetConversationRepliesContext(ctx, &slackapi.GetConversationRepliesParameters{
			ChannelID: m.Channel, Timestamp: m.Thread, Oldest: oldest, Cursor: cursor, Limit: pageSize, Inclusive: true, IncludeAllMetadata: true})
		if !more {
			next = ""
		}
		return msgs, next, err
	}
	r, err := s.api.GetConversationHistoryContext(ctx, &slackapi.GetConversationHistoryParameters{
		ChannelID: m.Channel, Oldest: oldest, Cursor: cursor, Limit: pageSize, Inclusive: true, IncludeAllMetadata: true})
	if err != nil {
		return nil, "", err
	}
	next := r.ResponseMetaData.NextCursor
	if !r.HasMore {
		next = ""
	}
	return r.Messages, next, nil
}

// stamp writes an instant as Slack writes message timestamps.
func stamp(t event.Instant) string {
	return strconv.FormatInt(int64(t)/1e9, 10) + fmt.Sprintf(".%06d", int64(t)%1e9/1000)
}

// failure classifies an error of the Web API.
func failure(err error) error {
	n := &alert.NotifyError{Class: alert.Unknown, Err: err}
	var limited *slackapi.RateLimitedError
	var status slackapi.StatusCodeError
	var refused slackapi.SlackErrorResponse
	var op *net.OpError
	switch {
	case errors.As(err, &limited):
		n.Class, n.After = alert.RetryAfter, limited.RetryAfter
	case errors.As(err, &status):
		switch {
		case status.Code == http.StatusTooManyRequests:
			n.Class, n.After = alert.RetryAfter, 30*time.Second
		case status.Code < 500:
			n.Class = alert.Permanent
		}
	case errors.As(err, &refused):
		n.Class, n.After = refusal(refused.Err)
	case errors.As(err, &op) && op.Op == "dial":
		n.Class = alert.RetryAfter // no connection, so nothing was said
	}
	return n
}

// refusal reads Slack's error names.
func refusal(name string) (alert.Class, time.Duration) {
	switch name {
	case "ratelimited", "rate_limited", "message_limit_exceeded":
		return alert.RetryAfter, 30 * time.Second
	case "internal_error", "fatal_error", "request_timeout", "service_unavailable", "team_added_to_org":
		return alert.Unknown, 0
	case "message_not_found", "cant_update_message", "edit_window_closed":
		return alert.Gone, 0
	case "invalid_blocks", "invalid_blocks_format", "msg_blocks_too_long", "msg_too_long", "too_many_attachments", "no_text",
		"invalid_metadata_format", "invalid_metadata_schema", "metadata_too_large",
		"thread_not_found", "invalid_thread_ts", "cannot_reply_to_message", "restricted_action_thread_locked":
		return alert.Refused, 0
	}
	return alert.Permanent, 0
}
