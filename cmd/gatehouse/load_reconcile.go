package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/internal/load/report"
	"gatehouse/internal/load/suite"
)

const maxExamples = 5 // of each kind of difference

// reconciled is what one kind of write came to.
type reconciled struct {
	What         string   `json:"what"`
	Acknowledged int      `json:"acknowledged"`
	Unclear      int      `json:"unclear"` // had no answer that says whether they were carried out
	Found        int      `json:"found"`   // of both
	Lost         []string `json:"lost"`    // acknowledged, and not there
	Twice        []string `json:"twice"`
	Surplus      []string `json:"surplus"` // there, and neither acknowledged nor unclear
	Late         []string `json:"late"`    // the same, but unclear: of the last moments of a run that was killed
	Other        []string `json:"other"`   // there, and not as it should be

	when map[string]time.Time // what nobody was told of came about, by id
}

func (r *reconciled) differs() bool {
	return len(r.Lost)+len(r.Twice)+len(r.Surplus)+len(r.Other) > 0
}

const (
	// rowsLag is by how much a run's rows are behind what it was told: they are
	// written each second.
	rowsLag = 2 * time.Second
	// underWay is for how long requests are carried out after their run was killed.
	underWay = time.Minute
)

// doubt takes from the surplus what came about since a little before the last
// write that has a row, of runs that were killed: it may have been acknowledged.
func (r *reconciled) doubt(last time.Time) {
	r.Surplus = slices.DeleteFunc(r.Surplus, func(id string) bool {
		after := r.when[id].Sub(last)
		late := !last.IsZero() && after > -rowsLag && after < underWay
		if late {
			r.Late = append(r.Late, id)
		}
		return late
	})
	r.Unclear, r.Found = r.Unclear+len(r.Late), r.Found+len(r.Late)
}

func loadReconcileCommand() *cobra.Command {
	c := adminCommandOn(&cobra.Command{
		Use:   "reconcile DIR",
		Short: "See in the database that each write a run was told of is there once, and nothing else",
		Long: `Holds the database against writes.csv of a run's folder, or of all runs below a
suite's: each sign-up, credential, revocation and event that was acknowledged is
there exactly once, ledgers add up, and of the customers who signed up between
the run's first and last nothing is there that was neither acknowledged nor
without a clear answer; of those of a --keys-file, between the first and the last
credential of each. Give it the folders of all runs of that time at once, as one
folder above them: what another run wrote is surplus to this one. What came about
in the last seconds of a run that was killed is unclear where it has no row.

Works on the database itself, like the commands of admin; do it before a purge.

Exit codes: 0 all is there; 1 something is lost, there twice or surplus; 2 wrong
usage, or a folder that is unreadable or lacks a part of its suite; 3 something
is unclear, since a run was killed.`,
	}, reconcile, []string{"DIR"})
	return c
}

// writes is what runs were told of their writes, by the request.
type writes struct {
	since        time.Time                 // zero: not known
	acked, maybe map[string]map[string]int // request, id: how often
	killed       map[string]bool           // ids of runs that were killed
	torn         []string                  // folders whose last row was left out
}

const (
	signUps     = "POST /api/v1/customers/onboard"
	exchanges   = "POST /api/v1/credentials/exchange"
	refreshes   = "POST /api/v1/credentials/refresh"
	revocations = "DELETE /api/v1/credentials/{}"
	deliveries  = "POST /api/webhooks/stripe"
)

// readRuns reads all runs in a folder and below it.
func readRuns(dir string) (w writes, err error) {
	w = writes{acked: make(map[string]map[string]int), maybe: make(map[string]map[string]int), killed: make(map[string]bool)}
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return w, err
	}
	runs := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		if schemaOf(path) == suite.Schema { // each part that ran has its folder there
			if _, err := suite.Read(path); err != nil {
				return err
			}
		}
		run, err := report.OpenWrites(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		}
		if runs++; runs == 1 || run.Began.Before(w.since) {
			w.since = run.Began
		}
		if run.Torn {
			w.torn = append(w.torn, path)
		}
		for _, row := range run.Rows {
			if run.Killed {
				w.killed[row.ID] = true
			}
			into := w.maybe
			if row.Acknowledged() {
				into = w.acked
			}
			if into[row.Request] == nil {
				into[row.Request] = make(map[string]int)
			}
			into[row.Request][row.ID]++
		}
		return nil
	})
	if err == nil && runs == 0 {
		err = fmt.Errorf("%s has no %s, nor has a folder in it: no run of this version was there", dir, report.WritesFile)
	}
	return w, err
}

