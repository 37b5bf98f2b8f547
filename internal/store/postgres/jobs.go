package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/jobs"
	"gatehouse/internal/store/records"
)

// Claim implements jobs.Queue: one statement, which also writes. The clock is read in a subquery: an index is not
// used for what may be another value at each row.
func (s *Store) Claim(ctx context.Context, kind jobs.Kind, n int, lease time.Duration) ([]jobs.Job, error) {
	return records.Read(ctx, runner{s}, "claim_jobs", func(r records.Reader) ([]jobs.Job, error) {
		return records.List(r, `WITH due AS (
			SELECT kind AS k, subject AS s FROM jobs WHERE kind = $1 AND dead_at IS NULL AND due_at <= (SELECT now_us())
			ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
			UPDATE jobs SET due_at = now_us() + $3, claim = claim + 1, tries = tries + 1, running = true FROM due
			WHERE kind = k AND subject = s RETURNING `+records.JobColumns, []any{string(kind), n, lease.Microseconds()}, records.ScanJob)
	})
}

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
