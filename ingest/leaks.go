package ingest

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/redact"
)

// Rule ids of the findings about secrets in records.
const (
	RuleOwnKey = "ingest.own_key_in_event"
	RuleSecret = "ingest.secret_in_event"
)

// Places of a record that are no field of an event.
const (
	inKey    = "record key"
	inHeader = "record header"
	inRecord = "record" // somewhere in its value
)

// leak is a secret of one kind that a producer wrote to one place, as often as the
// batch holds it. It never holds the secret.
type leak struct {
	producer producer
	place    string
	kind     redact.Kind
	keyID    string // of an own key: its fingerprint
	count    uint64
	first    finding.Evidence
}

// producer is who wrote a record, as far as it says; empty: it could not be read.
type producer struct{ network, service, host string }

// name is the field and the value by which people know the producer.
func (p producer) name(topic string) (field, value string) {
	switch {
	case p.service != "":
		return "service", p.service
	case p.host != "":
		return "host", p.host
	}
	return "topic", topic
}

// maxLeaks bounds the leaks of one batch that are told apart; more of them are
// masked and counted all the same.
const maxLeaks = 256

// addLeak takes a hit in; at is when it was written, as far as that is known.
func (b *Batch) addLeak(l leak) {
	for i := range b.leaks {
		if o := &b.leaks[i]; o.place == l.place && o.kind == l.kind && o.keyID == l.keyID && o.producer == l.producer {
			o.count++
			return
		}
	}
	if len(b.leaks) < maxLeaks {
		l.producer = producer{strings.Clone(l.producer.network), strings.Clone(l.producer.service), strings.Clone(l.producer.host)}
		l.count = 1
		b.leaks = append(b.leaks, l)
	}
}

// maxProducers bounds the producers, places and kinds that a partition tells apart
// in a day: whoever may write to a topic chooses the names in it. What is more is
// told of the topic.
const maxProducers = 32

// leakFindings are what a batch says about secrets: one finding a day for a key of
// ours, and one for any other kind in one place of one producer. Of history that is
// imported, the day is that of reading: years of it are one matter.
func leakFindings(b *Batch, seen map[string]event.Instant, now event.Instant) []finding.Finding {
	var out []finding.Finding
	for i := range b.leaks {
		l := &b.leaks[i]
		at := cmp.Or(l.first.TS, now)
		if b.imported {
			at = now
		}
		if l.kind == redact.OwnKey {
			if fresh(seen, "key "+l.keyID, at) {
				out = append(out, ownKeyFinding(b.Partition, l, at))
			}
			continue
		}
		field, value := l.producer.name(b.Partition.Topic)
		key := secretKey(field, value, l.place, l.kind)
		if _, known := seen[key]; !known && field != "topic" && toldOn(seen, at) >= maxProducers {
			l.producer = producer{network: l.producer.network}
			field, value = l.producer.name(b.Partition.Topic)
			key = secretKey(field, value, l.place, l.kind)
		}
		if fresh(seen, key, at) {
			out = append(out, secretFinding(b.Partition, l, at))
		}
	}
	return out
}

// secretMark begins the keys of told secrets.
const secretMark = "secret "

func secretKey(field, value, place string, kind redact.Kind) string {
	return secretMark + string(kind) + " " + place + " " + field + "=" + value
}

// toldOn counts the secrets that were told on the day of at.
func toldOn(seen map[string]event.Instant, at event.Instant) (n int) {
	for k, last := range seen {
		if strings.HasPrefix(k, secretMark) && last/day >= at/day {
			n++
		}
	}
	return n
}

func ownKeyFinding(p event.Partition, l *leak, at event.Instant) finding.Finding {
	group := []finding.Pair{{Field: "key_id", Value: l.keyID}, {Field: "topic", Value: p.Topic}}
	return finding.Finding{
		ID: finding.MakeID(RuleOwnKey, group, at/day*day), RuleID: RuleOwnKey, RuleName: "own_key_in_event",
		RuleTitle: "A server key stood in clear in an audit event", Level: "critical",
		Kind: finding.SecretLeak, Severity: finding.Page,
		Subject: finding.Subject{Network: l.producer.network, Field: "key_id", Value: l.keyID}, Group: group,
		Risk: &finding.Risk{Family: finding.Possession, Fact: finding.ValueSeen},
		First: at, Last: at, Fired: at, Count: l.count,
		Summary:    "The value of one of our server keys was found in the " + placed(l.place) + " of an event; it was masked before anything was stored, but the topic holds it.",
		Resolution: "Treat the key as known to everyone who can read the topic: rotate it, then find what wrote it.",
		Playbook:   "rotate-server-key", Tags: []string{"attack.credential_access", "attack.t1552"},
		Facts: l.facts(), Evidence: l.evidence(),
	}
}

func secretFinding(p event.Partition, l *leak, at event.Instant) finding.Finding {
	field, value := l.producer.name(p.Topic)
	group := []finding.Pair{{Field: "topic", Value: p.Topic}, {Field: field, Value: value},
		{Field: "field", Value: l.place}, {Field: "kind", Value: string(l.kind)}}
	return finding.Finding{
		ID: finding.MakeID(RuleSecret, group, at/day*day), RuleID: RuleSecret, RuleName: "secret_in_event",
		RuleTitle: "A producer wrote what looks like a secret into an audit event", Level: "medium",
		Kind: finding.SecretLeak, Severity: finding.Ticket,
		Subject: finding.Subject{Network: l.producer.network, Field: field, Value: value}, Group: group,
		First: at, Last: at, Fired: at, Count: l.count,
		Summary:    "Text that has the form of a secret (" + string(l.kind) + ") was found in the " + placed(l.place) + " of an event; it was masked before anything was stored, but the topic holds it.",
		Resolution: "Find what writes it and leave it out there. If it is a secret, treat it as known to everyone who can read the topic; if it is none, nothing is lost but the word.",
		Tags:       []string{"attack.credential_access", "attack.t1552"},
		Facts:      l.facts(), Evidence: l.evidence(),
	}
}

// placed names the place in a sentence.
func placed(place string) string {
	switch place {
	case inKey, inHeader:
		return place
	case inRecord:
		return "text"
	}
	return "field " + place
}

func (l *leak) facts() []finding.Pair {
	facts := []finding.Pair{{Field: "field", Value: l.place}, {Field: "kind", Value: string(l.kind)},
		{Field: "partition", Value: strconv.Itoa(int(l.first.Ref.Partition))}, {Field: "offset", Value: strconv.FormatInt(l.first.Ref.Offset, 10)}}
	for _, p := range [...]finding.Pair{{Field: "service", Value: l.producer.service}, {Field: "host", Value: l.producer.host}} {
		if p.Value != "" {
			facts = append(facts, p)
		}
	}
	return facts
}

// evidence is the event; a record that was refused is none.
func (l *leak) evidence() []finding.Evidence {
	if l.first.Type == event.TypeUnknown {
		return nil
	}
	return []finding.Evidence{l.first}
}
