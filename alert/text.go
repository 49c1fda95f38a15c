package alert

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// Printable shows a string of unknown origin on one line as literal text: what
// a terminal or a messenger would obey, hide or turn around is written as an
// escape, and addresses are written so that nothing makes a link of them.
func Printable(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i, r := range s {
		switch {
		case r == unicode.ReplacementChar && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case hidden(r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteRune(r)
		}
	}
	return defang(b.String())
}

// hidden reports runes that show nothing, or change how others show: controls,
// formats (bidirectional marks, zero-width characters, tags), fillers, spaces
// that are none, variation selectors, private and unassigned ones.
func hidden(r rune) bool {
	switch r {
	case ' ':
		return false
	case 0x115F, 0x1160, 0x3164, 0xFFA0, 0x2800, 0x034F, 0x17B4, 0x17B5:
		return true
	}
	return !unicode.IsGraphic(r) || unicode.Is(unicode.Zs, r) || unicode.Is(unicode.Variation_Selector, r)
}

// linkish are the beginnings that messengers and terminals make links of.
var linkish = regexp.MustCompile(`(?i)\b(?:(mailto|javascript|slack|data|tel):|(www)\.)`)

// defang keeps text from being taken for a link or an address.
func defang(s string) string {
	s = strings.ReplaceAll(s, "://", "[:]//")
	return linkish.ReplaceAllStringFunc(s, func(m string) string {
		return m[:len(m)-1] + "[" + m[len(m)-1:] + "]"
	})
}

// TextNotifier writes messages as readable text: for the demo, for dry runs, and
// where no messenger is configured.
type TextNotifier struct {
	mu sync.Mutex
	w  io.Writer
	n  int
}

var _ Notifier = (*TextNotifier)(nil)

// NewTextNotifier writes to w.
func NewTextNotifier(w io.Writer) *TextNotifier { return &TextNotifier{w: w} }

// Post writes the message.
func (t *TextNotifier) Post(_ context.Context, m Message) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	return strconv.Itoa(t.n), t.write(m)
}

// Update writes the message again.
func (t *TextNotifier) Update(_ context.Context, m Message, _ string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.write(m)
}

// Lookup finds nothing: what was written to a terminal cannot be asked for.
func (t *TextNotifier) Lookup(context.Context, Message) (string, bool, error) {
	return "", false, nil
}

func (t *TextNotifier) write(m Message) error {
	_, err := io.WriteString(t.w, RenderText(m)+"\n")
	return err
}

// RenderText shows a message as plain text, one that a terminal can be trusted
// with.
func RenderText(m Message) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if m.Thread != "" {
		line("  #%s  thread of %s", Printable(m.Channel), Printable(m.IncidentID))
		for _, l := range m.Lines {
			line("  | %s  %s", l.Time.Time().Format("15:04:05"), lineText(l))
		}
		return b.String()
	}
	id := ""
	if m.IncidentID != "" {
		id = "  [" + Printable(m.IncidentID) + "]"
	}
	line("#%s  %s%s", Printable(m.Channel), Printable(m.Title), id)
	if m.Sentence != "" {
		line("  %s", Printable(m.Sentence))
	}
	for _, f := range m.Facts {
		line("  %-14s %s", Printable(f.Label)+":", factText(f))
	}
	if p := m.Plan; p != nil {
		line("  %-14s %s: %s (%s)", "Plan:", Printable(p.Playbook), Printable(p.Summary), Printable(p.Status))
		for i, s := range p.Steps {
			line("    %2d. %s", i+1, Printable(s))
		}
		if p.Clock != "" {
			line("    %s", Printable(p.Clock))
		}
	}
	if m.Resolution != "" {
		line("  %-14s %s", "What to do:", Printable(m.Resolution))
	}
	if m.SQL != "" {
		line("  %-14s %s", "SQL:", strings.ReplaceAll(m.SQL, "\n", "\n                 "))
	}
	if m.Link != "" {
		line("  %-14s %s", "Console:", m.Link)
	}
	if len(m.Buttons) > 0 {
		labels := make([]string, len(m.Buttons))
		for i, btn := range m.Buttons {
			labels[i] = "[ " + btn.Label + " ]"
		}
		line("  %s", strings.Join(labels, " "))
	}
	return b.String()
}

func lineText(l Line) string {
	s := Printable(l.What)
	if l.Who != "" {
		s += " by " + Printable(l.Who)
	}
	if l.Text != "" {
		s += ": " + Printable(l.Text)
	}
	return s
}

func factText(f Fact) string {
	values := make([]string, len(f.Values))
	for i, v := range f.Values {
		values[i] = Printable(v)
	}
	s := strings.Join(values, ", ")
	if f.Note != "" {
		s += " (" + Printable(f.Note) + ")"
	}
	return s
}
