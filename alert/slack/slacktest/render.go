package slacktest

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// errLimit is a message that Slack would refuse.
var errLimit = errors.New("over a limit of Block Kit")

// checkBlocks holds the limits of Block Kit that messages run into.
func checkBlocks(blocks []map[string]any) error {
	if len(blocks) > 50 {
		return errLimit
	}
	for _, b := range blocks {
		switch b["type"] {
		case "header":
			if n := utf8.RuneCountInString(textOf(b["text"])); n < 1 || n > 150 {
				return errLimit
			}
		case "section":
			if n := utf8.RuneCountInString(textOf(b["text"])); n < 1 || n > 3000 {
				return errLimit
			}
		case "actions":
			if err := checkActions(b); err != nil {
				return err
			}
		case "rich_text":
			if err := checkRichText(b); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown block %v", b["type"])
		}
	}
	return nil
}

func checkActions(b map[string]any) error {
	elements := list(b["elements"])
	if len(elements) < 1 || len(elements) > 25 {
		return errLimit
	}
	for _, e := range elements {
		value, _ := e["value"].(string)
		id, _ := e["action_id"].(string)
		if n := utf8.RuneCountInString(textOf(e["text"])); n < 1 || n > 75 || len(value) > 2000 || len(id) > 255 {
			return errLimit
		}
	}
	return nil
}

func checkRichText(b map[string]any) error {
	total := 0
	for _, line := range list(b["elements"]) {
		elements := list(line["elements"])
		if len(elements) == 0 {
			return errLimit
		}
		for _, e := range elements {
			text, _ := e["text"].(string)
			if e["type"] == "text" && text == "" {
				return errLimit
			}
			total += utf8.RuneCountInString(text)
		}
	}
	if total > 3000 {
		return errLimit
	}
	return nil
}

// Shown is a message as a person sees it.
type Shown struct {
	Text     string
	Links    []string // what Slack would make clickable
	Mentions []string // whom Slack would notify
	Code     []string // what stands in code
	Buttons  []Button
}

// Button is one that can be pressed.
type Button struct {
	Label, ActionID, BlockID, Value string
}

// Show renders a message the way Slack does: markup is obeyed in mrkdwn, and
// nowhere else.
func Show(m Message) Shown {
	var s Shown
	if len(m.Blocks) == 0 {
		s.Text = s.markup(m.Text, m.Mrkdwn)
		return s
	}
	// The text of a message with blocks is only seen in notifications, where
	// mentions count all the same.
	s.markup(m.Text, m.Mrkdwn)
	s.Links = nil
	var b strings.Builder
	for _, block := range m.Blocks {
		switch block["type"] {
		case "header", "section":
			text, _ := block["text"].(map[string]any)
			str, _ := text["text"].(string)
			b.WriteString(s.markup(str, text["type"] == "mrkdwn") + "\n")
		case "rich_text":
			for _, line := range list(block["elements"]) {
				s.line(&b, line)
			}
		case "actions":
			s.actions(&b, block)
		}
	}
	s.Text = b.String()
	return s
}

func (s *Shown) line(b *strings.Builder, line map[string]any) {
	for _, e := range list(line["elements"]) {
		text, _ := e["text"].(string)
		switch e["type"] {
		case "text":
			b.WriteString(text)
			if style, _ := e["style"].(map[string]any); style["code"] == true {
				s.Code = append(s.Code, text)
			}
		case "link":
			url, _ := e["url"].(string)
			s.Links = append(s.Links, url)
			b.WriteString(text + " <" + url + ">")
		default:
			s.Mentions = append(s.Mentions, fmt.Sprint(e["type"]))
		}
	}
	b.WriteString("\n")
}

func (s *Shown) actions(b *strings.Builder, block map[string]any) {
	id, _ := block["block_id"].(string)
	for _, e := range list(block["elements"]) {
		value, _ := e["value"].(string)
		action, _ := e["action_id"].(string)
		label := textOf(e["text"])
		s.Buttons = append(s.Buttons, Button{Label: label, ActionID: action, BlockID: id, Value: value})
		b.WriteString("[ " + label + " ] ")
	}
	b.WriteString("\n")
}

var (
	control  = regexp.MustCompile(`<([@#!][^>|]*)(?:\|[^>]*)?>`)
	autoLink = regexp.MustCompile(`(?i)<?\b((?:https?://|mailto:)[^\s>|]+|(?:[a-z0-9-]+\.)+(?:com|net|org|io|dev)\b[^\s>|]*)(?:\|[^>]*)?>?`)
)

// markup notes what Slack's parser would act on.
func (s *Shown) markup(text string, mrkdwn bool) string {
	if !mrkdwn {
		return text
	}
	for _, m := range control.FindAllStringSubmatch(text, -1) {
		s.Mentions = append(s.Mentions, m[1])
	}
	for _, m := range autoLink.FindAllStringSubmatch(text, -1) {
		s.Links = append(s.Links, m[1])
	}
	return text
}

// Text shows the channels' messages with their threads, for people and tests.
func (s *Server) Text() string {
	var b strings.Builder
	messages := s.Messages()
	for _, m := range messages {
		if m.Thread != "" || m.OnlyFor != "" {
			continue
		}
		edited := ""
		if m.Edits > 0 {
			edited = fmt.Sprintf(" (edited %d times)", m.Edits)
		}
		fmt.Fprintf(&b, "#%s%s\n%s", m.Channel, edited, indent(Show(m).Text, "  "))
		for _, r := range messages {
			if r.Thread == m.TS && r.Channel == m.Channel && r.OnlyFor == "" {
				b.WriteString(indent(Show(r).Text, "    | "))
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

func indent(text, by string) string {
	return by + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+by) + "\n"
}

func list(v any) []map[string]any {
	raw, _ := v.([]any)
	out := make([]map[string]any, 0, len(raw))
	for _, x := range raw {
		if m, ok := x.(map[string]any); ok {
			out = append(out, m)
		}
	}
	return out
}

func textOf(v any) string {
	m, _ := v.(map[string]any)
	s, _ := m["text"].(string)
	return s
}
