package slack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	slackapi "github.com/slack-go/slack"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/journal"
)

const (
	maxBody = 256 << 10
	// answerTime bounds what is done before Slack has its answer: it waits 3 s.
	answerTime = 2500 * time.Millisecond
	// replayTime is how long a request is remembered; the signature's own window
	// is 5 min to either side.
	replayTime = 11 * time.Minute
	maxReplays = 20_000
	reasonForm = "keysentry_reason"
)

// ServeHTTP takes interactions. It believes nothing before the signature over
// the raw body is checked, and tells a stranger nothing about what was wrong.
func (s *Slack) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		s.answer(w, http.StatusMethodNotAllowed, "bad_request")
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.answer(w, http.StatusRequestEntityTooLarge, "bad_request")
		return
	}
	// The verifier's errors are for nobody's eyes: what it compares is secret.
	if !s.verified(r.Header, body) {
		s.answer(w, http.StatusUnauthorized, "bad_signature")
		return
	}
	if !s.replays.first(r.Header.Get("X-Slack-Signature"), s.deps.Now()) {
		s.answer(w, http.StatusConflict, "replayed")
		return
	}
	form, err := url.ParseQuery(string(body))
	var in slackapi.InteractionCallback
	if err != nil || json.Unmarshal([]byte(form.Get("payload")), &in) != nil {
		s.answer(w, http.StatusBadRequest, "bad_request")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerTime)
	defer cancel()
	s.interact(ctx, w, &in)
}

func (s *Slack) answer(w http.ResponseWriter, status int, outcome string) {
	s.clicks.WithLabelValues(outcome).Inc()
	w.WriteHeader(status)
}

func (s *Slack) verified(h http.Header, body []byte) bool {
	if s.signing.Empty() {
		return false
	}
	v, err := slackapi.NewSecretsVerifier(h, s.signing.Reveal())
	if err != nil {
		return false
	}
	if _, err := v.Write(body); err != nil {
		return false
	}
	return v.Ensure() == nil
}

// interact routes a genuine request.
func (s *Slack) interact(ctx context.Context, w http.ResponseWriter, in *slackapi.InteractionCallback) {
	var c click
	var channel, message, reason string
	switch in.Type {
	case slackapi.InteractionTypeBlockActions:
		if len(in.ActionCallback.BlockActions) != 1 {
			s.answer(w, http.StatusBadRequest, "bad_request")
			return
		}
		act := in.ActionCallback.BlockActions[0]
		if json.Unmarshal([]byte(act.Value), &c) != nil || c.Action == "" {
			s.answer(w, http.StatusBadRequest, "bad_request")
			return
		}
		channel, message = in.Channel.ID, in.Container.MessageTs
	case slackapi.InteractionTypeViewSubmission:
		var f formState
		if in.View.CallbackID != reasonForm || json.Unmarshal([]byte(in.View.PrivateMetadata), &f) != nil {
			s.answer(w, http.StatusBadRequest, "bad_request")
			return
		}
		c, channel, message, reason = f.Click, f.Channel, f.Message, reasonOf(in)
	default:
		w.WriteHeader(http.StatusOK) // nothing of ours
		return
	}
	if why := s.foreign(in, channel); why != "" {
		s.log.Warn("a click was not taken", "reason", why, "user", in.User.ID)
		s.answer(w, http.StatusForbidden, "foreign")
		return
	}
	if c.Reason && in.Type == slackapi.InteractionTypeBlockActions {
		s.ask(ctx, w, in, formState{c, channel, message})
		return
	}
	s.decide(ctx, w, in, formState{c, channel, message}, reason)
}

// foreign names what does not fit the configuration: another app, team or
// channel, a guest or a member of another workspace.
func (s *Slack) foreign(in *slackapi.InteractionCallback, channel string) string {
	ch := s.cfg.Channels
	switch {
	case s.cfg.TeamID != "" && in.Team.ID != s.cfg.TeamID:
		return "another team"
	case s.cfg.AppID != "" && in.APIAppID != s.cfg.AppID:
		return "another app"
	case channel == "" || (channel != ch.Page && channel != ch.Ticket && channel != ch.Digest):
		return "another channel"
	case in.User.ID == "":
		return "nobody"
	case in.User.TeamID != "" && in.Team.ID != "" && in.User.TeamID != in.Team.ID:
		return "a member of another workspace"
	case in.User.IsRestricted || in.User.IsUltraRestricted || in.User.IsStranger || in.User.IsBot:
		return "a guest or a bot"
	}
	return ""
}

// formState is what the form that asks for a reason carries.
type formState struct {
	Click   click  `json:"click"`
	Channel string `json:"channel"`
	Message string `json:"message"`
}

