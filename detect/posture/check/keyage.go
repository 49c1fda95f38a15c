package check

import (
	"context"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/posture"
)

const day = 24 * time.Hour

// Ages of a server key.
const (
	keyTicketAge = 335 * day
	keyFailAge   = 365 * day
)

// KeyAge judges the age of every server key that is not revoked: a retired one
// still opens the door until then.
type KeyAge struct{ Registry posture.Registry }

// Name is key_age.
func (KeyAge) Name() string { return "key_age" }

// Title names the metric.
func (KeyAge) Title() string { return "Server key age" }

// Target is in words.
func (KeyAge) Target() string { return "< 365 days" }

// Run judges every key.
func (c KeyAge) Run(ctx context.Context, now time.Time) ([]posture.Result, error) {
	keys, err := c.Registry.ServerKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read server keys: %w", err)
	}
	var out []posture.Result
	for _, k := range keys {
		if k.State != "revoked" {
			out = append(out, judgeKey(k, now))
		}
	}
	return out, nil
}

func judgeKey(k posture.ServerKey, now time.Time) posture.Result {
	r := posture.Result{Subject: finding.Subject{Network: k.Network, Field: "key_id", Value: k.KeyID}, Since: k.Created,
		Status: posture.Pass, Severity: finding.Ticket, Facts: []finding.Pair{{Field: "key_state", Value: k.State}}}
	age := now.Sub(k.Created.Time())
	if k.Created == 0 || age < 0 {
		r.Status, r.Value, r.Stage = posture.Unknown, "unknown age", "unknown"
		r.Summary = "The age of a server key is not known."
		r.Resolution = "Register the key with its creation date (keysentry keys adopt), or rotate it."
		return r
	}
	r.Value = days(age)
	switch {
	case age >= keyFailAge:
		r.Status, r.Stage, r.Summary = posture.Fail, "365", "A server key is older than a year."
	case age >= keyTicketAge:
		r.Status, r.Stage, r.Summary = posture.Warn, "335", "A server key is about to become a year old."
	default:
		return r
	}
	r.Resolution, r.Playbook = "Rotate the key.", "rotate-server-key"
	return r
}

// days is a duration in whole days, rounded down.
func days(d time.Duration) string {
	n := int(d / day)
	if n == 1 {
		return "1 day"
	}
	return fmt.Sprintf("%d days", n)
}
