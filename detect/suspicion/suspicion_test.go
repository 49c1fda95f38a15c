package suspicion

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

var noon = event.At(time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC))

// found is a finding of a rule over the events of these offsets.
func found(rule, family string, weight float64, at event.Instant, offsets ...int64) *finding.Finding {
	f := &finding.Finding{ID: fmt.Sprintf("%s-%d", rule, at), RuleID: rule, RuleTitle: "Rule " + rule, First: at, Last: at, Fired: at, Count: 1,
		Risk: &finding.Risk{Family: family, Score: weight}}
	for _, o := range offsets {
		f.Evidence = append(f.Evidence, finding.Evidence{Ref: event.Ref{Topic: "t", Offset: o}, TS: at, Type: event.TypeAuthTokenIssued})
	}
	return f
}

// refused makes the finding rest on refused requests.
func refused(f *finding.Finding) *finding.Finding {
	for i := range f.Evidence {
		f.Evidence[i].Type = event.TypeAuthTokenDenied
	}
	return f
}

func fact(f finding.Fact) *finding.Finding {
	out := found(string(f), finding.Possession, 0, noon)
	out.Risk.Fact = f
	return out
}

func TestGate(t *testing.T) {
	t.Parallel()
	later := func(d time.Duration) event.Instant { return noon.Add(d) }
	noEvents := found("volume", finding.Volume, 3, noon)
	mixed := refused(found("sequence", finding.Sequence, 3, noon, 5))
	mixed.Evidence = append(mixed.Evidence, finding.Evidence{Ref: event.Ref{Topic: "t", Offset: 6}, Type: event.TypeAuthTokenIssued})
	for name, tc := range map[string]struct {
		findings []*finding.Finding
		at       event.Instant
		met      bool
		says     string
	}{
		"nothing":                                  {nil, noon, false, "two signals of different families"},
		"one signal":                               {[]*finding.Finding{found("place", finding.Place, 5, noon, 1)}, noon, false, "another family than place"},
		"two families, different events":           {[]*finding.Finding{found("place", finding.Place, 3, noon, 1), found("fan", finding.Volume, 3, noon, 2)}, noon, true, "volume (Rule fan) and place (Rule place)"},
		"two rules of one family":                  {[]*finding.Finding{found("a", finding.Place, 3, noon, 1), found("b", finding.Place, 3, noon, 2)}, noon, false, "another family than place"},
		"one rule twice":                           {[]*finding.Finding{found("a", finding.Place, 3, noon, 1), found("a", finding.Place, 3, later(time.Hour), 2)}, later(time.Hour), false, "another family than place"},
		"two families, the same event":             {[]*finding.Finding{found("place", finding.Place, 3, noon, 1), found("fan", finding.Volume, 3, noon, 1)}, noon, false, "rest on the same"},
		"two families, the same two events":        {[]*finding.Finding{found("place", finding.Place, 3, noon, 2, 1), found("fan", finding.Volume, 3, noon, 1, 2)}, noon, false, "rest on the same"},
		"one event, and what more show":            {[]*finding.Finding{found("place", finding.Place, 3, noon, 1), found("fan", finding.Volume, 3, noon, 1, 2, 3)}, noon, true, "two independent signals"},
		"the same event first, another later":      {[]*finding.Finding{found("place", finding.Place, 3, noon, 1), found("fan", finding.Volume, 3, noon, 1, 2), found("place", finding.Place, 3, later(time.Hour), 9)}, later(time.Hour), true, "two independent signals"},
		"without events":                           {[]*finding.Finding{found("place", finding.Place, 3, noon, 1), noEvents}, noon, false, "rest on the same"},
		"a refused request beside a signal":        {[]*finding.Finding{found("place", finding.Place, 3, noon, 1), refused(found("stale", finding.Possession, 5, noon, 2))}, noon, false, "another family than place"},
		"two families of refused requests":         {[]*finding.Finding{refused(found("a", finding.Place, 5, noon, 1)), refused(found("b", finding.Volume, 5, noon, 2))}, noon, false, "two signals of different families"},
		"refusals that end in a success":           {[]*finding.Finding{found("place", finding.Place, 3, noon, 1), mixed}, noon, true, "two independent signals"},
		"a weak signal":                            {[]*finding.Finding{found("place", finding.Place, 3, noon, 1), found("fan", finding.Volume, 0.4, noon, 2)}, noon, false, "another family than place"},
		"two that say little":                      {[]*finding.Finding{found("place", finding.Place, 2, noon, 1), found("fan", finding.Volume, 1, noon, 2)}, noon, false, "more weight: the signals of place and volume are independent, and with all others make it no more than 26.9 % likely"},
		"three that say little":                    {[]*finding.Finding{found("place", finding.Place, 2, noon, 1), found("fan", finding.Volume, 1, noon, 2), found("odd", finding.Sequence, 1, noon, 3)}, noon, true, "two independent signals"},
		"a strong one and a weak one of hours ago": {[]*finding.Finding{found("fan", finding.Volume, 1, noon, 2), found("place", finding.Place, 4, noon.Add(6*time.Hour), 1)}, noon.Add(6 * time.Hour), true, "two independent signals"},
		"a signal that faded":                      {[]*finding.Finding{found("place", finding.Place, 3, noon, 1), found("fan", finding.Volume, 3, later(72*time.Hour), 2)}, later(72 * time.Hour), false, "Rule place, 3 days old, has faded"},
		"without a family":                         {[]*finding.Finding{found("place", finding.Place, 3, noon, 1), found("odd", "", 3, noon, 2)}, noon, false, "another family than place"},
		"the live key's value in a field":          {[]*finding.Finding{fact(finding.ValueSeen)}, later(1000 * time.Hour), true, "found in an event"},
		"a person's report":                        {[]*finding.Finding{fact(finding.PersonReport)}, noon, true, "a person reported"},
		"a fact of an unknown kind":                {[]*finding.Finding{fact("rumour")}, noon, false, "two signals of different families"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var a Account
			for _, f := range tc.findings {
				a.Add(f)
			}
			got := a.Assess(tc.at).Gate
			if got.Met != tc.met || !strings.Contains(got.Because+got.Lacks, tc.says) {
				t.Errorf("got %+v, want met %v because it says %q", got, tc.met, tc.says)
			}
		})
	}
}

