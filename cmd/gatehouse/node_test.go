package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gatehouse/internal/seal"
	"gatehouse/internal/store/postgres/pgtest"
)

// patience is when a test gives up on something that hangs. Nothing is
// measured by it: on a slow machine all that is right still passes.
const patience = 90 * time.Second

// A node is a served gatehouse in a process of its own.
type node struct {
	t        testing.TB
	cmd      *exec.Cmd
	database string // the path of a SQLite one, or the URL of a PostgreSQL
	url      string // of the public API
	adminURL string // "" when the admin listener is off
	log      *logBook
	out      *bytes.Buffer   // standard output; to be read once it has exited
	exited   <-chan struct{} // closed once it has
	clients  []*http.Client
	faulty   bool // the test gives it reason to log errors
	plain    bool // the test gives it reason to end with plain words
}

// newDatabase is the path of a database that does not exist yet.
func newDatabase(t testing.TB) string { return filepath.Join(t.TempDir(), "gatehouse.db") }

// newPostgres is the URL of an empty database of the tests' PostgreSQL.
func newPostgres(t testing.TB) string {
	t.Helper()
	url, err := pgtest.Need(t).CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return url
}

func onPostgres(database string) bool { return strings.HasPrefix(database, "postgres://") }

// databaseFlag names a database on the command line.
func databaseFlag(database string) string {
	if onPostgres(database) {
		return "--database=" + database
	}
	return "--database=sqlite:" + database
}

// masterKey is the variable that all nodes on a PostgreSQL need.
var masterKey = "GATEHOUSE_MASTER_KEY=" + seal.NewKey()

// startNode serves a database until the test ends, or earlier if the test
// ends it. args come after those that choose free ports and a short drain,
// and so may choose otherwise.
func startNode(t testing.TB, database string, args ...string) *node {
	t.Helper()
	return startNodeWith(t, nil, database, args...)
}

// startNodeWith does so with variables: NAME=value.
func startNodeWith(t testing.TB, env []string, database string, args ...string) *node {
	t.Helper()
	n := launchNode(t, env, database, args...)
	n.awaitServing()
	return n
}

// launchNode does not wait until it serves.
func launchNode(t testing.TB, env []string, database string, args ...string) *node {
	t.Helper()
	c := gatehouse(t, append(serveArgs(database), args...)...)
	if onPostgres(database) {
		c.Env = append(c.Env, masterKey)
	}
	c.Env = append(c.Env, env...)
	n := launch(t, c)
	n.database = database
	return n
}

func serveArgs(database string) []string {
	return []string{"serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--drain-timeout=4s", databaseFlag(database)}
}

// launch starts a command and takes its standard error for a node's log.
func launch(t testing.TB, c *exec.Cmd) *node {
	t.Helper()
	n := &node{t: t, cmd: c, log: newLogBook(), out: new(bytes.Buffer)}
	c.Stdout, c.Stderr = n.out, n.log
	n.exited = begin(t, c)
	t.Cleanup(func() {
		n.kill()
		n.judge()
	})
	return n
}

// awaitServing waits until the node says where it listens.
func (n *node) awaitServing() {
	n.t.Helper()
	line := n.awaitLog("serving")
	scheme := "http://"
	for _, arg := range n.cmd.Args {
		if strings.HasPrefix(arg, "--tls-cert") {
			scheme = "https://"
		}
	}
	n.url = scheme + line.Listen
	if line.AdminListen != "" {
		n.adminURL = "http://" + line.AdminListen
	}
}

// judge says what no node may do, whatever the test was about.
func (n *node) judge() {
	for _, line := range n.log.all() {
		switch {
		case line.Msg == "" && n.plain && strings.HasPrefix(line.raw, "gatehouse: "):
		case line.Msg == "": // a panic, a data race, a stray print
			n.t.Errorf("the node wrote a line that is no log entry: %s", line.raw)
		case line.Level == "ERROR" && !n.faulty:
			n.t.Errorf("the node logged an error: %s", line.raw)
		}
	}
	if n.out.Len() > 0 {
		n.t.Errorf("the node wrote to standard output: %s", n.out)
	}
	if n.t.Failed() {
		if text := n.log.remarkable(); text != "" {
			n.t.Logf("log of %v:\n%s", n.cmd.Args, text)
		}
	}
}

// awaitLog waits for the first log entry with this message.
func (n *node) awaitLog(msg string) logLine {
	n.t.Helper()
	return n.awaitLogs(msg, 1)
}

