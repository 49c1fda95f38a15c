package slack

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	slackapi "github.com/slack-go/slack"

	"github.com/keysentry/keysentry/alert"
)

// Slack's limits, and ours below them. Sizes of text are in bytes, which are at
// least as many as Slack's characters.
const (
	maxHeader  = 150    // characters of a header block
	maxBlocks  = 50     // blocks of a message
	maxValue   = 2000   // characters of a button's value
	maxButtons = 25     // elements of an actions block
	maxLabel   = 75     // characters of a button's label
	maxSection = 2_900  // bytes of text in one block; Slack says 3,000 characters
	maxText    = 10_000 // bytes of text in one message
	maxCode    = 300    // bytes of one value
	maxSQL     = 2_000
)

const cutShort = " (cut short)"

// builder collects blocks within the limits. What does not fit any more is left
// out, and the message says so.
type builder struct {
	blocks  []slackapi.Block
	lines   []slackapi.RichTextElement // of the rich_text block that is being filled
	size    int                        // bytes of text in lines
	total   int
	cut     bool
	current []slackapi.RichTextSectionElement
	linelen int
}

// blocks renders a message.
func blocks(m alert.Message) []slackapi.Block {
	b := &builder{}
	if m.Thread != "" {
		for _, l := range m.Lines {
			b.text(l.Time.Time().Format("15:04:05 ")).text(l.What)
			if l.Who != "" {
				b.text(" by ").code(l.Who)
			}
			if l.Text != "" {
				b.text(": ").code(l.Text)
			}
			b.line()
		}
		return b.finish(nil)
	}
	b.header(m.Title)
	if m.Sentence != "" {
		b.bold(m.Sentence).line()
	}
	b.facts(m.Facts)
	b.plan(m.Plan)
	if m.Resolution != "" {
		b.bold("What to do: ").text(m.Resolution).line()
	}
	b.flush()
	if m.SQL != "" {
		b.preformatted(m.SQL)
	}
	if m.Link != "" {
		b.current = append(b.current, slackapi.NewRichTextSectionLinkElement(m.Link, "Open in the console", nil))
		b.text(" ")
	}
	if m.IncidentID != "" {
		b.text("Incident ").code(m.IncidentID)
	}
	b.line()
	return b.finish(actions(m.Buttons))
}

func (b *builder) facts(facts []alert.Fact) {
	for _, f := range facts {
		b.bold(f.Label + ": ")
		for i, v := range f.Values {
			if i > 0 {
				b.text(" ")
			}
			b.code(v)
		}
		if f.Note != "" {
			b.text(" (" + f.Note + ")")
		}
		b.line()
	}
}

func (b *builder) plan(p *alert.PlanBox) {
	if p == nil {
		return
	}
	b.flush()
	b.bold("Plan: ").code(p.Playbook).text(" " + p.Status).line()
	if p.Summary != "" {
		b.code(p.Summary).line()
	}
	for i, s := range p.Steps {
		b.text(strconv.Itoa(i+1) + ". ").code(s).line()
	}
	if p.Clock != "" {
		b.bold("Clock: ").code(p.Clock).line()
	}
	b.flush()
}

func (b *builder) header(title string) {
	b.blocks = append(b.blocks, slackapi.NewHeaderBlock(
		slackapi.NewTextBlockObject(slackapi.PlainTextType, clip(orDash(alert.Printable(title)), maxHeader), false, false)))
}

// text adds words of ours. They are shown literally as well: rich_text has no
// markup, and what would act is escaped.
func (b *builder) text(s string) *builder { return b.add(s, maxSection/2, nil) }

func (b *builder) bold(s string) *builder {
	return b.add(s, maxSection/2, &slackapi.RichTextSectionTextStyle{Bold: true})
}

// code adds a value of unknown origin.
func (b *builder) code(s string) *builder {
	return b.add(orDash(s), maxCode, &slackapi.RichTextSectionTextStyle{Code: true})
}

func (b *builder) add(s string, limit int, style *slackapi.RichTextSectionTextStyle) *builder {
	s = clip(alert.Printable(s), limit)
	if s == "" {
		return b
	}
	if b.total+len(s) > maxText || b.linelen+len(s) > maxSection {
		b.cut = true
		return b
	}
	b.current = append(b.current, slackapi.NewRichTextSectionTextElement(s, style))
	b.linelen += len(s)
	b.total += len(s)
	return b
}

