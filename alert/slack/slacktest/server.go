// Package slacktest is a Slack workspace for tests and demonstrations: an HTTP
// server that speaks the part of the Web API that alert/slack uses, keeps the
// messages, fails on demand, and can press a button as Slack would.
package slacktest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What the workspace is called, unless a test changes it before first use.
const (
	Token         = "xoxb-slacktest-token"
	SigningSecret = "slacktest-signing-secret"
	TeamID        = "T0SLACKTEST"
	AppID         = "A0SLACKTEST"
	BotID         = "B0SLACKTEST"
)

// Message is one message of a channel.
type Message struct {
	Channel   string
	TS        string
	Thread    string // ts of the root; empty for roots
	Text      string
	Blocks    []map[string]any
	Metadata  map[string]any
	Edits     int
	Broadcast bool
	OnlyFor   string // ephemeral: the user who sees it
	Unfurl    bool   // links may be unfurled
	Mrkdwn    bool   // Text is parsed as markup
}

// File is one uploaded file.
type File struct {
	ID, Name, Channel, Thread string
	Content                   []byte
	Completed                 bool
}

// Fault is what the next call of a method does instead of, or after, its work.
type Fault struct {
	Status     int           // answer with this status
	RetryAfter time.Duration // with 429
	Error      string        // answer ok:false with this error
	Hang       time.Duration // wait that long first
	Accept     bool          // do the work before failing
	Reset      bool          // cut the connection instead of answering
}

// Server is the workspace. Close ends it.
type Server struct {
	*httptest.Server

	mu       sync.Mutex
	messages []*Message
	files    map[string]*File
	faults   map[string][]Fault
	calls    map[string]int
	views    []View
	lastTS   int64
	channels []string // empty: every id exists
	done     chan struct{}
	once     sync.Once
}

// View is a form that was opened.
type View struct {
	TriggerID string
	View      map[string]any
}

// NewServer starts a workspace on a free port of the loopback interface.
// Without channels every channel exists.
func NewServer(channels ...string) *Server {
	s := &Server{files: map[string]*File{}, faults: map[string][]Fault{}, calls: map[string]int{}, channels: channels, done: make(chan struct{})}
	mux := http.NewServeMux()
	for method, h := range map[string]func(*http.Request) (map[string]any, string){
		"auth.test": s.authTest, "chat.postMessage": s.postMessage, "chat.update": s.update, "chat.postEphemeral": s.postEphemeral,
		"conversations.history": s.history, "conversations.replies": s.replies, "views.open": s.openView,
		"files.getUploadURLExternal": s.uploadURL, "files.completeUploadExternal": s.completeUpload,
	} {
		mux.HandleFunc("/api/"+method, s.method(method, h))
	}
	mux.HandleFunc("/upload/", s.upload)
	s.Server = httptest.NewServer(mux)
	return s
}

// Close ends the workspace, calls that hang included. It may be called twice.
func (s *Server) Close() {
	s.once.Do(func() {
		close(s.done)
		s.Server.CloseClientConnections()
		s.Server.Close()
	})
}

// APIURL is what alert/slack's api_url has to be.
func (s *Server) APIURL() string { return s.URL + "/api/" }

// Fail lets the next calls of a method fail, one fault each.
func (s *Server) Fail(method string, faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[method] = append(s.faults[method], faults...)
}

// Calls counts the calls of a method, failed ones too.
func (s *Server) Calls(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

// Messages lists the messages in the order of their posting, ephemeral ones too.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Message, len(s.messages))
	for i, m := range s.messages {
		out[i] = *m
	}
	return out
}

// Files lists the uploads that were completed.
func (s *Server) Files() []File {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []File
	for _, f := range s.files {
		if f.Completed {
			out = append(out, *f)
		}
	}
	return out
}

// Views lists the forms that were opened.
func (s *Server) Views() []View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.views)
}

