package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/metrics"
)

// FromStart is the position of a partition that was never committed.
const FromStart int64 = -1

// Assignment is one generation of the group, as this member sees it.
type Assignment struct {
	// Partitions maps what this member holds to the committed offset, or
	// FromStart. It is empty for a standby.
	Partitions map[event.Partition]int64
	Generation int32
	Member     string
	// Continued says that this member held the partitions in the generation
	// before and nobody can have held them since: state and positions are good.
	Continued bool
	// Commit commits stored positions. It is nil for a standby.
	Commit ingest.Committer
}

// Standby reports whether another member holds the partitions.
func (a Assignment) Standby() bool { return len(a.Partitions) == 0 }

// Handler works for one generation. Its context ends with the generation; it
// must then return soon (within the configured rebalance time, or the broker
// gives the partitions away while it still works). Commits are possible until it
// returns. An error ends Run; nil before the context ended makes the member join
// again.
type Handler func(ctx context.Context, a Assignment) error

// GroupOptions are what a Group needs besides the client.
type GroupOptions struct {
	Topics []string
	// DataDir holds the member's id from one start to the next. It must not be
	// shared by two running daemons. Empty: the id is not kept.
	DataDir string
	Metrics *metrics.Registry
}

// Group is this daemon's membership in the consumer group.
type Group struct {
	client *Client
	opts   GroupOptions
	log    *slog.Logger
	met    *groupMetrics
	epoch  atomic.Int64 // as in userData
	last   held
	failed atomic.Pointer[error] // of the last attempt to join
	aside  sync.WaitGroup        // leaving in the name of lost members
}

// held is what the generation before gave this member.
type held struct {
	member     string
	generation int32
	active     bool
}

// NewGroup prepares the membership; Run joins.
func NewGroup(c *Client, opts GroupOptions) (*Group, error) {
	if len(opts.Topics) == 0 {
		return nil, errors.New("topics: give at least one input topic")
	}
	return &Group{client: c, opts: opts, log: c.log, met: newGroupMetrics(metrics.OrNew(opts.Metrics))}, nil
}

// SetEpoch makes the next joins carry the epoch of this member's takeover, which
// keeps the partitions here when others join.
func (g *Group) SetEpoch(epoch int64) { g.epoch.Store(epoch + 1) }

