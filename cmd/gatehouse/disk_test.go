package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// What the store says when writes begin to fail, and when they work again.
const (
	logFailing = "the database can't be written"
	logWorking = "the database can be written again"
)

// TestNoMoreWrites takes the right to write files away from a running node,
// and gives it back: no sign-up is half done, none that was acknowledged is
// lost, nobody gets past a limit, and it all works again without a restart.
func TestNoMoreWrites(t *testing.T) {
	t.Parallel()
	needLinux(t)
	d := newDiskTest(t, startNode(t, newDatabase(t)))
	for outage := range 2 {
		restore := setLimit(t, d.n.cmd.Process.Pid, limitFileSize, 0)
		for _, c := range d.storm(10) {
			wantUnavailable(t, "sign-up", c)
		}
		d.wantFailing(func() {})
		if got, _ := d.n.log.with(logFailing); len(got) != outage+1 {
			t.Errorf("%d log entries say that writes fail, want one for each of %d outages", len(got), outage+1)
		}
		if got := d.n.log.errors(); got != outage+1 {
			t.Errorf("%d log entries are errors, want one for each of %d outages and none for requests", got, outage+1)
		}
		restore()
		d.wantWorking(outage)
		if got, _ := d.n.log.with(logWorking); len(got) != outage+1 {
			t.Errorf("%d log entries say that writes work again, want one for each of %d outages", len(got), outage+1)
		}
	}
	d.n.drain()
	mustAudit(t, d.n.database, d.known)
}

// TestFilesCannotGrow lets the node write some bytes more and then no more,
// in the middle of whatever it writes.
func TestFilesCannotGrow(t *testing.T) {
	t.Parallel()
	needLinux(t)
	d := newDiskTest(t, startNode(t, newDatabase(t)))
	for outage, more := range []int64{1, 700, 4096 + 24, 9000} {
		log, err := os.Stat(d.n.database + "-wal")
		if err != nil {
			t.Fatal(err)
		}
		restore := setLimit(t, d.n.cmd.Process.Pid, limitFileSize, uint64(log.Size()+more))
		d.stormUntilFailing() // what is smaller may still be written: so the node may say that it serves
		restore()
		d.wantWorking(outage)
	}
	d.n.drain()
	mustAudit(t, d.n.database, d.known)
}

// TestDiskFull fills the disk that the database is on, and makes room again.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	needLinux(t)
	disk := t.TempDir()
	c := gatehouse(t, append([]string{disk, strconv.Itoa(2 << 20)}, serveArgs(filepath.Join(disk, "gatehouse.db"))...)...)
	c.Args[0] = onSmallDisk
	ownMounts(c)
	if err := (&exec.Cmd{Path: self(t), Args: []string{"gatehouse", "version"}, SysProcAttr: c.SysProcAttr}).Run(); err != nil {
		t.Skipf("no file system can be mounted here (%v): run `sudo -E env PATH=\"$PATH\" go test ./cmd/gatehouse -run '^TestDiskFull$'`", err)
	}
	n := launch(t, c)
	n.awaitServing()
	d := newDiskTest(t, n)
	inside := filepath.Join("/proc", strconv.Itoa(c.Process.Pid), "root", disk) // the disk, as the node sees it
	filler := filepath.Join(inside, "filler")
	for outage := range 2 {
		d.wantFailing(func() { // the node may make some room itself
			fill(t, filler)
			d.storm(1)
		})
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		d.wantWorking(outage)
	}
	// The disk goes with the node, so look at a copy; nothing writes now.
	copied := filepath.Join(t.TempDir(), "gatehouse.db")
	copyFile(t, filepath.Join(inside, "gatehouse.db"), copied)
	copyFile(t, filepath.Join(inside, "gatehouse.db-wal"), copied+"-wal")
	mustAudit(t, copied, d.known)
	n.drain()
}

// fill writes a file until the disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
}

// A diskTest is a node with some customers, and what they know.
type diskTest struct {
	t       *testing.T
	n       *node
	known   map[string]told
	full    *http.Client // at an address whose window is full
	first   told
	callers int // addresses of storms used
}

func newDiskTest(t *testing.T, n *node) *diskTest {
	t.Helper()
	n.faulty = true
	d := &diskTest{t: t, n: n, known: make(map[string]told), full: n.client(loopback(0))}
	for i := range signUpLimit {
		c := mustSignUp(t, d.full, n.url, fmt.Sprintf("before-%d@customers.dev", i))
		d.known[c.email] = told{call: c}
	}
	d.first = d.known["before-0@customers.dev"]
	d.wantFull() // and so the node remembers
	return d
}

// wantFull wants the address with the full window refused.
func (d *diskTest) wantFull() {
	d.t.Helper()
	if c := signUp(d.full, d.n.url, "eleventh@customers.dev"); c.status != http.StatusTooManyRequests {
		d.t.Errorf("eleventh sign-up of an address: %d %s %v, want 429", c.status, c.body, c.err)
	}
}

