// Package api is Gatehouse on the wire: bytes and statuses, and no decisions.
//
// A request passes in this order: request id, panic guard, client address,
// route, authentication, rate limit, body, idempotency, handler. A webhook's
// sender is told by its body, so there the body comes before the limit. Handlers
// return errors; one place turns them into statuses, counts and log lines. The
// wire formats are spelled out in types of their own, so that no field of a
// domain type reaches a client unmeant. openapi.yaml is kept by hand and held
// against live answers by the tests.
package api
