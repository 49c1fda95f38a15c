package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// memberFile keeps the member's id. kafka-go has no static membership, so after
// a kill the broker would wait out the session of the dead member; leaving in
// its name takes milliseconds.
const memberFile = "kafka-member.json"

type formerMember struct {
	Group  string `json:"group"`
	Member string `json:"member"`
}

func (g *Group) memberPath() string { return filepath.Join(g.opts.DataDir, memberFile) }

// keepMember writes the id down. A failure costs only the fast restart.
func (g *Group) keepMember(id string) {
	if g.opts.DataDir == "" || id == g.last.member {
		return
	}
	b, err := json.Marshal(formerMember{Group: g.client.cfg.Group.ID, Member: id})
	if err == nil {
		err = writeFile(g.memberPath(), b)
	}
	if err != nil {
		g.log.Warn("keeping the group member's id failed; a restart after a crash will wait for the session to end", "error", err)
	}
}

// writeFile replaces the file at once, so that a crash leaves the old or the new.
func writeFile(path string, b []byte) error {
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// forgetMember removes the id once its member is out of the group.
func (g *Group) forgetMember() {
	if g.opts.DataDir != "" {
		_ = os.Remove(g.memberPath())
	}
}

// leaveFormer removes the member that this daemon was before it was killed.
func (g *Group) leaveFormer(ctx context.Context) {
	if g.opts.DataDir == "" {
		return
	}
	b, err := os.ReadFile(g.memberPath())
	if err != nil {
		return // the first start, or an orderly stop before
	}
	var f formerMember
	if json.Unmarshal(b, &f) != nil || f.Member == "" || f.Group != g.client.cfg.Group.ID {
		return
	}
	g.leave(ctx, f.Member)
	g.forgetMember()
}

// leave removes a member that nobody speaks for any more, so that the broker
// does not wait for it.
func (g *Group) leave(ctx context.Context, member string) {
	start := time.Now()
	err := g.client.wire.Retry(ctx, "leave group", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, g.client.cfg.Group.Timeout)
		defer cancel()
		res, err := g.client.wire.Kafka().LeaveGroup(ctx, &kafkago.LeaveGroupRequest{
			GroupID: g.client.cfg.Group.ID, Members: []kafkago.LeaveGroupRequestMember{{ID: member}},
		})
		if err != nil {
			return err
		}
		if res.Error != nil {
			return res.Error
		}
		return res.Members[0].Error
	})
	switch {
	case err == nil:
		g.met.left.Inc()
		g.log.Info("left the consumer group in the name of a former member", "member", member, "took", time.Since(start))
	case errors.Is(err, kafkago.UnknownMemberId) || errors.Is(err, kafkago.GroupIdNotFound) || ctx.Err() != nil:
	default:
		g.log.Warn("leaving the consumer group in the name of a former member failed; joining may take its session time", "member", member, "error", err)
	}
}

// lost reports a commit error after which the generation is not ours.
func lost(err error) bool {
	return errors.Is(err, kafkago.IllegalGeneration) || errors.Is(err, kafkago.UnknownMemberId) ||
		errors.Is(err, kafkago.RebalanceInProgress) || errors.Is(err, kafkago.FencedInstanceID)
}
