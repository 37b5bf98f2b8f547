//go:build unix

package load

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is what this process has used so far, user and system.
func cpuTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// maxRSS is the most memory this process ever had, in bytes.
func maxRSS() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	if runtime.GOOS == "darwin" {
		return u.Maxrss // in bytes there, in KiB elsewhere
	}
	return u.Maxrss << 10
}

// maxIdleConns leaves half of the file descriptors to requests in flight.
func maxIdleConns() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 512
	}
	return int(min(limit.Cur, 1<<20) / 2)
}
