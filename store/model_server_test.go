package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go"

	"github.com/keysentry/keysentry/event"
)

// modelServer is ClickHouse as the writer knows it: rows that become visible at
// one moment per insert and day, a window of deduplication tokens, inserts that
// run and can be listed and killed. Its fields are guarded by the model's lock.
type modelServer struct {
	m       *model
	down    bool
	boot    int                      // counts the server's lives
	rows    map[event.Ref][]modelRow // copies, in the order in which they came
	tokens  map[string][]string      // table -> tokens that it remembers
	inserts []*modelInsert           // that have not ended
}

// modelRow is one stored copy.
type modelRow struct {
	table    string
	key      string // the rest of the sorting key and something of the content
	observed event.Instant
	by       *modelInsert
	landed   int
}

// modelInsert is one insert on its way. The numbers say when things happened, in
// the model's count of happenings; 0: not yet.
type modelInsert struct {
	id      string
	from    *process
	days    [][]modelRow // rows by day partition
	refs    [][]event.Ref
	table   string
	token   string
	since   map[event.Partition]int // when its process was assigned
	began   int                     // sent by its process
	arrived int                     // the server knows it
	left    int                     // its process knows how it ended, or gave it up
	boot    int
	running bool
	killed  bool
	err     error
	done    chan struct{}
}

func newModelServer(m *model) *modelServer {
	return &modelServer{m: m, rows: map[event.Ref][]modelRow{}, tokens: map[string][]string{}}
}

var errServerDown = errors.New("dial tcp: connection refused")

// snapshot takes b's rows out of the writer's memory, as the wire does.
func (s *modelServer) snapshot(p *process, b *block) *modelInsert {
	s.m.inserted++
	in := &modelInsert{id: "keysentry-insert-" + strconv.Itoa(s.m.inserted), from: p, table: b.table, token: b.token(), since: maps.Clone(p.assigned), began: s.m.tick(), boot: s.boot, done: make(chan struct{})}
	columns := map[string]column{}
	for _, c := range b.columns {
		columns[c.name] = c.column
	}
	days := map[int64]int{}
	for i := range b.rows {
		r := modelRow{table: b.table, observed: event.Instant(b.observed.values[i]), by: in}
		if b.table == "events" {
			r.key = columns["network"].(*word).at(i) + " " + columns["type"].(*word).at(i) + " " + columns["user_id"].(*text).Row(i)
		}
		d, ok := days[b.day(i)]
		if !ok {
			d = len(in.days)
			days[b.day(i)] = d
			in.days, in.refs = append(in.days, nil), append(in.refs, nil)
		}
		in.days[d], in.refs[d] = append(in.days[d], r), append(in.refs[d], b.ref(i))
	}
	return in
}

// poisoned reports whether the server refuses one of the rows for its content.
func (s *modelServer) poisoned(b *block) bool {
	if b.table != "events" {
		return false
	}
	for i := range b.rows {
		if s.m.broker.kindAt(b.ref(i)) == kindPoison {
			return true
		}
	}
	return false
}

// life is how an insert goes on at the server.
type life struct {
	arrive, run time.Duration
	days        int // how many of its days are stored; below zero: all
}

