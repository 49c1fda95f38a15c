package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
	"github.com/keysentry/keysentry/internal/metrics"
)

// member is one daemon in a group.
type member struct {
	*Group
	assigned chan Assignment // one for each generation
	stop     func() error
}

// join starts a member. work, when set, is called in the handler.
func join(t testing.TB, addr, group string, opts GroupOptions, work func(context.Context, Assignment) error) *member {
	t.Helper()
	c := testClient(t, addr, func(c *Config) {
		c.Group.ID = group
		c.Group.Heartbeat = 200 * time.Millisecond
		c.Group.JoinBackoff = 50 * time.Millisecond
		c.Group.PartitionWatch = 300 * time.Millisecond
	})
	g, err := NewGroup(c, opts)
	if err != nil {
		t.Fatal(err)
	}
	m := &member{Group: g, assigned: make(chan Assignment, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- g.Run(ctx, func(ctx context.Context, a Assignment) error {
			m.assigned <- a
			if work != nil {
				return work(ctx, a)
			}
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	m.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = m.stop() })
	return m
}

// next waits for a generation of the wanted kind.
func (m *member) next(t testing.TB, what string, ok func(Assignment) bool) Assignment {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case a := <-m.assigned:
			if ok(a) {
				return a
			}
		case <-deadline:
			t.Fatalf("no generation in which the member is %s", what)
		}
	}
}

func active(a Assignment) bool  { return !a.Standby() }
func standby(a Assignment) bool { return a.Standby() }

func TestGroupOneMemberHoldsAll(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		one := devstacktest.CreateTopic(t, addr, 3, devstack.LogAppendTime())
		two := devstacktest.CreateTopic(t, addr, 1, devstack.LogAppendTime())
		group := devstacktest.Name(t)
		opts := GroupOptions{Topics: []string{one, two}}
		all := map[event.Partition]int64{{Topic: one, ID: 0}: FromStart, {Topic: one, ID: 1}: FromStart, {Topic: one, ID: 2}: FromStart, {Topic: two}: FromStart}

		a := join(t, addr, group, opts, nil)
		first := a.next(t, "active", active)
		if diff := cmp.Diff(all, first.Partitions); diff != "" {
			t.Fatalf("partitions (-want +got):\n%s", diff)
		}
		if first.Continued {
			t.Error("the first generation is marked as continued")
		}
		a.SetEpoch(0) // the first record of a new journal counts as much as any other
		if err := first.Commit.Commit(t.Context(), map[event.Partition]int64{{Topic: one, ID: 1}: 0}); err != nil {
			t.Errorf("commit: %v", err)
		}

		b := join(t, addr, group, opts, nil)
		b.next(t, "standing by", standby)
		kept := a.next(t, "active", active)
		if !kept.Continued || kept.Member != first.Member || len(kept.Partitions) != 4 {
			t.Errorf("after the other joined: %+v, want it continued", kept)
		}
		if got := kept.Partitions[event.Partition{Topic: one, ID: 1}]; got != 0 {
			t.Errorf("committed offset is %d, want 0", got)
		}
		if err := first.Commit.Commit(t.Context(), map[event.Partition]int64{{Topic: one, ID: 1}: 0}); !errors.Is(err, ErrGenerationLost) {
			t.Errorf("commit in an old generation: got %v, want ErrGenerationLost", err)
		}

		// The leader leaves: the standby has everything at once.
		start := time.Now()
		if err := a.stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		took := b.next(t, "active", active)
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("the takeover took %s", d)
		}
		if took.Continued || len(took.Partitions) != 4 {
			t.Errorf("after the takeover: %+v", took)
		}
	})
}

