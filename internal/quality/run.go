package quality

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keysentry/keysentry/internal/simulate"
)

// firstBenign is the first seed of networks in which nobody attacks.
const firstBenign = 1_000_000

// Run plays every seed in every visibility and returns a line for each of these.
func Run(ctx context.Context, o Options) ([]Line, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if len(o.Visibilities) == 0 {
		o.Visibilities = simulate.Visibilities()
	}
	attacks, err := o.attacks()
	if err != nil {
		return nil, err
	}
	tallies := map[simulate.Visibility]*tally{}
	for _, v := range o.Visibilities {
		tallies[v] = newTally(v)
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(o.Workers)
	play := func(opt simulate.Options, v simulate.Visibility) {
		group.Go(func() error {
			began := time.Now()
			p, err := newPlay(opt, v)
			if err == nil {
				p.trace = o.Trace
				err = p.run(ctx)
			}
			if err != nil {
				return fmt.Errorf("seed %d, %s: %w", opt.Seed, v, err)
			}
			mu.Lock()
			defer mu.Unlock()
			tallies[v].add(p)
			if o.Progress != nil {
				fmt.Fprintf(o.Progress, "%s: %d events of %.0f days in %s\n", p, p.events, opt.Duration.Hours()/24, time.Since(began).Round(time.Second))
			}
			return nil
		})
	}
	for _, seed := range o.Seeds {
		for _, v := range o.Visibilities {
			play(o.network(seed, o.Days, attacks), v)
		}
	}
	for n, left := uint64(0), o.BenignDays; left > 0; n++ {
		days := min(left, o.Days)
		for _, v := range o.Visibilities {
			play(o.network(firstBenign+n, days, nil), v)
		}
		left -= days
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	var lines []Line
	for _, v := range o.Visibilities {
		lines = append(lines, tallies[v].line())
	}
	return lines, nil
}

// attacks are the scenarios to play.
func (o Options) attacks() ([]*simulate.Script, error) {
	if o.Scenarios == "" {
		return simulate.Attacks(), nil
	}
	return simulate.LoadScripts(o.Scenarios)
}

// network is the simulation of one seed.
func (o Options) network(seed uint64, days int, attacks []*simulate.Script) simulate.Options {
	return simulate.Options{Seed: seed, Start: start, Duration: time.Duration(days) * 24 * time.Hour, Rate: o.Rate,
		Hosts: o.Hosts, Users: o.Users, Heartbeat: 2 * time.Minute, Calendar: true, Scripts: attacks}
}