// awaitLogs waits until there are so many log entries with this message, and
// returns the last of them.
func (n *node) awaitLogs(msg string, want int) logLine {
	n.t.Helper()
	tired := time.NewTimer(patience)
	defer tired.Stop()
	for ended := false; ; {
		found, more := n.log.with(msg)
		if len(found) >= want {
			return found[want-1]
		}
		if ended {
			n.t.Fatalf("%v exited with %d before it said %q %d times:\n%s", n.cmd.Args, n.code(), msg, want, n.log.text())
		}
		select {
		case <-more:
		case <-n.exited:
			ended = true // and look once more
		case <-tired.C:
			n.t.Fatalf("%v did not say %q %d times:\n%s", n.cmd.Args, msg, want, n.log.text())
		}
	}
}

// serves waits until the node serves or has exited, and says which.
func (n *node) serves() bool {
	n.t.Helper()
	tired := time.NewTimer(patience)
	defer tired.Stop()
	for {
		found, more := n.log.with("serving")
		if len(found) > 0 {
			return true
		}
		select {
		case <-more:
		case <-n.exited:
			return false
		case <-tired.C:
			n.t.Fatalf("%v neither serves nor exits:\n%s", n.cmd.Args, n.log.text())
		}
	}
}

// code is the exit code of a node that has exited; -1 if a signal ended it.
func (n *node) code() int { return n.cmd.ProcessState.ExitCode() }

// await waits for the node's end and returns its exit code.
func (n *node) await() int {
	n.t.Helper()
	select {
	case <-n.exited:
		return n.code()
	case <-time.After(patience):
		n.t.Fatalf("the node did not exit:\n%s", n.log.text())
		return 0
	}
}

// signal sends the node a signal; one that has exited gets none.
func (n *node) signal(s os.Signal) { _ = n.cmd.Process.Signal(s) }

// kill ends the node without giving it a chance to do anything about it.
func (n *node) kill() {
	n.signal(syscall.SIGKILL)
	<-n.exited
}

// drain stops the node as an operator would, when its clients have left.
func (n *node) drain() {
	n.t.Helper()
	for _, c := range n.clients {
		c.CloseIdleConnections()
	}
	n.signal(syscall.SIGTERM)
	if code := n.await(); code != exitOK {
		n.t.Fatalf("a drained node exited with %d, want %d:\n%s", code, exitOK, n.log.text())
	}
}

// until asks again and again until the answer is yes. It only spaces the
// questions: how often it asks decides nothing.
func (n *node) until(what string, yes func() bool) {
	n.t.Helper()
	n.within(patience, what, yes)
}

// within is until with another patience.
func (n *node) within(bound time.Duration, what string, yes func() bool) {
	n.t.Helper()
	space := time.NewTicker(5 * time.Millisecond)
	defer space.Stop()
	tired := time.NewTimer(bound)
	defer tired.Stop()
	for !yes() {
		select {
		case <-space.C:
		case <-n.exited:
			n.t.Fatalf("the node exited with %d while waiting until %s:\n%s", n.code(), what, n.log.text())
		case <-tired.C:
			n.t.Fatalf("never was it so that %s:\n%s", what, n.log.text())
		}
	}
}

// client is one client of the node, at a loopback address of its own or, with
// "", at the usual one. It keeps connections until the node drains.
func (n *node) client(source string) *http.Client {
	c := newClient(source)
	n.t.Cleanup(c.CloseIdleConnections)
	n.clients = append(n.clients, c)
	return c
}

// dial opens a bare connection to the public API, from a loopback address or,
// with "", from the usual one.
func (n *node) dial(source string) net.Conn {
	n.t.Helper()
	c, err := dialer(source).Dial("tcp", n.host())
	if err != nil {
		n.t.Fatalf("connect to the node: %v", err)
	}
	n.t.Cleanup(func() { _ = c.Close() }) // it may be closed already
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		n.t.Fatal(err)
	}
	return c
}

// host is the address of the public API.
func (n *node) host() string {
	_, host, _ := strings.Cut(n.url, "://")
	return host
}

// metrics reads all that the admin listener counts.
func (n *node) metrics() metrics {
	n.t.Helper()
	client := n.client("")
	resp, err := client.Get(n.adminURL + "/metrics")
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		n.t.Fatalf("GET /metrics: %s", resp.Status)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	m, err := parseMetrics(string(text))
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

// loopback is the i-th of a million client addresses of one machine.
func loopback(i int) string {
	return fmt.Sprintf("127.%d.%d.%d", 16+i/(250*250), i/250%250, 1+i%250)
}
