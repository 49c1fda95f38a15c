package mapping

import (
	"strings"

	"github.com/keysentry/keysentry/event"
)

// What is kept of a part of a text that is too long for its expression: more than any
// field takes from its beginning, and enough of its end for what the server wrote
// there.
const (
	keepHead = 4 << 10
	keepTail = 256
)

// shorten makes a text that is longer than maxTextBytes fit, by leaving out the middle
// of its long parts; quotes separate them. A caller chooses how long a path or a user
// agent is, and must not get out of detection by it. Half a word goes whole, as it may
// be half a secret. A text of very many parts stays too long.
func shorten(text string) string {
	if len(text) <= maxTextBytes {
		return text
	}
	parts := strings.Split(text, `"`)
	for i, p := range parts {
		if len(p) <= keepHead+keepTail {
			continue
		}
		tail := p[len(p)-keepTail:]
		if at := strings.IndexByte(tail, ' '); at >= 0 {
			tail = tail[at:]
		} else {
			tail = ""
		}
		parts[i] = event.Cut(p, keepHead) + "\uFFFD" + tail
	}
	return strings.Join(parts, `"`)
}
