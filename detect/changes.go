package detect

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/event"
)

// changeWindow is a stretch of the week in which keys, certificates and settings
// are changed.
type changeWindow struct {
	days     [7]bool // by time.Weekday, of the beginning
	from, to int     // minutes of the day, UTC; to may be beyond the day's end
}

type changeWindows []changeWindow

var dayNames = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// parseChangeWindow reads a text such as "mon-fri 08:00-18:00", "sat,sun
// 10:00-12:00" or "daily 22:00-02:00", in UTC. A window that ends before it begins
// goes on into the next day.
func parseChangeWindow(s string) (changeWindow, error) {
	var w changeWindow
	days, hours, ok := strings.Cut(strings.ToLower(strings.TrimSpace(s)), " ")
	if !ok {
		return w, fmt.Errorf("%q: write days and hours, as mon-fri 08:00-18:00 (UTC)", s)
	}
	for part := range strings.SplitSeq(days, ",") {
		if part == "daily" {
			w.days = [7]bool{true, true, true, true, true, true, true}
			continue
		}
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, b := slices.Index(dayNames, first), slices.Index(dayNames, last)
		if a < 0 || b < 0 {
			return w, fmt.Errorf("%q: %q is no day; write %s, a range such as mon-fri, or daily", s, part, strings.Join(dayNames, ", "))
		}
		for d := a; ; d = (d + 1) % 7 {
			w.days[d] = true
			if d == b {
				break
			}
		}
	}
	from, to, ok := strings.Cut(strings.TrimSpace(hours), "-")
	var okFrom, okTo bool
	w.from, okFrom = minuteOfDay(from)
	w.to, okTo = minuteOfDay(to)
	if !ok || !okFrom || !okTo || w.from == w.to || w.from == dayMinutes {
		return w, fmt.Errorf("%q: write the hours as 08:00-18:00 (UTC, until 24:00)", s)
	}
	if w.to < w.from {
		w.to += dayMinutes
	}
	return w, nil
}

const dayMinutes = 24 * 60

func minuteOfDay(s string) (int, bool) {
	if s == "24:00" {
		return dayMinutes, true
	}
	t, err := time.Parse("15:04", s)
	return t.Hour()*60 + t.Minute(), err == nil
}

// open reports whether t lies in one of the windows.
func (ws changeWindows) open(t event.Instant) bool {
	u := t.Time().UTC()
	minute, day := u.Hour()*60+u.Minute(), int(u.Weekday())
	return slices.ContainsFunc(ws, func(w changeWindow) bool {
		return w.days[day] && minute >= w.from && minute < w.to ||
			w.days[(day+6)%7] && minute+dayMinutes < w.to
	})
}
