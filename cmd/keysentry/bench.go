package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/keysentry/keysentry/internal/e2ebench"
	"github.com/keysentry/keysentry/internal/peerbench"
)

func benchCommand(std stdio) *cobra.Command {
	c := group("bench", "Measure the product", "Measure the product on this machine: all of it on servers of its own, or the rule\nengine alone.")
	e2e := &cobra.Command{Use: "e2e", Short: "Events per second end to end, CPU per event, alert latency, against the floor", Args: noArgs,
		Long: `Fill a topic, run the daemon on it with the shipped rules and store everything in
ClickHouse; then measure in the same run the floor: a raw fetch of the same topic
plus a columnar insert of the same, already decoded rows. Prints one JSON object.`}
	o := e2ebench.Options{Version: version}
	broker := choiceFlag(e2e.Flags(), "broker", "embedded broker, or Apache Kafka, which needs Java and Maven", "kfake", "kafka")
	e2e.Flags().IntVar(&o.Events, "events", 1_000_000, "events")
	e2e.RunE = action(func(ctx context.Context) error {
		o.Progress, o.Broker = std.err, *broker
		r, err := e2ebench.Run(ctx, o)
		if err != nil {
			return err
		}
		return json.NewEncoder(std.out).Encode(r)
	})
	c.AddCommand(e2e, benchPeersCommand(std))
	return c
}

func benchPeersCommand(std stdio) *cobra.Command {
	c := &cobra.Command{Use: "peers", Short: "The product against others, in one run", Args: noArgs,
		Long: `rsigma: evaluate the same rules over the same events with this program and with
another engine, one thread each, without the time to load. The SigmaHQ rules are
not part of this program: name a checkout or an archive of them. rsigma is built
with cargo into the user's cache folder when it is not there.

clickhouse-kafka: store the same topic of Apache Kafka in the same table, once with
the daemon and its shipped rules, once with the Kafka table engine of ClickHouse,
which needs neither rules nor corpus; --program and --rounds say nothing then.

Prints one JSON object per work; exits 1 when a bar is missed or the two find
different things.`}
	var o peerbench.Options
	f := c.Flags()
	peer := choiceFlag(f, "peer", "what to measure against", "rsigma", "clickhouse-kafka")
	f.StringVar(&o.Corpus, "corpus", "", "`PATH` of the SigmaHQ rules, a folder or a .tar.gz")
	f.StringVar(&o.Peer, "program", "", "`PATH` of the peer's program (default: built when missing)")
	f.IntVar(&o.Events, "events", 0, "events of each work but value_count (default: 500000, clickhouse-kafka 2000000)")
	f.IntVar(&o.Rounds, "rounds", 3, "how often; the best counts")
	c.RunE = action(func(ctx context.Context) error {
		o.Progress = std.err
		measure := peerRsigma
		if *peer == "clickhouse-kafka" {
			measure = peerClickHouse
		}
		enc := json.NewEncoder(std.out)
		short, err := measure(ctx, o, func(r peerbench.Result) error { return enc.Encode(r) })
		for _, s := range short {
			fmt.Fprintln(std.err, "keysentry: "+s)
		}
		switch {
		case errors.Is(err, peerbench.ErrMissing):
			return usage(err)
		case err == nil && len(short) > 0:
			return bad
		}
		return err
	})
	return c
}

func peerRsigma(ctx context.Context, o peerbench.Options, emit func(peerbench.Result) error) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find our own program: %w", err)
	}
	o.Self, o.Events = self, cmp.Or(o.Events, 500_000)
	return peerbench.Run(ctx, o, emit)
}

func peerClickHouse(ctx context.Context, o peerbench.Options, emit func(peerbench.Result) error) ([]string, error) {
	r, err := e2ebench.Peer(ctx, e2ebench.Options{Version: version, Events: cmp.Or(o.Events, 2_000_000), Progress: o.Progress})
	if err != nil {
		return nil, err
	}
	result, short := peerbench.Storing("clickhouse-kafka", r.Ours, r.Theirs, int(r.OurRows), int(r.TheirRows))
	return short, emit(result)
}
