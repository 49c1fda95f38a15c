package rules

import (
	"encoding/json"
	"net"
	"strings"
	"time"
)

func refCIDR(text, network string) bool {
	if !strings.Contains(network, "/") {
		a, b := net.ParseIP(text), net.ParseIP(network)
		return a != nil && a.Equal(b)
	}
	_, n, err := net.ParseCIDR(network)
	ip := net.ParseIP(text)
	return err == nil && ip != nil && n.Contains(ip)
}

func refPart(a any, part string) (int, bool) {
	var t time.Time
	if _, num := a.(json.Number); num {
		n, ok := refNumber(a)
		if !ok {
			return 0, false
		}
		f, _ := n.Float64()
		if f > 1e15 || f < -1e11 {
			return 0, false
		}
		if f >= 1e11 {
			f /= 1000
		}
		t = time.Unix(int64(f), 0).UTC()
	} else {
		s, _ := a.(string)
		var err error
		for _, form := range []string{time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02"} {
			if t, err = time.Parse(form, s); err == nil {
				break
			}
		}
		if err != nil {
			return 0, false
		}
	}
	_, week := t.ISOWeek()
	return map[string]int{"minute": t.Minute(), "hour": t.Hour(), "day": t.Day(), "week": week, "month": int(t.Month()), "year": t.Year()}[part], true
}
