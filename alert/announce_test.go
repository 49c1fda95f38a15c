package alert

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/event"
)

func digestMessage(id string) Message {
	return Message{ID: id, Title: "Posture: fail", Severity: finding.Digest, Facts: []Fact{{Label: "Server key age", Values: []string{"400 days"}}}}
}

func ran(at time.Time) journal.Entry {
	return journal.Entry{Kind: journal.KindPosture, Time: event.At(at), Body: journal.PostureRun{Check: "digest", Due: event.At(at)}}
}

func TestAnnouncedMessageIsSentOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.m.Announce(t.Context(), digestMessage("digest/1"), ran(r.clock)); err != nil {
		t.Fatal(err)
	}
	if err := r.m.Announce(t.Context(), digestMessage("digest/1")); err != nil { // it waits still
		t.Fatal(err)
	}
	r.pass(time.Minute)
	r.start() // another process of the member reads the journal
	r.pass(time.Minute)
	got := r.messenger.roots()
	if len(got) != 1 || got[0].Channel != "digest" || got[0].ID != "digest/1" || got[0].edits != 0 {
		t.Fatalf("got %+v", got)
	}
	if n := r.journal.count(journal.KindPosture); n != 1 {
		t.Errorf("%d runs recorded", n)
	}
}

// A process may die before or after each operation between the announcement and the
// message: it is sent, and no second time.
func TestAnnouncementSurvivesACrashAnywhere(t *testing.T) {
	t.Parallel()
	for at := 1; ; at++ {
		r := newRig(t)
		b := &bomb{at: at}
		r.journal.bomb, r.messenger.bomb = b, b
		died := dies(func() {
			_ = r.m.Announce(t.Context(), digestMessage("digest/1"), ran(r.clock))
			r.pass(time.Minute)
		})
		r.journal.bomb, r.messenger.bomb = nil, nil
		if !died {
			if at < 5 {
				t.Fatalf("only %d operations", at)
			}
			return
		}
		r.journal.mu.TryLock() // the dead process held it
		r.journal.mu.Unlock()
		r.messenger.mu.TryLock()
		r.messenger.mu.Unlock()
		r.start()
		// Who announces looks for its run, as posture does.
		if r.journal.count(journal.KindPosture) == 0 {
			if err := r.m.Announce(t.Context(), digestMessage("digest/1"), ran(r.clock)); err != nil {
				t.Fatal(err)
			}
		}
		r.pass(3 * time.Minute)
		if got := r.messenger.roots(); len(got) != 1 {
			t.Fatalf("crash at %d: %d messages", at, len(got))
		}
	}
}

func dies(f func()) (died bool) {
	defer func() {
		if p := recover(); p != nil {
			if _, ours := p.(crash); !ours {
				panic(p)
			}
			died = true
		}
	}()
	f()
	return false
}

func TestAnnounceRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, msg := range map[string]Message{
		"no id":       {Title: "x"},
		"an incident": {ID: "1", IncidentID: "i"},
		"a thread":    {ID: "1", Thread: "1.2"},
		"buttons":     {ID: "1", Buttons: []Button{{}}},
		"too large":   {ID: "1", Sentence: strings.Repeat("x", maxAnnounced)},
	} {
		if err := r.m.Announce(t.Context(), msg, ran(r.clock)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if n := r.journal.count(journal.KindPosture); n != 0 {
		t.Errorf("%d runs recorded of messages that were refused", n)
	}
	r.journal.fail = errors.New("no broker")
	if err := r.m.Announce(t.Context(), digestMessage("1")); err == nil {
		t.Error("announced without a journal")
	}
	r.m.StepDown()
	if err := r.m.Announce(t.Context(), digestMessage("1")); !errors.Is(err, ErrNotLeader) {
		t.Error(err)
	}
}

func TestQuietestChannel(t *testing.T) {
	t.Parallel()
	for want, routes := range map[string]Routes{
		"d": {finding.Digest: "d", finding.Ticket: "t", finding.Page: "p"},
		"t": {finding.Digest: "", finding.Ticket: "t", finding.Page: "p"},
		"p": {finding.Page: "p"},
		"":  {},
	} {
		if got := routes.quietest(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestRenderTextWithoutIncident(t *testing.T) {
	t.Parallel()
	got := RenderText(digestMessage("digest/1"))
	if strings.Contains(got, "[") || !strings.Contains(got, "400 days") {
		t.Error(got)
	}
}

func TestAnnouncedOutboxRecordIsSmall(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if err := r.m.Announce(t.Context(), digestMessage("digest/1"), ran(r.clock)); err != nil {
		t.Fatal(err)
	}
	recs := r.journal.all()
	i := slices.IndexFunc(recs, func(rec journal.Record) bool { return rec.Kind == journal.KindOutbox })
	var o journal.Outbox
	if err := json.Unmarshal(recs[i].Body, &o); err != nil || o.State != incident.StateNew || o.Root || recs[i+1].Kind != journal.KindPosture {
		t.Errorf("%+v, then %s, error %v", o, recs[i+1].Kind, err)
	}
}