// A member that never led does not get the partitions of one that leads, whatever
// its id is; the highest epoch does.
func TestBalancer(t *testing.T) {
	t.Parallel()
	parts := []kafkago.Partition{{Topic: "a", ID: 0}, {Topic: "a", ID: 1}, {Topic: "b", ID: 0}}
	data := func(epoch int64) []byte {
		var e atomic.Int64
		e.Store(epoch)
		b, err := balancer{epoch: &e}.UserData()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	both := []string{"a", "b"}
	tests := []struct {
		name    string
		members []kafkago.GroupMember
		winner  string
		want    map[string][]int
	}{
		{"lowest id", []kafkago.GroupMember{{ID: "m2", Topics: both, UserData: data(0)}, {ID: "m1", Topics: both, UserData: data(0)}}, "m1", map[string][]int{"a": {0, 1}, "b": {0}}},
		{"highest epoch", []kafkago.GroupMember{{ID: "m1", Topics: both, UserData: data(3)}, {ID: "m2", Topics: both, UserData: data(20)}, {ID: "m0", Topics: both}}, "m2", map[string][]int{"a": {0, 1}, "b": {0}}},
		{"unreadable epoch", []kafkago.GroupMember{{ID: "m1", Topics: both, UserData: []byte("x")}, {ID: "m2", Topics: both, UserData: data(1)}}, "m2", map[string][]int{"a": {0, 1}, "b": {0}}},
		{"only what it asked for", []kafkago.GroupMember{{ID: "m1", Topics: []string{"b"}, UserData: data(1)}, {ID: "m2", Topics: both}}, "m1", map[string][]int{"b": {0}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := balancer{}.AssignGroups(tt.members, parts)
			if len(got) != len(tt.members) {
				t.Errorf("%d members in the answer, want %d", len(got), len(tt.members))
			}
			for id, topics := range got {
				want := map[string][]int{}
				if id == tt.winner {
					want = tt.want
				}
				if diff := cmp.Diff(want, topics); diff != "" {
					t.Errorf("member %s (-want +got):\n%s", id, diff)
				}
			}
		})
	}
	if got := (balancer{}).AssignGroups(nil, parts); len(got) != 0 {
		t.Errorf("no members: %v", got)
	}
}

// A process that was killed leaves its member behind; the next start removes it
// and does not wait for its session.
func TestGroupRestartAfterKill(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := devstacktest.CreateTopic(t, addr, 1, devstack.LogAppendTime())
		group, dir := devstacktest.Name(t), t.TempDir()
		opts := GroupOptions{Topics: []string{topic}, DataDir: dir}
		// A member that joins with the same protocol and never speaks again.
		dead, err := kafkago.NewConsumerGroup(kafkago.ConsumerGroupConfig{
			ID: group, Brokers: []string{addr}, Topics: []string{topic}, HeartbeatInterval: time.Hour,
			SessionTimeout: 30 * time.Second, RebalanceTimeout: 30 * time.Second, JoinGroupBackoff: 50 * time.Millisecond,
			GroupBalancers: []kafkago.GroupBalancer{balancer{epoch: new(atomic.Int64)}},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = dead.Close() })
		var gen *kafkago.Generation
		for gen == nil { // a new broker is not ready for groups at once
			if gen, err = dead.Next(t.Context()); err != nil {
				gen = nil
			}
		}
		if err := os.WriteFile(filepath.Join(dir, memberFile), fmt.Appendf(nil, `{"group":%q,"member":%q}`, group, gen.MemberID), 0o600); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		m := join(t, addr, group, opts, nil)
		a := m.next(t, "active", active)
		if d := time.Since(start); d > 6*time.Second {
			t.Errorf("joining took %s", d)
		}
		b, err := os.ReadFile(filepath.Join(dir, memberFile))
		if err != nil || !strings.Contains(string(b), a.Member) {
			t.Errorf("the member's file holds %q, %v; want %s", b, err, a.Member)
		}
	})
}

// A leader that is killed is replaced after its session, also when it carries the
// highest epoch.
func TestGroupTakeoverAfterKill(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := devstacktest.CreateTopic(t, addr, 2, devstack.LogAppendTime())
		group := devstacktest.Name(t)
		var epoch atomic.Int64
		epoch.Store(99)
		dead, err := kafkago.NewConsumerGroup(kafkago.ConsumerGroupConfig{
			ID: group, Brokers: []string{addr}, Topics: []string{topic}, HeartbeatInterval: time.Hour,
			SessionTimeout: 6 * time.Second, RebalanceTimeout: 10 * time.Second, JoinGroupBackoff: 50 * time.Millisecond,
			GroupBalancers: []kafkago.GroupBalancer{balancer{epoch: &epoch}},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = dead.Close() })
		for {
			if _, err = dead.Next(t.Context()); err == nil {
				break
			}
		}
		start := time.Now()
		m := join(t, addr, group, GroupOptions{Topics: []string{topic}}, nil)
		a := m.next(t, "active", active)
		if d := time.Since(start); d > 15*time.Second || len(a.Partitions) != 2 {
			t.Errorf("the takeover took %s and gave %d partitions", d, len(a.Partitions))
		}
	})
}

func TestGroupNewPartitions(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := devstacktest.CreateTopic(t, addr, 1, devstack.LogAppendTime())
		m := join(t, addr, devstacktest.Name(t), GroupOptions{Topics: []string{topic}}, nil)
		m.next(t, "active", active)
		_, err := m.client.wire.Kafka().CreatePartitions(t.Context(), &kafkago.CreatePartitionsRequest{
			Topics: []kafkago.TopicPartitionsConfig{{Name: topic, Count: 3}},
		})
		if err != nil {
			t.Fatal(err)
		}
		a := m.next(t, "holding three partitions", func(a Assignment) bool { return len(a.Partitions) == 3 })
		ids := slices.SortedFunc(maps.Keys(a.Partitions), func(x, y event.Partition) int { return int(x.ID - y.ID) })
		if !a.Continued || ids[2].ID != 2 {
			t.Errorf("got %+v", a)
		}
	})
}

