package ingest

import (
	"cmp"
	"fmt"
	"strconv"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// Rule ids of the findings that ingest itself makes.
const (
	RuleDataGap    = "ingest.data_gap"
	RuleNotAllowed = "ingest.not_allowed_here"
	// RuleTopicRecreated is told of by whoever watches the topics' ids.
	RuleTopicRecreated = "ingest.topic_recreated"
)

const day = event.Instant(24 * time.Hour)

// gapFinding tells of offsets [from, to) that retention removed unread. reader
// is who missed them: detection or storage.
func gapFinding(p event.Partition, from, to int64, reader string, now event.Instant) finding.Finding {
	group := []finding.Pair{{Field: "topic", Value: p.Topic}, {Field: "partition", Value: strconv.Itoa(int(p.ID))},
		{Field: "from", Value: strconv.FormatInt(from, 10)}, {Field: "reader", Value: reader}}
	verb := "analysed"
	if reader == readerStore {
		verb = "stored"
	}
	return finding.Finding{
		ID: finding.MakeID(RuleDataGap, group, 0), RuleID: RuleDataGap, RuleName: "data_gap",
		RuleTitle: "Records were removed by retention before they were read", Level: "high",
		Kind: finding.DataGap, Severity: finding.Ticket,
		Subject: finding.Subject{Field: "topic", Value: p.Topic}, Group: group,
		First: now, Last: now, Fired: now, Count: uint64(max(0, to-from)),
		Summary:    "Kafka's retention removed records before they were " + verb + "; what they said is lost.",
		Resolution: "Raise the topic's retention above the longest outage to survive, and find out what kept the daemon or ClickHouse away for so long.",
		Facts: []finding.Pair{{Field: "first_offset", Value: strconv.FormatInt(from, 10)},
			{Field: "last_offset", Value: strconv.FormatInt(to-1, 10)}, {Field: "reader", Value: reader}},
	}
}

// OwnFindings are what a batch says about the topic itself: records that it may
// not carry, and secrets in clear. seen holds what the partition has told already
// this day, at most maxSeen things. now stands in for an append time that is
// unknown.
func OwnFindings(b *Batch, seen map[string]event.Instant, now event.Instant) []finding.Finding {
	var out []finding.Finding
	for i := range b.Rejects {
		r := &b.Rejects[i]
		if r.Reason != ReasonNotAllowedHere {
			continue
		}
		if at := cmp.Or(r.ObservedAt, now); fresh(seen, "field "+r.Field, at) {
			out = append(out, notAllowedFinding(b.Partition, r, at))
		}
	}
	return append(out, leakFindings(b, seen, now)...)
}

// maxSeen bounds what a partition remembers of its own findings.
const maxSeen = 1024

func fresh(seen map[string]event.Instant, key string, at event.Instant) bool {
	if last, ok := seen[key]; ok && at/day <= last/day {
		return false
	}
	if len(seen) >= maxSeen {
		clear(seen)
	}
	seen[key] = at
	return true
}

func notAllowedFinding(p event.Partition, r *Reject, at event.Instant) finding.Finding {
	group := []finding.Pair{{Field: "topic", Value: p.Topic}, {Field: "field", Value: r.Field}}
	start := at / day * day
	return finding.Finding{
		ID: finding.MakeID(RuleNotAllowed, group, start), RuleID: RuleNotAllowed, RuleName: "not_allowed_here",
		RuleTitle: "A topic carried records that it may not carry", Level: "medium",
		Kind: finding.Other, Severity: finding.Ticket,
		Subject: finding.Subject{Field: "topic", Value: p.Topic}, Group: group,
		First: at, Last: at, Fired: at, Count: 1,
		Summary:    "A producer wrote records whose " + r.Field + " this topic is not configured for; they are in quarantine and were not believed.",
		Resolution: "Find out who may write to the topic, and whether the configuration or the producer is wrong.",
		Facts: []finding.Pair{{Field: "field", Value: r.Field}, {Field: "detail", Value: r.Detail},
			{Field: "partition", Value: strconv.Itoa(int(r.Ref.Partition))}, {Field: "offset", Value: strconv.FormatInt(r.Ref.Offset, 10)}},
		Evidence: []finding.Evidence{{Ref: r.Ref, TS: at}},
	}
}

// Recreated is a topic that was deleted and made again under its name.
type Recreated struct {
	Topic        string
	OldID, NewID string
	// Places says, per partition, where we stood and what the log holds now.
	Places []Place
}

// Place is where we stood in a partition, and its log: [First, End).
type Place struct {
	Partition            int32
	Position, First, End int64
}

// maxPlaces bounds the partitions that a finding lists one by one.
const maxPlaces = 8

// Finding tells of it. It is about the new topic, so the next time is another
// incident.
func (r Recreated) Finding(now event.Instant) finding.Finding {
	group := []finding.Pair{{Field: "topic", Value: r.Topic}, {Field: "topic_id", Value: r.NewID}}
	f := finding.Finding{
		ID: finding.MakeID(RuleTopicRecreated, group, 0), RuleID: RuleTopicRecreated, RuleName: "topic_recreated",
		RuleTitle: "An input topic was deleted and made again", Level: "critical",
		Kind: finding.DataGap, Severity: finding.Page,
		Subject: finding.Subject{Field: "topic_id", Value: r.NewID}, Group: group,
		First: now, Last: now, Fired: now, Count: 1,
		Summary: "The topic is another one under the same name: what was not read of the old one is lost, and the offsets of the new one mean other records. Nothing is read until a person decides.",
		Resolution: "Find out who deleted the topic. Then let the producers write to a topic with a new name and put that into the configuration (what is stored stays), " +
			"or read the new topic from its start into a fresh database, with a new group and a new control topic.",
		Facts: []finding.Pair{{Field: "topic", Value: r.Topic}, {Field: "old_topic_id", Value: r.OldID}, {Field: "new_topic_id", Value: r.NewID}},
	}
	for _, p := range r.Places[:min(len(r.Places), maxPlaces)] {
		f.Facts = append(f.Facts, finding.Pair{Field: "partition_" + strconv.Itoa(int(p.Partition)), Value: p.String()})
	}
	return f
}

// String says it in words, with the first and the last offset that are there.
func (p Place) String() string {
	log := "the log is empty now"
	if p.End > p.First {
		log = fmt.Sprintf("the log holds offsets %d to %d now", p.First, p.End-1)
	}
	return fmt.Sprintf("the next offset to read was %d; %s", p.Position, log)
}
