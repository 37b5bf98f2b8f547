package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/load/report"
	"gatehouse/internal/vending"
)

const (
	// clocksApart is how far this machine's clock may have been ahead of the
	// database's: what was written earlier is not looked at.
	clocksApart = 24 * time.Hour
	readAtOnce  = 1000
	maxExamples = 5 // of each kind of difference
)

// uuidIn finds the UUID that a load test put into an address.
var uuidIn = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// reconciled is what one kind of write came to.
type reconciled struct {
	What         string   `json:"what"`
	Acknowledged int      `json:"acknowledged"`
	Unclear      int      `json:"unclear"` // had no answer that says whether they were carried out
	Found        int      `json:"found"`   // of both
	Lost         []string `json:"lost"`    // acknowledged, and not there
	Twice        []string `json:"twice"`
	Surplus      []string `json:"surplus"` // there, and neither acknowledged nor unclear
	Other        []string `json:"other"`   // there, and not as it should be
}

func (r *reconciled) differs() bool {
	return len(r.Lost)+len(r.Twice)+len(r.Surplus)+len(r.Other) > 0
}

func loadReconcileCommand() *cobra.Command {
	c := adminCommandOn(&cobra.Command{
		Use:   "reconcile DIR",
		Short: "See in the database that each write a run was told of is there once, and nothing else",
		Long: `Holds the database against writes.csv of a run's folder, or of all runs below a
suite's: each sign-up, credential, revocation and event that was acknowledged is
there exactly once, ledgers add up, and of the customers who signed up between
the run's first and last nothing is there that was neither acknowledged nor
without a clear answer. Give it the folders of all runs of that time at once, as
one folder above them: what another run wrote is surplus to this one.

Works on the database itself, like the commands of admin; do it before a purge.

Exit codes: 0 all is there; 1 something is lost, there twice or surplus; 2 wrong
usage or an unreadable folder.`,
	}, reconcile, []string{"DIR"})
	return c
}

// told is what runs were told of their writes, by the request.
type writes struct {
	since        time.Time
	acked, maybe map[string]map[string]int // request, id: how often
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
	w = writes{acked: make(map[string]map[string]int), maybe: make(map[string]map[string]int)}
	files, err := filepath.Glob(filepath.Join(dir, report.WritesFile))
	below, err2 := filepath.Glob(filepath.Join(dir, "*", report.WritesFile))
	if files = append(files, below...); len(files) == 0 || err != nil || err2 != nil {
		return w, errors.Join(fmt.Errorf("%s has no %s, nor has a folder in it: no run of this version ended there", dir, report.WritesFile), err, err2)
	}
	for _, name := range files {
		s, _, err := report.ReadFolder(filepath.Dir(name))
		if err != nil {
			return w, err
		}
		if w.since.IsZero() || s.StartedAt.Before(w.since) {
			w.since = s.StartedAt
		}
		f, err := os.Open(name)
		if err != nil {
			return w, err
		}
		all, err := report.ReadWrites(f)
		_ = f.Close() // it was read
		if err != nil {
			return w, fmt.Errorf("%s: %w", name, err)
		}
		for _, row := range all {
			into := w.maybe
			if row.Acknowledged() {
				into = w.acked
			}
			if into[row.Request] == nil {
				into[row.Request] = make(map[string]int)
			}
			into[row.Request][row.ID]++
		}
	}
	return w, nil
}

// of begins the count of requests of some kinds.
func (w writes) of(what string, requests ...string) (r *reconciled, acked, maybe map[string]int) {
	r = &reconciled{What: what, Lost: []string{}, Twice: []string{}, Surplus: []string{}, Other: []string{}}
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
	r := reconciler{adminCall: a, writes: w}
	var all []*reconciled
	for _, step := range []func(context.Context) (*reconciled, error){r.signUps, r.ledgers, r.credentials, r.revocations, r.events} {
		one, err := step(ctx)
		if err != nil {
			return err
		}
		if one.Acknowledged+one.Unclear > 0 {
			all = append(all, one)
		}
	}
	t := table{header: []string{"WHAT", "ACKNOWLEDGED", "UNCLEAR", "FOUND", "LOST", "TWICE", "SURPLUS", "OTHERWISE WRONG"}, json: all}
	differs := false
	for _, one := range all {
		differs = differs || one.differs()
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
		}{{"lost", one.Lost}, {"twice", one.Twice}, {"surplus", one.Surplus}, {"otherwise wrong", one.Other}} {
			if len(d.ids) > 0 && !a.json {
				fmt.Fprintf(c.OutOrStdout(), "%s, %s: %s\n", one.What, d.what, strings.Join(d.ids[:min(len(d.ids), maxExamples)], ", "))
			}
		}
	}
	switch {
	case len(all) == 0:
		return errors.New("the runs were told of no write: there is nothing to compare")
	case differs:
		return errors.New("the database does not have what was acknowledged, and that alone")
	}
	return nil
}

// reconciler compares step by step.
type reconciler struct {
	adminCall
	writes
	customers map[string]bool // ids of those who signed up in the runs
}

// signUps finds customers by the UUIDs in their addresses.
func (r *reconciler) signUps(ctx context.Context) (*reconciled, error) {
	one, acked, maybe := r.of("sign-ups", signUps)
	r.customers = make(map[string]bool)
	if one.Acknowledged+one.Unclear == 0 {
		return one, nil
	}
	seen := make(map[string]int)
	var between, since []string // not ours, since the last of ours, and before it
	for after := firstID(r.since.Add(-clocksApart)); ; {
		page, err := r.store.Customers(ctx, after, readAtOnce)
		if err != nil {
			return nil, err
		}
		for _, c := range page {
			after = c.ID
			id := uuidIn.FindString(c.Email)
			if id == "" {
				continue
			}
			if acked[id]+maybe[id] == 0 {
				if len(seen) > 0 { // none of the runs' before: another run's
					since = append(since, c.ID)
				}
				continue
			}
			between, since = append(between, since...), nil
			r.customers[c.ID] = true
			if seen[id]++; seen[id] == 2 {
				one.Twice = append(one.Twice, id)
			}
		}
		if len(page) < readAtOnce {
			break
		}
	}
	one.Surplus = append(one.Surplus, between...)
	one.Found = len(seen)
	one.lose(acked, seen)
	return one, nil
}

