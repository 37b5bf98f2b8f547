//go:build unix

package machine

import "golang.org/x/sys/unix"

// kernel is its release, such as 6.8.0-45-generic.
func kernel() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}
