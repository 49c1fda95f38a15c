package torture

import (
	"fmt"
	"math"
	"time"

	"github.com/keysentry/keysentry/internal/config"
)

// Result is one fault's outcome.
type Result struct {
	Fault  string `json:"fault"`
	Rounds int    `json:"rounds"`
	// Events is how many records the topic ever held: what was asked for, and
	// more when a broker that did not answer made the producer send some again.
	Events int    `json:"events"`
	Seed   uint64 `json:"seed"`
	// Lost is records that are neither stored, nor in quarantine, nor in a gap
	// that retention made and the journal names.
	Lost int64 `json:"lost"`
	// Duplicates is what the table with FINAL, or the view, counts too much.
	Duplicates int64 `json:"duplicates"`
	// FindingsTwice counts findings that the journal holds again: with the same
	// id, or of a rule and group whose episode was not closed.
	FindingsTwice int `json:"findings_twice"`
	// OffsetWentBack counts the times a committed offset was seen to fall.
	OffsetWentBack int `json:"offset_went_back"`
	// PeakRSSMB is the most memory a daemon had resident; 0 where it is not known.
	PeakRSSMB float64 `json:"peak_rss_mb"`
	// RecoverySMax is the longest time from the repair (a restart, a server that
	// is back, a leader that is gone) to the first new row.
	RecoverySMax float64 `json:"recovery_s_max"`
	OK           bool    `json:"ok"`

	// RecoveryBarS is what RecoverySMax may be.
	RecoveryBarS float64 `json:"recovery_bar_s"`
	// Broken names the promises that were broken.
	Broken []string `json:"broken,omitempty"`

	Gaps   *GapFigures    `json:"gaps,omitempty"`   // of retention
	Outage *OutageFigures `json:"outage,omitempty"` // of clickhouse-outage
}

// GapFigures are about records that Kafka deleted before they were read.
type GapFigures struct {
	// Records is how many the journal names as lost, Wrong how many of those are
	// stored, or were never deleted, or are not what the daemon counted as lost.
	Records int64 `json:"records"`
	Wrong   int64 `json:"wrong"`
	// ToldSMax is the longest time from the daemon's start, or wake-up, until the
	// gap had its incident, and ToldBarS what it may be.
	ToldSMax float64 `json:"told_s_max"`
	ToldBarS float64 `json:"told_bar_s"`
}

// OutageFigures compare the time before ClickHouse went away with the outage.
type OutageFigures struct {
	Seconds    float64 `json:"seconds"`
	EventsPerS float64 `json:"events_per_s"` // that flowed meanwhile
	// CatchUpRatio is rows stored per second until nothing was behind any more,
	// over the rate of the input.
	CatchUpRatio float64 `json:"catch_up_ratio"`
	CatchUpS     float64 `json:"catch_up_s"`
	// AlertMS are times from sending an event to its finding in the journal.
	AlertP50MSBefore float64 `json:"alert_p50_ms_before"`
	AlertP99MSBefore float64 `json:"alert_p99_ms_before"`
	AlertP50MS       float64 `json:"alert_p50_ms"`
	AlertP99MS       float64 `json:"alert_p99_ms"`
	// PeakRSSMBBefore is the peak when ClickHouse went, PeakRSSMBDuring when storage
	// had caught up, and MemoryBarMB what that may be.
	PeakRSSMBBefore float64 `json:"peak_rss_mb_before"`
	PeakRSSMBDuring float64 `json:"peak_rss_mb_during"`
	MemoryBarMB     float64 `json:"memory_bar_mb"`
}

// The bars of the figures.
const (
	catchUpBar = 5.0
	toldBar    = 10 * time.Second
	// queueFactor times store.insert.queue_bytes is by how much a daemon may grow
	// during an outage and after it, however long it is: the queue fills, what is
	// sent and read to catch up takes as much again and more, and Go's collector
	// lets the memory grow to twice what is in use. Measured: two and a half times
	// from the third minute of an outage on, four times while catching up.
	queueFactor = 5
	// Latency is unchanged when the median grows by less than half, or by less
	// than a small machine's noise.
	latencyFactor = 1.5
	latencyMS     = 100
	// Everyone's bar: a cause is told within a second.
	latencyP99MS = 1000
)

func memoryBar(before float64) float64 {
	return before + queueFactor*float64(config.Default().Store.Insert.QueueBytes)/(1<<20)
}

func latencyBar(before float64) float64 { return max(latencyFactor*before, before+latencyMS) }

// judge says whether the promises held, and which did not.
func (r *Result) judge() {
	r.PeakRSSMB = round1(r.PeakRSSMB)
	r.RecoverySMax = round2(r.RecoverySMax)
	r.Broken = nil
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			r.Broken = append(r.Broken, fmt.Sprintf(format, args...))
		}
	}
	wrong(r.Lost != 0, "lost %d", r.Lost)
	wrong(r.Duplicates != 0, "duplicates %d", r.Duplicates)
	wrong(r.FindingsTwice != 0, "findings twice %d", r.FindingsTwice)
	wrong(r.OffsetWentBack != 0, "offset went back %d times", r.OffsetWentBack)
	wrong(r.RecoverySMax > r.RecoveryBarS, "recovery took %.2f s, the bar is %.0f s", r.RecoverySMax, r.RecoveryBarS)
	if g := r.Gaps; g != nil {
		g.ToldSMax, g.ToldBarS = round2(g.ToldSMax), toldBar.Seconds()
		wrong(g.Wrong != 0, "gaps are wrong about %d records", g.Wrong)
		wrong(g.Records == 0, "no gap was told")
		wrong(g.ToldSMax > g.ToldBarS, "a gap was told after %.2f s, the bar is %.0f s", g.ToldSMax, g.ToldBarS)
	}
	if o := r.Outage; o != nil {
		o.round()
		wrong(o.CatchUpRatio < catchUpBar, "caught up at %.1f times the input, the bar is %.0f", o.CatchUpRatio, catchUpBar)
		wrong(o.PeakRSSMBDuring > o.MemoryBarMB, "memory rose to %.0f MB, the bar is %.0f MB", o.PeakRSSMBDuring, o.MemoryBarMB)
		wrong(o.AlertP50MS > latencyBar(o.AlertP50MSBefore), "the median alert took %.0f ms, before %.0f ms", o.AlertP50MS, o.AlertP50MSBefore)
		wrong(o.AlertP99MS > latencyP99MS, "the slowest alerts took %.0f ms, the bar is %d ms", o.AlertP99MS, latencyP99MS)
	}
	r.OK = len(r.Broken) == 0
}

func (o *OutageFigures) round() {
	o.MemoryBarMB = memoryBar(o.PeakRSSMBBefore)
	for _, v := range []*float64{&o.Seconds, &o.EventsPerS, &o.CatchUpRatio, &o.CatchUpS, &o.AlertP50MSBefore, &o.AlertP99MSBefore,
		&o.AlertP50MS, &o.AlertP99MS, &o.PeakRSSMBBefore, &o.PeakRSSMBDuring, &o.MemoryBarMB} {
		*v = round1(*v)
	}
}

func round1(x float64) float64 { return math.Round(x*10) / 10 }
func round2(x float64) float64 { return math.Round(x*100) / 100 }
