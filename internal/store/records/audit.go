package records

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/google/uuid"

	"gatehouse/internal/vending"
)

const auditColumns = "id, at, customer_id, key_id, credential_id, grant_id, action, provider, model, requests, input_tokens, output_tokens, cost, estimated, outcome"

// audit adds a row of an id of its own.
func audit(t Tx, a vending.Audit) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	a.ID = id.String()
	return t.Put(insertAudit, auditRow(a, "")...)
}

// insertAudit adds a row, if there is none of its id, or of its job.
const insertAudit = "INSERT INTO audit (" + auditColumns + ", job) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT DO NOTHING"

func auditRow(a vending.Audit, job string) []any {
	return []any{
		a.ID, a.At.UnixMicro(), a.CustomerID, a.KeyID, a.CredentialID, a.GrantID, string(a.Action), string(a.Provider), a.Model, a.Requests, a.InputTokens, a.OutputTokens, a.Cost, a.Estimated, a.Outcome, job,
	}
}

// AuditRows lists rows of the trail after an id.
func AuditRows(r Reader, f vending.AuditFilter, after string, limit int) ([]vending.Audit, error) {
	until := int64(1) << 62
	if !f.Until.IsZero() {
		until = f.Until.UnixMicro()
	}
	return List(r, "SELECT "+auditColumns+` FROM audit WHERE id > $1 AND ($2 = '' OR customer_id = $2) AND ($3 = '' OR credential_id = $3) AND ($4 = '' OR action = $4) AND at >= $5 AND at < $6 ORDER BY id LIMIT $7`,
		[]any{after, f.CustomerID, f.CredentialID, string(f.Action), microsOf(f.Since), until, limit}, scanAudit)
}

func scanAudit(scan Scan) (a vending.Audit, err error) {
	var at int64
	err = scan(&a.ID, &at, &a.CustomerID, &a.KeyID, &a.CredentialID, &a.GrantID, &a.Action, &a.Provider, &a.Model, &a.Requests, &a.InputTokens, &a.OutputTokens, &a.Cost, &a.Estimated, &a.Outcome)
	a.At = Instant(at)
	return a, err
}

// Report keeps what a client says that it used; a job counts once.
func Report(t Tx, r vending.Report) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	now, err := t.Now()
	if err != nil {
		return err
	}
	return t.Put(insertAudit, auditRow(vending.Audit{
		ID: id.String(), At: Instant(now), CustomerID: r.CustomerID, Action: vending.Reporting, Provider: r.Provider, Requests: r.Requests, InputTokens: r.Tokens,
	}, jobOf(r))...)
}

// jobOf is a job as the trail has it, which is never erased: it tells nothing of
// the client's words.
func jobOf(r vending.Report) string {
	sum := sha256.Sum256([]byte(r.CustomerID + " " + r.JobID))
	return hex.EncodeToString(sum[:])
}

// UsedBetween sums up a customer's calls. A lost one of an older version has no
// provider.
func UsedBetween(r Reader, customerID string, start, end time.Time) (map[vending.Provider]vending.Used, error) {
	used := make(map[vending.Provider]vending.Used)
	err := r.Each(`SELECT provider, CAST(sum(requests) AS bigint), CAST(sum(input_tokens) AS bigint), CAST(sum(output_tokens) AS bigint)
		FROM audit WHERE customer_id = $1 AND at >= $2 AND at < $3 AND action = 'call' AND provider <> '' GROUP BY provider`,
		[]any{customerID, start.UnixMicro(), end.UnixMicro()}, func(scan Scan) error {
			var p vending.Provider
			var u vending.Used
			err := scan(&p, &u.Requests, &u.InputTokens, &u.OutputTokens)
			used[p] = u
			return err
		})
	return used, err
}
