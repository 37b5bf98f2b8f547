package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestNoPermission serves databases as somebody who may not write them: they
// are refused in clear words and stay as they are.
func TestNoPermission(t *testing.T) {
	t.Parallel()
	needLinux(t)
	made := newDatabase(t)
	n := startNode(t, made)
	mustSignUp(t, n.client(""), n.url, "owner@customers.dev")
	n.drain()

	binary := filepath.Join(openDir(t), "gatehouse")
	copyFile(t, self(t), binary)
	if err := os.Chmod(binary, 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name      string
		file, dir os.FileMode
		want      string
	}{
		{"a file that may not be written", 0o444, 0o777, "can't be written"},
		{"a file that may not even be read", 0o000, 0o777, "permission denied"},
		{"a folder where nothing can be made", 0o666, 0o555, "permission denied"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := openDir(t)
			path := filepath.Join(dir, "gatehouse.db")
			copyFile(t, made, path)
			for name, mode := range map[string]os.FileMode{path: test.file, dir: test.dir} {
				if err := os.Chmod(name, mode); err != nil {
					t.Fatal(err)
				}
			}
			t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
			before, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			c := gatehouse(t, serveArgs(path)...)
			c.Path = binary
			unprivileged(c)
			o := finish(t, c)
			if o.code != exitFailed || !strings.Contains(o.stderr, test.want) || !strings.Contains(o.stderr, path) || o.stdout != "" {
				t.Errorf("exit code %d, said %q; want %d and %q of %s", o.code, o.stderr, exitFailed, test.want, path)
			}
			if after, err := os.ReadDir(dir); err != nil || len(after) != len(before) {
				t.Errorf("the refused database's folder has %v now, %v; before it had %v", after, err, before)
			}
		})
	}
}

// openDir is a folder that other users may look into.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestLockEndsWithTheProcess kills a node beside which no other could start:
// then another can, without anybody cleaning up.
func TestLockEndsWithTheProcess(t *testing.T) {
	t.Parallel()
	first := startNode(t, newDatabase(t))
	who := mustSignUp(t, first.client(""), first.url, "first@customers.dev")
	second := finish(t, gatehouse(t, serveArgs(first.database)...))
	if second.code != exitFailed || !strings.Contains(second.stderr, "another node") {
		t.Fatalf("a second node: exit code %d, said %q", second.code, second.stderr)
	}
	checkKey(t, first.client(""), first.url, who) // unharmed
	first.kill()
	third := startNode(t, first.database)
	checkKey(t, third.client(""), third.url, who)
}

// TestSecondNameOfTheFile serves a database by a hard link to it, which no
// path tells from the file: SQLite would keep a log of its own for each name,
// and one node's sign-ups would be overwritten by the other's.
func TestSecondNameOfTheFile(t *testing.T) {
	t.Parallel()
	first := startNode(t, newDatabase(t))
	second := filepath.Join(t.TempDir(), "link.db")
	if err := os.Link(first.database, second); err != nil {
		t.Fatal(err)
	}
	n := launch(t, gatehouse(t, serveArgs(second)...))
	n.plain = true
	if n.serves() {
		t.Fatal("two nodes serve one file")
	}
	if n.code() != exitFailed {
		t.Errorf("exit code %d, want %d", n.code(), exitFailed)
	}
	mustSignUp(t, first.client(""), first.url, "first@customers.dev") // unharmed
}

// TestInterrupted interrupts a command that has to wait for the database.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	needLinux(t)
	n := startNode(t, newDatabase(t))
	who := mustSignUp(t, n.client(""), n.url, "waits@customers.dev")
	n.kill()
	holder, err := openSQL(t, n.database).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	if _, err := holder.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	c := launch(t, gatehouse(t, "admin", "customers", "suspend", who.customerID, "--database=sqlite:"+n.database))
	c.plain = true
	c.until("the command has opened the database", func() bool { return hasOpen(t, c.cmd.Process.Pid, n.database) })
	c.signal(syscall.SIGINT)
	if code := c.await(); code != exitInterrupted {
		t.Errorf("exit code %d, want %d", code, exitInterrupted)
	}
	if _, err := holder.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if changed, err := column(openSQL(t, n.database), "SELECT id FROM customers WHERE suspended_at IS NOT NULL"); err != nil || len(changed) > 0 {
		t.Errorf("an interrupted suspension was done: %q, %v", changed, err)
	}
}