func TestSum(t *testing.T) {
	t.Parallel()
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	var a Account
	near("an empty account", a.Assess(noon).LogOdds, Prior)
	a.Add(found("place", finding.Place, 4, noon, 1))
	near("fresh", a.Assess(noon).LogOdds, Prior+4)
	near("before its time", a.Assess(noon.Add(-time.Hour)).LogOdds, Prior+4)
	near("after a half-life", a.Assess(noon.Add(HalfLife)).LogOdds, Prior+2)
	near("after two", a.Assess(noon.Add(2*HalfLife)).LogOdds, Prior+1)
	a.Add(found("place", finding.Place, 4, noon.Add(HalfLife), 2))
	near("a repeat counts half, and the newest whole", a.Assess(noon.Add(HalfLife)).LogOdds, Prior+4+0.5*2)
	a.Add(found("fan", finding.Volume, 3, noon.Add(HalfLife), 3))
	near("another family", a.Assess(noon.Add(HalfLife)).LogOdds, Prior+5+3)
	near("the probability", a.Assess(noon.Add(HalfLife)).Probability, 1/(1+math.Exp(-(Prior+8))))
	a.Add(refused(found("stale", finding.Possession, 8, noon.Add(HalfLife), 4)))
	near("a refused request", a.Assess(noon.Add(HalfLife)).LogOdds, Prior+8)
	for range 100 {
		a.Add(fact(finding.PersonReport))
	}
	near("a fact, however often told", a.Assess(noon.Add(HalfLife)).LogOdds, Prior+8+FactWeight)
	near("a fact does not fade", a.Assess(noon.Add(100 * HalfLife)).Contributions[0].Adds, FactWeight)

	var b Account
	for k, w := range []float64{math.Inf(1), math.NaN(), -3} {
		b.Add(found(fmt.Sprint(k), finding.Place, w, noon, int64(k)))
	}
	near("weights that are none", b.Assess(noon).LogOdds, Prior+MaxWeight)
}

