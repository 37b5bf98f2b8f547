package runner

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
)

// Measured is what one sending of a plan's load came to, before anyone judges it.
type Measured struct {
	Result      *load.Result // marked as interrupted where observe ended it
	Checks      []gate.Check // of the gates, of the target's process, and what its script found wrong
	Environment report.Environment
}

// Measure sends a plan's load as Run does, and reports nothing: it is for whoever
// sends it many times. It ends early once observe has seen enough. An error means
// that it could not begin, or that ctx ended it.
func Measure(ctx context.Context, o Options, observe func(*load.Sample) (enough bool)) (*Measured, error) {
	nodes := o.nodes(ctx)
	var s load.Script
	played, err := o.prepare(ctx, func(*load.Arrival, string, string, int) {})
	if err != nil {
		return nil, err
	}
	if played != nil {
		s = played
		defer played.Close()
	}
	sending, stop := context.WithCancel(ctx)
	defer stop()
	m := &Measured{}
	m.Result, err = load.Run(sending, o.job(s, func(s *load.Sample) {
		if observe(s) {
			stop()
		}
	}))
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	m.Environment, m.Checks = o.look(ctx, nodes, m.Result)
	if verdict, _ := gate.Judge(m.Result, o.Plan.Gates, m.Checks); verdict == gate.Pass && played != nil {
		for _, c := range played.Checks(ctx, false) { // they take long: only where they decide
			if c.Verdict == gate.Fail {
				m.Checks = append(m.Checks, c)
			}
		}
	}
	return m, nil
}

const (
	promptly    = 500 * time.Millisecond // an answer that comes so soon waited for nothing
	inARow      = 3                      // so many make a target well
	convalesces = time.Minute            // at the most
)

// Recovered waits until the targets are done with the load before: each answers
// /health promptly, three times in a row. One without it may answer anything.
func Recovered(ctx context.Context, targets []*url.URL) error {
	for _, target := range targets {
		if err := recovered(ctx, target); err != nil {
			return err
		}
	}
	return nil
}

func recovered(ctx context.Context, target *url.URL) error {
	p, again := newProbe(target, ""), time.NewTicker(promptly/2)
	defer again.Stop()
	well := 0
	for began := time.Now(); time.Since(began) < convalesces; {
		asked := time.Now()
		l := p.lookAtHealth(ctx)
		if well++; l.err != nil && !l.absent || time.Since(asked) > promptly {
			well = 0
		}
		if well == inARow {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("the target %s has not answered /health promptly for %v since: look at its log, and start it again", target, convalesces)
}
