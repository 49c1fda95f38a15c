package demo

import (
	"context"

	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/store"
)

// count asks ClickHouse how many events it holds, in the ways that must agree.
func (w *world) count(ctx context.Context) (store.Count, error) {
	cfg := config.Default().Store
	cfg.Addrs = []string{w.clickhouse.Addr()}
	c, err := store.New(cfg, store.Deps{})
	if err != nil {
		return store.Count{}, err
	}
	defer func() { _ = c.Close() }()
	return c.Count(ctx, "")
}
