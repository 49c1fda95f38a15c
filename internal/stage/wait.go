package stage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/store"
)

// Pause waits for d, or returns ctx's error when it ends first.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Number asks ClickHouse a question whose answer is one UInt64.
func Number(ctx context.Context, c *store.Client, sql string) (uint64, error) {
	rows, err := c.Query(ctx, sql, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = rows.Close() }()
	if !rows.Next() {
		return 0, errors.Join(errors.New("no answer"), rows.Err())
	}
	v, err := rows.Values()
	if err != nil {
		return 0, err
	}
	n, ok := v[0].(uint64)
	if !ok {
		return 0, fmt.Errorf("want a UInt64, got %T", v[0])
	}
	return n, nil
}
