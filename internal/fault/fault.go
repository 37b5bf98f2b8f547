package fault

import (
	"fmt"
	"path"
	"runtime"
	"strings"
	"time"
)

// Kind decides an error's status. It is a metric label: append only.
type Kind string

// The kinds of failure a client can meet.
const (
	Malformed        Kind = "malformed"        // the body can't be read as JSON
	Unauthenticated  Kind = "unauthenticated"  // no usable key
	Unauthentic      Kind = "unauthentic"      // a webhook that its sender did not sign
	PaymentRequired  Kind = "payment_required" // a charge was refused
	Forbidden        Kind = "forbidden"        // a usable key that may not
	NotFound         Kind = "not_found"        // no such thing, or not yours
	MethodNotAllowed Kind = "method_not_allowed"
	Conflict         Kind = "conflict"          // the state of things refuses it
	TooLarge         Kind = "too_large"         // the body exceeds its bound
	UnsupportedMedia Kind = "unsupported_media" // not application/json, or encoded
	Invalid          Kind = "invalid"           // understood and refused: see Details
	Limited          Kind = "limited"           // a rate limit
	Internal         Kind = "internal"          // our bug
	Unavailable      Kind = "unavailable"       // ours or the store's, and passing
)

// Reasons that Details carry; the contract lists them for sign-up.
const (
	Required          = "required"
	TooLong           = "too_long"
	MalformedValue    = "malformed"
	NotAllowed        = "not_allowed"
	Disposable        = "disposable_provider"
	NoMailServer      = "no_mail_server"
	AlreadyRegistered = "already_registered"
)

// Error is a failure with what a client may read kept apart from what only
// the log may see.
type Error struct {
	Kind          Kind   // decides the status
	Code, Message string // Code is one of the contract's; Message is for people
	Details       []Detail
	RetryAfter    time.Duration // zero: none, but Unavailable always has one
	Err           error         // the cause: logged, never sent
}

// Detail is what is wrong with one field of a request.
type Detail struct {
	Field, Reason, Message string
}

// Error says the code, the message and the cause: for logs.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Code)
	b.WriteString(": ")
	b.WriteString(e.Message)
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Field refuses one field of a request.
func Field(field, reason, message string) *Error {
	return Fields([]Detail{{Field: field, Reason: reason, Message: message}})
}

// Fields refuses a request for at least one field; the first one's message
// is the whole error's.
func Fields(details []Detail) *Error {
	return &Error{Kind: Invalid, Code: "VALIDATION_FAILED", Message: details[0].Message, Details: details}
}

// Missing says that there is no such thing, or that it is another's: the two
// must not be told apart.
func Missing(message string) *Error {
	return &Error{Kind: NotFound, Code: "NOT_FOUND", Message: message}
}

// Refused says that the state of things does not allow the request.
func Refused(message string) *Error {
	return &Error{Kind: Conflict, Code: "CONFLICT", Message: message}
}

// Away says that what the request needs can't be reached just now.
func Away(cause error) *Error {
	return &Error{
		Kind: Unavailable, Code: "UNAVAILABLE", Message: "Gatehouse can't reach its database just now. Try again shortly.",
		RetryAfter: awayRetry, Err: cause,
	}
}

// Panicked is a recovered panic as an error that may be logged: what kind it
// was and where in our code, without a stack and without the value, which
// could hold anything. Call it from the deferred function that recovered.
func Panicked(p any) error {
	what := fmt.Sprintf("%T", p)
	if e, ok := p.(runtime.Error); ok { // such as an index out of range
		what = e.Error()
	}
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(1, callers)])
	for past := false; ; {
		f, more := frames.Next()
		if past && strings.HasPrefix(f.Function, "gatehouse/") {
			return fmt.Errorf("panic: %s at %s:%d", what, path.Base(f.File), f.Line)
		}
		past = past || f.Function == "runtime.gopanic"
		if !more {
			return fmt.Errorf("panic: %s", what)
		}
	}
}

// awayRetry is long enough for a database's restart to be under way, and
// short enough that its return is noticed within seconds.
const awayRetry = 2 * time.Second