// The assessment is what explains itself: every number of the sum is in the words.
func TestWords(t *testing.T) {
	t.Parallel()
	var a Account
	a.Add(found("place", finding.Place, 4, noon, 7))
	a.Add(refused(found("stale", finding.Possession, 0, noon, 8)))
	got := a.Assess(noon.Add(HalfLife))
	lines := []string{got.Words(), got.Gate.Words()}
	for _, c := range got.Contributions {
		lines = append(lines, c.Words())
	}
	want := []string{
		"11.9 % likely that the key is in other hands; log-odds -2.0 = -4.0 to begin with, +2.0 place",
		"does not suffice to propose a rotation yet; it lacks a signal of another family than place; or the live key's value found in an event, or a person's report",
		"+2.0 place: Rule place (1 finding of weight 4.0, last 24 h ago, event t/0@7)",
		"+0.0 possession: Rule stale (1 finding of weight 0.0, last 24 h ago, event t/0@8): rests on refused requests alone, which show only what the caller lacks",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
	if raw, err := json.Marshal(got); err != nil || !strings.Contains(string(raw), `"lacks":"a signal`) {
		t.Errorf("%s, %v", raw, err)
	}
}

// An outsider's refused requests change no sum, no gate, and push no signal out of
// the account, however many rules they fire and however often.
func TestRefusedRequestsChangeNothing(t *testing.T) {
	t.Parallel()
	families := []string{finding.Possession, finding.Place, finding.Volume, finding.Sequence, finding.Lifecycle}
	rapid.Check(t, func(t *rapid.T) {
		var quiet, noisy Account
		for k := range rapid.IntRange(0, 3).Draw(t, "signals") {
			f := found(fmt.Sprint("rule", k), rapid.SampledFrom(families).Draw(t, "family"), rapid.Float64Range(0, 8).Draw(t, "weight"), noon, int64(k))
			quiet.Add(f)
			noisy.Add(f)
		}
		for k := range rapid.IntRange(0, 200).Draw(t, "refusals") {
			rule := fmt.Sprint("rule", rapid.IntRange(0, 60).Draw(t, "rule"))
			noisy.Add(refused(found(rule, rapid.SampledFrom(families).Draw(t, "family"), 8, noon.Add(-time.Duration(k)*time.Second), int64(1000+k))))
		}
		want, got := quiet.Assess(noon), noisy.Assess(noon)
		if math.Abs(got.LogOdds-want.LogOdds) > 1e-9 || got.Gate.Met != want.Gate.Met {
			t.Fatalf("got %v and %+v, want %v and %+v", got.LogOdds, got.Gate, want.LogOdds, want.Gate)
		}
		if len(noisy.sources) > maxSources {
			t.Fatalf("%d sources", len(noisy.sources))
		}
	})
}

// Findings come in any order; the assessment does not depend on it.
func TestOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var list []*finding.Finding
		for k := range rapid.IntRange(1, 10).Draw(t, "findings") {
			rule := rapid.IntRange(0, 3).Draw(t, "rule")
			list = append(list, found(fmt.Sprint("rule", rule), []string{finding.Place, finding.Volume}[rule%2], float64(1+rule), noon.Add(time.Duration(k)*time.Hour), int64(k)))
		}
		var a, b Account
		for _, f := range list {
			a.Add(f)
		}
		for _, k := range rapid.Permutation(list).Draw(t, "order") {
			b.Add(k)
		}
		at := noon.Add(12 * time.Hour)
		if diff := cmp.Diff(a.Assess(at), b.Assess(at)); diff != "" {
			t.Fatal(diff)
		}
	})
}
