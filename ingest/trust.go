package ingest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/mapping"
)

// topic is a TopicConfig made ready for decoding. Trust comes from it: who saw
// an event, and what may be said here at all.
type topic struct {
	cfg        TopicConfig
	limits     event.Limits
	mapping    *mapping.Mapping // nil: canonical events, or auto
	auto       *mapping.Set
	mapOptions mapping.Options
	types      uint64 // one bit per allowed type
	networks   names
	services   names
	hosts      names
}

func newTopic(tc TopicConfig, d DecoderDeps) (*topic, error) {
	t := &topic{cfg: tc, limits: event.Limits{MaxBytes: tc.MessageBytes()},
		networks: newNames(tc.Allow.Networks), services: newNames(tc.Allow.Services), hosts: newNames(tc.Allow.Hosts)}
	allowed := tc.Allow.Types
	if len(allowed) == 0 {
		allowed = event.Types()
	}
	for _, typ := range allowed {
		if !typ.Lifecycle() || tc.Lifecycle {
			t.types |= 1 << typ
		}
	}
	if tc.Mapping == "" {
		return t, nil
	}
	if d.Mappings == nil {
		return nil, errors.New("no folder of mappings is given")
	}
	t.mapOptions = mapping.Options{Year: tc.Year, Key: []byte(d.FingerprintKey.Reveal()), MaxBytes: tc.MessageBytes()}
	var err error
	if t.mapOptions.Zone, err = time.LoadLocation(tc.Zone); err != nil {
		return nil, fmt.Errorf("zone %s: %w", tc.Zone, err)
	}
	if tc.Mapping == mapping.Auto {
		if t.auto, err = mapping.LoadSet(d.Mappings); err != nil {
			return nil, err
		}
		return t, t.auto.Ready(t.mapOptions)
	}
	if t.mapping, err = mapping.Load(d.Mappings, tc.Mapping); err != nil {
		return nil, err
	}
	at := t.mapOptions
	at.At = earliest // every record has a time
	return t, t.mapping.Ready(at)
}

// allows reports why the topic may not say this, as a *rejection.
func (t *topic) allows(e *event.Event) error {
	switch {
	case t.types&(1<<e.Type) == 0:
		return &rejection{ReasonNotAllowedHere, "type", "the topic does not admit " + e.Type.String()}
	case !t.networks.admit(e.Network):
		return &rejection{ReasonNotAllowedHere, "network", "the topic does not admit this network"}
	case !t.services.admit(e.Service):
		return &rejection{ReasonNotAllowedHere, "service", "the topic does not admit this service"}
	case !t.hosts.admit(e.Host):
		return &rejection{ReasonNotAllowedHere, "host", "the topic does not admit this host"}
	}
	return nil
}

// Network is the check of which networks the topic may speak of.
func (a AllowConfig) Network() func(string) bool { return newNames(a.Networks).admit }

// names is a list of allowed names and beginnings; empty allows all.
type names struct {
	exact    map[string]bool
	prefixes []string
}

func newNames(list []string) names {
	n := names{exact: map[string]bool{}}
	for _, s := range list {
		if p, ok := strings.CutSuffix(s, "*"); ok {
			n.prefixes = append(n.prefixes, p)
		} else {
			n.exact[s] = true
		}
	}
	return n
}

func (n names) admit(s string) bool {
	if len(n.exact) == 0 && len(n.prefixes) == 0 || n.exact[s] {
		return true
	}
	for _, p := range n.prefixes {
		if s != "" && strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// rejection is a reason that decoding alone does not know.
type rejection struct {
	reason        Reason
	field, detail string
}

func (r *rejection) Error() string { return string(r.reason) + ": " + r.detail }

var reasons = map[event.Problem]Reason{
	event.ProblemEmpty:          ReasonEmpty,
	event.ProblemTooLarge:       ReasonTooLarge,
	event.ProblemBadUTF8:        ReasonBadUTF8,
	event.ProblemBadJSON:        ReasonBadJSON,
	event.ProblemTooDeep:        ReasonTooDeep,
	event.ProblemNotObject:      ReasonNotObject,
	event.ProblemDuplicateField: ReasonDuplicateField,
	event.ProblemMissingField:   ReasonMissingField,
	event.ProblemUnknownType:    ReasonUnknownType,
	event.ProblemWrongType:      ReasonWrongType,
	event.ProblemBadValue:       ReasonBadValue,
	event.ProblemBadTime:        ReasonBadTime,
	event.ProblemNotMapped:      ReasonNotMapped,
	event.ProblemUnknownFormat:  ReasonUnknownFormat,
	event.ProblemBadEnvelope:    ReasonBadCloudEvent,
}

// explain maps an error to the closed list of reasons.
func explain(err error) (reason Reason, field, detail string) {
	var r *rejection
	if errors.As(err, &r) {
		return r.reason, r.field, r.detail
	}
	var de *event.DecodeError
	if errors.As(err, &de) {
		return reasons[de.Problem], de.Field, de.Detail
	}
	return ReasonBadValue, "", "could not be decoded"
}
