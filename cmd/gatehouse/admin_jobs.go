package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/internal/app"
	"gatehouse/internal/jobs"
	"gatehouse/internal/nearest"
)

func jobsCommand() *cobra.Command {
	return group("jobs", "List what is to be done later, and retry or drop what failed",
		listJobs(),
		onFailedJobs("retry", "Try jobs that failed, dead or waiting for their next try, again at once",
			`Tries jobs again that failed, dead or waiting for their next try, as if they had
never been tried. JOB is KIND/SUBJECT, as gatehouse admin jobs list shows it.`, "retried", app.Store.RetryJobs),
		onFailedJobs("drop", "Remove dead jobs, or one that does not run, dead or not",
			`Removes dead jobs; one that is named may also wait. JOB is KIND/SUBJECT, as
gatehouse admin jobs list shows it. Where Stripe is configured, a customer that
it does not know gets a new job at the next start.`, "dropped", app.Store.DropJobs),
	)
}

// jobJSON is a job as --json prints it.
type jobJSON struct {
	Kind      jobs.Kind  `json:"kind"`
	Subject   string     `json:"subject"`
	State     string     `json:"state"`
	Tries     int        `json:"tries"`
	CreatedAt time.Time  `json:"created_at"`
	DueAt     *time.Time `json:"due_at"` // of a running one: when its lease ends; of a dead one: null
	DeadAt    *time.Time `json:"dead_at"`
	Reason    *string    `json:"reason"`
}

func jobOut(j jobs.Job) jobJSON {
	out := jobJSON{j.Kind, j.Subject, "queued", j.Tries, j.CreatedAt, &j.DueAt, optional(j.DeadAt), optionalText(j.Reason)}
	switch {
	case !j.DeadAt.IsZero():
		out.State, out.DueAt = "dead", nil
	case j.Running:
		out.State = "running"
	case j.Tries > 0:
		out.State = "waiting"
	}
	return out
}

func listJobs() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List jobs by kind and subject, which is a customer's id"}
	kind := c.Flags().String("kind", "", "only those of this kind")
	dead := c.Flags().Bool("dead", false, "only those that were given up")
	limit := c.Flags().Int("limit", 100, "at most so many, 1 to 10000")
	after := c.Flags().String("after", "", "only those after this KIND/SUBJECT, for the next page")
	var from jobs.Job
	c.PreRunE = func(*cobra.Command, []string) (err error) {
		if *limit < 1 || *limit > 10_000 {
			return usageError{fmt.Errorf("--limit %d: want 1 to 10000", *limit)}
		}
		if *after != "" {
			if from.Kind, from.Subject, err = parseJob(*after); err != nil {
				return err
			}
		}
		return checkKind(*kind)
	}
	return adminCommandOn(c, func(ctx context.Context, c *cobra.Command, a adminCall) error {
		found, err := a.store.Jobs(ctx, jobs.Filter{Kind: jobs.Kind(*kind), Dead: *dead}, from, *limit)
		if err != nil {
			return err
		}
		all := make([]jobJSON, 0, len(found))
		t := table{header: []string{"KIND", "SUBJECT", "STATE", "TRIES", "DUE", "REASON"}}
		for _, j := range found {
			out := jobOut(j)
			all = append(all, out)
			due := when(j.DueAt)
			if out.State == "dead" {
				due = ""
			}
			t.add(string(j.Kind), j.Subject, out.State, strconv.Itoa(j.Tries), due, j.Reason)
		}
		t.json = all
		if len(found) == *limit {
			last := found[len(found)-1]
			say(c, "there may be more: add --after %s/%s", last.Kind, last.Subject)
		}
		return t.print(c.OutOrStdout(), a.json)
	}, nil)
}

// onFailedJobs is a command that changes jobs that failed: one, those of a kind,
// or all.
func onFailedJobs(use, short, long, done string, do func(app.Store, context.Context, jobs.Filter) (int, error)) *cobra.Command {
	c := &cobra.Command{Use: use + " (JOB | --kind KIND | --all)", Short: short, Long: long}
	kind := c.Flags().String("kind", "", "all of this kind")
	all := c.Flags().Bool("all", false, "all")
	var f jobs.Filter
	c = adminCommandOn(c, func(ctx context.Context, c *cobra.Command, a adminCall) error {
		n, err := do(a.store, ctx, f)
		if err == nil && n == 0 && f.Subject != "" {
			err = whyUnchanged(ctx, a.store, f)
		}
		if err != nil {
			return err
		}
		t := table{json: map[string]int{done: n}}
		t.add(done, strconv.Itoa(n))
		return t.print(c.OutOrStdout(), a.json)
	}, nil)
	c.Args = func(_ *cobra.Command, args []string) (err error) {
		ways := len(args)
		if *kind != "" {
			ways++
		}
		if *all {
			ways++
		}
		if ways != 1 {
			return usageError{errors.New("say which jobs, in one way: one as KIND/SUBJECT, or --kind KIND, or --all")}
		}
		f.Kind = jobs.Kind(*kind)
		if len(args) == 1 {
			f.Kind, f.Subject, err = parseJob(args[0])
			return err
		}
		return checkKind(*kind)
	}
	return c
}

// whyUnchanged is why there was no such job of the name.
func whyUnchanged(ctx context.Context, s app.Store, f jobs.Filter) error {
	found, err := s.Jobs(ctx, f, jobs.Job{}, 1)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("there is no job %s/%s", f.Kind, f.Subject)
	}
	return fmt.Errorf("the job %s/%s has not failed: it is %s", f.Kind, f.Subject, jobOut(found[0]).State)
}

func parseJob(s string) (jobs.Kind, string, error) {
	kind, subject, ok := strings.Cut(s, "/")
	if !ok || kind == "" || subject == "" {
		return "", "", usageError{fmt.Errorf("job %q: want KIND/SUBJECT", s)}
	}
	return jobs.Kind(kind), subject, checkKind(kind)
}

// checkKind refuses a kind of job that there is not; none is meant by "".
func checkKind(kind string) error {
	var known []string
	for _, k := range jobs.Kinds() {
		known = append(known, string(k))
	}
	if kind == "" || slices.Contains(known, kind) {
		return nil
	}
	return usageError{fmt.Errorf("unknown kind of job %q (there are %s)%s", kind, strings.Join(known, ", "), nearest.DidYouMean(kind, known))}
}
