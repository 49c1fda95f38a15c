package event_test

import (
	"os"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/event"
)

func TestGrounds(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/explanation/causes.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var all event.Grounds
	for _, g := range event.AllGrounds() {
		if g.Doc() == "" || g.String() == "" || seen[g.String()] {
			t.Errorf("ground %d: %q, %q: a name of its own and a meaning are needed", g, g, g.Doc())
		}
		seen[g.String()] = true
		if row := "| `" + g.String() + "` | " + g.Doc() + " |\n"; !strings.Contains(string(page), row) {
			t.Errorf("docs/explanation/causes.md lacks the row %s", row)
		}
		all = all.With(g)
	}
	if back, ok := event.ParseGrounds(all.String()); !ok || back != all {
		t.Errorf("read back %v %q, want %q", ok, back, all)
	}
	s := event.Grounds(0).With(event.GroundKeyRevoked, event.GroundStatus)
	if got := s.String(); got != "status key_revoked" || !s.Has(event.GroundStatus) || s.Has(event.GroundCode) {
		t.Errorf("got %q", got)
	}
	if got, ok := event.ParseGrounds("status of_tomorrow"); ok || got != event.Grounds(0).With(event.GroundStatus) {
		t.Errorf("an unknown name: %v %q", ok, got)
	}
	if got, ok := event.ParseGrounds(""); !ok || got != 0 || got.String() != "" {
		t.Errorf("nothing: %v %q", ok, got)
	}
}
