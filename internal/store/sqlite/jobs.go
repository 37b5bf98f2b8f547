package sqlite

import (
	"context"
	"database/sql"
	"time"

	"gatehouse/internal/jobs"
)

// enqueue adds a job that is due at once, unless there is one of its name. Its
// claims begin at the time, so that no claim of an earlier row of that name
// is taken for one of this.
func (s *Store) enqueue(t *tx, kind jobs.Kind, subject string) error {
	return t.exec("INSERT INTO jobs (kind, subject, created_at, due_at, claim) VALUES (?1, ?2, ?3, ?3, ?3) ON CONFLICT DO NOTHING",
		string(kind), subject, int64(s.now()))
}

// Claim implements jobs.Queue. Where nothing is due it only reads.
func (s *Store) Claim(ctx context.Context, kind jobs.Kind, n int, lease time.Duration) ([]jobs.Job, error) {
	const due = "FROM jobs WHERE kind = ?1 AND dead_at IS NULL AND due_at <= ?2"
	var waiting bool
	err := s.query("look_for_jobs", func() error {
		return s.read.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 "+due+")", string(kind), int64(s.now())).Scan(&waiting)
	})
	if err != nil || !waiting {
		return nil, err
	}
	return mutate(ctx, s, "claim_jobs", func(t *tx) (found []jobs.Job, err error) {
		now := int64(s.now())
		err = t.each(`UPDATE jobs SET due_at = ?3, claim = claim + 1, tries = tries + 1, running = 1
			WHERE kind = ?1 AND subject IN (SELECT subject `+due+` ORDER BY due_at LIMIT ?4) RETURNING `+jobColumns,
			[]any{string(kind), now, now + lease.Microseconds(), n}, func(scan func(...any) error) error {
				j, err := scanJob(scan)
				found = append(found, j)
				return err
			})
		return found, err
	})
}

const jobColumns = "kind, subject, created_at, due_at, claim, tries, running, dead_at, reason"

func scanJob(scan func(...any) error) (j jobs.Job, err error) {
	var created, due int64
	var dead sql.NullInt64
	err = scan(&j.Kind, &j.Subject, &created, &due, &j.Claim, &j.Tries, &j.Running, &dead, &j.Reason)
	j.CreatedAt, j.DueAt, j.DeadAt = instant(created), instant(due), optional(dead)
	return j, err
}

// stillMine is the fence: what a worker says of a claim that is not the last
// changes nothing.
const stillMine = " WHERE kind = ? AND subject = ? AND claim = ?"

// Done implements jobs.Queue.
func (s *Store) Done(ctx context.Context, j jobs.Job) error {
	return s.change(ctx, "finish_job", func(t *tx) error {
		return t.exec("DELETE FROM jobs"+stillMine, string(j.Kind), j.Subject, j.Claim)
	})
}

// Postpone implements jobs.Queue.
func (s *Store) Postpone(ctx context.Context, j jobs.Job, after time.Duration, reason string, refund bool) error {
	return s.change(ctx, "postpone_job", func(t *tx) error {
		return t.exec("UPDATE jobs SET running = 0, due_at = ?, reason = coalesce(nullif(?, ''), reason), tries = tries - ?"+stillMine,
			int64(s.now())+after.Microseconds(), reason, refund, string(j.Kind), j.Subject, j.Claim)
	})
}

// Bury implements jobs.Queue.
func (s *Store) Bury(ctx context.Context, j jobs.Job, reason string) error {
	return s.change(ctx, "bury_job", func(t *tx) error {
		return t.exec("UPDATE jobs SET running = 0, dead_at = ?, reason = ?"+stillMine,
			int64(s.now()), reason, string(j.Kind), j.Subject, j.Claim)
	})
}

