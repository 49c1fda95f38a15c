package store

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Info is what doctor tells about the server.
type Info struct {
	Version  string
	Timezone string
	Uptime   time.Duration
	User     string
	// Schema and WantSchema are the migration applied last, and the last known.
	Schema, WantSchema int
	Settings           map[string]string // those that matter to us
	Grants             []string          // of the user; empty when the server does not say
	FreeBytes          uint64            // on the disk with the least space
	// Faults keep the daemon from storing, Problems are doubts; each says what to
	// change. Empty is good.
	Faults, Problems []string
}

// minVersion is the oldest server that the schema is known to work with:
// settings inside views and named tuples need it.
const minVersion = 24

// Info asks the server about itself.
func (c *Client) Info(ctx context.Context) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var in Info
	var uptime uint32
	err := c.conn.QueryRow(ctx, "SELECT version(), timezone(), uptime(), currentUser()").Scan(&in.Version, &in.Timezone, &uptime, &in.User)
	if err != nil {
		return in, fmt.Errorf("ask the server: %w", explain(err))
	}
	in.Uptime = time.Duration(uptime) * time.Second
	var major int
	if _, err := fmt.Sscanf(in.Version, "%d.", &major); err != nil || major < minVersion {
		in.fault("version %s: at least %d.1 is needed", in.Version, minVersion)
	}
	in.Schema, in.WantSchema, err = c.SchemaVersion(ctx)
	switch {
	case err != nil:
		in.problem("schema: %v", err)
	case in.Schema != in.WantSchema:
		in.problem("schema: migration %d is applied, %d is current; run applies the rest", in.Schema, in.WantSchema)
	}
	c.infoSettings(ctx, &in)
	c.infoServer(ctx, &in)
	return in, c.infoGrants(ctx, &in)
}

func (in *Info) fault(format string, args ...any) {
	in.Faults = append(in.Faults, fmt.Sprintf(format, args...))
}

func (in *Info) problem(format string, args ...any) {
	in.Problems = append(in.Problems, fmt.Sprintf(format, args...))
}

func each(rows driver.Rows, f func(string)) error {
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return err
		}
		f(s)
	}
	return rows.Err()
}

func eachPair(rows driver.Rows, f func(k, v string)) error {
	defer rows.Close()
	for rows.Next() {
		var k, v string
		if err := rows.Scan(&k, &v); err != nil {
			return err
		}
		f(k, v)
	}
	return rows.Err()
}
