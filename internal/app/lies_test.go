package app_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/console"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// lie is what a producer writes about itself or others.
func lie(typ event.Type, host string, at time.Time, kv ...string) event.Event {
	e := event.Event{Type: typ, Origin: event.OriginBackend, Time: event.At(at)}
	e.Present = e.Present.Set(event.FieldType).Set(event.FieldTime)
	e.SetString(event.FieldNetwork, network)
	if host != "" {
		e.SetString(event.FieldHost, host)
		e.SetString(event.FieldService, "login")
		e.SetString(event.FieldBoot, "b")
		e.Seq = 1
		e.Present = e.Present.Set(event.FieldSeq)
	}
	for i := 0; i < len(kv); i += 2 {
		f, _ := event.ParseField(kv[i])
		e.SetString(f, kv[i+1])
	}
	return e
}

// TestAProducerThatLies: who may write to a topic for its own hosts writes about the
// lives of keys, for hosts of others, mints that never were and a clock that is an
// hour ahead. What the topic may not say is believed by nobody, and a finding names
// the topic and what was wrong; what it may say is about its own host alone.
func TestAProducerThatLies(t *testing.T) {
	t.Parallel()
	broker := devstacktest.FakeKafka(t)
	e := newEstate(t, broker)
	liar := sourceTopic(t, broker, 1, devstack.LogAppendTime())
	e.rig.cfg.Ingest.Topics = append(e.rig.cfg.Ingest.Topics, ingest.TopicConfig{Name: liar, Origin: event.OriginBackend,
		Allow: ingest.AllowConfig{Networks: []string{network}, Hosts: []string{"liar-*"}}})
	e.open()
	_, current := e.platform.IssueKey("current")
	if _, err := e.secrets.Put(t.Context(), keyName, current, 0); err != nil {
		t.Fatal(err)
	}
	e.run("fleet", e.fleet.Run)
	d := e.rig.start("only", nil)
	d.leads()
	await(t, "the fleet is known", func() bool { return minted(e.fleet) })
	keyID, made := e.deps.Fingerprint(current.Reveal()), e.deps.Fingerprint("made-up-0123456789")
	before := registryOf(t, d)
	if len(before) != 1 || before[0].KeyID != keyID || before[0].State != "active" {
		t.Fatalf("the registry begins with %+v", before)
	}

	now := time.Now()
	other := lie(event.TypeHeartbeat, "liar-1", now, "key_id", made)
	other.SetString(event.FieldNetwork, "another")
	rejected := []event.Event{
		lie(event.TypeServerKeyRevoked, "", now, "key_id", keyID),
		lie(event.TypeServerKeyCreated, "", now, "key_id", made),
		lie(event.TypeServerKeyActivated, "", now, "key_id", made),
		lie(event.TypeSecureModeDisabled, "", now),
		lie(event.TypeHostStopped, "api-1", now),
		lie(event.TypeHeartbeat, "api-1", now, "key_id", made),
		lie(event.TypeAuthTokenIssued, "api-1", now, "key_id", made, "user_id", "u", "token_id", made),
		other,
	}
	// An hour ahead, and mints from the thief's address, in its own name.
	ahead := now.Add(time.Hour)
	beat := lie(event.TypeHeartbeat, "liar-1", ahead, "key_id", keyID)
	mint := lie(event.TypeAuthTokenIssued, "liar-1", ahead, "key_id", made, "user_id", "u", "token_id", made)
	mint.SourceIP = netip.MustParseAddr(thiefAddr)
	mint.Present = mint.Present.Set(event.FieldSourceIP)
	var msgs []kafka.Message
	for _, ev := range append(slices.Clone(rejected), beat, mint) {
		msgs = append(msgs, kafka.Message{Time: ev.Time, Value: event.Append(nil, &ev)})
	}
	produce(t, broker, liar, msgs...)
	e.rig.storedBeside(liar, 2, len(rejected))

	for _, field := range []string{"type", "host", "network"} {
		d.incident("a finding that names the topic and its "+field, func(i incident.Incident) bool {
			return i.Subject.Field == "topic" && i.Subject.Value == liar && slices.ContainsFunc(i.Rules, func(r incident.Rule) bool { return r.ID == ingest.RuleNotAllowed }) &&
				slices.ContainsFunc(i.Affected, func(a incident.Affected) bool { return a.Field == "field" && slices.Contains(a.Values, field) })
		})
	}
	if diff := cmp.Diff(before, registryOf(t, d)); diff != "" {
		t.Errorf("the registry changed: %s", diff)
	}

	// The thief of a retired key is what it is, wherever the liar says to mint from.
	lostID, lost := e.platform.IssueKey("lost")
	_, next := e.platform.IssueKey("next")
	if _, err := e.secrets.Put(t.Context(), keyName, next, 1); err != nil {
		t.Fatal(err)
	}
	e.platform.RevokeKey(lostID)
	stop := e.steal(lost)
	inc := d.incident("the stolen key", func(i incident.Incident) bool { return i.Kind == finding.KeyCompromise && i.HasRule(retiredForeign) })
	stop()
	if inc.Lead.Cause != event.CauseRetiredKeyForeign || inc.Severity != finding.Page {
		t.Errorf("the thief's calls are %s, %s", inc.Lead.Cause, inc.Severity)
	}
	for _, i := range d.incidents() {
		if i.Kind == finding.ClockSkew && i.Subject.Value != "liar-1" {
			t.Errorf("a clock of another host is doubted: %+v", i.Subject)
		}
	}
	if n := len(e.platform.ActiveKeys()); n != 2 {
		t.Errorf("%d working keys, want the two that nobody revoked", n)
	}
	if runs, err := d.client.Runs(t.Context()); err != nil || len(runs) != 0 {
		t.Errorf("the lies started runs: %+v, %v", runs, err)
	}
	d.stop()
	for _, rec := range e.rig.journal() {
		if rec.Kind == journal.KindIncident && strings.Contains(string(rec.Body), `"inhibited":true`) {
			t.Errorf("something was inhibited: %s", rec.Body)
		}
		if rec.Kind == journal.KindKeyObserved || rec.Kind == journal.KindStep {
			t.Errorf("record %d is a %s: %s", rec.N, rec.Kind, rec.Body)
		}
	}
}

// registryOf is the registry of the network, as a person sees it.
func registryOf(t *testing.T, d *daemon) []console.Key {
	t.Helper()
	keys, err := d.client.Keys(t.Context(), network)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