// ask opens a form for the reason.
func (s *Slack) ask(ctx context.Context, w http.ResponseWriter, in *slackapi.InteractionCallback, f formState) {
	// A formState holds only strings and numbers: it always encodes.
	private, _ := json.Marshal(f)
	plain := func(text string) *slackapi.TextBlockObject {
		return slackapi.NewTextBlockObject(slackapi.PlainTextType, text, false, false)
	}
	field := slackapi.NewPlainTextInputBlockElement(nil, reasonForm)
	field.Multiline, field.MaxLength = true, 1000
	_, err := s.api.OpenViewContext(ctx, in.TriggerID, slackapi.ModalViewRequest{
		Type: slackapi.VTModal, CallbackID: reasonForm, PrivateMetadata: string(private),
		Title: plain("A reason is needed"), Submit: plain("Confirm"), Close: plain("Cancel"),
		Blocks: slackapi.Blocks{BlockSet: []slackapi.Block{slackapi.NewInputBlock(reasonForm, plain("Why?"), nil, field)}},
	})
	if err != nil {
		s.log.Warn("the form for a reason could not be opened", "error", err)
		s.clicks.WithLabelValues("failed").Inc()
		s.respond(w, in.User.ID, f, "The form for the reason could not be opened. Click again, or use: keysentry incidents")
		return
	}
	s.answer(w, http.StatusOK, "asked")
}

func reasonOf(in *slackapi.InteractionCallback) string {
	if in.View.State == nil {
		return ""
	}
	return in.View.State.Values[reasonForm][reasonForm].Value
}

// decide hands the click on. Slack has its answer in time whatever comes of it;
// the person is told what went wrong, for nobody else to see.
func (s *Slack) decide(ctx context.Context, w http.ResponseWriter, in *slackapi.InteractionCallback, f formState, reason string) {
	if s.deps.Decider == nil {
		s.clicks.WithLabelValues("failed").Inc()
		s.respond(w, in.User.ID, f, "Clicks are not taken here.")
		return
	}
	c := f.Click
	d := journal.Decision{
		ID: s.decisionID(in.User.ID, f, reason), Action: c.Action, IncidentID: c.IncidentID, RunID: c.RunID, PlanHash: c.PlanHash,
		Person: alert.ViaSlack + in.User.ID, Via: "slack", Reason: reason, Verdict: c.Verdict, Choice: c.Choice,
	}
	if c.RunID == "" {
		d.Generation = &c.Generation
	}
	done, err := s.deps.Decider.Decide(ctx, d)
	switch {
	case errors.Is(err, alert.ErrNotLeader):
		s.clicks.WithLabelValues("failed").Inc()
		s.respond(w, in.User.ID, f, "Not recorded: this member is not the leader. Click again in a moment.")
	case err != nil:
		s.log.Warn("a click could not be recorded", "error", err)
		s.clicks.WithLabelValues("failed").Inc()
		s.respond(w, in.User.ID, f, "Not known to be recorded: click again. A second click of the same kind does no harm.")
	case done.Refused != "":
		s.clicks.WithLabelValues("refused").Inc()
		s.respond(w, in.User.ID, f, "Refused: "+done.Refused+".")
	default:
		s.answer(w, http.StatusOK, "accepted")
	}
}

// decisionID makes clicks of one person on one button within a minute one
// decision. Later ones are judged anew, against the state that there is then.
func (s *Slack) decisionID(user string, f formState, reason string) string {
	// A formState holds only strings and numbers: it always encodes.
	raw, _ := json.Marshal(f)
	h := sha256.New()
	for _, part := range []string{user, string(raw), reason, s.deps.Now().UTC().Format("2006-01-02T15:04")} {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	return "slack-" + hex.EncodeToString(h.Sum(nil)[:16])
}

// respond gives Slack its answer first and then tells the person, in a message
// that only they see. The message is a courtesy: its failure is only logged.
func (s *Slack) respond(w http.ResponseWriter, user string, f formState, text string) {
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	if flusher, ok := w.(http.Flusher); ok {
		flusher.Flush()
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Timeout)
	defer cancel()
	block := slackapi.NewRichTextBlock("", slackapi.NewRichTextSection(
		slackapi.NewRichTextSectionTextElement(clip(alert.Printable(text), maxSection), nil)))
	if _, err := s.api.PostEphemeralContext(ctx, f.Channel, user, slackapi.MsgOptionText("Keysentry has an answer for you", true),
		slackapi.MsgOptionDisableMarkdown(), slackapi.MsgOptionParse(false), slackapi.MsgOptionBlocks(block)); err != nil {
		s.log.Warn("a person could not be told what became of a click", "user", user, "error", err)
	}
}

// replays remembers requests that were seen.
type replays struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

func newReplays() *replays { return &replays{seen: map[string]time.Time{}} }

// first reports whether the request is new. When too many are remembered, the
// ones that are over go; while none is, new requests are refused.
func (r *replays) first(signature string, now time.Time) bool {
	signature = strings.ToLower(signature) // hex of either case is the same signature
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.seen[signature]; ok && now.Sub(t) < replayTime {
		return false
	}
	if len(r.seen) >= maxReplays {
		for k, t := range r.seen {
			if now.Sub(t) >= replayTime {
				delete(r.seen, k)
			}
		}
		if len(r.seen) >= maxReplays {
			return false
		}
	}
	r.seen[signature] = now
	return true
}
