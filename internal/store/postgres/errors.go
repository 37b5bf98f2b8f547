package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gatehouse/internal/fault"
	"gatehouse/internal/store/records"
)

// SQLSTATEs that are told apart. See PostgreSQL's appendix A.
const (
	readOnly         = "25006"
	deadlock         = "40P01"
	serialization    = "40001"
	lockNotAvailable = "55P03"
	undefinedTable   = "42P01"
	// The server hung up on us, who said nothing in a transaction for too long.
	idleInTransaction = "25P03"
)

// sqlState is the server's code of an error; "" where it is none of the
// server's.
func sqlState(err error) string {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		return e.Code
	}
	return ""
}

// passing says whether an error is the server's, the network's or another
// transaction's rather than the statement's own: later the same may succeed.
func passing(err error) bool {
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok { // whatever the server says, that the role may not log in too
		return true
	}
	switch state := sqlState(err); {
	case state == "":
		_, scan := errors.AsType[pgx.ScanArgError](err)
		_, ours := errors.AsType[records.BugError](err)
		return !scan && !ours && !errors.Is(err, pgx.ErrNoRows)
	case state == readOnly, state == deadlock, state == serialization, state == lockNotAvailable, state == idleInTransaction:
		return true
	default:
		switch state[:min(2, len(state))] {
		case "08", "53", "57", "58", "XX": // connection, resources, operator, system, internal
			return true
		}
		return false
	}
}

// away makes an error of the database one that callers know. Faults of ours and
// bugs stay what they are.
func (s *Store) away(err error) error {
	if err == nil {
		return nil
	}
	if sqlState(err) == readOnly { // after a failover this server may never be written again
		s.pool.Reset()
	}
	if _, ours := errors.AsType[*fault.Error](err); ours {
		return err
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || passing(err) {
		return fault.Away(err)
	}
	return err
}
