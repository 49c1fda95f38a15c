package app

import (
	"context"
	"fmt"
	"strconv"
	"time"

	kafkajournal "github.com/keysentry/keysentry/alert/journal/kafka"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// ownKeysEvery is how often the secret stores are looked at for a new key.
const ownKeysEvery = 10 * time.Second

// knowOwnKeys tells the redactor the keyed fingerprints of our own server keys,
// so that one that turns up in any field is recognised and masked.
func (a *App) knowOwnKeys(ctx context.Context) error {
	known := map[string]int64{}
	for {
		for network, t := range a.targets {
			s, err := t.Store.Get(ctx, t.SecretName)
			if err != nil || known[network] == s.Version || s.Value.Empty() {
				continue // a store without a key, or one that does not answer, is the playbook's business
			}
			known[network] = s.Version
			a.redactor.AddValue(a.keys[network], s.Value)
		}
		_ = pause(ctx, ownKeysEvery)
		if ctx.Err() != nil {
			return nil
		}
	}
}

// noteStray hears of foreign records from the journal's reader, which must not
// wait: what does not fit is counted by the journal's own metric.
func (a *App) noteStray(s kafkajournal.Stray) {
	if s.Reason != journal.StrayBadMAC && s.Reason != journal.StrayBadHash {
		return
	}
	select {
	case a.strays <- s:
	default:
	}
}

// reportStrays pages when somebody without the key wrote to the journal.
func (a *App) reportStrays(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-a.strays:
			f := a.strayFinding(s)
			if err := a.manager.Deliver(ctx, []finding.Finding{f}, event.Partition{}, 0); err != nil && ctx.Err() == nil {
				a.log.Error("a foreign record in the journal could not be reported", "offset", s.Offset, "error", err)
			}
		}
	}
}

func (a *App) strayFinding(s kafkajournal.Stray) finding.Finding {
	now := event.At(a.opts.Now())
	topic := a.cfg.Kafka.Topics.Journal
	f := finding.Finding{
		RuleID: "journal.foreign_record", RuleTitle: "Foreign record in the journal", Kind: finding.Other, Severity: finding.Page,
		Subject: finding.Subject{Field: "topic", Value: topic}, First: now, Last: now, Fired: now, Count: 1,
		Group:      []finding.Pair{{Field: "offset", Value: strconv.FormatInt(s.Offset, 10)}},
		Summary:    "Somebody without the journal's key has written to the journal. The record has no effect.",
		Resolution: "Find out who may write to the topic and take the right away; then run: keysentry journal verify.",
		Facts:      []finding.Pair{{Field: "offset", Value: strconv.FormatInt(s.Offset, 10)}, {Field: "reason", Value: fmt.Sprint(s.Reason)}},
	}
	f.ID = finding.MakeID(f.RuleID, f.Group, 0)
	return f
}
