package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/store"
)

// weight makes a database one that is copied in some steps.
const weight = "INSERT INTO rate_windows VALUES ('p', 'k', zeroblob(8000000))"

func noNews(int64, int64) {}

func wantFiles(t *testing.T, folder string, want ...string) {
	t.Helper()
	var got []string
	err := fs.WalkDir(os.DirFS(folder), ".", func(name string, d fs.DirEntry, err error) error {
		if !d.IsDir() {
			got = append(got, name)
		}
		return err
	})
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("files (-want +got):\n%s%v", diff, err)
	}
}

// wantFenced wants a file to be refused to a node, without a change to it, and
// open to an operator's commands.
func wantFenced(t *testing.T, path string, at time.Time, origin string) {
	t.Helper()
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), Options{Path: path, Serve: true, Migrate: true})
	if err == nil {
		closed(t, s)
		t.Fatal("a node may serve it")
	}
	if want := "a copy of " + origin + " made at " + at.UTC().Format(time.RFC3339); !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "admin unfence") {
		t.Errorf("a node is told %v, want %q", err, want)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the node changed it, %v", err)
	}
}

func operator(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBackupIsWholeAndFencedUntilToldOtherwise(t *testing.T) {
	at := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	path, file := filepath.Join(t.TempDir(), "test.db"), filepath.Join(t.TempDir(), "a copy?.db")
	s := open(t, Options{Path: path, Clock: func() time.Time { return at }})
	execute(t, path, customers+`UPDATE customers SET created_at = 7e6 WHERE id = '2'; INSERT INTO jobs (kind, subject, created_at, due_at, claim) VALUES ('welcome_mail', '1', 0, 0, 1)`)
	got, err := s.Backup(t.Context(), file, noNews)
	want := store.Contents{Schema: 12, Customers: 3, NewestSignUp: time.Unix(7, 0).UTC(), NewestEntry: time.Unix(0, 0).UTC(), CopiedAt: at, Origin: "test.db"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	wantFiles(t, filepath.Dir(file), "a copy?.db")
	if about, err := os.Stat(file); err != nil || about.Mode() != 0o600 {
		t.Errorf("%v, %v, want it to be its owner's", about.Mode(), err)
	}
	if c, err := s.Contents(t.Context()); err != nil || !c.CopiedAt.IsZero() || c.Origin != "" {
		t.Errorf("what was copied is %+v, %v, want no fence", c, err)
	}
	closed(t, s)
	wantFenced(t, file, at, "test.db")

	o := operator(t, file)
	if c, err := o.Contents(t.Context()); err != nil || c != want {
		t.Errorf("the copy holds %+v, %v, want %+v", c, err, want)
	}
	if _, err := o.Suspend(t.Context(), "1", at); err == nil || !strings.Contains(err.Error(), "fenced") {
		t.Errorf("a copy is changed: %v", err)
	}
	closed(t, o)
	wantFenced(t, file, at, "test.db") // still
	if _, err := Down(t.Context(), file); err == nil || !strings.Contains(err.Error(), "a copy of test.db") {
		t.Errorf("the fence's migration undone: %v, want a refusal", err)
	}
	o = operator(t, file)
	if err := o.Unfence(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Suspend(t.Context(), "1", at); err != nil {
		t.Error(err)
	}
	closed(t, o)
	s = open(t, Options{Path: file})
	for _, table := range []string{"customers", "ledger_entries", "api_keys"} {
		wantLeft(t, s, "count(*) AS x FROM "+table, "3")
	}
	wantLeft(t, s, "subject AS x FROM jobs", "1")
	closed(t, s)
}

func TestCopyOfACopyIsAsOld(t *testing.T) {
	at := time.Unix(1e9, 0)
	folder := t.TempDir()
	s := open(t, Options{Path: filepath.Join(folder, "first.db"), Clock: func() time.Time { return at }})
	if _, err := s.Backup(t.Context(), filepath.Join(folder, "second.db"), noNews); err != nil {
		t.Fatal(err)
	}
	closed(t, s)
	o := operator(t, filepath.Join(folder, "second.db"))
	if _, err := o.Backup(t.Context(), filepath.Join(folder, "third.db"), noNews); err != nil {
		t.Fatal(err)
	}
	closed(t, o)
	wantFenced(t, filepath.Join(folder, "third.db"), at, "first.db")
}

// Sign-ups go on beside a backup, and are in it whole or not at all.
func TestBackupBesideAWriter(t *testing.T) {
	path, file := filepath.Join(t.TempDir(), "test.db"), filepath.Join(t.TempDir(), "copy.db")
	s := open(t, Options{Path: path})
	crowd(t, path)
	execute(t, path, weight)
	var n atomic.Int64
	write := func() {
		i := n.Add(1)
		err := s.write.do(context.Background(), func(t *tx) error {
			if err := t.exec("UPDATE customers SET credit_debt = ? WHERE id = (SELECT min(id) FROM customers)", i); err != nil {
				return err
			}
			return t.exec("UPDATE customers SET credit_debt = ? WHERE id = (SELECT max(id) FROM customers)", i)
		})
		if err != nil {
			t.Error(err)
		}
	}
	write()
	steps := 0
	var writing sync.WaitGroup
	stop := make(chan struct{})
	writing.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				write()
			}
		}
	})
	_, err := s.Backup(t.Context(), file, func(done, all int64) {
		steps++
		write() // between two steps of it, too
		if done < 0 || done > all || all == 0 {
			t.Errorf("%d of %d bytes are copied", done, all)
		}
		if _, err := os.Lstat(file); err == nil {
			t.Error("there is a file of the name before it is fenced")
		}
	})
	close(stop)
	writing.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if steps < 2 {
		t.Error("it was copied in one step: this shows little")
	}
	closed(t, s)
	o := operator(t, file)
	wantLeft(t, o, "integrity_check AS x FROM pragma_integrity_check", "ok")
	wantLeft(t, o, "count(DISTINCT credit_debt) AS x FROM customers WHERE credit_debt > 0", "1")
	closed(t, o)
}

