package store

import (
	"context"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/event"
)

// anyTime, the end of 2100, is later than every observed_at.
const anyTime event.Instant = 4133980799e9

// span is the part of one partition that a job is about to store.
type span struct {
	from, to int64         // offsets, both included
	min, max event.Instant // observed_at, both included
}

// place is where a row lies inside its partition.
type place struct {
	offset int64
	idx    int32
}

// reconcile takes out of j the rows that the tables hold. It asks only where a
// doubt exists: before a partition's first insert, while its offsets are below
// what the tables held at Assign, and after an unknown outcome. A copy of a row
// has the same observed_at, so the look-up reads few day partitions; beside them
// it reads that of rejects without a time, which may have one when read again. Of
// rejects without a time in j the first reading may have had any: then all days
// are read.
func (w *Writer) reconcile(ctx context.Context, j *job) error {
	if err := w.learn(ctx, j); err != nil {
		return err
	}
	spans := j.spans()
	doubt := map[event.Partition]span{}
	w.mu.Lock()
	for p, s := range spans {
		if part := j.unit.part(p); j.suspect || part == nil || s.from < part.heldTo {
			doubt[p] = s
		}
	}
	w.mu.Unlock()
	if len(doubt) == 0 {
		return nil
	}
	if j.suspect {
		if err := w.awaitInserts(ctx); err != nil {
			return err
		}
	}
	held := make(map[event.Partition]map[place]bool, len(doubt))
	for p, s := range doubt {
		set, err := w.client.held(ctx, p, s)
		if err != nil {
			return err
		}
		held[p] = set
	}
	dropped := j.filter(func(b *block, i int) bool {
		return !held[b.partitionOf(i)][place{b.offset.values[i], b.idx.values[i]}]
	})
	w.met.duplicates.Add(float64(dropped))
	j.suspect = false
	return nil
}

// learn asks, once per assignment, up to where the tables reach.
func (w *Writer) learn(ctx context.Context, j *job) error {
	waited := false
	for i := range j.unit.acks {
		part := j.unit.acks[i].part
		if part.checked {
			continue
		}
		if !waited {
			if err := w.awaitInserts(ctx); err != nil {
				return err
			}
			waited = true
		}
		to, err := w.client.heldTo(ctx, part.partition, part.from)
		if err != nil {
			return err
		}
		part.heldTo, part.checked = to, true
		if to > part.from {
			w.log.Info("rows above the committed offset are stored already", "partition", part.partition.String(), "committed", part.from, "stored_to", to)
		}
	}
	return nil
}

func (u *unit) part(p event.Partition) *assigned {
	for i := range u.acks {
		if u.acks[i].part.partition == p {
			return u.acks[i].part
		}
	}
	return nil
}

// spans is what j is about to store, per partition.
func (j *job) spans() map[event.Partition]span {
	out := map[event.Partition]span{}
	for _, b := range j.blocks {
		for i := range b.rows {
			p, o, t := b.partitionOf(i), b.offset.values[i], event.Instant(b.observed.values[i])
			s, ok := out[p]
			if !ok {
				s = span{from: o, to: o, min: t, max: t}
			}
			if t == 0 {
				s.max = anyTime
			}
			out[p] = span{from: min(s.from, o), to: max(s.to, o), min: min(s.min, t), max: max(s.max, t)}
		}
	}
	return out
}

// heldTo is the first offset above every row of p at or above committed, or
// committed when there is none.
func (c *Client) heldTo(ctx context.Context, p event.Partition, committed int64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	var n uint64
	var last int64
	err := c.conn.QueryRow(ctx, `SELECT count(), max(offset) FROM (
		SELECT offset FROM events WHERE topic = ? AND partition = ? AND offset >= ?
		UNION ALL SELECT offset FROM quarantine WHERE topic = ? AND partition = ? AND offset >= ?)`,
		p.Topic, p.ID, committed, p.Topic, p.ID, committed).Scan(&n, &last)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return committed, nil
	}
	return last + 1, nil
}

// held is the set of rows of p inside s that the tables hold.
func (c *Client) held(ctx context.Context, p event.Partition, s span) (map[place]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	const where = ` WHERE topic = ? AND partition = ? AND offset BETWEEN ? AND ?
		AND (observed_at BETWEEN fromUnixTimestamp64Nano(?, 'UTC') AND fromUnixTimestamp64Nano(?, 'UTC') OR observed_at = fromUnixTimestamp64Nano(0, 'UTC'))`
	args := []any{p.Topic, p.ID, s.from, s.to, int64(s.min), int64(s.max)}
	rows, err := c.conn.Query(ctx, "SELECT DISTINCT offset, idx FROM (SELECT offset, idx FROM events"+where+
		" UNION ALL SELECT offset, idx FROM quarantine"+where+")", append(args, args...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[place]bool{}
	for rows.Next() {
		var at place
		if err := rows.Scan(&at.offset, &at.idx); err != nil {
			return nil, err
		}
		out[at] = true
	}
	return out, rows.Err()
}

// killAfter is how long an insert of a former attempt may go on before it is
// killed: its client is gone, and a half-open connection would keep it alive
// for the server's receive timeout of five minutes.
const killAfter = 15 * time.Second

// awaitInserts waits until every insert of a daemon that runs at the server now
// has ended: a row that becomes visible after the look-up would be stored twice.
func (w *Writer) awaitInserts(ctx context.Context) error {
	ids, err := w.client.runningInserts(ctx, nil)
	if err != nil {
		return err
	}
	start, killed := time.Now(), false
	for len(ids) > 0 {
		switch waited := time.Since(start); {
		case waited > 2*killAfter:
			return fmt.Errorf("%w: %v", errStillRunning, ids)
		case waited > killAfter && !killed:
			killed = true
			w.log.Warn("killing inserts of a former attempt that do not end", "query_ids", ids)
			if err := w.client.killInserts(ctx, ids); err != nil {
				return err
			}
		}
		timer := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		if ids, err = w.client.runningInserts(ctx, ids); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) killInserts(ctx context.Context, ids []string) error {
	on := dialect{cluster: c.cfg.Cluster}.onCluster()
	if err := c.conn.Exec(ctx, "KILL QUERY"+on+" WHERE query_id IN (?) ASYNC", ids); err != nil {
		return fmt.Errorf("kill inserts: %w", explain(err))
	}
	return nil
}

// runningInserts lists the inserts of daemons that run now; of those in among,
// unless it is nil.
func (c *Client) runningInserts(ctx context.Context, among []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	from := "system.processes"
	if c.cfg.Cluster != "" {
		from = "clusterAllReplicas('" + c.cfg.Cluster + "', system.processes)"
	}
	query := "SELECT DISTINCT initial_query_id FROM " + from + " WHERE startsWith(initial_query_id, ?) AND (empty(?) OR has(?, initial_query_id))"
	if among == nil {
		among = []string{}
	}
	rows, err := c.conn.Query(ctx, query, c.insertPrefix(), among, among)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		out = append(out, id)
	}
	return out, rows.Err()
}
