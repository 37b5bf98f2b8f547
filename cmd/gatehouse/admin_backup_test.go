package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A backup that is interrupted leaves nothing; one that is killed may leave its
// part, and never a file of the name that a node would serve.
func TestBackupInterruptedOrKilled(t *testing.T) {
	t.Parallel()
	needLinux(t)
	n := startNode(t, newDatabase(t))
	crowd(t, n.database, 20_000)
	folder := t.TempDir()
	file := filepath.Join(folder, "copy.db")
	early := 0
	for i, signal := range []os.Signal{syscall.SIGKILL, syscall.SIGINT, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL, syscall.SIGKILL} {
		c := gatehouse(t, "admin", "backup", file, "--database=sqlite:"+n.database)
		var said strings.Builder
		c.Stderr = &said
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		n.until("the backup has begun", func() bool {
			about, err := os.Stat(file + ".part")
			return err == nil && about.Size() >= int64(i)<<18 || exists(file) // somewhat later each time
		})
		_ = c.Process.Signal(signal) // it may have ended
		_ = c.Wait()                 // its state says more
		code := c.ProcessState.ExitCode()
		if !exists(file) {
			early++
		} else if o := finish(t, gatehouse(t, serveArgs(file)...)); o.code != exitFailed || !strings.Contains(o.stderr, "is a copy of gatehouse.db") {
			t.Fatalf("%v: a node on it exits with %d: %s", signal, o.code, o.stderr)
		}
		if signal == syscall.SIGKILL {
			_ = os.Remove(file + ".part") // as the next backup asks for
		} else if code != exitOK && (code != exitInterrupted || exists(file)) {
			t.Errorf("%v: exit code %d, %s", signal, code, said.String())
		}
		_ = os.Remove(file) // for the next
		left, err := fs.Glob(os.DirFS(folder), "*")
		if signal != syscall.SIGKILL && (err != nil || len(left) > 0) {
			t.Errorf("%v leaves %v, %v", signal, left, err)
		}
		for _, name := range left { // a part's log
			_ = os.Remove(filepath.Join(folder, name))
		}
	}
	if early == 0 {
		t.Log("all backups were done before they were ended: this time nothing was shown")
	}
	mustSignUp(t, n.client(""), n.url, "beside@customers.dev")
	n.drain()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}

// A node on a copy mails nobody and makes nobody known to Stripe.
func TestFencedNodeCallsNobody(t *testing.T) {
	t.Parallel()
	needLinux(t)
	n := startNode(t, newDatabase(t))
	mustSignUp(t, n.client(""), n.url, "ada@customers.dev")
	n.drain()
	db := openSQL(t, n.database)
	if _, err := db.Exec("INSERT INTO jobs (kind, subject, created_at, due_at, claim) SELECT 'welcome_mail', id, 1, 1, 1 FROM customers"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "copy.db")
	if o := finish(t, gatehouse(t, "admin", "backup", file, "--database=sqlite:"+n.database)); o.code != exitOK {
		t.Fatalf("%+v", o)
	}
	out := newOutside(t)
	serve := func() *exec.Cmd {
		c := gatehouse(t, serveArgs(file)...)
		c.Env = append(c.Env, out.use()...)
		return c
	}
	if o := finish(t, serve()); o.code != exitFailed || strings.Contains(o.stderr, "serving") {
		t.Errorf("a fenced node: %+v", o)
	}
	if mails, asked := len(out.mail.Messages()), out.stripe.Requests(); mails > 0 || asked > 0 {
		t.Errorf("%d mails were sent, and Stripe was asked %d times", mails, asked)
	}
	if o := finish(t, gatehouse(t, "admin", "unfence", "--yes", "--database=sqlite:"+file)); o.code != exitOK {
		t.Fatalf("%+v", o)
	}
	copied := launch(t, serve())
	copied.awaitServing()
	copied.until("the mail is sent", func() bool { return len(out.mail.Messages()) == 1 })
	copied.drain()
}

// A disk that is too small for the copy is said to be full.
func TestBackupOnFullDisk(t *testing.T) {
	t.Parallel()
	needLinux(t)
	n := startNode(t, newDatabase(t))
	crowd(t, n.database, 10_000)
	n.drain()
	disk := t.TempDir()
	c := gatehouse(t, disk, strconv.Itoa(1<<20), "admin", "backup", filepath.Join(disk, "copy.db"), "--database=sqlite:"+n.database)
	c.Args[0] = onSmallDisk
	ownMounts(c)
	if err := (&exec.Cmd{Path: self(t), Args: []string{"gatehouse", "version"}, SysProcAttr: c.SysProcAttr}).Run(); err != nil {
		t.Skipf("no file system can be mounted here (%v): run `sudo -E env PATH=\"$PATH\" go test ./cmd/gatehouse -run '^TestBackupOnFullDisk$'`", err)
	}
	if o := finish(t, c); o.code != exitFailed || o.stdout != "" || !strings.Contains(o.stderr, "full") || strings.Contains(o.stderr, "remove ") {
		t.Errorf("%+v, want it to say that the disk is full", o)
	}
}
