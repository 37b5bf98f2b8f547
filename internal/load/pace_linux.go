package load

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// alarm wakes one goroutine at a time given in nanoseconds.
//
// Go's own timers round up to a millisecond on Linux, which is a batch of eight
// at 8,000 a second. This one is a file descriptor that the poller waits on
// beside the connections, so that being woken by it costs no other thread.
//
// Source: docs/adr/0007 (why not a locked thread that sleeps).
type alarm struct {
	file *os.File
	fd   int
	base int64 // CLOCK_MONOTONIC at the start, in ns
	buf  [8]byte
}

func newAlarm() (*alarm, time.Time, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("make a timer: %w", err)
	}
	a := &alarm{file: os.NewFile(uintptr(fd), "timer"), fd: fd}
	// Both clocks have to begin together: the alarm at most so much after Go's, or
	// every arrival were late, and never before it, or pacing would spin.
	const apart = 10 * time.Microsecond
	for tries := 0; ; tries++ {
		began := time.Now()
		var ts unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
			return nil, time.Time{}, errors.Join(fmt.Errorf("read the clock: %w", err), a.file.Close())
		}
		a.base = ts.Nano()
		if time.Since(began) < apart || tries == 100 {
			return a, began, nil
		}
	}
}

// wait returns at t after the start, or when stop has been called.
func (a *alarm) wait(t time.Duration) {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(a.base + int64(t))}
	if err := unix.TimerfdSettime(a.fd, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		return // asks for the impossible alone; then pacing spins, and lag shows nothing wrong
	}
	_, _ = a.file.Read(a.buf[:]) // ends by the timer, or by stop
}

// stop ends the wait under way and all to come.
func (a *alarm) stop() { _ = a.file.SetReadDeadline(time.Unix(1, 0)) }

func (a *alarm) close() { _ = a.file.Close() }
