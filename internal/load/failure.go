package load

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// The kinds of errors, as they stand in a series' key after "error:". There
// are few, whatever a target does: what it said is in the series' example.
const (
	errorTimeout     = "timeout"     // no whole answer within the time-out
	errorRefused     = "refused"     // nobody listens
	errorUnreachable = "unreachable" // no way to the target
	errorConnect     = "connect"     // another reason not to connect
	errorTLS         = "tls"         // no handshake
	errorReset       = "reset"       // the connection was reset
	errorClosed      = "closed"      // it ended before an answer
	errorTruncated   = "truncated"   // it ended within the answer
	errorProtocol    = "protocol"    // the answer is not HTTP/1.1
	errorTooLarge    = "too_large"   // the answer exceeds what is read
	errorOwn         = "generator"   // this machine lacked something
	errorInterrupted = "interrupted" // the run was, before the answer
)

// Interrupted is the key of what an interruption cut off: no target's failure.
const Interrupted = "error:" + errorInterrupted

// handshakeError is why TLS could not be agreed on over a connection.
type handshakeError struct{ err error }

func (e handshakeError) Error() string { return "TLS handshake: " + e.err.Error() }
func (e handshakeError) Unwrap() error { return e.err }

// errorKind names an error. dialing: it came from connecting.
func errorKind(err error, dialing bool) string {
	if own(err) {
		return errorOwn
	}
	var handshake handshakeError
	var op *net.OpError
	var protocol protocolError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return errorTimeout
	case errors.As(err, &handshake), errors.As(err, &op) && op.Op == "remote error": // a TLS alert, perhaps after the handshake
		return errorTLS
	case errors.Is(err, syscall.ECONNREFUSED):
		return errorRefused
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return errorUnreachable
	case dialing:
		return errorConnect
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return errorReset
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errorTruncated
	case errors.Is(err, io.EOF):
		return errorClosed
	case errors.Is(err, errTooLarge), errors.Is(err, errHeadLarge):
		return errorTooLarge
	case errors.As(err, &protocol):
		return errorProtocol
	}
	return errorReset
}

// own reports whether an error is this machine's fault, which makes the run
// invalid and says nothing of the target.
func own(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.EADDRNOTAVAIL, syscall.EADDRINUSE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
