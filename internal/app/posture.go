package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/detect/posture/check"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/config"
)

func (a *App) buildPosture() error {
	checks, err := a.checks()
	if err != nil {
		return operator("posture", err)
	}
	a.posture, err = posture.New(a.cfg.Posture, posture.Deps{
		Checks: checks, History: history{a}, Coverage: held{a.store, a.engine, a.opts.Now}, Notes: a.notes(), Publish: digests{a},
		Now: a.opts.Now, Logger: a.log, Metrics: a.opts.Metrics,
	})
	return operator("posture", err)
}

// checks are the shipped checks and those of the user.
func (a *App) checks() ([]posture.Check, error) {
	own, err := check.LoadOwn(a.cfg.Posture.Checks, a.store)
	if err != nil {
		return nil, err
	}
	shipped := check.All(check.Sources{Registry: registry{a.store}, Facts: a.store, Coverage: held{a.store, a.engine, a.opts.Now},
		Networks: slices.Sorted(maps.Keys(a.cfg.Networks)), Files: certFiles(a.cfg), Probes: a.cfg.Posture.Probes})
	return append(shipped, own...), nil
}

// certFiles are the deployed certificates that the configuration names.
func certFiles(cfg *config.Config) []check.CertFile {
	var out []check.CertFile
	for _, name := range slices.Sorted(maps.Keys(cfg.Networks)) {
		for _, c := range cfg.Networks[name].CertificateFiles {
			out = append(out, check.CertFile{Network: name, Path: c.File})
		}
	}
	return out
}

// reloadChecks reads the user's checks again; with a fault the running ones stay.
func (a *App) reloadChecks() error {
	checks, err := a.checks()
	if err == nil {
		err = a.posture.Replace(checks)
	}
	if err != nil {
		a.log.Error("posture checks refused; the running ones stay", "error", err)
	}
	return err
}

// notes is what stands beside the scorecard.
func (a *App) notes() []posture.Notes { return []posture.Notes{headNote{a}} }

// headNote tells the head of the journal, so that a copy of it is kept where nobody
// who can cut the journal can reach.
type headNote struct{ a *App }

// Notes implements posture.Notes.
func (h headNote) Notes(context.Context, time.Time) ([]posture.Note, error) {
	head := h.a.journal.Head()
	if head.N == 0 {
		return nil, nil
	}
	return []posture.Note{{Title: "Journal head", Values: []string{head.String()}}}, nil
}

// digests publishes the scorecard through the outbox of alerts.
type digests struct{ a *App }

// Publish implements posture.Publisher.
func (d digests) Publish(ctx context.Context, due event.Instant, channel string, card posture.Scorecard, run journal.PostureRun) error {
	if d.a.slack == nil { // standard output knows no channel ids
		channel = ""
	}
	msg := digestMessage(due, channel, card)
	if url := d.a.cfg.Alert.ConsoleURL; url != "" {
		msg.Link = strings.TrimRight(url, "/") + "/"
	}
	return d.a.manager.Announce(ctx, msg, journal.Entry{Kind: journal.KindPosture, Time: event.At(d.a.opts.Now()), Body: run})
}

// Bounds of what a digest shows; the scorecard has the rest.
const (
	digestSubjects = 5
	digestRows     = 30
	digestValue    = 200 // runes
)

// digestMessage writes a scorecard as a message. What may come from events is in
// the values of facts.
func digestMessage(due event.Instant, channel string, card posture.Scorecard) alert.Message {
	msg := alert.Message{ID: "digest/" + due.Time().Format(time.RFC3339), Channel: channel, Severity: finding.Digest,
		Title: "Posture: " + string(card.Status()) + " (" + due.Time().Format(time.DateOnly) + ")", Sentence: digestSentence(card)}
	for i, row := range card.Rows {
		if i == digestRows {
			msg.Facts = append(msg.Facts, alert.Fact{Label: "More", Values: []string{fmt.Sprintf("%d further checks", len(card.Rows)-i)}})
			break
		}
		msg.Facts = append(msg.Facts, rowFact(row))
	}
	msg.Facts = append(msg.Facts, coverageFact(card))
	for _, n := range card.Notes {
		msg.Facts = append(msg.Facts, alert.Fact{Label: n.Title, Values: shortened(n.Values)})
	}
	return msg
}

func digestSentence(card posture.Scorecard) string {
	count := map[posture.Status]int{}
	for _, r := range card.Rows {
		count[r.Status]++
	}
	return fmt.Sprintf("%d of %d targets are met, %d missed, %d nearly, %d unknown.",
		count[posture.Pass], len(card.Rows), count[posture.Fail], count[posture.Warn], count[posture.Unknown])
}

func rowFact(row posture.Row) alert.Fact {
	f := alert.Fact{Label: row.Title, Values: []string{string(row.Status)}, Note: "target " + row.Target}
	n := 0
	for _, r := range row.Results {
		if r.Status == posture.Pass {
			continue
		}
		if n++; n > digestSubjects {
			continue
		}
		text := r.Subject.Field + " " + r.Subject.Value + ": " + r.Value
		if r.Subject.Network != "" && r.Subject.Field != "network" {
			text += " (network " + r.Subject.Network + ")"
		}
		f.Values = append(f.Values, clipped(text))
	}
	if n > digestSubjects {
		f.Values = append(f.Values, fmt.Sprintf("and %d more", n-digestSubjects))
	}
	if n == 0 && row.Status != posture.Pass {
		f.Values = append(f.Values, clipped(row.Detail))
	}
	return f
}

func coverageFact(card posture.Scorecard) alert.Fact {
	f := alert.Fact{Label: "Data of the last day"}
	switch {
	case card.CoverageError != "":
		f.Values = []string{"not known: " + clipped(card.CoverageError)}
	case len(card.Coverage.Networks) == 0:
		f.Values = []string{"not measured, because no host numbers its events"}
	}
	var lines []string
	for _, n := range card.Coverage.Networks {
		lines = append(lines, n.Network+": "+n.String())
	}
	for _, l := range card.Coverage.Lost {
		lines = append(lines, "not stored: "+l)
	}
	f.Values = append(f.Values, shortened(lines)...)
	return f
}

func shortened(values []string) []string {
	out := make([]string, 0, digestSubjects+1)
	for i, v := range values {
		if i == digestSubjects {
			return append(out, fmt.Sprintf("and %d more", len(values)-i))
		}
		out = append(out, clipped(v))
	}
	return out
}

func clipped(s string) string {
	if r := []rune(s); len(r) > digestValue {
		return string(r[:digestValue-1]) + "…"
	}
	return s
}
