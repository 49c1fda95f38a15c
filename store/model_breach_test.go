package store

import (
	"context"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/ingest"
)

// breach breaks the protocol at a seam, to prove that the model sees it. The zero
// breach breaks nothing.
type breach struct {
	name        string
	noTokens    bool // the server does not see the deduplication tokens
	wrapTables  func(tables) tables
	wrapSender  func(sender) sender
	wrapWriter  func(ingest.EventWriter) ingest.EventWriter
	wrapSource  func(ingest.Source) ingest.Source
	wrapCommits func(modelCommitter) modelCommitter
}

// wrapped is v, or what wrap makes of it.
func wrapped[T any](v T, wrap func(T) T) T {
	if wrap == nil {
		return v
	}
	return wrap(v)
}

// ackAtOnce acknowledges what is queued.
type ackAtOnce struct{ ingest.EventWriter }

func (w ackAtOnce) Append(ctx context.Context, b *ingest.Batch, acked func(int64)) error {
	next := b.Next
	err := w.EventWriter.Append(ctx, b, acked)
	if err == nil {
		acked(next)
	}
	return err
}

// maximum takes everything below the highest stored offset for stored.
type maximum struct{ tables }

func (t maximum) held(ctx context.Context, p event.Partition, s span) (map[place]bool, error) {
	to, err := t.heldTo(ctx, p, s.from)
	out := map[place]bool{}
	for o := s.from; o < to; o++ {
		for idx := range int32(3) {
			out[place{o, idx}] = true
		}
	}
	return out, err
}

// neverLooks takes nothing for stored at the assignment.
type neverLooks struct{ tables }

func (neverLooks) heldTo(_ context.Context, _ event.Partition, committed int64) (int64, error) {
	return committed, nil
}

// neverWaits does not see the inserts that run.
type neverWaits struct{ tables }

func (neverWaits) runningInserts(context.Context, []string) ([]string, error) { return nil, nil }

// hopeful takes an unknown outcome for a refusal, so that the rows are sent again
// without a look.
type hopeful struct{ sender }

func (s hopeful) send(ctx context.Context, b *block) error {
	err := s.sender.send(ctx, b)
	if classify(err) == failureUnknown {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	return err
}

// careless takes an unknown outcome for a success.
type careless struct{ sender }

func (s careless) send(ctx context.Context, b *block) error {
	err := s.sender.send(ctx, b)
	if classify(err) == failureUnknown {
		return nil
	}
	return err
}

// forgetful loses the first record of every longer answer.
type forgetful struct{ ingest.Source }

func (s forgetful) Fetch(ctx context.Context, p event.Partition, from int64) (*ingest.Fetched, error) {
	f, err := s.Source.Fetch(ctx, p, from)
	if err == nil && len(f.Records) > 3 {
		f.Records = f.Records[1:]
	}
	return f, err
}

func breaches() []breach {
	return []breach{
		{name: "commit before the acknowledgement", wrapWriter: func(w ingest.EventWriter) ingest.EventWriter { return ackAtOnce{w} }},
		{name: "maximum instead of set", wrapTables: func(t tables) tables { return maximum{t} }},
		{name: "no look at the assignment", wrapTables: func(t tables) tables { return neverLooks{t} }},
		{name: "no waiting for running inserts", wrapTables: func(t tables) tables { return neverWaits{t} }},
		{name: "no look after an unknown outcome", wrapSender: func(s sender) sender { return hopeful{s} }},
		{name: "sent again with neither look nor token", noTokens: true, wrapSender: func(s sender) sender { return hopeful{s} }},
		{name: "unknown outcome taken for success", wrapSender: func(s sender) sender { return careless{s} }},
		{name: "commits of an old generation accepted", wrapCommits: func(c modelCommitter) modelCommitter { c.gen = anyGeneration; return c }},
		{name: "a record lost between broker and decoder", wrapSource: func(s ingest.Source) ingest.Source { return forgetful{s} }},
	}
}

// TestModelCatchesBreaches breaks the protocol in one place at a time: the model
// has to see it within a bounded number of histories.
func TestModelCatchesBreaches(t *testing.T) {
	t.Parallel()
	const within = 1500
	for _, br := range breaches() {
		t.Run(br.name, func(t *testing.T) {
			t.Parallel()
			for n := range within {
				th := themes()[n%len(themes())]
				pl := rapid.Custom(func(t *rapid.T) plan { return drawPlan(t, th) }).Example(n)
				if blames := play(t, pl, br); len(blames) > 0 {
					t.Logf("seen in history %d: %s", n, blames[0])
					return
				}
			}
			t.Errorf("not seen in %d histories", within)
		})
	}
}

// TestModelNeedsNoTokens: the tokens are a second line. The look-ups alone keep
// the promise when the server remembers none.
func TestModelNeedsNoTokens(t *testing.T) {
	t.Parallel()
	th := themes()[0]
	rapid.Check(t, func(rt *rapid.T) {
		pl := drawPlan(rt, th)
		if blames := play(t, pl, breach{noTokens: true}); len(blames) > 0 {
			rt.Fatalf("%s%q", pl, blames)
		}
	})
}
