package sqlite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/billing"
)

// crowd fills a database with rows that SQLite moved between pages as others
// came between them and as they grew, and with pages that nothing uses any
// more: there it leaves copies behind.
func crowd(t *testing.T, path string) {
	t.Helper()
	for step := range 10 {
		execute(t, path, fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
			INSERT INTO customers (id, name, email, email_canonical, company, source, subscription_plan, subscription_state, trial_fixes_limit,
				trial_fixes_used, credit_balance, credit_debt, created_at)
			SELECT printf('%%016x', i * 7919 %% 10007 * 1000 + %[1]d), 'Somebody of ' || i || '-%[1]d' || iif(i %% 50, '', hex(zeroblob(600))), e, lower(e),
				'Company of ' || i || '-%[1]d', 's', 'trial', '', 5, 0, 5, 0, 0 FROM
			(SELECT i, printf('%%x-Box-%%d-%[1]d@Customers.dev', i * 31337 %% 4093, i) AS e FROM n);
			UPDATE customers SET stripe_customer_id = 'cus_' || id WHERE stripe_customer_id IS NULL AND id %% 3 = 0;
			UPDATE customers SET suspended_at = 1 WHERE id %% 2 = 0`, step))
	}
	execute(t, path, "DELETE FROM customers WHERE id % 5 > 1")
}

// holders are a database's files that hold one of the texts.
func holders(t *testing.T, path string, texts ...string) (found []string) {
	t.Helper()
	for _, end := range []string{"", "-wal", "-shm"} {
		b, err := os.ReadFile(path + end)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		if slices.ContainsFunc(texts, func(text string) bool { return bytes.Contains(b, []byte(text)) }) {
			found = append(found, filepath.Base(path)+end)
		}
	}
	return found
}

func everybody(t *testing.T, s *Store) []account.Customer {
	t.Helper()
	all, err := s.Customers(t.Context(), "", 10_000)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func erase(t *testing.T, s *Store, id string) account.Erased {
	t.Helper()
	done, err := s.Erase(t.Context(), id, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	return done
}

func TestErasedIsGoneFromTheFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	s := open(t, Options{Path: path})
	crowd(t, path)
	var gone []string
	want := everybody(t, s)
	for i, c := range want {
		if i%80 != 0 {
			continue
		}
		texts := []string{c.Email, strings.ToLower(c.Email), c.Name, c.Company}
		if len(holders(t, path, texts...)) == 0 {
			t.Fatalf("%s is in no file: this shows nothing", c.Email)
		}
		gone = append(gone, texts...)
		killed := i%160 == 0 // before the files were wiped
		if killed {
			execute(t, path, "UPDATE customers SET name = '', email = '', email_canonical = 'erased:' || id, company = '', erased_at = 1e6 WHERE id = '"+c.ID+"'")
		}
		if done := erase(t, s, c.ID); done.Already != killed || done.Logged || done.Customer.ErasedAt.IsZero() {
			t.Errorf("erased: %+v", done)
		}
		want[i].Name, want[i].Email, want[i].Company, want[i].ErasedAt = "", "", "", time.Unix(1, 0).UTC()
	}
	for _, text := range gone {
		if found := holders(t, path, text); len(found) > 0 {
			t.Errorf("%q is still in %v", text, found)
		}
	}
	if got := everybody(t, s); !slices.Equal(got, want) {
		t.Error("others were changed")
	}
	wantLeft(t, s, "integrity_check AS x FROM pragma_integrity_check", "ok")
	closed(t, s)
	s = open(t, Options{Path: path})
	if got := everybody(t, s); !slices.Equal(got, want) {
		t.Error("others were changed on the disk")
	}
	closed(t, s)
}

// What a customer's events held may fill pages that hold nothing else of theirs;
// each time that an event is decided it is written elsewhere, and others are
// moved.
func TestErasedEventsAreGoneFromTheFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	s := open(t, Options{Path: path})
	execute(t, path, customers)
	secret := func(i int) []byte { return fmt.Appendf(nil, "what the events of %d say, ", 1+i%2) }
	octets := func(i int) int { return len(secret(i)) * (1 + i*7%20 + i%25/24*i) } // mostly some hundreds, up to 65,000
	decide := func(i int) {
		c := billing.Change{EventID: fmt.Sprint("evt_", i), By: strings.Repeat("x", i%300), State: billing.Ignored, Customer: billing.Party{CustomerID: fmt.Sprint(1 + i%2)}}
		if _, err := s.Apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	const events = 2500
	for i := range events {
		r := billing.Receipt{ID: fmt.Sprint("evt_", i), Payload: bytes.Repeat(secret(i), octets(i)/len(secret(i)))}
		if isNew, err := s.TakeIn(t.Context(), r); err != nil || !isNew {
			t.Fatal(isNew, err)
		}
	}
	for _, i := range rand.Perm(events) {
		decide(i)
		if i%10 == 0 {
			if _, err := s.Replay(t.Context(), billing.EventFilter{ID: fmt.Sprint("evt_", i)}); err != nil {
				t.Fatal(err)
			}
			decide(i)
		}
	}
	erase(t, s, "1")
	if found := holders(t, path, string(secret(0))); len(found) > 0 {
		t.Errorf("what the erased's events held is still in %v", found)
	}
	for i := range events {
		e, err := s.Event(t.Context(), fmt.Sprint("evt_", i))
		if want := octets(i) * (i % 2); err != nil || len(e.Payload) != want {
			t.Errorf("event %d has %d octets, %v, want %d", i, len(e.Payload), err, want)
		}
	}
	wantLeft(t, s, "integrity_check AS x FROM pragma_integrity_check", "ok")
	closed(t, s)
}

// An erasure that is cut short, after whichever of its calls, is ended by the
// next: also of events that name but the address, which is gone then.
func TestErasureCutShortIsEndedByTheNext(t *testing.T) {
	for step, cut := 1, true; cut && step < 100; step++ {
		path := filepath.Join(t.TempDir(), "test.db")
		ctx, cancel := context.WithCancel(t.Context())
		calls := step
		s := open(t, Options{Path: path, Observe: func(string, time.Duration, error) {
			if calls++; calls == step {
				cancel()
			}
		}})
		execute(t, path, customers)
		for i := range 3 {
			r := billing.Receipt{ID: fmt.Sprint("evt_", i), Payload: fmt.Appendf(nil, `{"email": "A@l.dev", "x": %q}`, strings.Repeat("x", 3000*i)), Park: "it can't be applied"}
			if isNew, err := s.TakeIn(t.Context(), r); err != nil || !isNew {
				t.Fatal(isNew, err)
			}
		}
		calls = 0
		_, err := s.Erase(ctx, "1", time.Unix(1, 0))
		cancel()
		cut = err != nil
		erase(t, s, "1")
		if found := holders(t, path, "A@l.dev", "a@l.dev"); len(found) > 0 {
			t.Errorf("after %d calls, and once more, the address is still in %v", step, found)
		}
		closed(t, s)
	}
}

// Who reads what was there before keeps the log from being emptied.
func TestErasedStaysInALogThatIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	s := open(t, Options{Path: path})
	execute(t, path, customers)
	reading, err := openPool(path, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reading.ExecContext(t.Context(), "BEGIN; SELECT * FROM customers"); err != nil {
		t.Fatal(err)
	}
	if done := erase(t, s, "1"); !done.Logged || done.Already {
		t.Errorf("while somebody reads: %+v", done)
	}
	if len(holders(t, path, "A@l.dev")) == 0 {
		t.Error("it is gone while somebody reads it")
	}
	if err := reading.Close(); err != nil {
		t.Fatal(err)
	}
	if done := erase(t, s, "1"); done.Logged || !done.Already {
		t.Errorf("again, when nobody reads: %+v", done)
	}
	if found := holders(t, path, "A@l.dev", "a@l.dev"); len(found) > 0 {
		t.Errorf("the address is still in %v", found)
	}
	closed(t, s)
}

func TestClearUnusedLeavesOtherPagesAlone(t *testing.T) {
	broken := make([]byte, 4096)
	for i := range broken {
		broken[i] = 0xff
	}
	for _, kind := range []byte{2, 5, 10, 13} { // heads that can't be: nothing may be done, and nothing break
		broken[0] = kind
		page := slices.Clone(broken)
		clearUnused(page, 2)
		if !bytes.Equal(page, broken) {
			t.Errorf("kind %d: a page that can't be read was changed", kind)
		}
	}
	overflow := []byte("\x00\x00\x00\x07what a row holds")
	page := slices.Clone(overflow)
	clearUnused(page, 2)
	if !bytes.Equal(page, overflow) {
		t.Error("a page of no table was changed")
	}
}
