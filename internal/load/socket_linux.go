package load

import (
	"context"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// shareLocalPorts lets connections from one address to different targets share
// a port: without it binding the address takes the port for all of them.
func shareLocalPorts(_ context.Context, _, _ string, raw syscall.RawConn) error {
	var err error
	if cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	}); cerr != nil {
		return cerr
	}
	return err
}

// watch looks at an idle connection. It is made once a connection, so that a
// look costs a system call and nothing else.
type watch struct {
	raw    syscall.RawConn
	look   func(fd uintptr)
	events [1]unix.PollFd
	found  bool // nothing has happened
}

func newWatch(c *net.TCPConn) (*watch, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	w := &watch{raw: raw}
	w.look = func(fd uintptr) {
		w.events[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}
		n, err := unix.Poll(w.events[:], 0)
		w.found = n == 0 && err == nil
	}
	return w, nil
}

// quiet reports whether the connection is still open and has nothing to say,
// without waiting.
func (w *watch) quiet() bool {
	w.found = false
	return w.raw.Control(w.look) == nil && w.found
}
