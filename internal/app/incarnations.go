package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/kafkawire"
)

// A row is known by topic, partition and offset. When a topic is deleted and made
// again, its offsets begin anew and mean other records: going on would skip some
// and take others for copies of what is stored. The broker gives every topic an
// id; the ids that this installation reads are kept in the control topic, and a
// daemon that finds another one tells people and stops.

const (
	topicIDsState = "topic_ids"
	// topicsEvery is how often the ids are looked at while reading.
	topicsEvery = 3 * time.Second
	// toldWithin bounds the wait for the incident to reach people, beside that of a
	// takeover.
	toldWithin = 10 * time.Second
)

// incarnations are the ids of the input topics, as one leadership knows them.
type incarnations struct {
	a     *App
	known map[string]string // nil: not read yet
	mute  bool              // it was said that the brokers have no ids
}

// check compares the ids with those of before, and keeps those that are new. When
// a topic is another one it stops the reading, tells people and returns an
// *OperatorError; other failures are for the next time.
func (n *incarnations) check(ctx context.Context, at func() map[event.Partition]int64, stop func()) error {
	changed, err := n.changed(ctx)
	switch {
	case errors.Is(err, kafkawire.ErrNoTopicIDs):
		if !n.mute {
			n.a.log.Warn("a topic that is deleted and made again will not be noticed", "error", err)
		}
		n.mute = true
		return nil
	case err != nil:
		if ctx.Err() == nil {
			n.a.log.Warn("the ids of the topics could not be compared; trying again", "error", err)
		}
		return nil
	case len(changed) == 0:
		return nil
	}
	stop()
	var faults []error
	var findings []finding.Finding
	for i := range changed {
		r := &changed[i]
		r.Places = n.a.places(ctx, r.Topic, at())
		findings = append(findings, r.Finding(event.At(n.a.opts.Now())))
		n.a.log.Error("an input topic was deleted and made again; reading stops", "topic", r.Topic, "old_id", r.OldID, "new_id", r.NewID, "places", r.Places)
		faults = append(faults, fmt.Errorf("topic %s was deleted and made again (its id was %s and is %s): its offsets mean other records now. "+
			"Let the producers write to a topic with a new name and configure that, or read this one into a fresh database with a new kafka.group.id and kafka.topics.control", r.Topic, r.OldID, r.NewID))
	}
	n.a.tellPeople(ctx, findings)
	return operator("kafka topics", errors.Join(faults...))
}

// changed reads the ids, and remembers those of topics that are new here.
func (n *incarnations) changed(ctx context.Context) ([]ingest.Recreated, error) {
	if n.known == nil {
		known := map[string]string{}
		b, err := n.a.control.LoadState(ctx, topicIDsState)
		if err == nil {
			err = json.Unmarshal(b, &known)
		}
		if err != nil && !errors.Is(err, kafka.ErrNoState) {
			return nil, fmt.Errorf("read the ids of before: %w", err)
		}
		n.known = known
	}
	ids, err := n.a.kafka.TopicIDs(ctx, topicNames(n.a.cfg.Ingest.Config))
	if err != nil {
		return nil, err
	}
	var out []ingest.Recreated
	next := maps.Clone(n.known)
	for _, topic := range slices.Sorted(maps.Keys(ids)) {
		switch was := n.known[topic]; was {
		case ids[topic]:
		case "":
			next[topic] = ids[topic]
		default:
			out = append(out, ingest.Recreated{Topic: topic, OldID: was, NewID: ids[topic]})
		}
	}
	if len(out) > 0 || len(next) == len(n.known) {
		return out, nil
	}
	b, err := json.Marshal(next)
	if err != nil {
		return nil, err
	}
	if err := n.a.control.SaveState(ctx, topicIDsState, b, event.At(time.Now())); err != nil {
		return nil, fmt.Errorf("keep the ids of topics: %w", err)
	}
	n.known = next
	return nil, nil
}

// places are where we stood in the partitions of a topic, and their logs.
func (a *App) places(ctx context.Context, topic string, at map[event.Partition]int64) []ingest.Place {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var out []ingest.Place
	for p, pos := range at {
		if p.Topic != topic {
			continue
		}
		place := ingest.Place{Partition: p.ID, Position: pos}
		first, end, err := a.kafka.Bounds(ctx, p)
		if err == nil {
			place.First, place.End = first, end
		}
		out = append(out, place)
	}
	slices.SortFunc(out, func(x, y ingest.Place) int { return cmp.Compare(x.Partition, y.Partition) })
	return out
}

// tellPeople makes the findings durable and waits, for a while, until the
// messages about them are out. A later start that finds the same tells no more
// than is still owed.
func (a *App) tellPeople(ctx context.Context, findings []finding.Finding) {
	// A new leader's first message waits for what the former may still send.
	ctx, cancel := context.WithTimeout(ctx, toldWithin+a.cfg.Alert.Delivery.TakeoverWait)
	defer cancel()
	known := func(f finding.Finding, told bool) bool {
		return slices.ContainsFunc(a.manager.Incidents(), func(i incident.Incident) bool {
			return i.Lead.ID == f.ID && (!told || len(i.Roots) > 0)
		})
	}
	fresh := slices.DeleteFunc(slices.Clone(findings), func(f finding.Finding) bool { return known(f, false) })
	if len(fresh) > 0 {
		if err := a.manager.Deliver(ctx, fresh, event.Partition{}, 0); err != nil {
			a.log.Error("nobody was told of the topic; the next start tries again", "error", err)
			return
		}
	}
	for slices.ContainsFunc(findings, func(f finding.Finding) bool { return !known(f, true) }) {
		if ctx.Err() != nil {
			a.log.Warn("the message about the topic may not be out yet; the next start goes on")
			return
		}
		_ = pause(ctx, 50*time.Millisecond)
	}
}

// positionsOf is how far detection has come, by what was kept and by what the
// pipeline has read since.
func positionsOf(s *session, assigned ingest.Assignment) map[event.Partition]int64 {
	out := map[event.Partition]int64{}
	for p, committed := range assigned.Committed {
		out[p] = max(committed, assigned.Detected[p])
	}
	for _, p := range s.pipeline.Status() {
		out[p.Partition] = max(out[p.Partition], p.Live)
	}
	return out
}
