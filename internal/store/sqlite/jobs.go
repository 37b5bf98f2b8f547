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