// others are requests that nobody knows how to find.
func (w writes) others() *reconciled {
	var names []string
	for _, requests := range []map[string]map[string]int{w.acked, w.maybe} {
		for request := range requests {
			if !slices.Contains([]string{signUps, exchanges, refreshes, revocations, deliveries}, request) && !slices.Contains(names, request) {
				names = append(names, request)
			}
		}
	}
	slices.Sort(names)
	one, _, _ := w.of("not compared: "+strings.Join(names, ", "), names...)
	return one
}

// of begins the count of requests of some kinds.
func (w writes) of(what string, requests ...string) (r *reconciled, acked, maybe map[string]int) {
	r = &reconciled{What: what, Lost: []string{}, Twice: []string{}, Surplus: []string{}, Late: []string{}, Other: []string{}, when: make(map[string]time.Time)}
	acked, maybe = make(map[string]int), make(map[string]int)
	for _, request := range requests {
		for id, n := range w.acked[request] {
			acked[id] += n
		}
		for id, n := range w.maybe[request] {
			maybe[id] += n
		}
	}
	r.Acknowledged = len(acked)
	for id := range maybe {
		if acked[id] == 0 {
			r.Unclear++
		}
	}
	return r, acked, maybe
}

func reconcile(ctx context.Context, c *cobra.Command, a adminCall) error {
	w, err := readRuns(a.args[0])
	if err != nil {
		return usageError{err}
	}
	for _, dir := range w.torn {
		fmt.Fprintf(c.ErrOrStderr(), "%s in %s ends within a row, which is left out: the run was killed\n", report.WritesFile, dir)
	}
	r := reconciler{adminCall: a, writes: w}
	var all []*reconciled
	for _, step := range []func(context.Context) (*reconciled, error){r.signUps, r.ledgers, r.credentials, r.revocations, r.events} {
		one, err := step(ctx)
		if err != nil {
			return err
		}
		if one.Acknowledged+one.Unclear > 0 || one.differs() {
			all = append(all, one)
		}
	}
	compared := len(all)
	if one := r.others(); one.Acknowledged+one.Unclear > 0 {
		all = append(all, one)
	}
	t := table{header: []string{"WHAT", "ACKNOWLEDGED", "UNCLEAR", "FOUND", "LOST", "TWICE", "SURPLUS", "OTHERWISE WRONG"}, json: all}
	differs, wrong := false, false
	found, lost, surplus, late := 0, 0, 0, 0
	for _, one := range all {
		one.doubt(r.last)
		differs, wrong = differs || one.differs(), wrong || len(one.Lost)+len(one.Twice)+len(one.Other) > 0
		found, lost, surplus, late = found+one.Found, lost+len(one.Lost), surplus+len(one.Surplus), late+len(one.Late)
		cells := []string{one.What}
		for _, n := range []int{one.Acknowledged, one.Unclear, one.Found, len(one.Lost), len(one.Twice), len(one.Surplus), len(one.Other)} {
			cells = append(cells, strconv.Itoa(n))
		}
		t.add(cells...)
	}
	if err := t.print(c.OutOrStdout(), a.json); err != nil {
		return err
	}
	for _, one := range all {
		for _, d := range []struct {
			what string
			ids  []string
		}{{"lost", one.Lost}, {"twice", one.Twice}, {"surplus", one.Surplus}, {"unclear, for want of rows", one.Late}, {"otherwise wrong", one.Other}} {
			if len(d.ids) > 0 && !a.json {
				fmt.Fprintf(c.OutOrStdout(), "%s, %s: %s\n", one.What, d.what, strings.Join(d.ids[:min(len(d.ids), maxExamples)], ", "))
			}
		}
	}
	switch {
	case compared == 0:
		return usageError{errors.New("the runs were told of no write that can be found: there is nothing to compare")}
	case lost > 0 && found == 0:
		return errors.New("the database has nothing of what was acknowledged: is it the target's, and was it not purged since?")
	case surplus > 0 && !wrong:
		return errors.New("the database has all that was acknowledged, and more: where another run wrote at that time, give its folder too, by one above both")
	case differs:
		return errors.New("the database does not have what was acknowledged, and that alone")
	case late > 0:
		return inconclusive{fmt.Errorf("of %d writes it can't be known whether they were acknowledged: the run was killed about then, and its last rows are missing", late)}
	}
	return nil
}
