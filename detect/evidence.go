package detect

import (
	"cmp"
	"net/netip"
	"strings"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

// kept is an event that may become evidence.
type kept struct {
	finding.Evidence
	confidence float32
	service    string
	certID     string
	// What the resolution of a cause needs.
	tokenID, certCN, region string
	origin                  event.Origin
	sourceNet, mintKey      string
	traits                  event.Traits
}

// evidenceRing keeps the latest events that rules matched.
type evidenceRing struct {
	slots []kept
	at    int
	place map[event.Ref]int
	limit int
}

func newEvidenceRing(limit int) *evidenceRing {
	return &evidenceRing{place: map[event.Ref]int{}, limit: limit}
}

func (r *evidenceRing) add(e *event.Event) {
	if _, ok := r.place[e.Ref]; ok {
		return
	}
	k := keep(e)
	if len(r.slots) < r.limit {
		r.place[k.Ref] = len(r.slots)
		r.slots = append(r.slots, k)
		return
	}
	delete(r.place, r.slots[r.at].Ref)
	r.place[k.Ref] = r.at
	r.slots[r.at] = k
	r.at = (r.at + 1) % len(r.slots)
}

func (r *evidenceRing) get(ref event.Ref) (kept, bool) {
	i, ok := r.place[ref]
	if !ok {
		return kept{Evidence: finding.Evidence{Ref: ref}}, false
	}
	return r.slots[i], true
}

// keep reduces e to what evidence needs, in one allocation for all its strings.
func keep(e *event.Event) kept {
	fields := [...]string{e.Network, e.Host, e.UserID, e.KeyID, e.Endpoint, clip(e.Reason), e.Service, e.CertID, e.TokenID, e.CertCN, e.Region}
	var b strings.Builder
	n := 0
	for _, f := range fields {
		n += len(f)
	}
	b.Grow(n)
	for _, f := range fields {
		b.WriteString(f)
	}
	all := b.String()
	for i, f := range fields {
		fields[i], all = all[:len(f)], all[len(f):]
	}
	k := kept{confidence: e.CauseConfidence, service: fields[6], certID: fields[7], tokenID: fields[8], certCN: fields[9], region: fields[10], origin: e.Origin, sourceNet: e.SourceNet, mintKey: e.MintKey, traits: e.Traits}
	k.Evidence = finding.Evidence{Ref: e.Ref, TS: e.TS, Type: e.Type, Cause: e.Cause, Status: e.Status,
		Network: fields[0], Host: fields[1], UserID: fields[2], KeyID: fields[3], Endpoint: fields[4], Reason: fields[5]}
	k.Ref.Topic = strings.Clone(e.Ref.Topic)
	if e.SourceIP.IsValid() {
		k.SourceIP = e.SourceIP.String()
	}
	return k
}

// event is what of the event was kept.
func (k *kept) event() event.Event {
	e := event.Event{Type: k.Type, TS: k.TS, Cause: k.Cause, Status: k.Status, Origin: k.origin, Network: k.Network, Host: k.Host, UserID: k.UserID,
		KeyID: k.KeyID, Endpoint: k.Endpoint, Service: k.service, CertID: k.certID, TokenID: k.tokenID, CertCN: k.certCN, Region: k.region}
	e.SourceIP, _ = netip.ParseAddr(k.SourceIP)
	return e
}

// maxEvidenceReason bounds the reason that is kept, in bytes.
const maxEvidenceReason = 256

func clip(s string) string {
	if len(s) <= maxEvidenceReason {
		return s
	}
	return strings.ToValidUTF8(s[:maxEvidenceReason], "")
}

// value is the field of an event that evidence has.
func (k *kept) value(field string) string {
	switch field {
	case "network":
		return k.Network
	case "host":
		return k.Host
	case "user_id":
		return k.UserID
	case "key_id":
		return cmp.Or(k.KeyID, k.mintKey)
	case "source_ip":
		return k.SourceIP
	case "endpoint":
		return k.Endpoint
	case "service":
		return k.service
	case "cert_id":
		return k.certID
	case "source_net":
		return k.sourceNet
	case "topic":
		return k.Ref.Topic
	}
	return ""
}

// evidenceFields are the fields that keep reads.
var evidenceFields = []event.Field{event.FieldType, event.FieldStatus, event.FieldNetwork, event.FieldHost, event.FieldUserID, event.FieldKeyID,
	event.FieldEndpoint, event.FieldReason, event.FieldService, event.FieldCertID, event.FieldSourceIP, event.FieldCauseConfidence, event.FieldTraits, event.FieldSourceNet,
	event.FieldTokenID, event.FieldCertCN, event.FieldRegion, event.FieldOrigin}

// room reports whether an event can be added without forgetting another.
func (r *evidenceRing) room() bool { return len(r.slots) < r.limit }
