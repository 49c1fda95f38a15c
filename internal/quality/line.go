package quality

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/simulate"
)

// Line is the score of one visibility over all seeds.
type Line struct {
	Visibility simulate.Visibility `json:"visibility"`
	Seeds      string              `json:"seeds"`
	// Incidents counts the attacks that were played; Caught those of which a person
	// was woken within a minute of the first hostile event; Blind those of which no
	// event is visible.
	Incidents int     `json:"incidents"`
	Caught    int     `json:"caught"`
	Blind     int     `json:"blind"`
	TTDP50    float64 `json:"ttd_p50_s"`
	TTDMax    float64 `json:"ttd_max_s"`
	// FalsePages are pages whose evidence holds no hostile event; Tickets are all.
	FalsePages       float64 `json:"false_pages_per_week"`
	Tickets          float64 `json:"tickets_per_day"`
	RotationDayPages int     `json:"rotation_day_pages"`
	// Attribution is the share of refused events whose cause was told rightly.
	Attribution  float64 `json:"attribution"`
	RecallMin    float64 `json:"cause_recall_min"`
	PrecisionMin float64 `json:"cause_precision_min"`
	ClockSkew    int     `json:"clock_skew_for_attack"`

	Thefts         int     `json:"theft_scenarios"`
	Proposed       int     `json:"theft_proposed"`
	BenignDays     int     `json:"benign_days"`
	BenignProposed int     `json:"benign_days_proposed"`
	Recall         float64 `json:"recall"` // caught of all, blind ones among them
	Missed         []Miss  `json:"missed"`
	// Failed names the bars that are not met.
	Failed []string `json:"failed,omitempty"`

	Events uint64       `json:"events"`
	Days   float64      `json:"days"`
	Causes []CauseScore `json:"causes"`
	Noise  []Noise      `json:"noise"`
}

// CauseScore is how well one cause was told.
type CauseScore struct {
	Cause     event.Cause    `json:"cause"`
	Cases     int            `json:"cases"`
	Told      int            `json:"told"` // how often it was told, rightly or not
	Recall    float64        `json:"recall"`
	Precision float64        `json:"precision"`
	For       map[string]int `json:"taken_for,omitempty"` // what its cases were taken for instead
}

// Noise is how often something asked for attention without an attack.
type Noise struct {
	What  string `json:"what"`
	Count int    `json:"count"`
}

// minCases is how many cases a cause needs for a bar of its own.
const minCases = 50

// line sums the tally up.
func (t *tally) line() Line {
	l := Line{Visibility: t.vis, Seeds: seedRange(t.seeds), Incidents: t.attacks, Caught: t.caught, Blind: t.blind,
		RotationDayPages: t.calendarPages, ClockSkew: t.skew, Thefts: t.thefts, Proposed: t.proposed,
		BenignDays: t.benignDays, BenignProposed: t.benignProposed, Missed: t.missed, Events: t.events, Days: t.days}
	slices.Sort(t.delays)
	if n := len(t.delays); n > 0 {
		l.TTDP50, l.TTDMax = round(t.delays[(n-1)/2].Seconds(), 1), round(t.delays[n-1].Seconds(), 1)
	}
	if t.days > 0 {
		l.FalsePages, l.Tickets = round(float64(t.falsePages)/t.days*7, 3), round(float64(t.tickets)/t.days, 3)
	}
	if t.attacks > 0 {
		l.Recall = round(float64(t.caught)/float64(t.attacks), 4)
	}
	l.attribute(t.matrix)
	for _, what := range sortedByCount(t.noise) {
		l.Noise = append(l.Noise, Noise{what, t.noise[what]})
	}
	l.judge()
	return l
}

// attribute fills in what is said about causes.
func (l *Line) attribute(matrix map[[2]event.Cause]int) {
	byCause := map[event.Cause]*CauseScore{}
	at := func(c event.Cause) *CauseScore {
		if byCause[c] == nil {
			byCause[c] = &CauseScore{Cause: c}
		}
		return byCause[c]
	}
	right, all := 0, 0
	hits := map[event.Cause]int{}
	for k, n := range matrix {
		truth, told := at(k[0]), at(k[1])
		truth.Cases += n
		told.Told += n
		all += n
		if k[0] == k[1] {
			hits[k[0]] += n
			right += n
			continue
		}
		if truth.For == nil {
			truth.For = map[string]int{}
		}
		truth.For[k[1].String()] += n
	}
	l.Attribution, l.RecallMin, l.PrecisionMin = ratio(right, all), 1, 1
	for c, s := range byCause {
		s.Recall, s.Precision = ratio(hits[c], s.Cases), ratio(hits[c], s.Told)
		if s.Cases >= minCases {
			l.RecallMin, l.PrecisionMin = min(l.RecallMin, s.Recall), min(l.PrecisionMin, s.Precision)
		}
		l.Causes = append(l.Causes, *s)
	}
	slices.SortFunc(l.Causes, func(a, b CauseScore) int { return int(a.Cause) - int(b.Cause) })
}

// ratio is n of all; of nothing, all is right.
func ratio(n, all int) float64 {
	if all == 0 {
		return 1
	}
	return round(float64(n)/float64(all), 4)
}

// round cuts to digits, downwards: a bar is not met by rounding.
func round(x float64, digits int) float64 {
	f := math.Pow10(digits)
	return math.Floor(x*f+1e-9) / f
}

// judge names the bars that are not met.
func (l *Line) judge() {
	for _, bar := range []struct {
		ok   bool
		what string
	}{
		{l.Caught+l.Blind >= l.Incidents, "every visible attack is caught within " + caughtWithin.String()},
		{l.Visibility != simulate.VisibilityPlatform || l.Blind == 0, "with platform events no attack is invisible"},
		{l.TTDMax <= caughtWithin.Seconds(), "a person is woken within " + caughtWithin.String()},
		{l.FalsePages <= 1, "at most one false page a week"},
		{l.Tickets <= 3, "at most three tickets a day"},
		{l.RotationDayPages == 0, "no page by a rotation or by our own sweep"},
		{l.Attribution >= 0.98, "98 % of causes are right"},
		{l.RecallMin >= 0.95, "recall of each cause is 95 % or more"},
		{l.PrecisionMin >= 0.95, "precision of each cause is 95 % or more"},
		{l.ClockSkew == 0, "no attack is laid to a clock"},
		{l.Proposed == l.Thefts, "a rotation is proposed in every theft within " + proposeWithin.String()},
		{l.BenignProposed == 0, "no rotation is proposed on a benign day"},
	} {
		if !bar.ok {
			l.Failed = append(l.Failed, bar.what)
		}
	}
}

// seedRange writes seeds as ranges: 1-3,9.
func seedRange(seeds []uint64) string {
	s := slices.Clone(seeds)
	slices.Sort(s)
	s = slices.Compact(s)
	var parts []string
	for i := 0; i < len(s); {
		j := i
		for j+1 < len(s) && s[j+1] == s[j]+1 {
			j++
		}
		if part := fmt.Sprint(s[i]); j > i {
			parts = append(parts, part+fmt.Sprintf("-%d", s[j]))
		} else {
			parts = append(parts, part)
		}
		i = j + 1
	}
	return strings.Join(parts, ",")
}

// sortedByCount lists the keys, the most frequent first.
func sortedByCount(m map[string]int) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(cmp.Compare(m[b], m[a]), cmp.Compare(a, b))
	})
}
