package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
)

func TestErrorKinds(t *testing.T) {
	system := func(op string, errno syscall.Errno) error {
		return &net.OpError{Op: op, Net: "tcp", Err: os.NewSyscallError(op, errno)}
	}
	tests := []struct {
		err     error
		dialing bool
		want    string
	}{
		{system("socket", syscall.EMFILE), true, errorOwn},
		{system("socket", syscall.ENFILE), true, errorOwn},
		{system("connect", syscall.EADDRNOTAVAIL), true, errorOwn},
		{system("bind", syscall.EADDRINUSE), true, errorOwn},
		{system("write", syscall.ENOBUFS), false, errorOwn},
		{system("socket", syscall.ENOMEM), true, errorOwn},
		{system("connect", syscall.ECONNREFUSED), true, errorRefused},
		{system("connect", syscall.ETIMEDOUT), true, errorTimeout},
		{system("connect", syscall.EHOSTUNREACH), true, errorUnreachable},
		{system("connect", syscall.ENETUNREACH), true, errorUnreachable},
		{system("connect", syscall.EPERM), true, errorConnect},
		{system("connect", syscall.ECONNRESET), true, errorConnect},
		{system("read", syscall.ECONNRESET), false, errorReset},
		{system("write", syscall.EPIPE), false, errorReset},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, false, errorTimeout},
		{&net.OpError{Op: "dial", Err: context.DeadlineExceeded}, true, errorTimeout},
		{&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, false, errorTLS},
		{errors.Join(handshakeError{io.EOF}, nil), true, errorTLS},
		{errors.Join(handshakeError{os.ErrDeadlineExceeded}, nil), true, errorTimeout},
		{io.EOF, false, errorClosed},
		{io.ErrUnexpectedEOF, false, errorTruncated},
		{errTooLarge, false, errorTooLarge},
		{errHeadLarge, false, errorTooLarge},
		{notHTTP("it is not"), false, errorProtocol},
		{net.ErrClosed, false, errorReset},
	}
	for _, tt := range tests {
		for _, err := range []error{tt.err, fmt.Errorf("wrapped: %w", tt.err)} {
			if got := errorKind(err, tt.dialing); got != tt.want {
				t.Errorf("%v, dialing %v: %s, want %s", err, tt.dialing, got, tt.want)
			}
		}
	}
}