// storm sends sign-ups from some new addresses at once.
func (d *diskTest) storm(addresses int) []call {
	const each = 5
	calls := make([]call, addresses*each)
	clients := make([]*http.Client, addresses)
	var senders sync.WaitGroup
	for a := range addresses {
		d.callers++
		client := newClient(loopback(d.callers))
		clients[a] = client
		for i := range each {
			email := fmt.Sprintf("disk-%d-%d@customers.dev", d.callers, i)
			senders.Go(func() { calls[a*each+i] = signUp(client, d.n.url, email) })
		}
	}
	senders.Wait()
	for _, c := range clients {
		c.CloseIdleConnections()
	}
	for _, c := range calls {
		d.known[c.email] = told{call: c}
		if !c.answered() {
			d.t.Errorf("a sign-up got no answer: %v", c.err)
		}
	}
	return calls
}

// stormUntilFailing sends storms until some sign-up failed, and wants each
// done or failed and nothing else.
func (d *diskTest) stormUntilFailing() {
	d.t.Helper()
	for failed := false; !failed; {
		for _, c := range d.storm(10) {
			switch c.status {
			case http.StatusCreated, http.StatusTooManyRequests:
			default:
				wantUnavailable(d.t, "sign-up", c)
				failed = true
			}
		}
	}
}

// wantFailing wants the node to say that it can't serve, and still to keep
// everybody out who should be. It calls provoke before it looks.
func (d *diskTest) wantFailing(provoke func()) {
	d.t.Helper()
	client := d.n.client("")
	d.n.until("health says that the node can't serve", func() bool {
		provoke()
		return do(client, http.MethodGet, d.n.url+"/health", "", "").status == http.StatusServiceUnavailable
	})
	var health struct {
		Status   string
		Database struct{ Status string }
		Limiter  struct{ Status string } `json:"rate_limiter"`
	}
	c := do(client, http.MethodGet, d.n.url+"/health", "", "")
	if err := c.decode(&health); err != nil || health.Status != "unavailable" || health.Database.Status != "unavailable" || health.Limiter.Status != "unavailable" {
		d.t.Errorf("health while nothing can be written: %d %s %v", c.status, c.body, err)
	}
	for path, want := range map[string]int{"/readyz": http.StatusServiceUnavailable, "/livez": http.StatusOK} {
		if c := do(client, http.MethodGet, d.n.url+path, "", ""); c.status != want {
			d.t.Errorf("%s while nothing can be written: %d, want %d", path, c.status, want)
		}
	}
	d.wantFull()
	// The limit comes before the body: who can't be counted is not even told
	// what is wrong with what he sent.
	wantUnavailable(d.t, "an invalid sign-up", signUp(client, d.n.url, "invalid@mailinator.com"))
	wantUnavailable(d.t, "a call with a key", do(client, http.MethodGet, d.n.url+"/api/v1/account", d.first.key, ""))
}

// wantUnavailable holds a refusal for want of the store to the contract.
func wantUnavailable(t *testing.T, what string, c call) {
	t.Helper()
	if code, _ := c.problem(); c.status != http.StatusServiceUnavailable || code != "UNAVAILABLE" {
		t.Errorf("%s while nothing can be written: %d %s %v, want 503 UNAVAILABLE", what, c.status, c.body, c.err)
		return
	}
	if wait, err := strconv.Atoi(c.header.Get("Retry-After")); err != nil || wait < 1 {
		t.Errorf("%s: Retry-After %q, want at least 1", what, c.header.Get("Retry-After"))
	}
	for _, name := range []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit", "RateLimit-Policy"} {
		if v := c.header.Get(name); v != "" {
			t.Errorf("%s: %s: %s on a 503, want none", what, name, v)
		}
	}
}

// wantWorking waits for the node to say that it serves again, and wants all
// that was acknowledged to be there and all that was not to be free.
func (d *diskTest) wantWorking(outage int) {
	d.t.Helper()
	client := d.n.client("")
	d.n.until("the node is ready again", func() bool {
		return do(client, http.MethodGet, d.n.url+"/readyz", "", "").status == http.StatusOK
	})
	d.wantFull() // its window survived
	late := d.n.client(loopback(500_000 + outage))
	retried := 0
	for email, who := range d.known {
		switch {
		case who.key != "":
			checkKey(d.t, client, d.n.url, who.call)
		case who.status == http.StatusServiceUnavailable && retried < 5: // nothing of it is left in the way
			d.known[email] = told{call: mustSignUp(d.t, late, d.n.url, email)}
			retried++
		}
	}
	if retried == 0 {
		d.t.Error("no sign-up failed in the outage")
	}
}
