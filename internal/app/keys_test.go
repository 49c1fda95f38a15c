package app_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/internal/console"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// TestKeysByHand: a person adopts a key, which the platform is asked about, denies
// another, and reports a leak of the live one, which is enough to propose its
// rotation. No value of a key is kept anywhere.
func TestKeysByHand(t *testing.T) {
	t.Parallel()
	e := newEstate(t, devstacktest.FakeKafka(t))
	e.open()
	_, current := e.platform.IssueKey("current")
	if _, err := e.secrets.Put(t.Context(), keyName, current, 0); err != nil {
		t.Fatal(err)
	}
	e.run("fleet", e.fleet.Run)
	d := e.rig.start("only", nil)
	d.leads()
	await(t, "the fleet is known", func() bool { return minted(e.fleet) })
	currentID, strangeID := e.deps.Fingerprint(current.Reveal()), e.deps.Fingerprint("made-up-0123456789")

	adopt := func(req console.AdoptRequest) (journal.Decision, string) {
		t.Helper()
		req.Network = network
		dec, err := d.client.Adopt(t.Context(), req)
		var refused *console.Refused
		if err != nil && !errors.As(err, &refused) {
			t.Fatal(err)
		}
		if refused != nil {
			return dec, refused.Message
		}
		return dec, ""
	}
	if dec, refused := adopt(console.AdoptRequest{Value: current.Reveal()}); refused != "" || dec.KeyID != currentID || dec.Probe != journal.ProbeAgreed {
		t.Errorf("the key that works: %+v, refused %q", dec, refused)
	}
	if _, refused := adopt(console.AdoptRequest{Value: "made-up-0123456789"}); !strings.Contains(refused, "the platform refuses this key") {
		t.Errorf("a key that does not work was refused with %q", refused)
	}
	if dec, refused := adopt(console.AdoptRequest{Value: "made-up-0123456789", NoProbe: true}); refused != "" || dec.Probe != "" {
		t.Errorf("a key that nobody asks about: %+v, refused %q", dec, refused)
	}
	rows := map[string]console.Key{}
	await(t, "both are listed", func() bool {
		list, err := d.client.Keys(t.Context(), network)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range list {
			rows[k.KeyID] = k
		}
		return len(rows) == 2 && rows[currentID].Probed
	})
	if k := rows[currentID]; k.ToldBy != "person:"+person || !k.Believed || k.State != "active" {
		t.Errorf("the adopted key is listed as %+v", k)
	}
	if k := rows[strangeID]; k.ToldBy != "person:"+person || k.Believed || k.Probed {
		t.Errorf("the key without a probe is listed as %+v", k)
	}

	if _, err := d.client.Decide(t.Context(), journal.Decision{ID: "no", Action: journal.ActionDenyKey, Network: network, KeyID: strangeID}); err != nil {
		t.Fatal(err)
	}
	d.incident("the denied key", func(i incident.Incident) bool {
		return i.Kind == finding.KeyCompromise && i.Subject.Value == strangeID && i.Severity == finding.Page && i.GateMetAt == 0
	})
	if runs, err := d.client.Runs(t.Context()); err != nil || len(runs) != 0 {
		t.Errorf("runs before the report: %+v, %v", runs, err)
	}
	dec, err := d.client.Decide(t.Context(), journal.Decision{ID: "leak", Action: journal.ActionReportLeak, Network: network, Reason: "in a public issue"})
	if err != nil || dec.KeyID != currentID {
		t.Fatalf("the report is about %q, %v; want the live key %s", dec.KeyID, err, currentID)
	}
	await(t, "a proposal", func() bool {
		runs, err := d.client.Runs(t.Context())
		return err == nil && len(runs) == 1 && runs[0].Waiting() && runs[0].IncidentID == dec.IncidentID
	})
	e.rig.told(pageTo, "in a public issue")

	d.stop()
	probes := 0
	for _, rec := range e.rig.journal() {
		if rec.Kind == journal.KindProbe {
			probes++
		}
		for _, v := range []string{current.Reveal(), "made-up-0123456789"} {
			if strings.Contains(string(rec.Body)+d.logs.String()+e.rig.slack.Text(), v) {
				t.Errorf("record %d (%s), the log or Slack holds a server key", rec.N, rec.Kind)
			}
		}
	}
	if probes != 2 {
		t.Errorf("%d probes were announced, want 2", probes)
	}

	// The journal alone brings it back.
	d = e.rig.start("only", nil)
	d.leads()
	list, err := d.client.Keys(t.Context(), network)
	if err != nil || len(list) != 1 || !list[0].Probed {
		t.Errorf("after a restart %+v, %v; want the adopted key, and not the denied one", list, err)
	}
}
