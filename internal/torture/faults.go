package torture

import (
	"context"
	"time"

	"github.com/keysentry/keysentry/internal/app"
)

// fault is one way to break something.
type fault struct {
	name string
	what string // in one line
	// bar is how long it may take from a repair to the first new row.
	bar     time.Duration
	daemons int // that run when it begins
	rounds  int // unless told otherwise
	// events says how many there are, where the fault and not the user decides.
	events func(o Options) int
	needs  needs
	// play breaks things and mends them again. Afterwards the rest of the events
	// flows, everything is stored, and counted.
	play func(ctx context.Context, t *trial, r *Result) error
}

// needs is what a fault wants of the stage.
type needs struct {
	clickhouseProxy, brokerProxy bool
	// dieAt is given to the first daemon.
	dieAt func(t *trial) app.DieAt
}

// The bars of DESIGN and RESPONSE: the first insert after a restart on the same
// data folder, after a takeover, and progress after whatever else.
const (
	restartBar  = 5 * time.Second
	takeoverBar = 15 * time.Second
	progressBar = 30 * time.Second
)

func faults() []fault {
	return []fault{
		{name: "kill", what: "kill -9 at a random moment, start again on the same data folder", bar: restartBar, daemons: 1, rounds: 20, play: inRounds(strikeKill)},
		{name: "kill-before-insert", what: "death before a batch reaches the writer", bar: restartBar, daemons: 1, rounds: 20,
			needs: needs{dieAt: dieWithin(app.DieBeforeInsert)}, play: playPoint(app.DieBeforeInsert)},
		{name: "kill-after-insert", what: "death after ClickHouse acknowledged an insert, before its offsets are committed", bar: restartBar, daemons: 1, rounds: 20,
			needs: needs{dieAt: dieWithin(app.DieAfterInsert)}, play: playPoint(app.DieAfterInsert)},
		{name: "kill-during-rebalance", what: "death of the leader between a new assignment and its work; every second time of its successor too", bar: takeoverBar, daemons: 1, rounds: 6,
			needs: needs{dieAt: func(*trial) app.DieAt { return nextRebalance }}, play: playRebalance},
		{name: "sigterm", what: "an orderly stop under load, within 10 s", bar: restartBar, daemons: 1, rounds: 20, play: inRounds(strikeTerm)},
		{name: "broker-restart", what: "Kafka stops and comes back", bar: progressBar, daemons: 1, rounds: 10, play: inRounds(strikeBroker)},
		{name: "broker-answers-lost", what: "Kafka does what it is asked, and the answers are lost", bar: progressBar, daemons: 1, rounds: 10,
			needs: needs{brokerProxy: true}, play: inRounds(strikeBrokerAnswers)},
		{name: "clickhouse-down", what: "kill -9 of ClickHouse, away for 5 s", bar: takeoverBar, daemons: 1, rounds: 10, play: inRounds(strikeClickHouse)},
		{name: "clickhouse-outage", what: "ClickHouse is away for long under steady load: memory, latency, catching up", bar: takeoverBar, daemons: 1, rounds: 1,
			events: outageEvents, play: playOutage},
		{name: "answers-lost", what: "inserts arrive and their answers do not: connections cut, or silent", bar: takeoverBar, daemons: 1, rounds: 10,
			needs: needs{clickhouseProxy: true}, play: inRounds(strikeAnswers)},
		{name: "slow-clickhouse", what: "late answers of ClickHouse and little bandwidth to it", bar: takeoverBar, daemons: 1, rounds: 10,
			needs: needs{clickhouseProxy: true}, play: inRounds(strikeSlow)},
		{name: "rebalance", what: "the leader ends, by kill -9 or orderly; a standby takes over", bar: takeoverBar, daemons: 3, rounds: 10, play: inRounds(strikeLeader)},
		{name: "standbys", what: "two standbys join and leave every 5 s, and the leader ends once a minute", bar: progressBar, daemons: 2, rounds: 60, play: playStandbys},
		{name: "paused-leader", what: "the leader is paused until a standby has taken over, and wakes up", bar: takeoverBar, daemons: 3, rounds: 10, play: inRounds(strikePaused)},
		{name: "retention", what: "Kafka deletes records that the daemon has not read, while it is stopped or paused", bar: takeoverBar, daemons: 1, rounds: 6, play: inRounds(strikeRetention)},
	}
}