// run carries in out: it arrives, runs, and its rows become visible.
func (s *modelServer) run(in *modelInsert, l life) {
	defer close(in.done)
	time.Sleep(l.arrive)
	s.m.mu.Lock()
	in.arrived = s.m.tick()
	in.running = true
	over := s.ended(in)
	s.m.mu.Unlock()
	for until := time.Now().Add(l.run); !over && time.Now().Before(until); {
		time.Sleep(min(100*time.Millisecond, time.Until(until)))
		s.m.mu.Lock()
		over = s.ended(in)
		s.m.mu.Unlock()
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	in.running = false
	s.inserts = slices.DeleteFunc(s.inserts, func(x *modelInsert) bool { return x == in })
	if s.ended(in) {
		in.err = io.EOF
		return
	}
	for d := range in.days {
		if l.days >= 0 && d >= l.days {
			in.err = &ch.Exception{Code: codeMemoryLimit, Name: "DB::Exception", Message: "memory limit exceeded"}
			return
		}
		s.land(in, d)
	}
}

// ended reports whether in was killed, or ended with the server that it was for.
func (s *modelServer) ended(in *modelInsert) bool { return in.killed || s.down || in.boot != s.boot }

// land makes the rows of one day visible, unless their token is remembered.
func (s *modelServer) land(in *modelInsert, d int) {
	token := fmt.Sprint(in.token, " ", in.days[d][0].observed/event.Instant(24*time.Hour))
	if slices.Contains(s.tokens[in.table], token) {
		return
	}
	if list := append(s.tokens[in.table], token); !s.m.breach.noTokens {
		s.tokens[in.table] = list[max(0, len(list)-s.m.plan.Window):]
	}
	for i, r := range in.days[d] {
		ref := in.refs[d][i]
		r.landed = s.m.tick()
		s.m.checkCopy(ref, r, s.rows[ref])
		s.rows[ref] = append(s.rows[ref], r)
	}
}

// modelTables answers the writer's questions for one process.
type modelTables struct{ p *process }

var _ tables = modelTables{}

func (t modelTables) heldTo(ctx context.Context, p event.Partition, committed int64) (int64, error) {
	to := committed
	err := t.p.ask(ctx, seamReach, func(s *modelServer) {
		for ref := range s.rows {
			if ref.Topic == p.Topic && ref.Partition == p.ID && ref.Offset >= to {
				to = ref.Offset + 1
			}
		}
		t.p.looked(p, span{from: to, to: math.MaxInt64, max: anyTime})
	})
	return to, err
}

// held answers as the query does: by offset and observed_at.
func (t modelTables) held(ctx context.Context, p event.Partition, sp span) (map[place]bool, error) {
	out := map[place]bool{}
	err := t.p.ask(ctx, seamLook, func(s *modelServer) {
		for ref, copies := range s.rows {
			if ref.Topic != p.Topic || ref.Partition != p.ID || ref.Offset < sp.from || ref.Offset > sp.to {
				continue
			}
			for _, r := range copies {
				if r.observed == 0 || r.observed >= sp.min && r.observed <= sp.max {
					out[place{ref.Offset, ref.Idx}] = true
				}
			}
		}
		t.p.looked(p, sp)
	})
	return out, err
}

// noteGaps: the model is about rows. What has none is proven in TestContinuity.
func (t modelTables) noteGaps(context.Context, []offsetGap) error { return nil }

func (t modelTables) runningInserts(ctx context.Context, among []string) ([]string, error) {
	var out []string
	err := t.p.ask(ctx, seamList, func(s *modelServer) {
		if among == nil {
			t.p.listed = s.m.tick()
		}
		for _, in := range s.inserts {
			if in.running && strings.HasPrefix(in.id, "keysentry-insert-") && (among == nil || slices.Contains(among, in.id)) {
				out = append(out, in.id)
			}
		}
	})
	return out, err
}

func (t modelTables) killInserts(ctx context.Context, ids []string) error {
	return t.p.ask(ctx, seamKill, func(s *modelServer) {
		for _, in := range s.inserts {
			if slices.Contains(ids, in.id) {
				in.killed = true
			}
		}
	})
}

// ask puts a question to the server.
func (p *process) ask(ctx context.Context, at seam, answer func(s *modelServer)) error {
	return p.cross(ctx, at, func(outcome) error {
		if p.m.server.down {
			return errServerDown
		}
		answer(p.m.server)
		return nil
	})
}

// modelSender sends blocks for one process.
type modelSender struct{ p *process }

var _ sender = modelSender{}

func (modelSender) close() {}

func (t modelSender) send(ctx context.Context, b *block) error {
	p, s := t.p, t.p.m.server
	f, err := p.enter(ctx, seamInsert)
	if err != nil {
		return err
	}
	s.m.mu.Lock()
	if s.down || f.What == outFail {
		s.m.mu.Unlock()
		return fmt.Errorf("%w: connect: %w", errNotSent, errServerDown)
	}
	if s.poisoned(b) {
		s.m.mu.Unlock()
		return &ch.Exception{Code: codeConstraintViolation, Name: "DB::Exception", Message: "constraint"}
	}
	in := s.snapshot(p, b)
	s.inserts = append(s.inserts, in)
	s.m.mu.Unlock()
	err = t.exchange(ctx, in, f)
	s.m.mu.Lock()
	in.left = s.m.tick()
	s.m.mu.Unlock()
	if gone := p.leave(f); gone != nil {
		return gone
	}
	return err
}

// exchange lets in run as f says, and is what its process hears of it.
func (t modelSender) exchange(ctx context.Context, in *modelInsert, f fault) error {
	s, l := t.p.m.server, life{run: 5 * time.Millisecond, days: -1}
	cut := false
	switch f.What {
	case outCut, outDieAfter:
		l.run, cut = l.run+f.Delay, true
	case outStray:
		l.arrive, cut = f.Delay, true
	case outShort:
		l.days = 1
	case outVanish:
		s.m.mu.Lock()
		s.inserts = slices.DeleteFunc(s.inserts, func(x *modelInsert) bool { return x == in })
		s.m.mu.Unlock()
		return io.ErrUnexpectedEOF
	default:
		l.run += f.Delay
	}
	s.m.work.Go(func() { s.run(in, l) })
	if cut {
		return io.ErrUnexpectedEOF
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-in.done:
	}
	if f.What == outLost {
		return io.ErrUnexpectedEOF
	}
	return in.err
}
