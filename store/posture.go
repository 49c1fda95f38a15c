package store

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/event"
)

var _ posture.Facts = (*Client)(nil)

// refusedAtMint is a server key or a client certificate that was refused at the
// mint endpoint: the shipped rule mint_refused in SQL.
const refusedAtMint = `cause IN ('unknown_key', 'retired_key_straggler', 'retired_key_foreign', 'cert_missing', 'cert_disabled', 'cert_expired',
    'cert_not_yet_valid', 'cert_cn_mismatch', 'cert_unknown_ca')
  AND (type IN ('auth_token.denied', 'mtls.handshake_failed') OR type = 'request.unauthorized' AND position(endpoint, '/authentication/token') > 0)`

const sourceText = `if(source_ip = toIPv6('::'), '', replaceOne(toString(source_ip), '::ffff:', ''))`

// maxPostureRows bounds how many groups a check hears of.
const maxPostureRows = 500

// Mints is what was minted and refused between two moments of effective time, per
// network: networks without either are absent.
func (c *Client) Mints(ctx context.Context, since, until event.Instant) ([]posture.Mints, error) {
	var out []posture.Mints
	err := c.eachDay(ctx, `
		SELECT toString(network), countIf(type = 'auth_token.issued'), countIf(type = 'auth_token.issued' AND auth_mode = 'unsecure'),
			countIf(type = 'auth_token.issued' AND auth_mode IN ('secure', 'secure_mtls')),
			countIf(cause = 'secure_mode_off')
		FROM events FINAL
		WHERE `+withinDay+` AND type IN ('auth_token.issued', 'auth_token.denied', 'mtls.handshake_failed', 'request.unauthorized') AND network != ''
		GROUP BY network ORDER BY network`, since, until, func(rows driver.Rows) error {
		var m posture.Mints
		if err := rows.Scan(&m.Network, &m.Issued, &m.Unsecure, &m.Secure, &m.RefusedOff); err != nil {
			return err
		}
		m.Query = c.showing(since, until, cond("network", m.Network), "(type = 'auth_token.issued' AND auth_mode = 'unsecure' OR cause = 'secure_mode_off')")
		out = append(out, m)
		return nil
	})
	return out, err
}

// Unauthorized counts refusals at the mint endpoint per network, cause and source;
// the most frequent first, at most 500.
func (c *Client) Unauthorized(ctx context.Context, since, until event.Instant) ([]posture.Refusals, error) {
	var out []posture.Refusals
	err := c.eachDay(ctx, `
		SELECT toString(network), toString(cause), `+sourceText+` AS address, if(address = '', toString(host), '') AS speaker, count(), min(ts), max(ts)
		FROM events FINAL
		WHERE `+withinDay+` AND `+refusedAtMint+`
		GROUP BY network, cause, address, speaker ORDER BY count() DESC, network, cause, address, speaker LIMIT `+fmt.Sprint(maxPostureRows), since, until, func(rows driver.Rows) error {
		var r posture.Refusals
		var first, last time.Time
		if err := rows.Scan(&r.Network, &r.Cause, &r.SourceIP, &r.Host, &r.Count, &first, &last); err != nil {
			return err
		}
		r.First, r.Last = instant(first), instant(last)
		where := []string{cond("network", r.Network), cond("cause", r.Cause), addressCond("source_ip", r.SourceIP)}
		if r.SourceIP == "" {
			where = append(where, cond("host", r.Host))
		}
		r.Query = c.showing(since, until, append(where, "type IN ('auth_token.denied', 'mtls.handshake_failed', 'request.unauthorized')")...)
		out = append(out, r)
		return nil
	})
	return out, err
}

// MintCoverage counts mints with and without a client certificate per network and
// service, and names the hosts of those without, at most 10; at most 500 services.
func (c *Client) MintCoverage(ctx context.Context, since, until event.Instant) ([]posture.MintCoverage, error) {
	var out []posture.MintCoverage
	err := c.eachDay(ctx, `
		SELECT toString(network), toString(service), count(), countIf(cert_id != ''), arraySort(groupUniqArrayIf(10)(toString(host), cert_id = '' AND host != '')),
			uniqExactIf(host, cert_id = '')
		FROM events FINAL
		WHERE `+withinDay+` AND type = 'auth_token.issued'
		GROUP BY network, service ORDER BY countIf(cert_id = '') DESC, network, service LIMIT `+fmt.Sprint(maxPostureRows), since, until, func(rows driver.Rows) error {
		var m posture.MintCoverage
		if err := rows.Scan(&m.Network, &m.Service, &m.Mints, &m.WithCert, &m.Hosts, &m.HostCount); err != nil {
			return err
		}
		m.Query = c.showing(since, until, cond("network", m.Network), cond("service", m.Service), "type = 'auth_token.issued'", "cert_id = ''")
		out = append(out, m)
		return nil
	})
	return out, err
}