// JobStats implements jobs.Queue.
func (s *Store) JobStats(ctx context.Context) (all []jobs.Stat, err error) {
	err = s.each(ctx, "count_jobs", `SELECT kind, count(*) FILTER (WHERE dead_at IS NULL), count(dead_at),
		min(created_at) FILTER (WHERE dead_at IS NULL), min(due_at) FILTER (WHERE dead_at IS NULL) FROM jobs GROUP BY kind`, nil, func(scan func(...any) error) error {
		var stat jobs.Stat
		var oldest, due sql.NullInt64
		if err := scan(&stat.Kind, &stat.Queued, &stat.Dead, &oldest, &due); err != nil {
			return err
		}
		stat.Oldest, stat.Overdue = s.since(oldest), s.since(due)
		all = append(all, stat)
		return nil
	})
	return all, err
}

// since is how long ago a time was; zero where there is none, or it is to come.
func (s *Store) since(at sql.NullInt64) time.Duration {
	if !at.Valid {
		return 0
	}
	return max(0, time.Duration(int64(s.now())-at.Int64)*time.Microsecond)
}

// matching is the condition of a filter; its arguments are filterArgs.
const matching = " WHERE (?1 = '' OR kind = ?1) AND (?2 = '' OR subject = ?2) AND (dead_at IS NOT NULL OR NOT ?3)"

func filterArgs(f jobs.Filter, dead bool) []any { return []any{string(f.Kind), f.Subject, dead} }

// Jobs implements jobs.Admin.
func (s *Store) Jobs(ctx context.Context, f jobs.Filter, after jobs.Job, limit int) (found []jobs.Job, err error) {
	err = s.each(ctx, "list_jobs", "SELECT "+jobColumns+" FROM jobs"+matching+" AND (kind, subject) > (?4, ?5) ORDER BY kind, subject LIMIT ?6",
		append(filterArgs(f, f.Dead), string(after.Kind), after.Subject, limit), func(scan func(...any) error) error {
			j, err := scanJob(scan)
			found = append(found, j)
			return err
		})
	return found, err
}

// RetryJobs implements jobs.Admin.
func (s *Store) RetryJobs(ctx context.Context, f jobs.Filter) (int, error) {
	return s.changeIdle(ctx, "retry_jobs", "UPDATE jobs SET dead_at = NULL, tries = 0, reason = '', due_at = ?4"+matching+" AND NOT running AND (tries > 0 OR dead_at IS NOT NULL)",
		append(filterArgs(f, f.Dead), int64(s.now()))...)
}

// DropJobs implements jobs.Admin.
func (s *Store) DropJobs(ctx context.Context, f jobs.Filter) (int, error) {
	return s.changeIdle(ctx, "drop_jobs", "DELETE FROM jobs"+matching+" AND NOT running", filterArgs(f, f.Dead || f.Subject == "")...)
}

// changeIdle changes jobs that nobody runs, and returns how many it were.
func (s *Store) changeIdle(ctx context.Context, call, what string, args ...any) (int, error) {
	return mutate(ctx, s, call, func(t *tx) (int, error) {
		n, err := t.change(what, args...)
		return int(n), err
	})
}

// takeOver makes the jobs due that no living worker has, which are all, since
// a database has one node: but those that were begun often, whose worker may
// have died of them, wait for their lease. It also mends what was stamped by a
// clock that has been set back since: due_at is never further off than the
// lease or the tries' delay, and no outcome is of the future.
func (s *Store) takeOver(ctx context.Context) error {
	return s.change(ctx, "take_jobs_over", func(t *tx) error {
		now := int64(s.now())
		err := t.exec(`UPDATE jobs SET due_at = ?1 WHERE dead_at IS NULL AND due_at > ?1 AND (tries = 0 OR running AND tries < 5
			OR due_at > ?1 + iif(running, ?2, min(?3, 1000000 << min(tries, 20))))`, now, jobs.Lease.Microseconds(), jobs.MaxDelay.Microseconds())
		if err != nil {
			return err
		}
		if err := t.exec("UPDATE jobs SET running = 0 WHERE running"); err != nil {
			return err
		}
		return t.exec("UPDATE outcomes SET created_at = ?1 WHERE key_id IN (SELECT DISTINCT key_id FROM outcomes) AND created_at > ?1", now)
	})
}
