package event

import (
	"slices"
	"strings"
	"testing"
)

func TestTraitsList(t *testing.T) {
	t.Parallel()
	if got, want := Traits(1)<<len(traits), endTraits; got != want {
		t.Errorf("%d names for the constants below %b", len(traits), want)
	}
	var names []string
	for _, x := range AllTraits() {
		names = append(names, x.String())
		if x.Doc() == "" {
			t.Errorf("%s has no meaning", x)
		}
		if back, err := ParseTraits(x.String()); err != nil || back != x {
			t.Errorf("ParseTraits(%q) = %b, %v, want %b", x, back, err, x)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("the names are not in order: %v", names)
	}
	for i, a := range names {
		for j, b := range names {
			if i != j && strings.Contains(a, b) {
				t.Errorf("a search for %s finds %s", b, a)
			}
		}
	}
}

func TestTraitsText(t *testing.T) { // not parallel: it counts allocations
	both := TraitUnknownKey | TraitOutsideEgress
	if got, want := both.String(), "outside_egress unknown_key"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if back, err := ParseTraits("unknown_key  outside_egress"); err != nil || back != both {
		t.Errorf("got %v, %v", back, err)
	}
	if _, err := ParseTraits("outside_egress nonsense"); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("an unknown word: got %v", err)
	}
	if got := Traits(0).String(); got != "" {
		t.Errorf("no traits: got %q", got)
	}
	if n := testing.AllocsPerRun(100, func() { _ = both.String() }); n != 0 {
		t.Errorf("a set that occurred before costs %v allocations", n)
	}
}

func TestDerivedFields(t *testing.T) {
	t.Parallel()
	var e Event
	for _, f := range []Field{FieldTraits, FieldSourceNet} {
		if v, ok := e.Text(f); ok || v != "" {
			t.Errorf("%s of an event without: %q, %v", f, v, ok)
		}
	}
	e.Traits, e.SourceNet = TraitUnknownKey, "AS64500"
	if v, ok := e.Text(FieldTraits); !ok || v != "unknown_key" {
		t.Errorf("traits: %q, %v", v, ok)
	}
	if v, ok := e.Text(FieldSourceNet); !ok || v != "AS64500" {
		t.Errorf("source_net: %q, %v", v, ok)
	}
	if got := string(Append(nil, &e)); got != "{}" {
		t.Errorf("encoded: %s", got)
	}
	for _, f := range DaemonFields() {
		if f.Spec().Doc == "" {
			t.Errorf("%s has no meaning", f)
		}
	}
}
