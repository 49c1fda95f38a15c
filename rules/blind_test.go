package rules

import (
	"testing"

	"github.com/keysentry/keysentry/event"
)

func TestBlind(t *testing.T) {
	t.Parallel()
	set := func(list ...event.Field) (s event.FieldSet) {
		for _, f := range list {
			s = s.Set(f)
		}
		return s
	}
	backend := map[event.Origin]event.FieldSet{event.OriginBackend: set(event.FieldKeyID, event.FieldHost), event.OriginClient: set(event.FieldTokenID)}
	for _, tc := range []struct {
		name  string
		rule  Meta
		sight Sight
		want  string
	}{
		{"nothing is needed", Meta{}, Sight{Fields: backend}, ""},
		{"nothing is seen", Meta{}, Sight{}, "no events"},
		{"an origin of two", Meta{Origins: []event.Origin{event.OriginPlatform, event.OriginBackend}}, Sight{Fields: backend}, ""},
		{"none of the origins", Meta{Origins: []event.Origin{event.OriginPlatform, event.OriginGateway}}, Sight{Fields: backend}, "no events of origin platform or gateway"},
		{"a field of any origin", Meta{Fields: []event.Field{event.FieldTokenID, event.FieldHost}}, Sight{Fields: backend}, ""},
		{"a field that only another origin has", Meta{Origins: []event.Origin{event.OriginBackend}, Fields: []event.Field{event.FieldTokenID}}, Sight{Fields: backend}, "no field token_id"},
		{"fields of nobody", Meta{Fields: []event.Field{event.FieldCertCN, event.FieldSourceNet}}, Sight{Fields: backend}, "no field cert_cn, source_ip"},
		{"what the daemon sets", Meta{Fields: []event.Field{event.FieldCause, event.FieldTraits}}, Sight{Fields: backend}, ""},
		{"a setting", Meta{Settings: []Setting{DeclaredEgress}}, Sight{Fields: backend}, "nothing declared in detect.declared_egress"},
		{"a setting that is declared", Meta{Settings: []Setting{DeclaredEgress}}, Sight{Fields: backend, Settings: Settings()}, ""},
		{"an origin that is configured", Meta{Origins: []event.Origin{event.OriginConsole}, Fields: []event.Field{event.FieldActor}}, Sight{Fields: map[event.Origin]event.FieldSet{event.OriginConsole: AllFields}}, ""},
	} {
		if got := tc.rule.Blind(tc.sight); got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
	s := &Set{Rules: []*Rule{{Meta: Meta{Title: "a"}}, {Meta: Meta{Title: "b"}, Inner: true}}, Correlations: []*Correlation{{Meta: Meta{Title: "c"}}}}
	if got := s.Blind(Sight{}); len(got) != 2 || got[0].Rule.Title != "a" || got[1].Rule.Title != "c" {
		t.Errorf("got %+v", got)
	}
	if got := s.Blind(Sight{Fields: backend}); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
}