// firstID is before all ids that are made at a time or later.
func firstID(at time.Time) string {
	var id uuid.UUID
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6], id[8] = 0x70, 0x80
	return id.String()
}

// lose finds what was acknowledged and not seen.
func (r *reconciled) lose(acked, seen map[string]int) {
	for id := range acked {
		if seen[id] == 0 {
			r.Lost = append(r.Lost, id)
		}
	}
	slices.Sort(r.Lost)
}

// ledgers finds what does not add up at these customers.
func (r *reconciler) ledgers(ctx context.Context) (*reconciled, error) {
	one, _, _ := r.of("their ledgers")
	one.Acknowledged = len(r.customers)
	if len(r.customers) == 0 {
		return one, nil
	}
	found, err := billing.Verify(func(yield func(billing.Account, error) bool) {
		for a, err := range r.store.Ledgers(ctx, "") {
			if err == nil && !r.customers[a.CustomerID] {
				continue
			}
			one.Found++
			if !yield(a, err) {
				return
			}
		}
	})
	for _, f := range found.Findings {
		one.Other = append(one.Other, fmt.Sprintf("customer %s: %+v", f.CustomerID, f))
	}
	return one, err
}

// trail is the credentials that the audit trail has an action of.
func (r *reconciler) trail(ctx context.Context, action vending.Action, each func(vending.Audit)) error {
	for after := ""; ; {
		page, err := r.store.AuditRows(ctx, vending.AuditFilter{Action: action, Since: r.since.Add(-clocksApart)}, after, readAtOnce)
		if err != nil {
			return err
		}
		for _, row := range page {
			after = row.ID
			each(row)
		}
		if len(page) < readAtOnce {
			return nil
		}
	}
}

// credentials are looked for in the audit trail, which keeps those that ended.
func (r *reconciler) credentials(ctx context.Context) (*reconciled, error) {
	one, acked, _ := r.of("credentials", exchanges, refreshes)
	seen := make(map[string]int)
	unknown := 0 // of customers whose requests had no clear answer, as many as those
	for _, request := range []string{exchanges, refreshes} {
		for _, n := range r.maybe[request] {
			unknown += n
		}
	}
	one.Unclear = unknown
	if one.Acknowledged+one.Unclear == 0 {
		return one, nil
	}
	var more []string
	err := r.trail(ctx, vending.Granting, func(row vending.Audit) {
		switch {
		case acked[row.CredentialID] > 0:
			if seen[row.CredentialID]++; seen[row.CredentialID] == 2 {
				one.Twice = append(one.Twice, row.CredentialID)
			}
		case r.customers[row.CustomerID]:
			more = append(more, row.CredentialID)
		}
	})
	if len(more) > unknown {
		one.Surplus = more
	}
	one.Found = len(seen) + min(len(more), unknown)
	one.lose(acked, seen)
	return one, err
}

func (r *reconciler) revocations(ctx context.Context) (*reconciled, error) {
	one, acked, maybe := r.of("revocations", revocations)
	if one.Acknowledged+one.Unclear == 0 {
		return one, nil
	}
	seen := make(map[string]int)
	err := r.trail(ctx, vending.Revoking, func(row vending.Audit) {
		if acked[row.CredentialID]+maybe[row.CredentialID] > 0 {
			seen[row.CredentialID]++
		}
	})
	one.Found = len(seen)
	one.lose(acked, seen)
	return one, err
}

// events are there once by their key; what is asked is whether they are, and
// whether each has been decided.
func (r *reconciler) events(ctx context.Context) (*reconciled, error) {
	one, acked, maybe := r.of("events", deliveries)
	for id := range maybe {
		acked[id] += 0
	}
	for id, n := range acked {
		e, err := r.store.Event(ctx, id)
		f, known := errors.AsType[*fault.Error](err)
		switch {
		case known && f.Kind == fault.NotFound:
			if n > 0 {
				one.Lost = append(one.Lost, id)
			}
			continue
		case err != nil:
			return nil, err
		case e.State == billing.Received || e.Dead:
			one.Other = append(one.Other, id+" is not decided")
		}
		one.Found++
	}
	slices.Sort(one.Lost)
	return one, r.strangeEvents(ctx, acked, one)
}

// eventOf finds the run in an event's id.
var eventOf = regexp.MustCompile(`^evt_load[a-z0-9]+`)

// strangeEvents finds those of the runs' that no run was told of.
func (r *reconciler) strangeEvents(ctx context.Context, known map[string]int, one *reconciled) error {
	runs := make(map[string]bool)
	for id := range known {
		runs[eventOf.FindString(id)] = true
	}
	delete(runs, "")
	for before := ""; len(runs) > 0; {
		page, err := r.store.Events(ctx, billing.EventFilter{}, before, readAtOnce)
		if err != nil {
			return err
		}
		for _, e := range page {
			before = e.ID
			if _, ok := known[e.ID]; !ok && runs[eventOf.FindString(e.ID)] {
				one.Surplus = append(one.Surplus, e.ID)
			}
		}
		if len(page) < readAtOnce || page[len(page)-1].ReceivedAt.Before(r.since.Add(-clocksApart)) {
			return nil
		}
	}
	return nil
}
