package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keysentry/keysentry/alert/journal"
)

// Replay gives every accepted record of the journal with N >= from, in order,
// to apply, up to the journal's present end; it stops at apply's error.
type Replay func(ctx context.Context, from int64, apply func(journal.Record) error) error

// Mirror copies accepted journal records to ClickHouse for analysts, with rows
// of findings, incidents and runs made from them. The journal in Kafka stays
// the truth: Apply never blocks, and what does not fit into the buffer while
// ClickHouse is away is read from the journal again. A record that is mirrored
// twice folds away.
//
// Records reach the tables in order, the table journal last, so its highest n
// says that everything up to n is mirrored.
type Mirror struct {
	client *Client
	replay Replay
	lag    prometheus.Gauge
	failed prometheus.Counter
	odd    prometheus.Counter

	mu      sync.Mutex
	buffer  []journal.Record
	size    int
	missing int64 // first record to read from the journal; 0: none
	wake    chan struct{}
}

const (
	maxMirrorBytes = 32 << 20 // of the buffer
	mirrorBatch    = 1000     // records per insert
)

// NewMirror prepares a mirror. replay may be nil: then records that were missed
// while the program was down, or that did not fit, stay missing.
func NewMirror(c *Client, replay Replay) *Mirror {
	return &Mirror{
		client: c,
		replay: replay,
		lag:    c.met.Gauge("store", "mirror_waiting_records", "Journal records that wait to be mirrored."),
		failed: c.met.Counter("store", "mirror_failures_total", "Attempts to mirror journal records that failed and are repeated."),
		odd:    c.met.Counter("store", "mirror_unreadable_total", "Journal records whose body could not be read; only their plain copy is mirrored."),
		wake:   make(chan struct{}, 1),
	}
}

// Apply takes a record over. It never blocks.
func (m *Mirror) Apply(r journal.Record) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.size >= maxMirrorBytes {
		if m.missing == 0 || r.N < m.missing {
			m.missing = r.N
		}
		return
	}
	m.buffer = append(m.buffer, r)
	m.size += len(r.Body) + 512
	m.lag.Set(float64(len(m.buffer)))
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// Mirrored is the highest record number that is in ClickHouse; 0 when none is.
func (m *Mirror) Mirrored(ctx context.Context) (int64, error) {
	var n int64
	if err := m.client.conn.QueryRow(ctx, "SELECT max(n) FROM journal").Scan(&n); err != nil {
		return 0, fmt.Errorf("read the mirror's position: %w", explain(err))
	}
	return n, nil
}

// Run mirrors until ctx ends. It begins with what the journal holds beyond the
// mirror.
func (m *Mirror) Run(ctx context.Context) error {
	started := false
	backoff := 200 * time.Millisecond
	for {
		err := m.round(ctx, &started)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			m.failed.Inc()
			m.client.log.Warn("journal not mirrored, trying again", "part", "store.mirror", "error", explain(err))
			backoff = min(2*backoff, 10*time.Second)
		default:
			backoff = 200 * time.Millisecond
		}
		if !m.wait(ctx, err, backoff) {
			return nil
		}
	}
}

// wait returns when there is something to do; false when ctx ended.
func (m *Mirror) wait(ctx context.Context, err error, backoff time.Duration) bool {
	if err == nil {
		select {
		case <-ctx.Done():
			return false
		case <-m.wake:
		}
		backoff = 50 * time.Millisecond // let records gather
	}
	timer := time.NewTimer(backoff)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// round brings the mirror up to date once.
func (m *Mirror) round(ctx context.Context, started *bool) error {
	if !*started {
		n, err := m.Mirrored(ctx)
		if err != nil {
			return err
		}
		m.mu.Lock()
		m.missing = n + 1
		m.mu.Unlock()
		*started = true
	}
	if err := m.catchUp(ctx); err != nil {
		return err
	}
	for {
		m.mu.Lock()
		n := min(len(m.buffer), mirrorBatch)
		batch := m.buffer[:n:n]
		m.mu.Unlock()
		if n == 0 {
			return nil
		}
		if err := m.insert(ctx, batch); err != nil {
			return err
		}
		m.mu.Lock()
		for _, r := range batch {
			m.size -= len(r.Body) + 512
		}
		m.buffer = append([]journal.Record(nil), m.buffer[n:]...)
		m.lag.Set(float64(len(m.buffer)))
		m.mu.Unlock()
	}
}

// catchUp reads missing records from the journal.
func (m *Mirror) catchUp(ctx context.Context) error {
	m.mu.Lock()
	from := m.missing
	m.missing = 0
	m.mu.Unlock()
	if from == 0 || m.replay == nil {
		return nil
	}
	var batch []journal.Record
	err := m.replay(ctx, from, func(r journal.Record) error {
		if batch = append(batch, r); len(batch) < mirrorBatch {
			return nil
		}
		err := m.insert(ctx, batch)
		batch = batch[:0]
		return err
	})
	if err == nil && len(batch) > 0 {
		err = m.insert(ctx, batch)
	}
	if err != nil {
		m.mu.Lock()
		if m.missing == 0 || from < m.missing {
			m.missing = from
		}
		m.mu.Unlock()
		return fmt.Errorf("catch up with the journal from record %d: %w", from, err)
	}
	return nil
}

// insert writes the rows of records, the table journal last.
func (m *Mirror) insert(ctx context.Context, records []journal.Record) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	rows := mirrorRows{}
	for i := range records {
		if err := rows.add(&records[i]); err != nil {
			m.odd.Inc()
			m.client.log.Warn("journal record not understood", "part", "store.mirror", "n", records[i].N, "kind", records[i].Kind, "error", err)
		}
	}
	for _, table := range mirrorTables {
		if len(rows[table]) == 0 {
			continue
		}
		if err := m.insertRows(ctx, table, rows[table]); err != nil {
			return err
		}
	}
	return nil
}

func (m *Mirror) insertRows(ctx context.Context, table string, rows [][]any) error {
	b, err := m.client.conn.PrepareBatch(ctx, "INSERT INTO "+table+" ("+mirrorColumns[table]+")")
	if err != nil {
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	defer b.Close()
	for _, r := range rows {
		if err := b.Append(r...); err != nil {
			return fmt.Errorf("insert into %s: %w", table, err)
		}
	}
	if err := b.Send(); err != nil {
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	return nil
}
