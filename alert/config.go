package alert

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/internal/secret"
)

// Config is how findings become incidents and messages, and who may decide.
type Config struct {
	// ReopenWithin: a finding about an incident that ended less than this ago
	// reopens it; later it opens a new one.
	ReopenWithin time.Duration `yaml:"reopen_within"`
	// ResolveAfter is the quiet time after which an incident resolves by itself.
	ResolveAfter time.Duration `yaml:"resolve_after"`
	// EscalateAfter: a page that nobody acknowledged is announced again.
	EscalateAfter time.Duration `yaml:"escalate_after"`
	// Queue is how many deliveries of detection wait; more make detection wait.
	Queue int `yaml:"queue"`
	// Batch is how many findings are journaled together.
	Batch int `yaml:"batch"`

	Flood    Flood    `yaml:"flood"`
	Delivery Delivery `yaml:"delivery"`
	Approval Approval `yaml:"approval"`

	// ConsoleURL is the console's address as people reach it; empty: no links.
	ConsoleURL string   `yaml:"console_url"`
	People     []Person `yaml:"people"` // who may decide
	// Authority lists, per action, the ids and roles of who may do it. "*" is
	// everyone in people.
	Authority map[string][]string `yaml:"authority"`
}

// Flood bounds what one source, one incident and one kind can cause.
type Flood struct {
	// PerSource findings of one rule about one source are kept per Per.
	PerSource int           `yaml:"per_source"`
	Per       time.Duration `yaml:"per"`
	// PerIncident findings are kept per minute.
	PerIncident int `yaml:"per_incident"`
	// FanOut is how many incidents of one kind, network and field may open within
	// FanOutWindow before the rest becomes one incident about many.
	FanOut       int           `yaml:"fan_out"`
	FanOutWindow time.Duration `yaml:"fan_out_window"`
}

// Delivery paces messages.
type Delivery struct {
	// PerChannel is the least time between two messages to one channel.
	PerChannel time.Duration `yaml:"per_channel"`
	// PerMinute is how many messages a channel gets in any minute; edits and
	// charts are not counted.
	PerMinute int `yaml:"per_minute"`
	// EditInterval and ReplyInterval are the least times between two edits of
	// one message, and between two replies in one thread.
	EditInterval  time.Duration `yaml:"edit_interval"`
	ReplyInterval time.Duration `yaml:"reply_interval"`
	// RetryMin and RetryMax bound the pause after a failure; it doubles.
	RetryMin time.Duration `yaml:"retry_min"`
	RetryMax time.Duration `yaml:"retry_max"`
	// Timeout bounds one call to the messenger.
	Timeout time.Duration `yaml:"timeout"`
	// SettleAfter is the pause between an unknown outcome and the look-up.
	SettleAfter time.Duration `yaml:"settle_after"`
	// Lookups is how many failed look-ups are tolerated before the message is
	// posted again regardless: an alert twice is better than never.
	Lookups int `yaml:"lookups"`
	// TakeoverWait is the pause before a new leader's first message, so that
	// nothing of the old one is still on its way.
	TakeoverWait time.Duration `yaml:"takeover_wait"`
}

// Approval bounds how long a plan can be approved.
type Approval struct {
	AfterAck time.Duration `yaml:"after_ack"` // from the acknowledgement
	Max      time.Duration `yaml:"max"`       // from the plan
}

// Person may decide.
type Person struct {
	ID    string   `yaml:"id"`              // name in the journal
	Name  string   `yaml:"name,omitempty"`  // name in messages
	Slack string   `yaml:"slack,omitempty"` // Slack user id
	Roles []string `yaml:"roles"`           // roles; `authority` says what each may do
	// Credential is the bearer token with which the person decides from the
	// command line; without one only Slack is left.
	Credential secret.Ref `yaml:"credential,omitempty"`
}

// Everyone stands for all people in a list of Authority.
const Everyone = "*"

// actions are the actions whose authority can be configured.
func actions() []string {
	return []string{journal.ActionAck, journal.ActionClose, journal.ActionSilence, journal.ActionApprove, journal.ActionDeny,
		journal.ActionStop, journal.ActionResume, journal.ActionChoose, journal.ActionStart,
		journal.ActionReportLeak, journal.ActionAdoptKey, journal.ActionDenyKey}
}

