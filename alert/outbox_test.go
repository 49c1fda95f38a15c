package alert

import (
	"slices"
	"testing"
	"time"

	"github.com/keysentry/keysentry/alert/incident"
	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
)

// story is what the crash tests play: two pages, an acknowledgement, a plan.
func story(r *rig) {
	a, b := found(finding.KeyCompromise, finding.Page, "key_id", "k1", 1), found(finding.Other, finding.Ticket, "host", "api-1", 1)
	r.record(a, b)
	r.pass(10 * time.Second)
	id := incident.MakeID(incident.Fingerprint(a.Kind, a.Subject), a.ID)
	r.decide(journal.Decision{ID: "ack", Action: journal.ActionAck, IncidentID: id, Person: "ana"})
	r.pass(time.Minute)
	plan(r, id)
	r.pass(2 * time.Minute)
}

// survive plays the story and dies wherever the bomb says; it reports whether
// it died.
func survive(f func()) (died bool) {
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

func TestCrashAnywhereNeitherLosesNorDoublesAMessage(t *testing.T) {
	t.Parallel()
	points := 0
	for at := 1; ; at++ {
		r := newRig(t)
		b := &bomb{at: at}
		r.journal.bomb, r.messenger.bomb = b, b
		if !survive(func() { story(r) }) {
			points = at - 1
			break
		}
		r.journal.bomb, r.messenger.bomb = nil, nil
		// The mutexes of the dead process are gone with it.
		dead, box := r.journal, r.messenger
		r.journal = &memJournal{records: dead.records}
		r.messenger = &messenger{now: box.now, sent: box.sent}
		r.clock = r.clock.Add(3 * time.Second)
		r.start()
		r.tick()
		story(r)
		r.pass(5 * time.Minute)
		checkOnce(t, r, at)
	}
	if points < 20 {
		t.Errorf("only %d points of death were found", points)
	}
	t.Logf("%d points of death", points)
}

func checkOnce(t *testing.T, r *rig, at int) {
	t.Helper()
	seen := map[string]int{}
	for _, m := range r.messenger.sent {
		seen[m.ID]++
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("death at %d: message %s arrived %d times", at, id, n)
		}
	}
	if n := len(r.messenger.roots()); n != 2 {
		t.Errorf("death at %d: %d root messages, want 2", at, n)
	}
	var told []string
	for _, m := range r.messenger.replies() {
		for _, l := range m.Lines {
			told = append(told, l.What)
		}
	}
	for _, want := range []string{"acknowledged", "plan ready"} {
		if !slices.Contains(told, want) {
			t.Errorf("death at %d: nobody was told %q, only %q", at, want, told)
		}
	}
}

func TestUnknownOutcomeIsLookedUpBeforePostingAgain(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name            string
		accept          bool
		lookupErr       error
		messages, looks int
	}{
		{"it had arrived", true, nil, 1, 1},
		{"it had not", false, nil, 1, 1},
		{"look-up is broken and it had arrived: twice is better than never", true, errDown, 2, 5},
		{"look-up is broken and it had not", false, errDown, 1, 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.messenger.posts, r.messenger.accept, r.messenger.lookupErr = []error{errDown}, tt.accept, tt.lookupErr
			r.record(found(finding.Other, finding.Page, "host", "api-1", 1))
			r.pass(5 * time.Minute)
			if got := len(r.messenger.roots()); got != tt.messages {
				t.Errorf("roots: got %d, want %d", got, tt.messages)
			}
			if got := r.messenger.lookups; got != tt.looks {
				t.Errorf("look-ups: got %d, want %d", got, tt.looks)
			}
			if inc := r.only(); len(inc.Roots) != 1 {
				t.Errorf("the journal knows %d roots", len(inc.Roots))
			}
		})
	}
}

func TestRefusedMessagesAreRetriedWithoutLookup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.messenger.posts = []error{&NotifyError{Class: RetryAfter, After: 30 * time.Second, Err: errDown}, failing(Permanent), failing(Refused)}
	begin := r.clock
	r.record(found(finding.Other, finding.Page, "host", "api-1", 1))
	r.pass(29 * time.Second)
	if n := r.counter("messages_total", map[string]string{"kind": "root"}); n != 1 {
		t.Fatalf("%v calls before Retry-After was over", n)
	}
	if r.m.DeliveryError() == nil {
		t.Error("the failure is not told")
	}
	r.pass(5 * time.Minute)
	roots := r.messenger.roots()
	if len(roots) != 1 || r.messenger.lookups != 0 {
		t.Fatalf("%d roots, %d look-ups", len(roots), r.messenger.lookups)
	}
	if d := roots[0].at.Sub(begin); d < 90*time.Second {
		t.Errorf("sent after %v, a wrong configuration is tried once a minute", d)
	}
	if err := r.m.DeliveryError(); err != nil {
		t.Errorf("the failure is told after it is over: %v", err)
	}
}

func TestPagesGoFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.m.deps.Routes = Routes{finding.Page: "c", finding.Ticket: "c"}
	for i := range 3 {
		r.record(found(finding.Other, finding.Ticket, "host", "t"+itoa(i), 1))
	}
	r.record(found(finding.KeyCompromise, finding.Page, "key_id", "k", 1))
	r.pass(10 * time.Second)
	if got := r.messenger.roots()[0].Severity; got != finding.Page {
		t.Errorf("first message: %v", got)
	}
	var last time.Time
	for _, m := range r.messenger.sent {
		if m.at.Sub(last) < time.Second {
			t.Errorf("two messages within %v", m.at.Sub(last))
		}
		last = m.at
	}
}

func TestRootIsEditedInPlace(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for e := range 50 {
		f := found(finding.Other, finding.Ticket, "host", "api-1", e)
		r.record(f)
		r.pass(time.Second)
	}
	r.pass(time.Minute)
	roots := r.messenger.roots()
	if len(roots) != 1 {
		t.Fatalf("%d roots", len(roots))
	}
	if n := r.messenger.updates; n < 2 || n > 12 {
		t.Errorf("%d edits in 50 s, want one per 5 s", n)
	}
	before := r.messenger.updates
	r.pass(10 * time.Minute)
	if r.messenger.updates != before {
		t.Errorf("an unchanged incident was edited %d times", r.messenger.updates-before)
	}
}

func TestEditOfADeletedMessageIsGivenUp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.record(found(finding.Other, finding.Ticket, "host", "api-1", 1))
	r.pass(10 * time.Second)
	r.messenger.updateErrs = []error{failing(Gone)}
	for e := range 3 {
		r.record(found(finding.Other, finding.Ticket, "host", "api-1", 2+e))
		r.pass(time.Minute)
	}
	if r.messenger.updates != 1 {
		t.Errorf("%d edits of a message that is gone", r.messenger.updates)
	}
}

func TestRisingSeverityGetsANewRoot(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.record(found(finding.Other, finding.Ticket, "host", "api-1", 1))
	r.pass(5 * time.Second)
	r.record(found(finding.Other, finding.Page, "host", "api-1", 2))
	r.pass(time.Minute)
	var channels []string
	for _, m := range r.messenger.roots() {
		channels = append(channels, m.Channel)
	}
	if !slices.Equal(channels, []string{"ticket", "page"}) {
		t.Errorf("roots in %v", channels)
	}
	if replies := r.messenger.replies(); len(replies) == 0 || replies[0].Channel != "page" {
		t.Errorf("the news do not go to the page's thread: %d replies", len(replies))
	}
}

func TestNewLeaderWaitsForAnother(t *testing.T) {
	t.Parallel()
	tests := []struct {
		member string
		wait   time.Duration
	}{{"one", 0}, {"two", 10 * time.Second}}
	for _, tt := range tests {
		t.Run(tt.member, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.record(found(finding.Other, finding.Page, "host", "api-1", 1))
			r.member = tt.member
			r.start()
			begin := r.clock
			r.pass(time.Minute)
			if got := r.messenger.roots()[0].at.Sub(begin); got < tt.wait || got > tt.wait+time.Second {
				t.Errorf("first message after %v, want %v", got, tt.wait)
			}
		})
	}
}

func TestNothingIsSentWhenTheJournalIsDown(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.record(found(finding.Other, finding.Page, "host", "api-1", 1))
	r.journal.fail = errDown
	r.pass(time.Minute)
	if n := len(r.messenger.sent); n != 0 {
		t.Fatalf("%d messages without a record", n)
	}
	r.journal.fail = nil
	r.pass(2 * time.Minute)
	if n := len(r.messenger.sent); n != 1 {
		t.Errorf("%d messages afterwards, want 1", n)
	}
}

func TestLostAnswersOfTheJournalDoNotDoubleMessages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.record(found(finding.Other, finding.Page, "host", "api-1", 1))
	r.journal.lose = errDown
	r.pass(30 * time.Second)
	r.journal.lose = nil
	r.pass(5 * time.Minute)
	if n := len(r.messenger.sent); n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
}

func TestSeverityWithoutAChannelIsNotSent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.m.deps.Routes = Routes{finding.Page: "c"}
	r.record(found(finding.Other, finding.Digest, "host", "api-1", 1))
	r.pass(time.Minute)
	if len(r.messenger.sent) != 0 || len(r.m.Incidents()) != 1 {
		t.Errorf("%d messages, %d incidents", len(r.messenger.sent), len(r.m.Incidents()))
	}
}

func TestNewsDuringAReplyAreTold(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.record(found(finding.Other, finding.Ticket, "host", "api-1", 1))
	r.pass(30 * time.Second)
	note := func(text string) {
		r.append(journal.KindIncident, journal.IncidentChange{IncidentID: r.only().ID, Op: incident.OpNote, Note: text})
	}
	r.messenger.posts, r.messenger.accept = []error{errDown}, true
	note("first")
	r.pass(500 * time.Millisecond)
	note("second")
	r.pass(10 * time.Minute)
	var told []string
	for _, m := range r.messenger.replies() {
		for _, l := range m.Lines {
			told = append(told, l.Text)
		}
	}
	if !slices.Equal(told, []string{"first", "second"}) {
		t.Errorf("told %q", told)
	}
}
