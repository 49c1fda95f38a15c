package simulate_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/simulate"
)

// TestDescribe: what the network's people would declare is what its ordinary events
// show.
func TestDescribe(t *testing.T) {
	t.Parallel()
	o := month(5)
	o.Duration = 3 * 24 * time.Hour
	n, err := simulate.Describe(o)
	if err != nil {
		t.Fatal(err)
	}
	egress := netip.MustParsePrefix(n.DeclaredEgress[0])
	if len(n.Keys) != 1 || event.Fingerprint(n.FingerprintKey, n.Secrets[0]) != n.Keys[0].ID {
		t.Errorf("keys %+v of %d secrets", n.Keys, len(n.Secrets))
	}
	seen := map[string]bool{}
	night := 0
	run(t, o, func(e *event.Event, truth simulate.Truth) {
		if e.Type != event.TypeAuthTokenIssued {
			return
		}
		seen[e.Service] = true
		if !egress.Contains(e.SourceIP) || e.KeyID != n.Keys[0].ID || e.CertCN != n.CNs[e.Service] {
			t.Fatalf("event %s: from %s with key %s and certificate %q", e.ID, e.SourceIP, e.KeyID, e.CertCN)
		}
		if slices.Contains(n.ScheduledServices, e.Service) {
			night++
			at := e.ObservedAt.Time()
			if since := at.Sub(at.Truncate(24 * time.Hour)); since < n.JobFrom || since > n.JobTo+time.Minute {
				t.Fatalf("the job mints at %s", at)
			}
		}
	})
	if len(seen) != len(n.DeclaredServices) || night == 0 {
		t.Errorf("services %v mint, %v are declared; %d mints by night", seen, n.DeclaredServices, night)
	}
	o.Scripts = simulate.Attacks()
	if n, err := simulate.Describe(o); err != nil || len(n.Keys) != 2 {
		t.Errorf("with a dormant key: %+v, %v", n.Keys, err)
	}
}

// TestVisibilityIsAChoice: what backends see is a part of what there is, the same
// byte for byte.
func TestVisibilityIsAChoice(t *testing.T) {
	t.Parallel()
	o := simulate.Options{Seed: 6, Duration: 26 * time.Hour, Rate: 2, Hosts: 40, Users: 5000, Calendar: true, Scripts: simulate.Attacks()}
	var want []byte
	hidden := 0
	run(t, o, func(e *event.Event, _ simulate.Truth) {
		switch e.Origin {
		case event.OriginBackend, event.OriginClient, event.OriginKeysentry:
			want = append(event.Append(want, e), '\n')
		default:
			hidden++
		}
	})
	o.Visibility = simulate.VisibilityBackend
	got := run(t, o, nil).lines
	if hidden == 0 || !bytes.Equal(got, want) {
		t.Errorf("%d events are hidden, and the others are %d bytes in place of %d, or other ones", hidden, len(got), len(want))
	}
}
