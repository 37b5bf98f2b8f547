package sqlite

import (
	"context"
	"time"

	"gatehouse/internal/jobs"
	"gatehouse/internal/store/records"
)

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
			WHERE kind = ?1 AND subject IN (SELECT subject `+due+` ORDER BY due_at LIMIT ?4) RETURNING `+records.JobColumns,
			[]any{string(kind), now, now + lease.Microseconds(), n}, func(scan func(...any) error) error {
				j, err := records.ScanJob(scan)
				found = append(found, j)
				return err
			})
		return found, err
	})
}

// Done implements jobs.Queue.
func (s *Store) Done(ctx context.Context, j jobs.Job) error {
	return s.change(ctx, "finish_job", func(t *tx) error {
		return t.exec("DELETE FROM jobs WHERE kind = ? AND subject = ? AND claim = ?", string(j.Kind), j.Subject, j.Claim)
	})
}

// Postpone implements jobs.Queue.
func (s *Store) Postpone(ctx context.Context, j jobs.Job, after time.Duration, reason string, refund bool) error {
	_, err := write(ctx, s, "postpone_job", nothing(func(t records.Tx) error { return records.Postpone(t, j, after, reason, refund) }))
	return err
}

// Bury implements jobs.Queue.
func (s *Store) Bury(ctx context.Context, j jobs.Job, reason string) error {
	_, err := write(ctx, s, "bury_job", nothing(func(t records.Tx) error { return records.Bury(t, j, reason) }))
	return err
}

// JobStats implements jobs.Queue.
func (s *Store) JobStats(ctx context.Context) ([]jobs.Stat, error) {
	return read(ctx, s, "count_jobs", records.JobStats)
}

// Jobs implements jobs.Admin.
func (s *Store) Jobs(ctx context.Context, f jobs.Filter, after jobs.Job, limit int) ([]jobs.Job, error) {
	return read(ctx, s, "list_jobs", func(r records.Reader) ([]jobs.Job, error) { return records.Jobs(r, f, after, limit) })
}

// RetryJobs implements jobs.Admin.
func (s *Store) RetryJobs(ctx context.Context, f jobs.Filter) (int, error) {
	n, err := write(ctx, s, "retry_jobs", func(t records.Tx) (int64, error) { return records.RetryJobs(t, f) })
	return int(n), err
}

// DropJobs implements jobs.Admin.
func (s *Store) DropJobs(ctx context.Context, f jobs.Filter) (int, error) {
	n, err := write(ctx, s, "drop_jobs", func(t records.Tx) (int64, error) { return records.DropJobs(t, f) })
	return int(n), err
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
