package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/jobs"
)

// Claim implements jobs.Queue. The clock is read in a subquery: an index is not
// used for what may be another value at each row.
func (s *Store) Claim(ctx context.Context, kind jobs.Kind, n int, lease time.Duration) ([]jobs.Job, error) {
	return list(ctx, s, "claim_jobs", `UPDATE jobs j SET due_at = now_us() + $3, claim = claim + 1, tries = tries + 1, running = true FROM (
		SELECT kind, subject FROM jobs WHERE kind = $1 AND dead_at IS NULL AND due_at <= (SELECT now_us())
		ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED) due
		WHERE j.kind = due.kind AND j.subject = due.subject RETURNING `+jobColumns, []any{string(kind), n, lease.Microseconds()}, scanJob)
}

const jobColumns = "j.kind, j.subject, j.created_at, j.due_at, j.claim, j.tries, j.running, j.dead_at, j.reason"

func scanJob(scan scanner) (j jobs.Job, err error) {
	var created, due int64
	var dead *int64
	err = scan(&j.Kind, &j.Subject, &created, &due, &j.Claim, &j.Tries, &j.Running, &dead, &j.Reason)
	j.CreatedAt, j.DueAt, j.DeadAt = instant(created), instant(due), optional(dead)
	return j, err
}

// stillMine is the fence: what a worker says of a claim that is not the last
// changes nothing.
const stillMine = " WHERE kind = $1 AND subject = $2 AND claim = $3"

// Done implements jobs.Queue.
func (s *Store) Done(ctx context.Context, j jobs.Job) error {
	start := time.Now()
	_, err := s.finished.do(ctx, j)
	s.observe("finish_job", time.Since(start), err)
	return err
}

// finishGroup removes the jobs of some callers at once.
func (s *Store) finishGroup(ctx context.Context, group []*call[jobs.Job, struct{}]) {
	kinds, subjects, claims := make([]string, len(group)), make([]string, len(group)), make([]int64, len(group))
	for i, c := range group {
		kinds[i], subjects[i], claims[i] = string(c.in.Kind), c.in.Subject, c.in.Claim
	}
	err := s.away(s.connected(ctx, func(ctx context.Context, c *pgxpool.Conn) error {
		_, err := c.Exec(ctx, `DELETE FROM jobs j USING unnest($1::text[], $2::text[], $3::bigint[]) AS q(kind, subject, claim)
			CROSS JOIN LATERAL (SELECT ctid FROM jobs WHERE kind = q.kind AND subject = q.subject AND claim = q.claim FOR UPDATE) mine
			WHERE j.ctid = mine.ctid`, kinds, subjects, claims)
		return err
	}))
	for _, c := range group {
		c.answer(struct{}{}, err)
	}
}

// Postpone implements jobs.Queue.
func (s *Store) Postpone(ctx context.Context, j jobs.Job, after time.Duration, reason string, refund bool) error {
	_, err := s.count(ctx, "postpone_job", "UPDATE jobs SET running = false, due_at = now_us() + $4, reason = coalesce(nullif($5, ''), reason), tries = tries - $6::boolean::int"+stillMine,
		string(j.Kind), j.Subject, j.Claim, after.Microseconds(), reason, refund)
	return err
}

// Bury implements jobs.Queue.
func (s *Store) Bury(ctx context.Context, j jobs.Job, reason string) error {
	_, err := s.count(ctx, "bury_job", "UPDATE jobs SET running = false, dead_at = now_us(), reason = $4"+stillMine, string(j.Kind), j.Subject, j.Claim, reason)
	return err
}

// JobStats implements jobs.Queue.
func (s *Store) JobStats(ctx context.Context) ([]jobs.Stat, error) {
	return list(ctx, s, "count_jobs", `SELECT kind, count(*) FILTER (WHERE dead_at IS NULL), count(dead_at),
		greatest(0, now_us() - min(created_at) FILTER (WHERE dead_at IS NULL)), greatest(0, now_us() - min(due_at) FILTER (WHERE dead_at IS NULL))
		FROM jobs GROUP BY kind`, nil, func(scan scanner) (stat jobs.Stat, err error) {
		var oldest, overdue int64
		err = scan(&stat.Kind, &stat.Queued, &stat.Dead, &oldest, &overdue)
		stat.Oldest, stat.Overdue = time.Duration(oldest)*time.Microsecond, time.Duration(overdue)*time.Microsecond
		return stat, err
	})
}

// matching is the condition of a filter; its arguments are filterArgs.
const matching = " WHERE ($1 = '' OR kind = $1) AND ($2 = '' OR subject = $2) AND (dead_at IS NOT NULL OR NOT $3)"

func filterArgs(f jobs.Filter, dead bool) []any { return []any{string(f.Kind), f.Subject, dead} }

// Jobs implements jobs.Admin.
func (s *Store) Jobs(ctx context.Context, f jobs.Filter, after jobs.Job, limit int) ([]jobs.Job, error) {
	return list(ctx, s, "list_jobs", "SELECT "+jobColumns+" FROM jobs j"+matching+" AND (kind, subject) > ($4, $5) ORDER BY kind, subject LIMIT $6",
		append(filterArgs(f, f.Dead), string(after.Kind), after.Subject, limit), scanJob)
}

// RetryJobs implements jobs.Admin.
func (s *Store) RetryJobs(ctx context.Context, f jobs.Filter) (int, error) {
	return s.count(ctx, "retry_jobs", "UPDATE jobs SET dead_at = NULL, tries = 0, reason = '', due_at = now_us()"+matching+" AND NOT running AND (tries > 0 OR dead_at IS NOT NULL)",
		filterArgs(f, f.Dead)...)
}

// DropJobs implements jobs.Admin.
func (s *Store) DropJobs(ctx context.Context, f jobs.Filter) (int, error) {
	return s.count(ctx, "drop_jobs", "DELETE FROM jobs"+matching+" AND NOT running", filterArgs(f, f.Dead || f.Subject == "")...)
}

// count is a writing call of one statement, and returns how many rows it
// changed.
func (s *Store) count(ctx context.Context, name, statement string, args ...any) (int, error) {
	return mutate(ctx, s, name, func(ctx context.Context, tx pgx.Tx) (int, error) {
		done, err := tx.Exec(ctx, statement, args...)
		return int(done.RowsAffected()), err
	})
}