func TestGroupHandlerErrorEndsRun(t *testing.T) {
	t.Parallel()
	addr := devstacktest.FakeKafka(t)
	topic := devstacktest.CreateTopic(t, addr, 1, nil)
	boom := errors.New("boom")
	m := join(t, addr, devstacktest.Name(t), GroupOptions{Topics: []string{topic}}, func(context.Context, Assignment) error { return boom })
	m.next(t, "active", active)
	done := make(chan error, 1)
	go func() { done <- m.stop() }()
	if err := <-done; !errors.Is(err, boom) {
		t.Errorf("got %v, want the handler's error", err)
	}
}

// What the handler commits while it drains, after its context ended, still counts.
func TestGroupCommitWhileDraining(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		topic := devstacktest.CreateTopic(t, addr, 1, nil)
		group := devstacktest.Name(t)
		p := event.Partition{Topic: topic}
		opts := GroupOptions{Topics: []string{topic}}
		m := join(t, addr, group, opts, func(ctx context.Context, a Assignment) error {
			<-ctx.Done()
			return a.Commit.Commit(context.WithoutCancel(ctx), map[event.Partition]int64{p: 42})
		})
		m.next(t, "active", active)
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
		again := join(t, addr, group, opts, nil)
		if got := again.next(t, "active", active).Partitions[p]; got != 42 {
			t.Errorf("committed %d, want 42", got)
		}
	})
}

func TestGroupFinalErrors(t *testing.T) {
	t.Parallel()
	addr := devstacktest.FakeKafka(t)
	topic := devstacktest.CreateTopic(t, addr, 1, nil)
	group := devstacktest.Name(t)
	// Another program is in the group with a protocol of its own.
	other, err := kafkago.NewConsumerGroup(kafkago.ConsumerGroupConfig{ID: group, Brokers: []string{addr}, Topics: []string{topic}, JoinGroupBackoff: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	if _, err := other.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	g, err := NewGroup(testClient(t, addr, func(c *Config) { c.Group.ID = group }), GroupOptions{Topics: []string{topic}})
	if err != nil {
		t.Fatal(err)
	}
	err = g.Run(t.Context(), func(context.Context, Assignment) error { return nil })
	if !errors.Is(err, kafkago.InconsistentGroupProtocol) || !strings.Contains(err.Error(), group) {
		t.Errorf("got %v, want an error that names the group", err)
	}
	if _, err := NewGroup(g.client, GroupOptions{}); err == nil {
		t.Error("no topics: got no error")
	}
}

// offsets records commits, or fails them.
type offsets struct {
	sent []map[string]map[int]int64
	err  error
}

func (o *offsets) CommitOffsets(m map[string]map[int]int64) error {
	if o.err != nil {
		return o.err
	}
	o.sent = append(o.sent, m)
	return nil
}

func TestCommitter(t *testing.T) {
	t.Parallel()
	a, b := event.Partition{Topic: "t", ID: 0}, event.Partition{Topic: "t", ID: 1}
	type commit map[event.Partition]int64
	tests := []struct {
		name    string
		commits []commit
		fail    error
		want    error // of the last commit
		sent    []map[string]map[int]int64
		refused float64
	}{
		{name: "forward", commits: []commit{{a: 5}, {a: 9, b: 0}}, sent: []map[string]map[int]int64{{"t": {0: 5}}, {"t": {0: 9, 1: 0}}}},
		{name: "nothing new", commits: []commit{{a: 3}, {a: 3}, {}}, sent: nil},
		{name: "back before the start", commits: []commit{{a: 2}}, want: ErrOffsetBack, refused: 1},
		{name: "back after a commit", commits: []commit{{a: 9}, {a: 8, b: 4}}, want: ErrOffsetBack, sent: []map[string]map[int]int64{{"t": {0: 9}}}, refused: 1},
		{name: "not assigned", commits: []commit{{{Topic: "u"}: 1}}, want: ErrNotAssigned, refused: 1},
		{name: "lost", commits: []commit{{a: 9}}, fail: kafkago.IllegalGeneration, want: ErrGenerationLost, refused: 1},
		{name: "lost is final", commits: []commit{{a: 9}, {a: 10}}, fail: kafkago.UnknownMemberId, want: ErrGenerationLost, refused: 2},
		{name: "may be tried again", commits: []commit{{a: 9}}, fail: kafkago.RequestTimedOut, want: kafkago.RequestTimedOut},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := &offsets{err: tt.fail}
			met := newGroupMetrics(metrics.New())
			c := newCommitter(o, map[event.Partition]int64{a: 3, b: FromStart}, met)
			var err error
			for _, m := range tt.commits {
				err = c.Commit(t.Context(), m)
			}
			if !errors.Is(err, tt.want) || (err != nil) != (tt.want != nil) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if diff := cmp.Diff(tt.sent, o.sent); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			if got := count(t, met.refused); got != tt.refused {
				t.Errorf("refused %v, want %v", got, tt.refused)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var c ingest.Committer = newCommitter(&offsets{}, map[event.Partition]int64{a: 3}, newGroupMetrics(metrics.New()))
	if err := c.Commit(ctx, commit{a: 4}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: got %v", err)
	}
}
