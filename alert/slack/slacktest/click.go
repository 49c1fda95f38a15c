package slacktest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Click is one press of a button, with what may be wrong about it.
type Click struct {
	User     string
	UserTeam string // default TeamID
	Guest    bool
	Team     string    // default TeamID
	App      string    // default AppID
	Channel  string    // default the message's
	Secret   string    // default SigningSecret
	At       time.Time // default now
	Value    string    // default the button's
}

// Find is the first message that has a button with that label.
func (s *Server) Find(label string) (Message, Button, bool) {
	for _, m := range s.Messages() {
		for _, b := range Show(m).Buttons {
			if b.Label == label {
				return m, b, true
			}
		}
	}
	return Message{}, Button{}, false
}

// Press presses the first button with that label: it sends to address what
// Slack would send. The caller closes the response's body.
func (s *Server) Press(ctx context.Context, address, label string, c Click) (*http.Response, error) {
	m, b, ok := s.Find(label)
	if !ok {
		return nil, fmt.Errorf("no message has a button %q", label)
	}
	body, header := Signed(c, BlockActions(m, b, c))
	return Send(ctx, address, body, header)
}

// BlockActions is the payload of a pressed button.
func BlockActions(m Message, b Button, c Click) map[string]any {
	at := orNow(c.At)
	return map[string]any{
		"type": "block_actions", "api_app_id": or(c.App, AppID), "trigger_id": "trigger." + strconv.FormatInt(at.UnixNano(), 10),
		"team":      map[string]any{"id": or(c.Team, TeamID)},
		"user":      map[string]any{"id": c.User, "team_id": or(c.UserTeam, TeamID), "is_restricted": c.Guest},
		"channel":   map[string]any{"id": or(c.Channel, m.Channel)},
		"container": map[string]any{"type": "message", "message_ts": m.TS, "channel_id": m.Channel},
		"actions": []any{map[string]any{"type": "button", "action_id": b.ActionID, "block_id": b.BlockID, "value": or(c.Value, b.Value),
			"action_ts": fmt.Sprintf("%d.%06d", at.Unix(), at.Nanosecond()/1000)}},
	}
}

// Submission is the payload of a form that was filled in with one text.
func Submission(v View, c Click, text string) map[string]any {
	block := "keysentry_reason"
	view := map[string]any{"type": "modal", "callback_id": v.View["callback_id"], "private_metadata": v.View["private_metadata"],
		"state": map[string]any{"values": map[string]any{block: map[string]any{block: map[string]any{"type": "plain_text_input", "value": text}}}}}
	return map[string]any{"type": "view_submission", "api_app_id": or(c.App, AppID), "team": map[string]any{"id": or(c.Team, TeamID)},
		"user": map[string]any{"id": c.User, "team_id": or(c.UserTeam, TeamID), "is_restricted": c.Guest}, "view": view}
}

// Signed encodes a payload and signs it as Slack does.
func Signed(c Click, payload map[string]any) (body string, header http.Header) {
	// A payload of maps, strings and booleans always encodes.
	raw, _ := json.Marshal(payload)
	body = url.Values{"payload": {string(raw)}}.Encode()
	at := strconv.FormatInt(orNow(c.At).Unix(), 10)
	mac := hmac.New(sha256.New, []byte(or(c.Secret, SigningSecret)))
	mac.Write([]byte("v0:" + at + ":" + body))
	header = http.Header{}
	header.Set("Content-Type", "application/x-www-form-urlencoded")
	header.Set("X-Slack-Request-Timestamp", at)
	header.Set("X-Slack-Signature", "v0="+hex.EncodeToString(mac.Sum(nil)))
	return body, header
}

// Send posts a signed body.
func Send(ctx context.Context, address, body string, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = header.Clone()
	return http.DefaultClient.Do(req)
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func orNow(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}