// JoinError is why the last attempt to join failed; nil once one succeeded.
func (g *Group) JoinError() error {
	if err := g.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Run joins the group and calls handler for each generation until ctx ends, then
// leaves, so that a standby takes over at once. It returns nil then, or the
// handler's error, or the first error that no retry can mend.
func (g *Group) Run(ctx context.Context, handler Handler) error {
	g.leaveFormer(ctx)
	cg, err := kafkago.NewConsumerGroup(g.config())
	if err != nil {
		return fmt.Errorf("consumer group: %w", err)
	}
	failed := make(chan error, 1)
	runCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var closing sync.WaitGroup
	// Close waits for the handler and then leaves; the handler's context must have
	// ended before, so it hangs on runCtx.
	closing.Go(func() {
		<-runCtx.Done()
		_ = cg.Close()
	})
	err = g.loop(runCtx, cg, func(gen *kafkago.Generation, a Assignment) {
		gen.Start(func(genCtx context.Context) {
			if err := g.serve(runCtx, genCtx, handler, a); err != nil {
				select {
				case failed <- err:
				default:
				}
				cancel(err)
			}
		})
	})
	cancel(err)
	closing.Wait()
	g.aside.Wait()
	g.met.active.Set(0)
	g.met.partitions.Set(0)
	select {
	case err := <-failed:
		return err
	default:
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (g *Group) config() kafkago.ConsumerGroupConfig {
	c := g.client.cfg.Group
	return kafkago.ConsumerGroupConfig{
		ID:                     c.ID,
		Brokers:                g.client.cfg.Brokers,
		Dialer:                 g.client.wire.Dialer(),
		Topics:                 g.opts.Topics,
		GroupBalancers:         []kafkago.GroupBalancer{balancer{epoch: &g.epoch}},
		HeartbeatInterval:      c.Heartbeat,
		SessionTimeout:         c.SessionTimeout,
		RebalanceTimeout:       c.Rebalance,
		JoinGroupBackoff:       c.JoinBackoff,
		WatchPartitionChanges:  true,
		PartitionWatchInterval: c.PartitionWatch,
		StartOffset:            kafkago.FirstOffset,
		Timeout:                c.Timeout,
		Logger:                 kafkago.LoggerFunc(func(f string, a ...any) { g.log.Debug("consumer group", "message", fmt.Sprintf(f, a...)) }),
	}
}

// loop waits for generations until ctx ends or an error is final. The library
// pauses between attempts itself.
func (g *Group) loop(ctx context.Context, cg *kafkago.ConsumerGroup, start func(*kafkago.Generation, Assignment)) error {
	var since time.Time
	for {
		gen, err := cg.Next(ctx)
		switch {
		case err == nil:
			since = time.Time{}
			g.met.generations.Inc()
			g.failed.Store(nil)
			g.keepMember(gen.MemberID)
			start(gen, g.assignment(gen))
		case ctx.Err() != nil || errors.Is(err, kafkago.ErrGroupClosed):
			return ctx.Err()
		case final(err):
			return fmt.Errorf("join consumer group %s: %w", g.client.cfg.Group.ID, err)
		default:
			g.met.errors.Inc()
			g.failed.Store(&err)
			g.abandon(ctx, err)
			if since.IsZero() {
				since = time.Now()
			}
			level := slog.LevelDebug // a group that forms reports several of these
			if time.Since(since) > 5*time.Second {
				level = slog.LevelWarn
			}
			g.log.Log(ctx, level, "joining the consumer group failed; trying again", "error", err)
		}
	}
}

// abandon leaves for the member that the library has given up: after any error
// but RebalanceInProgress it joins as a new one, and the broker would wait for the
// old one's session.
func (g *Group) abandon(ctx context.Context, err error) {
	former := g.last.member
	if former == "" || errors.Is(err, kafkago.RebalanceInProgress) {
		return
	}
	g.last = held{}
	g.aside.Go(func() { g.leave(ctx, former) })
}

// final reports an error of joining that only an operator can mend.
func final(err error) bool {
	for _, code := range []kafkago.Error{
		kafkago.GroupAuthorizationFailed, kafkago.TopicAuthorizationFailed, kafkago.ClusterAuthorizationFailed,
		kafkago.InconsistentGroupProtocol, kafkago.InvalidSessionTimeout, kafkago.InvalidGroupId,
		kafkago.SASLAuthenticationFailed, kafkago.UnsupportedSASLMechanism,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// assignment translates the library's generation.
func (g *Group) assignment(gen *kafkago.Generation) Assignment {
	a := Assignment{Partitions: map[event.Partition]int64{}, Generation: gen.ID, Member: gen.MemberID}
	for topic, parts := range gen.Assignments {
		for _, p := range parts {
			a.Partitions[event.Partition{Topic: topic, ID: int32(p.ID)}] = max(p.Offset, FromStart)
		}
	}
	// The broker keeps a member's id only while the member stays in the group, and
	// with an epoch of its own nobody else is chosen meanwhile; without one, only
	// consecutive generations prove it.
	a.Continued = !a.Standby() && g.last.active && g.last.member == gen.MemberID &&
		(gen.ID == g.last.generation+1 || g.epoch.Load() > 0)
	g.last = held{member: gen.MemberID, generation: gen.ID, active: !a.Standby()}
	g.met.partitions.Set(float64(len(a.Partitions)))
	g.met.active.Set(0)
	if !a.Standby() {
		g.met.active.Set(1)
		a.Commit = newCommitter(gen, a.Partitions, g.met)
	}
	return a
}

// serve runs the handler within the generation and the run.
func (g *Group) serve(runCtx, genCtx context.Context, handler Handler, a Assignment) error {
	if genCtx.Err() != nil {
		// The generation ended before it began. The library does not wait for this
		// goroutine then, so the next one could run beside it.
		return nil
	}
	ctx, cancel := context.WithCancelCause(runCtx)
	defer cancel(nil)
	stop := context.AfterFunc(genCtx, func() { cancel(genCtx.Err()) })
	defer stop()
	g.log.Info("consumer group generation", "generation", a.Generation, "member", a.Member,
		"partitions", len(a.Partitions), "standby", a.Standby(), "continued", a.Continued)
	err := handler(ctx, a)
	if c, ok := a.Commit.(*committer); ok {
		c.end()
	}
	if ctx.Err() == nil && err == nil {
		// Joining again without a pause would turn a handler that gives up at once
		// into a storm of rebalances.
		select {
		case <-ctx.Done():
		case <-time.After(g.client.cfg.Group.JoinBackoff):
		}
	}
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled) || errors.Is(err, kafkago.ErrGenerationEnded)) {
		return nil
	}
	return err
}
