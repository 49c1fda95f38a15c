package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// ServerKey is what is known of one server key. An absent instant was not told.
type ServerKey struct {
	Network, KeyID string
	// State is the last that was told: created, active, retired or revoked.
	State                                string
	Created, Activated, Retired, Revoked event.Instant
	FirstUsed, LastUsed                  event.Instant // of a mint, to the hour
	Mints                                uint64
	// ToldBy names the sources: events:TOPIC, or journal.
	ToldBy []string
}

// ServerKeys lists every key that lifecycle events or our own runs told of.
func (c *Client) ServerKeys(ctx context.Context) ([]ServerKey, error) {
	rows, err := c.conn.Query(ctx, `
		SELECT k.network, k.key_id, k.last_state, k.created_at, k.activated_at, k.retired_at, k.revoked_at, k.told_by,
			toDateTime64(a.first_used, 9, 'UTC'), toDateTime64(a.last_used, 9, 'UTC'), a.mints
		FROM v_server_keys AS k LEFT JOIN v_key_age AS a ON k.network = a.network AND k.key_id = a.key_id
		ORDER BY k.network, k.key_id`)
	if err != nil {
		return nil, fmt.Errorf("read server keys: %w", explain(err))
	}
	defer rows.Close()
	var out []ServerKey
	for rows.Next() {
		var k ServerKey
		var at [6]time.Time
		if err := rows.Scan(&k.Network, &k.KeyID, &k.State, &at[0], &at[1], &at[2], &at[3], &k.ToldBy, &at[4], &at[5], &k.Mints); err != nil {
			return nil, fmt.Errorf("read server keys: %w", err)
		}
		k.Created, k.Activated, k.Retired, k.Revoked = instant(at[0]), instant(at[1]), instant(at[2]), instant(at[3])
		k.FirstUsed, k.LastUsed = instant(at[4]), instant(at[5])
		out = append(out, k)
	}
	return out, rows.Err()
}

// instant maps the column's absent time, 1970-01-01, to the absent instant.
func instant(t time.Time) event.Instant { return event.Instant(t.UnixNano()) }

// Certificate is what is known of one client certificate.
type Certificate struct {
	Network, CertID, CN, Service string
	// State is the last that was told: requested, issued, active or disabled.
	State                                      string
	NotBefore, NotAfter, Activated, DisabledAt event.Instant
	ToldBy                                     []string
}

// Certificates lists every certificate that lifecycle events told of.
func (c *Client) Certificates(ctx context.Context) ([]Certificate, error) {
	rows, err := c.conn.Query(ctx, `
		SELECT network, cert_id, common_name, service_name, last_state, valid_from, valid_until, activated_at, disabled_at, told_by
		FROM v_certificates ORDER BY network, cert_id`)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", explain(err))
	}
	defer rows.Close()
	var out []Certificate
	for rows.Next() {
		var k Certificate
		var at [4]time.Time
		if err := rows.Scan(&k.Network, &k.CertID, &k.CN, &k.Service, &k.State, &at[0], &at[1], &at[2], &at[3], &k.ToldBy); err != nil {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
		k.NotBefore, k.NotAfter, k.Activated, k.DisabledAt = instant(at[0]), instant(at[1]), instant(at[2]), instant(at[3])
		out = append(out, k)
	}
	return out, rows.Err()
}

// QuarantineFilter narrows QuarantineList; zero fields do not.
type QuarantineFilter struct {
	Topic  string
	Reason ingest.Reason
	Since  event.Instant // stored at or after
	Limit  int           // 0: 100
}

// Quarantined is one record in quarantine.
type Quarantined struct {
	ingest.Reject
	StoredAt event.Instant
}

const selectQuarantine = `SELECT topic, partition, offset, idx, observed_at, reason, field, detail, excerpt, size, toDateTime64(stored_at, 9, 'UTC') FROM v_quarantine`

// QuarantineList lists the newest records in quarantine.
func (c *Client) QuarantineList(ctx context.Context, f QuarantineFilter) ([]Quarantined, error) {
	where, args := []string{"1 = 1"}, []any{}
	if f.Topic != "" {
		where, args = append(where, "topic = ?"), append(args, f.Topic)
	}
	if f.Reason != "" {
		where, args = append(where, "reason = ?"), append(args, string(f.Reason))
	}
	if f.Since != 0 {
		where, args = append(where, "stored_at >= ?"), append(args, f.Since.Time())
	}
	if f.Limit <= 0 {
		f.Limit = 100
	}
	args = append(args, f.Limit)
	return c.quarantined(ctx, selectQuarantine+" WHERE "+strings.Join(where, " AND ")+" ORDER BY stored_at DESC, topic, partition, offset DESC, idx LIMIT ?", args)
}

// QuarantineGet is the record at ref; false when quarantine does not hold it.
func (c *Client) QuarantineGet(ctx context.Context, ref event.Ref) (Quarantined, bool, error) {
	got, err := c.quarantined(ctx, selectQuarantine+" WHERE topic = ? AND partition = ? AND offset = ? AND idx = ?",
		[]any{ref.Topic, ref.Partition, ref.Offset, ref.Idx})
	if err != nil || len(got) == 0 {
		return Quarantined{}, false, err
	}
	return got[0], true, nil
}

func (c *Client) quarantined(ctx context.Context, query string, args []any) ([]Quarantined, error) {
	rows, err := c.conn.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read quarantine: %w", explain(err))
	}
	defer rows.Close()
	var out []Quarantined
	for rows.Next() {
		var q Quarantined
		var observed, stored time.Time
		var reason string
		var size uint64
		err := rows.Scan(&q.Ref.Topic, &q.Ref.Partition, &q.Ref.Offset, &q.Ref.Idx, &observed, &reason, &q.Field, &q.Detail, &q.Excerpt, &size, &stored)
		if err != nil {
			return nil, fmt.Errorf("read quarantine: %w", err)
		}
		q.ObservedAt, q.StoredAt, q.Reason, q.Size = instant(observed), instant(stored), ingest.Reason(reason), int(size)
		out = append(out, q)
	}
	return out, rows.Err()
}

// Count is how many events the store holds, counted in four ways that must
// agree when every event is stored exactly once.
type Count struct {
	Rows       uint64 `json:"rows"`     // count() of the table
	Distinct   uint64 `json:"distinct"` // uniqExact(topic, partition, offset, idx)
	Final      uint64 `json:"final"`    // count() FINAL
	View       uint64 `json:"view"`     // count() of v_events
	Quarantine uint64 `json:"quarantine"`
}

// Count counts the events of topic; of all topics when it is empty.
func (c *Client) Count(ctx context.Context, topic string) (Count, error) {
	var n Count
	err := c.conn.QueryRow(ctx, `SELECT
		(SELECT count() FROM events WHERE topic = ? OR empty(?)),
		(SELECT uniqExact(topic, partition, offset, idx) FROM events WHERE topic = ? OR empty(?)),
		(SELECT count() FROM events FINAL WHERE topic = ? OR empty(?)),
		(SELECT count() FROM v_events WHERE topic = ? OR empty(?)),
		(SELECT count() FROM v_quarantine WHERE topic = ? OR empty(?))`,
		topic, topic, topic, topic, topic, topic, topic, topic, topic, topic).Scan(&n.Rows, &n.Distinct, &n.Final, &n.View, &n.Quarantine)
	if err != nil {
		return n, fmt.Errorf("count events: %w", explain(err))
	}
	return n, nil
}
