package app

import (
	"context"
	"strings"

	"github.com/keysentry/keysentry/store"
)

// clickhouse looks at the server, the schema and the user's rights.
func (d *doctor) clickhouse(ctx context.Context) {
	s, err := store.New(d.cfg.Store, store.Deps{Getenv: d.getenv, Log: quiet()})
	if err != nil {
		d.say(DoctorFail, "clickhouse", "%v", err)
		return
	}
	defer func() { _ = s.Close() }()
	info, err := s.Info(ctx)
	addrs := strings.Join(d.cfg.Store.Addrs, ", ")
	if store.NoDatabase(err) {
		d.say(DoctorWarn, "clickhouse", "%s answers; database %s will be created by the first run, if user %s may", addrs, d.cfg.Store.Database, d.cfg.Store.Username)
		return
	}
	if err != nil {
		d.say(DoctorFail, "clickhouse", "%s: %v", addrs, err)
		return
	}
	d.say(DoctorGood, "clickhouse", "version %s, user %s, schema %d of %d", info.Version, info.User, info.Schema, info.WantSchema)
	for _, f := range info.Faults {
		d.say(DoctorFail, "clickhouse", "%s", f)
	}
	for _, p := range info.Problems {
		d.say(DoctorWarn, "clickhouse", "%s", p)
	}
}