// DefaultConfig knows no people: alerts go out, nobody can decide.
func DefaultConfig() Config {
	responder, approver := []string{"responder", "approver"}, []string{"approver"}
	return Config{
		ReopenWithin: 24 * time.Hour, ResolveAfter: time.Hour, EscalateAfter: 5 * time.Minute,
		Queue: 1024, Batch: 500,
		Flood: Flood{PerSource: 10, Per: time.Hour, PerIncident: 60, FanOut: 3, FanOutWindow: 10 * time.Minute},
		Delivery: Delivery{PerChannel: time.Second, PerMinute: 5, EditInterval: 5 * time.Second, ReplyInterval: 15 * time.Second,
			RetryMin: time.Second, RetryMax: time.Minute, Timeout: 10 * time.Second, SettleAfter: 2 * time.Second, Lookups: 5,
			TakeoverWait: 10 * time.Second},
		Approval: Approval{AfterAck: 15 * time.Minute, Max: 2 * time.Hour},
		Authority: map[string][]string{
			journal.ActionAck: responder, journal.ActionClose: responder, journal.ActionSilence: responder,
			journal.ActionDeny: approver, journal.ActionApprove: approver, journal.ActionStop: approver,
			journal.ActionResume: approver, journal.ActionChoose: approver, journal.ActionStart: approver,
			journal.ActionReportLeak: responder, journal.ActionAdoptKey: approver, journal.ActionDenyKey: approver,
		},
	}
}

// Validate reports every fault by its path.
func (c Config) Validate() []error {
	var errs []error
	for _, d := range []struct {
		path string
		v    time.Duration
	}{
		{"reopen_within", c.ReopenWithin}, {"resolve_after", c.ResolveAfter}, {"escalate_after", c.EscalateAfter},
		{"flood.per", c.Flood.Per}, {"flood.fan_out_window", c.Flood.FanOutWindow},
		{"delivery.retry_min", c.Delivery.RetryMin}, {"delivery.retry_max", c.Delivery.RetryMax},
		{"delivery.timeout", c.Delivery.Timeout}, {"approval.after_ack", c.Approval.AfterAck}, {"approval.max", c.Approval.Max},
	} {
		if d.v <= 0 {
			errs = append(errs, fmt.Errorf("%s: must be more than 0", d.path))
		}
	}
	for _, n := range []struct {
		path string
		v    int
	}{
		{"queue", c.Queue}, {"batch", c.Batch}, {"flood.per_source", c.Flood.PerSource}, {"flood.per_incident", c.Flood.PerIncident},
		{"flood.fan_out", c.Flood.FanOut}, {"delivery.per_minute", c.Delivery.PerMinute}, {"delivery.lookups", c.Delivery.Lookups},
	} {
		if n.v < 1 {
			errs = append(errs, fmt.Errorf("%s: must be at least 1", n.path))
		}
	}
	if c.Approval.Max > 2*time.Hour {
		errs = append(errs, errors.New("approval.max: at most 2h, an older plan has to be made again"))
	}
	if c.Delivery.RetryMax < c.Delivery.RetryMin {
		errs = append(errs, errors.New("delivery.retry_max: must not be less than delivery.retry_min"))
	}
	return append(errs, c.validatePeople()...)
}

func (c Config) validatePeople() []error {
	var errs []error
	known := map[string]bool{Everyone: true}
	ids, slacks := map[string]bool{}, map[string]bool{}
	for i, p := range c.People {
		switch {
		case p.ID == "":
			errs = append(errs, fmt.Errorf("people[%d].id: must not be empty", i))
		case ids[p.ID]:
			errs = append(errs, fmt.Errorf("people[%d].id: %q is given twice", i, p.ID))
		}
		if p.Slack != "" && slacks[p.Slack] {
			errs = append(errs, fmt.Errorf("people[%d].slack: %q belongs to somebody else already", i, p.Slack))
		}
		ids[p.ID], slacks[p.Slack], known[p.ID] = true, true, true
		for _, r := range p.Roles {
			known[r] = true
		}
	}
	for _, a := range slices.Sorted(maps.Keys(c.Authority)) {
		if !slices.Contains(actions(), a) {
			errs = append(errs, fmt.Errorf("authority.%s: no such action, use one of %v", a, actions()))
		}
		for i, who := range c.Authority[a] {
			if len(c.People) > 0 && !known[who] && !defaultRole(who) {
				errs = append(errs, fmt.Errorf("authority.%s[%d]: %q is neither a person nor a role that somebody has", a, i, who))
			}
		}
	}
	return errs
}

// defaultRole: a role of the defaults may be vacant.
func defaultRole(r string) bool { return r == "responder" || r == "approver" }

// Routes says which channel a severity goes to; without an entry, or with an
// empty one, incidents of that severity are kept and shown but not sent.
type Routes map[finding.Severity]string

// DefaultRoutes are the names of the severities, for notifiers without channels.
func DefaultRoutes() Routes {
	return Routes{finding.Page: "page", finding.Ticket: "ticket", finding.Digest: "digest"}
}
