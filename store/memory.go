package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/memory"
	"github.com/keysentry/keysentry/detect/season"
	"github.com/keysentry/keysentry/event"
)

// WriteMemory keeps what rules know. What is written again replaces: of a value
// the earliest first and the latest last time count, of a season the newest.
func (c *Client) WriteMemory(ctx context.Context, pieces []memory.Piece) error {
	if err := c.writeRows(ctx, "INSERT INTO first_seen (rule_id, rule_hash, group_by, group_key, value, first, last)", pieces, func(b driver.Batch, m *memory.Piece) error {
		if m.Season != nil {
			return nil
		}
		group, key := groupColumns(m.Group)
		return b.Append(m.RuleID, m.RuleHash, group, key, m.Value, at(m.First), at(m.Last))
	}); err != nil {
		return fmt.Errorf("insert into first_seen: %w", explain(err))
	}
	if err := c.writeRows(ctx, "INSERT INTO baselines (rule_id, rule_hash, group_by, group_key, minute, last, seen, weekday, weekend, overall, recent)", pieces, func(b driver.Batch, m *memory.Piece) error {
		if m.Season == nil {
			return nil
		}
		group, key := groupColumns(m.Group)
		s := m.Season
		return b.Append(m.RuleID, m.RuleHash, group, key, time.Unix(s.Minute*60, 0).UTC(), at(m.Last), s.Seen, s.Weekday, s.Weekend, s.All, s.Recent)
	}); err != nil {
		return fmt.Errorf("insert into baselines: %w", explain(err))
	}
	return nil
}

// MemorySince is when MarkMemory was last called for a rule as it is written; zero
// if it never was.
func (c *Client) MemorySince(ctx context.Context, ruleID, ruleHash string) (event.Instant, error) {
	var n uint64
	var since time.Time
	err := c.conn.QueryRow(ctx, "SELECT count(), max(since) FROM rule_memory WHERE rule_id = @id AND rule_hash = @hash",
		clickhouse.Named("id", ruleID), clickhouse.Named("hash", ruleHash)).Scan(&n, &since)
	if err != nil {
		return 0, fmt.Errorf("read rule_memory: %w", explain(err))
	}
	if n == 0 {
		return 0, nil
	}
	return event.At(since), nil
}

// MarkMemory says that all of a rule's past was written.
func (c *Client) MarkMemory(ctx context.Context, ruleID, ruleHash string, now event.Instant) error {
	b, err := c.conn.PrepareBatch(ctx, "INSERT INTO rule_memory (rule_id, rule_hash, since)")
	if err != nil {
		return fmt.Errorf("insert into rule_memory: %w", explain(err))
	}
	defer b.Close()
	if err := b.Append(ruleID, ruleHash, at(now)); err != nil {
		return fmt.Errorf("insert into rule_memory: %w", err)
	}
	if err := b.Send(); err != nil {
		return fmt.Errorf("insert into rule_memory: %w", explain(err))
	}
	return nil
}

// writeRows inserts what add appends, if anything.
func (c *Client) writeRows(ctx context.Context, insert string, pieces []memory.Piece, add func(driver.Batch, *memory.Piece) error) error {
	b, err := c.conn.PrepareBatch(ctx, insert)
	if err != nil {
		return err
	}
	defer b.Close()
	for i := range pieces {
		if err := add(b, &pieces[i]); err != nil {
			return err
		}
	}
	if b.Rows() == 0 {
		return nil
	}
	return b.Send()
}

// groupColumns are a group as a map, and as the text that rows are sorted by.
func groupColumns(group []finding.Pair) (map[string]string, string) {
	m := make(map[string]string, len(group))
	for _, p := range group {
		m[p.Field] = p.Value
	}
	key, _ := json.Marshal(m) // in the order of names; texts cannot fail
	return m, string(key)
}

func groupPairs(m map[string]string) []finding.Pair {
	out := make([]finding.Pair, 0, len(m))
	for f, v := range m {
		out = append(out, finding.Pair{Field: f, Value: v})
	}
	return out
}

// memoryChunk is how many pieces of memory are handed over at once.
const memoryChunk = 10_000

// ReadMemory gives f what is kept of a rule, in pieces: values that were last seen
// at or after since, and seasons. Groups come without an order of their fields.
// It returns how many pieces there were.
func (c *Client) ReadMemory(ctx context.Context, ruleID, ruleHash string, since event.Instant, f func([]memory.Piece) error) (int, error) {
	args := []any{clickhouse.Named("id", ruleID), clickhouse.Named("hash", ruleHash), clickhouse.DateNamed("since", at(since), clickhouse.NanoSeconds)}
	values, err := readRows(ctx, c, `SELECT any(group_by), value, min(first), max(last) FROM first_seen WHERE rule_id = @id AND rule_hash = @hash
		GROUP BY group_key, value HAVING max(last) >= @since`, args, f, func(rows driver.Rows, m *memory.Piece) error {
		var group map[string]string
		var first, last time.Time
		if err := rows.Scan(&group, &m.Value, &first, &last); err != nil {
			return err
		}
		m.RuleID, m.RuleHash, m.Group, m.First, m.Last = ruleID, ruleHash, groupPairs(group), event.At(first), event.At(last)
		return nil
	})
	if err != nil {
		return values, fmt.Errorf("read first_seen: %w", explain(err))
	}
	seasons, err := readRows(ctx, c, `SELECT group_by, minute, last, seen, weekday, weekend, overall, recent FROM baselines FINAL WHERE rule_id = @id AND rule_hash = @hash`,
		args[:2], f, func(rows driver.Rows, m *memory.Piece) error {
			var group map[string]string
			var minute, last time.Time
			s := &season.State{}
			if err := rows.Scan(&group, &minute, &last, &s.Seen, &s.Weekday, &s.Weekend, &s.All, &s.Recent); err != nil {
				return err
			}
			s.Minute = minute.Unix() / 60
			m.RuleID, m.RuleHash, m.Group, m.Last, m.Season = ruleID, ruleHash, groupPairs(group), event.At(last), s
			return nil
		})
	if err != nil {
		return values + seasons, fmt.Errorf("read baselines: %w", explain(err))
	}
	return values + seasons, nil
}

func readRows(ctx context.Context, c *Client, sql string, args []any, f func([]memory.Piece) error, scan func(driver.Rows, *memory.Piece) error) (int, error) {
	rows, err := c.conn.Query(ctx, sql, args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	n := 0
	var chunk []memory.Piece
	for rows.Next() {
		var m memory.Piece
		if err := scan(rows, &m); err != nil {
			return n, err
		}
		n++
		if chunk = append(chunk, m); len(chunk) == memoryChunk {
			if err := f(chunk); err != nil {
				return n, err
			}
			chunk = chunk[:0]
		}
	}
	if len(chunk) > 0 {
		if err := f(chunk); err != nil {
			return n, err
		}
	}
	return n, rows.Err()
}
