package records

import (
	"time"

	"gatehouse/internal/jobs"
)

// JobColumns are what ScanJob reads.
const JobColumns = "kind, subject, created_at, due_at, claim, tries, running, dead_at, reason"

// ScanJob reads a job.
func ScanJob(scan Scan) (j jobs.Job, err error) {
	var created, due int64
	var dead *int64
	err = scan(&j.Kind, &j.Subject, &created, &due, &j.Claim, &j.Tries, &j.Running, &dead, &j.Reason)
	j.CreatedAt, j.DueAt, j.DeadAt = Instant(created), Instant(due), Optional(dead)
	return j, err
}

// Enqueue adds a job that is due at once, unless there is one of its name. Its
// claims begin at the time, so that no claim of an earlier row of that name
// is taken for one of this.
func Enqueue(t Tx, kind jobs.Kind, subject string) error { return enqueueLater(t, kind, subject, 0) }

// enqueueLater adds one that is due after a while.
func enqueueLater(t Tx, kind jobs.Kind, subject string, after time.Duration) error {
	now, err := t.Now()
	if err == nil {
		_, err = t.Exec("INSERT INTO jobs (kind, subject, created_at, due_at, claim) VALUES ($1, $2, $3, $4, $3) ON CONFLICT DO NOTHING", string(kind), subject, now, now+after.Microseconds())
	}
	return err
}

// stillMine is the fence: what a worker says of a claim that is not the last
// changes nothing.
const stillMine = " WHERE kind = $1 AND subject = $2 AND claim = $3"

// Postpone makes a claimed job due after a while.
func Postpone(t Tx, j jobs.Job, after time.Duration, reason string, refund bool) error {
	now, err := t.Now()
	if err != nil {
		return err
	}
	back := 0
	if refund {
		back = 1
	}
	_, err = t.Exec("UPDATE jobs SET running = false, due_at = $4, reason = coalesce(nullif($5, ''), reason), tries = tries - $6"+stillMine,
		string(j.Kind), j.Subject, j.Claim, now+after.Microseconds(), reason, back)
	return err
}

// Bury keeps a claimed job as dead.
func Bury(t Tx, j jobs.Job, reason string) error {
	now, err := t.Now()
	if err == nil {
		_, err = t.Exec("UPDATE jobs SET running = false, dead_at = $4, reason = $5"+stillMine, string(j.Kind), j.Subject, j.Claim, now, reason)
	}
	return err
}

// JobStats counts the jobs of each kind.
func JobStats(r Reader) ([]jobs.Stat, error) {
	now, err := r.Now()
	if err != nil {
		return nil, err
	}
	since := func(at *int64) time.Duration {
		if at == nil {
			return 0
		}
		return max(0, time.Duration(now-*at)*time.Microsecond)
	}
	return List(r, `SELECT kind, count(*) FILTER (WHERE dead_at IS NULL), count(dead_at),
		min(created_at) FILTER (WHERE dead_at IS NULL), min(due_at) FILTER (WHERE dead_at IS NULL) FROM jobs GROUP BY kind`, nil, func(scan Scan) (s jobs.Stat, err error) {
		var oldest, due *int64
		err = scan(&s.Kind, &s.Queued, &s.Dead, &oldest, &due)
		s.Oldest, s.Overdue = since(oldest), since(due)
		return s, err
	})
}

// matching is the condition of a filter; its arguments are filterArgs.
const matching = " WHERE ($1 = '' OR kind = $1) AND ($2 = '' OR subject = $2) AND (dead_at IS NOT NULL OR NOT $3)"

func filterArgs(f jobs.Filter, dead bool) []any { return []any{string(f.Kind), f.Subject, dead} }

// Jobs lists jobs after one.
func Jobs(r Reader, f jobs.Filter, after jobs.Job, limit int) ([]jobs.Job, error) {
	return List(r, "SELECT "+JobColumns+" FROM jobs"+matching+" AND (kind, subject) > ($4, $5) ORDER BY kind, subject LIMIT $6",
		append(filterArgs(f, f.Dead), string(after.Kind), after.Subject, limit), ScanJob)
}

// RetryJobs makes jobs that failed due at once.
func RetryJobs(t Tx, f jobs.Filter) (int64, error) {
	now, err := t.Now()
	if err != nil {
		return 0, err
	}
	return t.Exec("UPDATE jobs SET dead_at = NULL, tries = 0, reason = '', due_at = $4"+matching+" AND NOT running AND (tries > 0 OR dead_at IS NOT NULL)",
		append(filterArgs(f, f.Dead), now)...)
}

// DropJobs removes jobs that nobody runs.
func DropJobs(t Tx, f jobs.Filter) (int64, error) {
	return t.Exec("DELETE FROM jobs"+matching+" AND NOT running", filterArgs(f, f.Dead || f.Subject == "")...)
}
