package pgtest_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"gatehouse/internal/store/postgres/pgtest"
)

// TestServerDiesWithItsProcess kills a process that has a server: itself, run
// again under another name.
func TestServerDiesWithItsProcess(t *testing.T) {
	const again = "PGTEST_SERVE"
	if os.Getenv(again) != "" {
		s := server(t, pgtest.Options{})
		fmt.Fprintln(os.Stdout, s.Addr())
		select {} // until it is killed
	}
	if _, err := pgtest.Find(); err != nil {
		t.Skip(err)
	}
	folder(t) // for what the killed one leaves
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	c.Env = append(os.Environ(), again+"=yes")
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	lines := bufio.NewScanner(out)
	lines.Scan()
	addr := lines.Text()
	must(t, c.Process.Kill())
	_ = c.Wait() // killed
	retry := time.NewTicker(20 * time.Millisecond)
	defer retry.Stop()
	deadline := time.After(time.Minute)
	for {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Log(err)
			return
		}
		_ = conn.Close() // it only had to open
		select {
		case <-retry.C:
		case <-deadline:
			t.Fatalf("%s lives on", addr)
		}
	}
}