// method wraps one method: token, faults, envelope.
func (s *Server) method(name string, h func(*http.Request) (map[string]any, string)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseMultipartForm(1 << 20)
		f, faulty := s.nextFault(name)
		if f.Hang > 0 {
			if f.Accept {
				h(r)
			}
			select {
			case <-time.After(f.Hang):
			case <-r.Context().Done():
			case <-s.done:
			}
			if f.Accept {
				return
			}
		}
		var body map[string]any
		problem := f.Error
		if problem == "" && r.FormValue("token") != Token && r.Header.Get("Authorization") != "Bearer "+Token {
			problem = "invalid_auth"
		}
		if problem == "" && (!faulty || f.Accept || (f.Status == 0 && !f.Reset)) {
			body, problem = h(r)
		}
		switch {
		case f.Reset:
			s.cut(w)
			return
		case f.Status != 0:
			if f.RetryAfter > 0 {
				w.Header().Set("Retry-After", strconv.Itoa(int(f.RetryAfter.Seconds())))
			}
			w.WriteHeader(f.Status)
			return
		}
		if body == nil {
			body = map[string]any{}
		}
		body["ok"] = problem == ""
		if problem != "" {
			body["error"] = problem
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(body)
	}
}

func (s *Server) nextFault(name string) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[name]++
	list := s.faults[name]
	if len(list) == 0 {
		return Fault{}, false
	}
	s.faults[name] = list[1:]
	return list[0], true
}

// cut ends the connection without an answer.
func (s *Server) cut(w http.ResponseWriter) {
	if hj, ok := w.(http.Hijacker); ok {
		if conn, _, err := hj.Hijack(); err == nil {
			_ = conn.Close()
		}
	}
}

func (s *Server) authTest(*http.Request) (map[string]any, string) {
	return map[string]any{"team_id": TeamID, "team": "slacktest", "user_id": "U0BOT", "bot_id": BotID, "url": s.URL}, ""
}

func (s *Server) known(channel string) bool {
	return len(s.channels) == 0 || slices.Contains(s.channels, channel)
}

// read takes the parts of a message from a request and refuses what Slack
// would refuse.
func (s *Server) read(r *http.Request) (*Message, string) {
	m := &Message{Channel: r.FormValue("channel"), Text: r.FormValue("text"), Thread: r.FormValue("thread_ts"),
		Broadcast: r.FormValue("reply_broadcast") == "true", Mrkdwn: r.FormValue("mrkdwn") != "false",
		Unfurl: r.FormValue("unfurl_links") != "false" || r.FormValue("unfurl_media") != "false"}
	if !s.known(m.Channel) {
		return nil, "channel_not_found"
	}
	if b := r.FormValue("blocks"); b != "" {
		if json.Unmarshal([]byte(b), &m.Blocks) != nil {
			return nil, "invalid_blocks_format"
		}
		if err := checkBlocks(m.Blocks); err != nil {
			return nil, "invalid_blocks"
		}
	}
	if meta := r.FormValue("metadata"); meta != "" && json.Unmarshal([]byte(meta), &m.Metadata) != nil {
		return nil, "invalid_metadata_format"
	}
	if m.Text == "" && len(m.Blocks) == 0 {
		return nil, "no_text"
	}
	return m, ""
}

