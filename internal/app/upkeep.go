package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keysentry/keysentry/alert"
	"github.com/keysentry/keysentry/ingest"
	"github.com/keysentry/keysentry/ingest/kafka"
	"github.com/keysentry/keysentry/internal/console"
)

// startTimeout bounds the first words with the broker and with Slack.
const startTimeout = 15 * time.Second

// checkKafka makes sure that the broker answers and that the topics keep their
// promises, before anything runs on them.
func (a *App) checkKafka(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := a.kafka.Ping(ctx); err != nil {
		if kafka.Refused(err) {
			return operator("kafka", err)
		}
		return fmt.Errorf("kafka: %w", err)
	}
	if err := a.kafka.EnsureTopics(ctx); err != nil {
		return operator("kafka topics", err)
	}
	infos, err := a.kafka.CheckTopics(ctx, topicNames(a.cfg.Ingest.Config))
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	if faults := kafka.CheckInputs(infos, a.imported); len(faults) > 0 {
		return operator("kafka topics", errors.Join(faults...))
	}
	if a.slack != nil {
		return a.checkSlack(ctx)
	}
	return nil
}

// imported says that the time of a topic's records is their producer's.
func (a *App) imported(topic string) bool {
	return slices.ContainsFunc(a.cfg.Ingest.Topics, func(t ingest.TopicConfig) bool {
		return t.Name == topic && t.Observed == ingest.ObservedProducer
	})
}

// checkSlack refuses to start with a token that can tell nobody anything. A Slack
// that does not answer is no reason: the outbox waits for it.
func (a *App) checkSlack(ctx context.Context) error {
	err := a.slack.CheckToken(ctx)
	if err == nil {
		return nil
	}
	var refused *alert.NotifyError
	if errors.As(err, &refused) && refused.Class == alert.Permanent {
		return operator("slack", err)
	}
	a.log.Warn("slack does not answer; alerts wait for it", "error", err)
	return nil
}

// schemaEvery is the pause between attempts to reach ClickHouse.
const schemaEvery = 2 * time.Second

// keepSchema migrates as soon as ClickHouse can be reached. Detection, Slack and
// approvals do not wait for it.
func (a *App) keepSchema(ctx context.Context) error {
	for said := ""; ; {
		applied, err := a.store.Migrate(ctx)
		if ctx.Err() != nil {
			return nil
		}
		a.mu.Lock()
		a.storeErr = err
		a.mu.Unlock()
		if err == nil {
			a.log.Info("clickhouse is ready", "migrations_applied", len(applied))
			return nil
		}
		if err.Error() != said {
			said = err.Error()
			a.log.Error("clickhouse cannot be used; detection goes on and storing follows when it can", "addrs", a.cfg.Store.Addrs, "error", err)
		}
		_ = pause(ctx, schemaEvery)
	}
}

// whenStored waits until the schema is in place.
func (a *App) whenStored(ctx context.Context, run func(context.Context) error) error {
	for ctx.Err() == nil {
		a.mu.Lock()
		ok := a.storeErr == nil
		a.mu.Unlock()
		if ok {
			return run(ctx)
		}
		_ = pause(ctx, schemaEvery/4)
	}
	return nil
}

// runRollups: every member may recompute rollups, because they replace; only the
// leader does, to do it once.
func (a *App) runRollups(ctx context.Context) error {
	return a.whenStored(ctx, func(ctx context.Context) error { return a.whileLeading(ctx, a.roller.Run) })
}

func (a *App) runPosture(ctx context.Context) error {
	return a.whenStored(ctx, func(ctx context.Context) error { return a.whileLeading(ctx, a.posture.Run) })
}

// whileLeading runs f during each of this member's leaderships.
func (a *App) whileLeading(ctx context.Context, f func(context.Context) error) error {
	for ctx.Err() == nil {
		a.mu.Lock()
		s := a.session
		a.mu.Unlock()
		if s == nil {
			_ = pause(ctx, time.Second)
			continue
		}
		both, cancel := context.WithCancel(ctx)
		stop := context.AfterFunc(s.ctx, cancel)
		err := f(both)
		stop()
		over := both.Err() != nil
		cancel()
		if err != nil && !over {
			return err
		}
		if !over { // f has nothing to do
			<-ctx.Done()
		}
	}
	return nil
}

// maxListed bounds the names that a status lists.
const maxListed = 5

// listed names the first few.
func listed(names []string) string {
	if n := len(names) - maxListed; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], ", "), n)
	}
	return strings.Join(names, ", ")
}

// status is what the console and readyz say.
func (a *App) status() console.Status {
	a.mu.Lock()
	s, storeErr, set := a.session, a.storeErr, a.rules
	a.mu.Unlock()
	st := console.Status{Version: a.opts.Version, Instance: a.cfg.Instance, Role: "standby", Ready: true,
		Rules: len(set.Rules) + len(set.Correlations), Parts: map[string]string{"detection": "standing by", "clickhouse": "ok", "slack": "not configured"}}
	leader := a.memory.lastLeader()
	st.Leader = leader.Member
	switch {
	case storeErr != nil:
		st.Parts["clickhouse"] = storeErr.Error()
	case s != nil && !a.writer.Healthy():
		st.Parts["clickhouse"] = "inserts fail; detection goes on, storing follows"
	}
	if a.slack != nil {
		st.Parts["slack"] = "ok"
		if err := a.manager.DeliveryError(); err != nil {
			st.Parts["slack"] = err.Error()
		}
	}
	if leader.Member == "" {
		st.Role, st.Ready = "starting", false
	}
	if s != nil {
		st.Role = "leader"
		st.Parts["detection"] = "live"
		for _, p := range s.pipeline.Status() {
			st.Positions = append(st.Positions, console.Position{Partition: p.Partition.String(), Detected: p.Live, Stored: p.Stored, End: p.End})
			if !p.Ready {
				st.Ready = false
				st.Parts["detection"] = "filling windows"
			}
		}
		if learning := s.engine.Learning(); len(learning) > 0 {
			st.Parts["rules"] = fmt.Sprintf("%d learning, because events of before the start are missing: %s", len(learning), listed(learning))
		}
	}
	if stuck := a.watch.said.Load(); stuck != nil {
		st.Ready, st.Parts["progress"] = false, "none since the connections to kafka were made anew: "+*stuck
	}
	return st
}
