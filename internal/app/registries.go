package app

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect"
	"github.com/keysentry/keysentry/detect/stored"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/store"
)

// engineState is the name under which the registries of detection are kept: the
// keys, certificates and hosts that lie further back than any window.
const engineState = "registries"

// registriesEvery is how often they are kept. What happened since is replayed
// from Kafka after a restart, as far as the windows reach.
const registriesEvery = 10 * time.Second

// loadRegistries fills a new engine: from ClickHouse, which knows every key that
// a lifecycle event ever told of, and then from what the last leader kept, which
// is newer. Neither needs to be there to begin; but a broker that does not tell
// is an error, since this leader would then keep its empty registries in the
// place of the good ones.
func (a *App) loadRegistries(ctx context.Context, e *detect.Engine) error {
	bounded, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if keys, err := a.store.ServerKeys(bounded); err == nil {
		known := make([]detect.Key, 0, len(keys))
		for _, k := range keys {
			known = append(known, detect.Key{Network: k.Network, KeyID: k.KeyID, State: detect.KeyState(k.State), Created: k.Created,
				Activated: k.Activated, Retired: k.Retired, Revoked: k.Revoked, Source: cmp.Or(strings.Join(k.ToldBy, ", "), "store")})
		}
		e.LoadKeys(known)
	} else {
		a.log.Info("keys are not loaded from clickhouse", "error", err)
	}
	data, err := a.control.LoadState(ctx, engineState)
	var snap detect.Snapshot
	switch {
	case errors.Is(err, kafka.ErrNoState):
		a.log.Info("no registries were kept; hosts enter the inventory anew", "reason", err)
	case err != nil:
		return fmt.Errorf("read the registries: %w", err)
	default:
		if err := json.Unmarshal(data, &snap); err != nil {
			a.log.Warn("the registries are unreadable; hosts enter the inventory anew", "error", err)
			return nil
		}
		e.LoadSnapshot(snap)
	}
	return nil
}

// declared is what the configuration says about networks.
func declared(cfg *config.Config) map[string]detect.Declared {
	out := make(map[string]detect.Declared, len(cfg.Networks))
	for name, n := range cfg.Networks {
		out[name] = n.Declared
	}
	return out
}

// stored reads what windows are filled from.
func (a *App) stored() *stored.Reader {
	var imported []string
	for _, t := range a.cfg.Ingest.Topics {
		if a.imported(t.Name) {
			imported = append(imported, t.Name)
		}
	}
	return &stored.Reader{Imported: imported, Store: Events{a.store}, MaxLateness: a.cfg.Ingest.MaxLateness, QueryBytes: fillQueryBytes,
		AskTimeout: a.cfg.Ingest.FillTimeout * 2 / 5}
}

// fillQueryBytes bounds the predicates of one query: the server refuses a statement
// above its max_query_size.
const fillQueryBytes = 100_000

// Events gives the store the shape that readers of events ask for.
type Events struct{ *store.Client }

// Query implements stored.Querier.
func (s Events) Query(ctx context.Context, sql string, params map[string]string) (stored.Rows, error) {
	rows, err := s.Client.Query(ctx, sql, params)
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// keepRegistries keeps the registries of the live engine, now and then and at
// the end.
func (a *App) keepRegistries(ctx context.Context) error {
	tick := time.NewTicker(registriesEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			a.saveRegistries(last)
			return nil
		case <-tick.C:
			a.saveRegistries(ctx)
		}
	}
}

func (a *App) saveRegistries(ctx context.Context) {
	e := a.engine()
	if _, leading := a.journal.Leading(); e == nil || !leading {
		return
	}
	data, err := json.Marshal(e.Snapshot())
	if err == nil {
		err = a.control.SaveState(ctx, engineState, data, event.At(a.opts.Now()))
	}
	if err != nil && ctx.Err() == nil {
		a.log.Warn("the registries were not kept; trying again", "error", err)
	}
}