func (s *Server) postMessage(r *http.Request) (map[string]any, string) {
	m, problem := s.read(r)
	if problem != "" {
		return nil, problem
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.Thread != "" && s.find(m.Channel, m.Thread) == nil {
		return nil, "thread_not_found"
	}
	m.TS = s.nextTS()
	s.messages = append(s.messages, m)
	return map[string]any{"channel": m.Channel, "ts": m.TS}, ""
}

func (s *Server) postEphemeral(r *http.Request) (map[string]any, string) {
	m, problem := s.read(r)
	if problem != "" {
		return nil, problem
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m.TS, m.OnlyFor = s.nextTS(), r.FormValue("user")
	s.messages = append(s.messages, m)
	return map[string]any{"message_ts": m.TS}, ""
}

func (s *Server) update(r *http.Request) (map[string]any, string) {
	m, problem := s.read(r)
	if problem != "" {
		return nil, problem
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.find(m.Channel, r.FormValue("ts"))
	if old == nil {
		return nil, "message_not_found"
	}
	old.Text, old.Blocks, old.Edits = m.Text, m.Blocks, old.Edits+1
	if m.Metadata != nil {
		old.Metadata = m.Metadata
	}
	return map[string]any{"channel": old.Channel, "ts": old.TS}, ""
}

func (s *Server) find(channel, ts string) *Message {
	for _, m := range s.messages {
		if m.Channel == channel && m.TS == ts && m.OnlyFor == "" {
			return m
		}
	}
	return nil
}

// nextTS counts microseconds, like Slack, and never repeats itself.
func (s *Server) nextTS() string {
	s.lastTS = max(s.lastTS+1, time.Now().UnixMicro())
	return fmt.Sprintf("%d.%06d", s.lastTS/1e6, s.lastTS%1e6)
}

func (s *Server) history(r *http.Request) (map[string]any, string) {
	return s.list(r, func(m *Message) bool { return m.Thread == "" || m.Broadcast })
}

func (s *Server) replies(r *http.Request) (map[string]any, string) {
	root := r.FormValue("ts")
	return s.list(r, func(m *Message) bool { return m.TS == root || m.Thread == root })
}

// list pages through messages, the newest first, as Slack does.
func (s *Server) list(r *http.Request, match func(*Message) bool) (map[string]any, string) {
	if !s.known(r.FormValue("channel")) {
		return nil, "channel_not_found"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	limit, _ := strconv.Atoi(r.FormValue("limit"))
	skip, _ := strconv.Atoi(r.FormValue("cursor"))
	if limit <= 0 {
		limit = 100
	}
	var all []map[string]any
	for _, m := range slices.Backward(s.messages) {
		if m.Channel != r.FormValue("channel") || m.OnlyFor != "" || m.TS < r.FormValue("oldest") || !match(m) {
			continue
		}
		x := map[string]any{"type": "message", "ts": m.TS, "text": m.Text, "bot_id": BotID, "thread_ts": m.Thread}
		if r.FormValue("include_all_metadata") == "1" && m.Metadata != nil {
			x["metadata"] = m.Metadata
		}
		all = append(all, x)
	}
	end := min(skip+limit, len(all))
	page := all[min(skip, len(all)):end]
	out := map[string]any{"messages": page, "has_more": end < len(all)}
	if end < len(all) {
		out["response_metadata"] = map[string]any{"next_cursor": strconv.Itoa(end)}
	}
	return out, ""
}

func (s *Server) openView(r *http.Request) (map[string]any, string) {
	raw, _ := io.ReadAll(r.Body)
	var body struct {
		TriggerID string         `json:"trigger_id"`
		View      map[string]any `json:"view"`
	}
	if json.Unmarshal(raw, &body) != nil || body.View == nil {
		return nil, "invalid_arguments"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.views = append(s.views, View{body.TriggerID, body.View})
	return map[string]any{"view": body.View}, ""
}

func (s *Server) uploadURL(r *http.Request) (map[string]any, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := fmt.Sprintf("F%08d", len(s.files)+1)
	s.files[id] = &File{ID: id, Name: r.FormValue("filename")}
	return map[string]any{"upload_url": s.URL + "/upload/" + id, "file_id": id}, ""
}

func (s *Server) upload(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	f := s.files[strings.TrimPrefix(r.URL.Path, "/upload/")]
	s.mu.Unlock()
	file, _, err := r.FormFile("file")
	if f == nil || err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	content, _ := io.ReadAll(file)
	s.mu.Lock()
	defer s.mu.Unlock()
	f.Content = content
}

func (s *Server) completeUpload(r *http.Request) (map[string]any, string) {
	var files []struct{ ID string }
	if json.Unmarshal([]byte(r.FormValue("files")), &files) != nil || len(files) == 0 {
		return nil, "invalid_arguments"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []map[string]any
	for _, x := range files {
		f := s.files[x.ID]
		if f == nil || f.Content == nil {
			return nil, "file_not_found"
		}
		f.Channel, f.Thread, f.Completed = r.FormValue("channel_id"), r.FormValue("thread_ts"), true
		out = append(out, map[string]any{"id": f.ID, "title": f.Name})
	}
	return map[string]any{"files": out}, ""
}
