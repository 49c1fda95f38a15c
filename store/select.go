package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	clickhouse "github.com/ClickHouse/clickhouse-go/v2"

	"github.com/keysentry/keysentry/detect/posture"
)

var _ posture.Querier = (*Client)(nil)

// Select runs a question that a user wrote: it can change nothing, not even the
// limits that it runs under, and it is an error, not a part of the answer, when
// it returns more than limits.Rows rows or runs longer than limits.Time.
func (c *Client) Select(ctx context.Context, query string, limits posture.Limits) (posture.Table, error) {
	ctx, cancel := context.WithTimeout(ctx, limits.Time+time.Second)
	defer cancel()
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"readonly": 1, "max_execution_time": limits.Time.Seconds(), "timeout_overflow_mode": "throw",
		"max_result_rows": limits.Rows, "max_result_bytes": maxAnswerBytes, "result_overflow_mode": "throw",
		"max_memory_usage": maxAnswerMemory, "do_not_merge_across_partitions_select_final": 1,
	}))
	rows, err := c.conn.Query(ctx, query)
	if err != nil {
		return posture.Table{}, explain(err)
	}
	answer := &Rows{rows: rows}
	defer func() { _ = answer.Close() }()
	answer.prepare()
	var out posture.Table
	for _, col := range answer.Columns {
		out.Columns = append(out.Columns, posture.Column{Name: col.Name, Type: col.Type})
	}
	for answer.Next() {
		if len(out.Rows) == limits.Rows {
			return posture.Table{}, fmt.Errorf("more than %d rows: let the query sum up, or add LIMIT", limits.Rows)
		}
		values, err := answer.Values()
		if err != nil {
			return posture.Table{}, err
		}
		out.Rows = append(out.Rows, values)
	}
	if err := answer.Err(); err != nil {
		return posture.Table{}, err
	}
	if len(out.Columns) == 0 {
		return posture.Table{}, errors.New("the query returns no columns")
	}
	return out, nil
}

const (
	maxAnswerBytes  = 8 << 20
	maxAnswerMemory = 2 << 30
)
