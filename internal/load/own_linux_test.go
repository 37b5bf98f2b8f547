package load

import (
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const ownTarget = "LOAD_TEST_OWN_TARGET"

// A generator without file descriptors left says that it is its own fault. It
// takes a process of its own, whose limit is low.
func TestOutOfFileDescriptors(t *testing.T) {
	if target := os.Getenv(ownTarget); target != "" {
		limit := unix.Rlimit{Cur: 40, Max: 40}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		j := jobFor(t, target, 200, 200*time.Millisecond)
		j.Timeout = 300 * time.Millisecond
		r := run(t.Context(), t, j)
		if got := keys(r); r.Generator.OwnErrors == 0 || got["error:generator"] != r.Generator.OwnErrors || got["error:timeout"] == 0 || len(got) != 2 {
			t.Errorf("%d errors of its own, %v", r.Generator.OwnErrors, got)
		}
		return
	}
	hold := make(chan struct{})
	s := newSite(t, func(http.ResponseWriter, *http.Request) int {
		<-hold
		return http.StatusOK
	})
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOutOfFileDescriptors$")
	cmd.Env = append(os.Environ(), ownTarget+"="+s.URL, "GORACE=atexit_sleep_ms=0") // it waits a second otherwise
	out, err := cmd.CombinedOutput()
	close(hold)
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
