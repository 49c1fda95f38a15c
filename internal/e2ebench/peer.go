package e2ebench

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/keysentry/keysentry/internal/stage"
)

// PeerResult is what the daemon and ClickHouse's own Kafka engine did with the
// same topic, one after the other, on the same servers.
type PeerResult struct {
	Ours, Theirs       float64 // events a second; ours with the shipped rules on
	OurRows, TheirRows uint64  // distinct coordinates in the table with FINAL
}

// peerDatabase is where ClickHouse's own consumer writes.
const peerDatabase = "peer"

// peerSQL makes the consumer: the table that reads the topic, and the view that
// puts its rows into events. Statements end with a semicolon at the end of a line.
//
//go:embed peer.sql
var peerSQL string

// Peer fills a topic of Apache Kafka, lets the daemon store it with the shipped
// rules on, and then lets ClickHouse's Kafka table engine put the same topic into
// the same table of another database.
//
// The engine has two consumers with a thread each and only the typed columns to
// fill: it redacts nothing, checks nothing, evaluates no rule, decides no cause, and
// promises at least once. Its time begins with the last look at which its consumers
// had read nothing.
func Peer(ctx context.Context, o Options) (r PeerResult, err error) {
	o.Broker = stage.Apache
	b, err := newBench(ctx, o)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, step := range []func(context.Context) error{b.fill, b.throughput, b.stopDaemon} {
		if err := step(ctx); err != nil {
			return r, err
		}
	}
	own, err := b.store.Count(ctx, topic)
	if err != nil {
		return r, err
	}
	r.Ours, r.OurRows = b.result.EventsPerS, own.Distinct
	b.say("processor time an event: %.2f us of the daemon, %.2f us of ClickHouse", b.result.CPUUsPerEvent, b.result.ServerUsPerEvent)
	if err := b.peer(ctx, &r); err != nil {
		return r, fmt.Errorf("ClickHouse's Kafka engine: %w", err)
	}
	for _, f := range []*float64{&r.Ours, &r.Theirs} {
		*f = math.Round(*f)
	}
	return r, nil
}

// peer measures the engine.
func (b *bench) peer(ctx context.Context, r *PeerResult) (err error) {
	c, err := b.stage.Store(peerDatabase)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if _, err := c.Migrate(ctx); err != nil {
		return err
	}
	b.say("starting ClickHouse's own consumers")
	sql := strings.NewReplacer("{broker}", b.stage.Broker(), "{topic}", topic).Replace(peerSQL)
	for statement := range strings.SplitSeq(sql, ";\n") {
		if statement = strings.TrimSpace(statement); statement == "" {
			continue
		}
		if err := b.execute(ctx, statement); err != nil {
			return err
		}
	}
	from, err := b.peerBegins(ctx)
	if err != nil {
		return err
	}
	n := uint64(b.opt.Events)
	if err := b.stored(ctx, c, n); err != nil {
		return err
	}
	took := time.Since(from.at)
	r.Theirs = float64(n) / took.Seconds()
	if err := b.mergesOver(ctx); err != nil {
		return err
	}
	used, err := stage.CPU(b.stage.ClickHousePid())
	if err != nil {
		return err
	}
	count, err := c.Count(ctx, topic)
	if err != nil {
		return err
	}
	r.TheirRows = count.Distinct
	b.say("ClickHouse's own consumers stored %d rows in %.2f s: %.0f events/s; processor time an event: %.2f us", count.Rows, took.Seconds(), r.Theirs,
		float64((used-from.server).Microseconds())/float64(n))
	return b.execute(ctx, "DROP TABLE "+peerDatabase+".feed")
}

// peerBegins is the last look before the consumers had read anything.
func (b *bench) peerBegins(ctx context.Context) (before moment, err error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		var look moment
		look.at = time.Now()
		if look.server, err = stage.CPU(b.stage.ClickHousePid()); err != nil {
			return before, err
		}
		n, err := stage.Number(ctx, b.store, "SELECT toUInt64(sum(num_messages_read)) FROM system.kafka_consumers WHERE database = '"+peerDatabase+"'")
		if err != nil {
			return before, err
		}
		if n > 0 {
			if before.at.IsZero() {
				before = look
			}
			return before, nil
		}
		before = look
		if err := stage.Pause(ctx, lookEvery); err != nil {
			return before, err
		}
	}
	return before, fmt.Errorf("its consumers read nothing for %v", patience)
}

// execute runs one statement of DDL over HTTP.
func (b *bench) execute(ctx context.Context, statement string) error {
	u := "http://" + b.stage.ClickHouseHTTP() + "/?" + url.Values{"database": {peerDatabase}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, strings.NewReader(statement))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	said, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%.60s: HTTP %d: %s", statement, resp.StatusCode, said)
	}
	return err
}