func TestBackupThatEndsEarlyLeavesNothing(t *testing.T) {
	path, folder := filepath.Join(t.TempDir(), "test.db"), t.TempDir()
	s := open(t, Options{Path: path})
	crowd(t, path)
	execute(t, path, weight)
	for _, after := range []int{0, 1, 2, 3} { // before it, in the middle, at its end
		ctx, cancel := context.WithCancel(t.Context())
		steps := 0
		if after == 0 {
			cancel()
		}
		_, err := s.Backup(ctx, filepath.Join(folder, "copy.db"), func(done, all int64) {
			if steps++; steps == after || done == all {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted after step %d: %v", after, err)
		}
		wantFiles(t, folder)
	}
	closed(t, s)
}

// Restored over a database whose log was left there, a copy must not take in
// what that log holds.
func TestCopyIsNotOpenedBesideAnothersLog(t *testing.T) {
	path, file := filepath.Join(t.TempDir(), "test.db"), filepath.Join(t.TempDir(), "copy.db")
	s := open(t, Options{Path: path})
	if _, err := s.Backup(t.Context(), file, noNews); err != nil {
		t.Fatal(err)
	}
	execute(t, path, customers)
	log, err := os.ReadFile(path + "-wal") // as a node that was killed leaves it
	if err != nil || len(log) == 0 {
		t.Fatalf("a log of %d bytes, %v", len(log), err)
	}
	closed(t, s)
	if err := os.WriteFile(file+"-wal", log, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range []Options{{Path: file}, {Path: file, Serve: true, Migrate: true}} {
		if s, err := Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "-wal is not of "+file) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	if err := os.Remove(file + "-wal"); err != nil {
		t.Fatal(err)
	}
	wantLeft(t, operator(t, file), "count(*) AS x FROM customers", "0")
}

func TestBackupOverwritesNothing(t *testing.T) {
	path, folder := filepath.Join(t.TempDir(), "test.db"), t.TempDir()
	s := open(t, Options{Path: path})
	for name, want := range map[string]string{"old.db": "old.db is there already", "busy.db.part": "another backup writes it", "none/x.db": "no such file"} {
		if !strings.Contains(name, "none") {
			if err := os.WriteFile(filepath.Join(folder, name), []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := s.Backup(t.Context(), filepath.Join(folder, strings.TrimSuffix(name, ".part")), noNews)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("over %s: %v, want %q", name, err, want)
		}
	}
	_, err := s.Backup(t.Context(), path, noNews)
	if err == nil || !strings.Contains(err.Error(), "there already") {
		t.Errorf("over the database itself: %v", err)
	}
	_, err = s.Backup(t.Context(), filepath.Join(folder, "late.db"), func(int64, int64) {
		if err := os.WriteFile(filepath.Join(folder, "late.db"), []byte("mine"), 0o600); err != nil {
			t.Error(err)
		}
	})
	if err == nil || !strings.Contains(err.Error(), "late.db is there already") {
		t.Errorf("over a file that came meanwhile: %v", err)
	}
	for _, name := range []string{"old.db", "busy.db.part", "late.db"} {
		if b, err := os.ReadFile(filepath.Join(folder, name)); err != nil || string(b) != "mine" {
			t.Errorf("%s is now %q, %v", name, b, err)
		}
	}
	wantFiles(t, folder, "busy.db.part", "late.db", "old.db")
	closed(t, s)
}
