package quality

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/internal/simulate"
)

// TestPlay plays a small network for nine days, once as all see it and once as only
// its backends and clients do: a key theft that the platform alone sees, and forged
// tokens that the apps report.
func TestPlay(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: nine days of two networks take some seconds")
	}
	t.Parallel()
	var scripts []*simulate.Script
	for _, s := range simulate.Attacks() {
		if s.Name == "forged-tokens" || s.Name == "enumeration" {
			scripts = append(scripts, s)
		}
	}
	o := DefaultOptions()
	o.Days, o.Hosts, o.Users, o.Rate = 9, 20, 10_000, 0.4
	for vis, want := range map[simulate.Visibility]struct {
		caught, blind int
	}{simulate.VisibilityPlatform: {2, 0}, simulate.VisibilityBackend: {1, 1}} {
		p, err := newPlay(o.network(5, o.Days, scripts), vis)
		if err != nil {
			t.Fatal(err)
		}
		var trace strings.Builder
		p.trace = &trace
		if err := p.run(context.Background()); err != nil {
			t.Fatal(err)
		}
		tl := newTally(vis)
		tl.add(p)
		l := tl.line()
		if l.Incidents != 2 || l.Caught != want.caught || l.Blind != want.blind || l.ClockSkew != 0 || l.Attribution < 0.95 {
			t.Errorf("%s: %+v\n%s", vis, l, trace.String())
		}
		if len(l.Causes) < 5 || l.Events < 100_000 || l.BenignDays == 0 {
			t.Errorf("%s: the play was too short to say anything: %+v", vis, l)
		}
	}
}

// TestPlaysRepeat: the same options give the same score.
func TestPlaysRepeat(t *testing.T) {
	t.Parallel()
	o := Options{Seeds: []uint64{3}, Days: 8, Hosts: 10, Users: 1000, Rate: 0.05, Workers: 2, Visibilities: []simulate.Visibility{simulate.VisibilityBackend}}
	first, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("(-first +again):\n%s", diff)
	}
	if len(first) != 1 || first[0].Events == 0 || first[0].Incidents == 0 {
		t.Errorf("got %+v", first)
	}
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	o := DefaultOptions()
	o.Scenarios = t.TempDir()
	if _, err := Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), "yml") {
		t.Errorf("an empty folder of scenarios: %v", err)
	}
}