// Failures counts attempts to mint and to redeem per network, and those that
// failed; banned users and ended sessions are no failures.
func (c *Client) Failures(ctx context.Context, since, until event.Instant) ([]posture.Failures, error) {
	const failed = "type IN ('auth_token.denied', 'session.denied') AND cause != 'user_banned' AND NOT startsWith(cause, 'session_')"
	var out []posture.Failures
	err := c.eachDay(ctx, `
		SELECT toString(network), if(startsWith(type, 'auth_token.'), 'mint', 'redeem') AS stage, count() AS attempts, countIf(`+failed+`) AS missed,
			topKIf(3)(toString(cause), `+failed+`)
		FROM events FINAL
		WHERE `+withinDay+` AND type IN ('auth_token.issued', 'auth_token.denied', 'session.created', 'session.denied')
		GROUP BY network, stage ORDER BY network, stage`, since, until, func(rows driver.Rows) error {
		var f posture.Failures
		if err := rows.Scan(&f.Network, &f.Stage, &f.Attempts, &f.Failed, &f.Causes); err != nil {
			return err
		}
		kind := "type = 'auth_token.denied'"
		if f.Stage == "redeem" {
			kind = "type = 'session.denied'"
		}
		f.Query = c.showing(since, until, cond("network", f.Network), kind, "cause != 'user_banned' AND NOT startsWith(cause, 'session_')")
		out = append(out, f)
		return nil
	})
	return out, err
}

// SecureModes is the last switch of secure mode that the events of each network
// tell of, at or before a moment, however long ago.
func (c *Client) SecureModes(ctx context.Context, until event.Instant) ([]posture.SecureMode, error) {
	rows, err := c.conn.Query(ctx, `
		SELECT toString(network), argMax(type = 'secure_mode.enabled', ts), argMax(actor, ts), max(ts)
		FROM events FINAL
		WHERE type IN ('secure_mode.enabled', 'secure_mode.disabled') AND network != '' AND ts <= ?
		GROUP BY network ORDER BY network`, until.Time())
	if err != nil {
		return nil, fmt.Errorf("read switches of secure mode: %w", explain(err))
	}
	defer rows.Close()
	var out []posture.SecureMode
	for rows.Next() {
		var m posture.SecureMode
		var on uint8
		var at time.Time
		if err := rows.Scan(&m.Network, &on, &m.Actor, &at); err != nil {
			return nil, fmt.Errorf("read switches of secure mode: %w", err)
		}
		m.On, m.At = on != 0, instant(at)
		m.Query = "SELECT * FROM " + c.cfg.Database + ".v_events\nWHERE " + cond("network", m.Network) +
			"\n  AND type IN ('secure_mode.enabled', 'secure_mode.disabled')\nORDER BY ts DESC"
		out = append(out, m)
	}
	return out, rows.Err()
}

// withinDay bounds a query by effective time and, so that only the days in question
// are read, by the append time, from which it differs by a day at most.
const withinDay = `ts >= {since:DateTime64(9, 'UTC')} AND ts < {until:DateTime64(9, 'UTC')}
	AND observed_at >= {since:DateTime64(9, 'UTC')} - INTERVAL 1 MINUTE AND observed_at < {until:DateTime64(9, 'UTC')} + INTERVAL 1 DAY`

// eachDay runs a query that is bounded by withinDay and hands its rows to read.
func (c *Client) eachDay(ctx context.Context, query string, since, until event.Instant, read func(driver.Rows) error) error {
	ctx = clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"since": sqlTime(since), "until": sqlTime(until)}))
	rows, err := c.conn.Query(ctx, query)
	if err != nil {
		return fmt.Errorf("read events: %w", explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		if err := read(rows); err != nil {
			return fmt.Errorf("read events: %w", err)
		}
	}
	return rows.Err()
}

// showing is a query that a person can copy: the events that satisfy conditions.
func (c *Client) showing(since, until event.Instant, where ...string) string {
	where = append(where, fmt.Sprintf("ts >= '%s' AND ts < '%s'", sqlTime(since), sqlTime(until)))
	return "SELECT * FROM " + c.cfg.Database + ".events FINAL\nWHERE " + strings.Join(where, "\n  AND ") + "\nORDER BY ts"
}

func sqlTime(t event.Instant) string { return t.Time().Format("2006-01-02 15:04:05.999999999") }

// cond is column = value, written so that nothing in value can end the literal.
func cond(column, value string) string { return column + " = " + literal(value) }

// addressCond is the condition on an address column; empty is the absent address.
func addressCond(column, value string) string {
	if value == "" {
		return column + " = toIPv6('::')"
	}
	if _, err := netip.ParseAddr(value); err != nil {
		return "0"
	}
	return column + " = toIPv6('" + value + "')"
}

// literal writes a text; one with anything but plain characters in hexadecimal.
func literal(v string) string {
	for _, r := range v {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("_.:@/-+", r) {
			return fmt.Sprintf("unhex('%X')", v)
		}
	}
	return "'" + v + "'"
}