// line ends the current line.
func (b *builder) line() {
	if len(b.current) == 0 {
		return
	}
	if b.size+b.linelen > maxSection {
		b.flushLines()
	}
	b.lines = append(b.lines, slackapi.NewRichTextSection(b.current...))
	b.size += b.linelen
	b.current, b.linelen = nil, 0
}

// flush ends the current block.
func (b *builder) flush() {
	b.line()
	b.flushLines()
}

func (b *builder) flushLines() {
	if len(b.lines) > 0 {
		b.block(slackapi.NewRichTextBlock("", b.lines...))
	}
	b.lines, b.size = nil, 0
}

// block adds one, keeping room for the note and the buttons.
func (b *builder) block(x slackapi.Block) {
	if len(b.blocks) >= maxBlocks-2 {
		b.cut = true
		return
	}
	b.blocks = append(b.blocks, x)
}

// preformatted adds a query. Its lines are ours; values in it are quoted there.
func (b *builder) preformatted(sql string) {
	rows := strings.Split(sql, "\n")
	for i := range rows {
		rows[i] = alert.Printable(rows[i])
	}
	text := strings.Join(rows, "\n")
	if len(text) > maxSQL || b.total+len(text) > maxText+maxSQL {
		b.cut = true
		return
	}
	b.block(slackapi.NewRichTextBlock("", &slackapi.RichTextPreformatted{Type: slackapi.RTEPreformatted,
		Elements: []slackapi.RichTextSectionElement{slackapi.NewRichTextSectionTextElement(text, nil)}}))
}

func (b *builder) finish(actions *slackapi.ActionBlock) []slackapi.Block {
	b.flush()
	if b.cut {
		b.blocks = append(b.blocks, slackapi.NewRichTextBlock("", slackapi.NewRichTextSection(slackapi.NewRichTextSectionTextElement(
			"This message was cut short to fit; the whole is in the console and in the journal.", &slackapi.RichTextSectionTextStyle{Italic: true}))))
	}
	if actions != nil {
		b.blocks = append(b.blocks, actions)
	}
	return b.blocks
}

// click is what a button carries.
type click struct {
	Action     string `json:"a"`
	IncidentID string `json:"i,omitempty"`
	Generation int    `json:"g,omitempty"`
	RunID      string `json:"r,omitempty"`
	PlanHash   string `json:"h,omitempty"`
	Verdict    string `json:"v,omitempty"`
	Choice     string `json:"c,omitempty"`
	Reason     bool   `json:"why,omitempty"` // ask for one
}

func actions(buttons []alert.Button) *slackapi.ActionBlock {
	var elements []slackapi.BlockElement
	for i, btn := range buttons {
		// A click holds only strings and numbers: it always encodes.
		value, _ := json.Marshal(click{Action: btn.Action, IncidentID: btn.IncidentID, Generation: btn.Generation, RunID: btn.RunID,
			PlanHash: btn.PlanHash, Verdict: btn.Verdict, Choice: btn.Choice, Reason: btn.NeedsReason})
		if len(value) > maxValue || len(elements) == maxButtons {
			continue
		}
		e := slackapi.NewButtonBlockElement("keysentry_"+strconv.Itoa(i), string(value),
			slackapi.NewTextBlockObject(slackapi.PlainTextType, clip(orDash(alert.Printable(btn.Label)), maxLabel), false, false))
		switch btn.Style {
		case "primary":
			e.Style = slackapi.StylePrimary
		case "danger":
			e.Style = slackapi.StyleDanger
		}
		elements = append(elements, e)
	}
	if len(elements) == 0 {
		return nil
	}
	return slackapi.NewActionBlock("keysentry_actions", elements...)
}

// fallback is the text of notifications. Slack may parse it, so that only
// letters, digits and a few signs of our own title are let through.
func fallback(m alert.Message) string {
	keep := func(r rune) rune {
		if (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z') || (r >= '0' && r <= '9') || strings.ContainsRune(" :()-", r) {
			return r
		}
		return -1
	}
	return clip("Keysentry "+strings.TrimSpace(strings.Map(keep, m.Title)+" "+strings.Map(keep, m.IncidentID)), maxHeader)
}

// clip keeps whole runes within n bytes, and says when it cut.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	k := n - len(cutShort)
	for k > 0 && !utf8.RuneStart(s[k]) {
		k--
	}
	return s[:k] + cutShort
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
