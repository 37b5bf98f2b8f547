package sqlite

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gatehouse/internal/jobs"
)

// hour is the jobs' time in these tests: 1 h after the epoch, in microseconds.
const hour = int64(time.Hour / time.Microsecond)

func atHour() time.Time { return time.UnixMicro(hour).UTC() }

// insertJob puts a job there as an earlier process left it.
func insertJob(t *testing.T, path, subject string, due time.Duration, tries int, running bool, dead any) {
	t.Helper()
	execute(t, path, fmt.Sprintf("INSERT INTO jobs (kind, subject, created_at, due_at, claim, tries, running, dead_at) VALUES ('welcome_mail', '%s', 0, %d, 7, %d, %t, %v)",
		subject, hour+due.Microseconds(), tries, running, dead))
}

func TestOpeningTakesOverWhatNobodyWorksOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	closed(t, open(t, Options{Path: path}))
	insertJob(t, path, "taken: new, from a clock ahead", 20*time.Minute, 0, false, "NULL")
	insertJob(t, path, "taken: begun", jobs.Lease, 1, true, "NULL")
	insertJob(t, path, "taken: begun four times", jobs.Lease, 4, true, "NULL")
	insertJob(t, path, "taken: due beyond any delay", jobs.MaxDelay+time.Microsecond, 9, false, "NULL")
	insertJob(t, path, "taken: begun often, beyond any delay", jobs.MaxDelay+time.Microsecond, 9, true, "NULL")
	insertJob(t, path, "taken: due anyway", -time.Minute, 9, true, "NULL")
	insertJob(t, path, "taken: due beyond the delay of its tries", time.Hour, 2, false, "NULL")
	insertJob(t, path, "left: begun five times", jobs.Lease, 5, true, "NULL")
	insertJob(t, path, "left: failed, and waits", time.Second, 1, false, "NULL")
	insertJob(t, path, "left: failed often, and waits", jobs.MaxDelay, 20, false, "NULL")
	insertJob(t, path, "left: dead", jobs.Lease, 25, false, "1")
	now := atHour()
	s := open(t, Options{Path: path, Clock: func() time.Time { return now }})
	all, err := s.Jobs(t.Context(), jobs.Filter{}, jobs.Job{}, 100)
	if err != nil || len(all) != 11 {
		t.Fatalf("%d jobs, %v", len(all), err)
	}
	for _, j := range all {
		if j.Running || j.Claim != 7 {
			t.Errorf("%s: %+v", j.Subject, j)
		}
	}
	found, err := s.Claim(t.Context(), jobs.WelcomeMail, 100, jobs.Lease)
	if err != nil {
		t.Fatal(err)
	}
	var claimed []string
	for _, j := range found {
		claimed = append(claimed, j.Subject)
		if j.Claim != 8 { // what the dead worker has to say of claim 7 is late
			t.Errorf("claimed as %+v", j)
		}
	}
	slices.Sort(claimed)
	var want []string
	for _, j := range all {
		if j.Subject[:5] == "taken" {
			want = append(want, j.Subject)
		}
	}
	if !slices.Equal(claimed, want) {
		t.Errorf("claimed %q, want %q", claimed, want)
	}
	now = now.Add(jobs.Lease - time.Microsecond) // the job that workers may have died of
	if found, err := s.Claim(t.Context(), jobs.WelcomeMail, 100, jobs.Lease); err != nil || len(found) != 1 || found[0].Subject != "left: failed, and waits" {
		t.Errorf("before the lease ended: claimed %+v, %v", found, err)
	}
	now = now.Add(time.Microsecond)
	if found, err := s.Claim(t.Context(), jobs.WelcomeMail, 1, jobs.Lease); err != nil || len(found) != 1 || found[0].Tries != 6 {
		t.Errorf("then: claimed %+v, %v", found, err)
	}
	closed(t, s)
}

// An operator's command on a database whose node lives takes nothing over.
func TestCommandTakesNothingOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	closed(t, open(t, Options{Path: path}))
	insertJob(t, path, "begun", jobs.Lease, 1, true, "NULL")
	s, err := Open(t.Context(), Options{Path: path, Clock: atHour})
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.Jobs(t.Context(), jobs.Filter{}, jobs.Job{}, 10)
	if err != nil || len(all) != 1 || !all[0].Running || !all[0].DueAt.Equal(atHour().Add(jobs.Lease)) {
		t.Errorf("jobs are %+v, %v", all, err)
	}
	closed(t, s)
}

func TestErasedCustomersAreNotMadeKnownToStripe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	s := open(t, Options{Path: path})
	execute(t, path, customers+"UPDATE customers SET erased_at = 1 WHERE id = '1'") // 2 is known there
	last, n, err := s.QueueStripeCustomers(t.Context(), "", 10)
	if err != nil || last != "3" || n != 1 {
		t.Errorf("queued %d up to %q, %v", n, last, err)
	}
	wantLeft(t, s, "subject AS x FROM jobs", "3")
	closed(t, s)
}
