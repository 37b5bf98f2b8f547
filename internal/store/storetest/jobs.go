package storetest

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"gatehouse/internal/fault"
	"gatehouse/internal/jobs"
)

// signUpWith signs somebody up whom jobs follow, and returns the id.
func signUpWith(t testing.TB, b Backend, canonical string, kinds ...jobs.Kind) string {
	t.Helper()
	o, _ := newOpening(t, b.Clock, canonical)
	o.Jobs = kinds
	if err := b.Open(t.Context(), o, nil); err != nil {
		t.Fatal(err)
	}
	return o.ID
}

// someoneWith is signUpWith for an address that does not matter.
func someoneWith(t testing.TB, b Backend, kinds ...jobs.Kind) string {
	t.Helper()
	return signUpWith(t, b, newID(t)+"@example.dev", kinds...)
}

func claim(t testing.TB, b Backend, kind jobs.Kind, n int) []jobs.Job {
	t.Helper()
	found, err := b.Claim(t.Context(), kind, n, jobs.Lease)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// claimOne claims the one job that is due.
func claimOne(t testing.TB, b Backend, kind jobs.Kind) jobs.Job {
	t.Helper()
	found := claim(t, b, kind, 10)
	if len(found) != 1 {
		t.Fatalf("claimed %+v, want one job", found)
	}
	return found[0]
}

func subjects(all []jobs.Job) []string {
	var s []string
	for _, j := range all {
		s = append(s, j.Subject)
	}
	slices.Sort(s)
	return s
}

func listed(t testing.TB, b Backend, f jobs.Filter) []jobs.Job {
	t.Helper()
	all, err := b.Jobs(t.Context(), f, jobs.Job{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// wantJobs compares all but claims, whose numbers are the store's own.
func wantJobs(t testing.TB, what string, got []jobs.Job, want ...jobs.Job) {
	t.Helper()
	if diff := gocmp.Diff(want, got, gocmp.FilterPath(func(p gocmp.Path) bool { return p.Last().String() == ".Claim" }, gocmp.Ignore())); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func done(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// outcomes are all that a worker may say of a job.
func outcomes(b Backend) map[string]func(context.Context, jobs.Job) error {
	return map[string]func(context.Context, jobs.Job) error{
		"done": b.Done,
		"postponed": func(ctx context.Context, j jobs.Job) error {
			return b.Postpone(ctx, j, time.Hour, "late", true)
		},
		"buried": func(ctx context.Context, j jobs.Job) error { return b.Bury(ctx, j, "late") },
	}
}

var jobTests = map[string]func(*testing.T, Backend){
	"CommittedWithTheSignUpOrNotAtAll": func(t *testing.T, b Backend) {
		id := signUpWith(t, b, "ada@example.dev", jobs.WelcomeMail, jobs.StripeCustomer)
		again, _ := newOpening(t, b.Clock, "ada@example.dev")
		again.Jobs = []jobs.Kind{jobs.WelcomeMail}
		wantFault(t, b.Open(t.Context(), again, nil), fault.Invalid, fault.AlreadyRegistered)
		broken, _ := newOpening(t, b.Clock, "eve@example.dev")
		broken.Jobs, broken.Grant.Reference = again.Jobs, "signup:"+id // taken: fails after the jobs
		if err := b.Open(t.Context(), broken, nil); err == nil {
			t.Error("a second entry of one reference was written")
		}
		now := b.Clock.Now()
		wantJobs(t, "jobs", listed(t, b, jobs.Filter{}),
			jobs.Job{Kind: jobs.StripeCustomer, Subject: id, CreatedAt: now, DueAt: now},
			jobs.Job{Kind: jobs.WelcomeMail, Subject: id, CreatedAt: now, DueAt: now})
	},
	"QueuedTwiceIsOne": func(t *testing.T, b Backend) {
		id := someoneWith(t, b, jobs.StripeCustomer, jobs.StripeCustomer)
		if found := claim(t, b, jobs.StripeCustomer, 10); len(found) != 1 || found[0].Subject != id {
			t.Errorf("claimed %+v, want one job", found)
		}
	},
	"ClaimTakesThoseDueLongestOfItsKind": func(t *testing.T, b Backend) {
		var ids []string
		for range 5 {
			ids = append(ids, someoneWith(t, b, jobs.WelcomeMail, jobs.StripeCustomer))
			b.Clock.Move(time.Second)
		}
		late := claim(t, b, jobs.WelcomeMail, 1)[0] // the first is now the last
		done(t, b.Postpone(t.Context(), late, 0, "", false))
		for _, want := range [][]string{{ids[1], ids[2]}, {ids[3], ids[4]}, {ids[0]}, nil} {
			slices.Sort(want)
			found := claim(t, b, jobs.WelcomeMail, 2)
			if got := subjects(found); !slices.Equal(got, want) {
				t.Errorf("claimed %q, want %q", got, want)
			}
			for _, j := range found {
				if !j.Running || j.Tries != 1 && j.Subject != ids[0] || !j.DueAt.Equal(b.Clock.Now().Add(jobs.Lease)) {
					t.Errorf("claimed %+v", j)
				}
			}
		}
		if found := claim(t, b, jobs.StripeCustomer, 10); len(found) != 5 {
			t.Errorf("of the other kind %d are left, want 5", len(found))
		}
	},
	"ManyClaimersShareThemOut": func(t *testing.T, b Backend) {
		const workers, all = 64, 1000
		var ids sync.Map
		atOnce(t, all, fault.Internal, func(int) error {
			o, _ := newOpening(t, b.Clock, newID(t)+"@example.dev")
			o.Jobs = []jobs.Kind{jobs.WelcomeMail}
			ids.Store(o.ID, 0)
			return b.Open(t.Context(), o, nil)
		})
		var mu sync.Mutex
		seen := make(map[string]int)
		atOnce(t, workers, fault.Internal, func(i int) error {
			for {
				found, err := b.Claim(t.Context(), jobs.WelcomeMail, 1+i%16, jobs.Lease)
				if err != nil || len(found) == 0 {
					return err
				}
				if len(found) > 1+i%16 {
					t.Errorf("claimed %d, asked for %d", len(found), 1+i%16)
				}
				mu.Lock()
				for _, j := range found {
					seen[j.Subject]++
				}
				mu.Unlock()
			}
		})
		ids.Range(func(id, _ any) bool {
			if n := seen[id.(string)]; n != 1 {
				t.Errorf("the job of %s was claimed %d times", id, n)
			}
			return true
		})
		if len(seen) != all {
			t.Errorf("%d were claimed, want %d", len(seen), all)
		}
	},
	"EndOfTheLeaseMakesItDueAgain": func(t *testing.T, b Backend) {
		someoneWith(t, b, jobs.WelcomeMail)
		first := claimOne(t, b, jobs.WelcomeMail)
		b.Clock.Move(jobs.Lease - time.Microsecond)
		if found := claim(t, b, jobs.WelcomeMail, 1); len(found) > 0 {
			t.Errorf("claimed %+v within another's lease", found)
		}
		b.Clock.Move(time.Microsecond)
		if second := claimOne(t, b, jobs.WelcomeMail); second.Claim <= first.Claim || second.Tries != 2 || second.Subject != first.Subject {
			t.Errorf("claimed %+v after %+v", second, first)
		}
	},
	"ClaimedJobStaysSoOverAReopening": func(t *testing.T, b Backend) {
		someoneWith(t, b, jobs.WelcomeMail)
		first := claimOne(t, b, jobs.WelcomeMail)
		b.Store = b.Reopen(t)
		b.Clock.Move(jobs.Lease)
		second := claimOne(t, b, jobs.WelcomeMail)
		if second.Claim <= first.Claim || second.Tries != 2 {
			t.Errorf("claimed %+v after %+v", second, first)
		}
		done(t, b.Done(t.Context(), first))
		wantJobs(t, "jobs", listed(t, b, jobs.Filter{}), second)
	},
	"LastClaimDecides": func(t *testing.T, b Backend) {
		for what, say := range outcomes(b) {
			someoneWith(t, b, jobs.WelcomeMail)
			late := claimOne(t, b, jobs.WelcomeMail)
			b.Clock.Move(jobs.Lease)
			last := claimOne(t, b, jobs.WelcomeMail)
			done(t, say(t.Context(), late))
			wantJobs(t, what+" by who lost the lease", listed(t, b, jobs.Filter{}), last)
			done(t, say(t.Context(), last))
			if left := listed(t, b, jobs.Filter{}); len(left) > 0 && left[0].Running {
				t.Errorf("%s by who has it changed nothing: %+v", what, left)
			}
			done(t, b.Done(t.Context(), last))
		}
	},
	"ClaimOfARemovedOneIsNoClaimOfTheNext": func(t *testing.T, b Backend) {
		for what, say := range outcomes(b) {
			id := someoneWith(t, b, jobs.StripeCustomer)
			late := claimOne(t, b, jobs.StripeCustomer)
			b.Clock.Move(jobs.Lease)
			done(t, b.Done(t.Context(), claimOne(t, b, jobs.StripeCustomer)))
			if _, n, err := b.QueueStripeCustomers(t.Context(), "", 10); err != nil || n != 1 {
				t.Fatalf("queued %d, %v", n, err)
			}
			now := b.Clock.Now()
			done(t, say(t.Context(), late))
			wantJobs(t, what+" before its claim", listed(t, b, jobs.Filter{}), jobs.Job{Kind: jobs.StripeCustomer, Subject: id, CreatedAt: now, DueAt: now})
			last := claimOne(t, b, jobs.StripeCustomer)
			done(t, say(t.Context(), late))
			wantJobs(t, what+" after its claim", listed(t, b, jobs.Filter{}), last)
			done(t, b.Done(t.Context(), last))
			done(t, b.SetStripeCustomer(t.Context(), id, "cus_"+id))
		}
	},
	"PostponedIsDueThen": func(t *testing.T, b Backend) {
		someoneWith(t, b, jobs.WelcomeMail)
		for _, refund := range []bool{false, true} {
			j := claimOne(t, b, jobs.WelcomeMail)
			want := j
			want.Running, want.Reason, want.DueAt = false, "busy", b.Clock.Now().Add(time.Minute)
			if refund {
				want.Tries--
			}
			done(t, b.Postpone(t.Context(), j, time.Minute, "busy", refund))
			wantJobs(t, "postponed", listed(t, b, jobs.Filter{}), want)
			b.Clock.Move(time.Minute - time.Microsecond)
			if found := claim(t, b, jobs.WelcomeMail, 1); len(found) > 0 {
				t.Errorf("claimed %+v before it was due", found)
			}
			b.Clock.Move(time.Microsecond)
		}
		if j := claimOne(t, b, jobs.WelcomeMail); j.Tries != 2 || j.Reason != "busy" {
			t.Errorf("after one try and one that was given back: %+v", j)
		}
	},
	"BuriedIsKeptWithItsReason": func(t *testing.T, b Backend) {
		someoneWith(t, b, jobs.WelcomeMail)
		j := claimOne(t, b, jobs.WelcomeMail)
		done(t, b.Bury(t.Context(), j, "no such mailbox"))
		want := j
		want.Running, want.Reason, want.DeadAt = false, "no such mailbox", b.Clock.Now()
		b.Clock.Move(1000 * time.Hour)
		if found := claim(t, b, jobs.WelcomeMail, 1); len(found) > 0 {
			t.Errorf("claimed %+v, which is dead", found)
		}
		for _, f := range []jobs.Filter{{}, {Dead: true}} {
			wantJobs(t, "dead", listed(t, b, f), want)
		}
		stats, err := b.JobStats(t.Context())
		if diff := gocmp.Diff([]jobs.Stat{{Kind: jobs.WelcomeMail, Dead: 1}}, stats); err != nil || diff != "" {
			t.Errorf("counted %v (-want +got):\n%s", err, diff)
		}
	},
	"RetryAndDropTakeDeadOnesAlone": func(t *testing.T, b Backend) {
		for name, change := range map[string]func(context.Context, jobs.Filter) (int, error){"retry": b.RetryJobs, "drop": b.DropJobs} {
			var ids []string
			for range 3 { // the third lives, running; then a fourth, that waits
				ids = append(ids, someoneWith(t, b, jobs.WelcomeMail, jobs.StripeCustomer))
			}
			for _, kind := range []jobs.Kind{jobs.WelcomeMail, jobs.StripeCustomer} {
				for _, j := range claim(t, b, kind, 10) {
					if j.Subject != ids[2] {
						done(t, b.Bury(t.Context(), j, "broken"))
					}
				}
			}
			someoneWith(t, b, jobs.WelcomeMail, jobs.StripeCustomer)
			alive := func() []jobs.Job {
				return slices.DeleteFunc(listed(t, b, jobs.Filter{}), func(j jobs.Job) bool { return j.Subject == ids[0] || j.Subject == ids[1] })
			}
			before := alive()
			for _, step := range []struct {
				f    jobs.Filter
				want int
			}{
				{jobs.Filter{Kind: "no_such_kind"}, 0},
				{jobs.Filter{Kind: jobs.WelcomeMail, Subject: ids[2]}, 0},
				{jobs.Filter{Kind: jobs.WelcomeMail, Subject: ids[0]}, 1},
				{jobs.Filter{Kind: jobs.WelcomeMail}, 1},
				{jobs.Filter{Subject: ids[1]}, 1},
				{jobs.Filter{}, 1},
				{jobs.Filter{}, 0},
			} {
				if n, err := change(t.Context(), step.f); err != nil || n != step.want {
					t.Errorf("%s %+v: %d, %v, want %d", name, step.f, n, err, step.want)
				}
			}
			wantJobs(t, name+" changed live ones", alive(), before...)
			again := 0
			for _, j := range append(claim(t, b, jobs.WelcomeMail, 10), claim(t, b, jobs.StripeCustomer, 10)...) {
				if j.Subject == ids[0] || j.Subject == ids[1] {
					if again++; j.Tries != 1 || !j.DeadAt.IsZero() {
						t.Errorf("retried as %+v", j)
					}
				}
			}
			if want := map[string]int{"retry": 4, "drop": 0}[name]; again != want {
				t.Errorf("after %s %d are due, want %d", name, again, want)
			}
			b.Clock.Move(jobs.Lease)
			for _, kind := range []jobs.Kind{jobs.WelcomeMail, jobs.StripeCustomer} {
				for _, j := range claim(t, b, kind, 20) {
					done(t, b.Done(t.Context(), j))
				}
			}
		}
	},
	"StatsCountEachKind": func(t *testing.T, b Backend) {
		if stats, err := b.JobStats(t.Context()); err != nil || len(stats) > 0 {
			t.Errorf("of none: %+v, %v", stats, err)
		}
		someoneWith(t, b, jobs.WelcomeMail) // dead soon
		done(t, b.Bury(t.Context(), claimOne(t, b, jobs.WelcomeMail), ""))
		b.Clock.Move(time.Minute)
		for range 3 {
			someoneWith(t, b, jobs.WelcomeMail, jobs.StripeCustomer)
			b.Clock.Move(time.Second)
		}
		claim(t, b, jobs.WelcomeMail, 1) // running is queued, too
		done(t, b.Done(t.Context(), claim(t, b, jobs.StripeCustomer, 1)[0]))
		stats, err := b.JobStats(t.Context())
		slices.SortFunc(stats, func(a, b jobs.Stat) int { return cmp.Compare(a.Kind, b.Kind) })
		want := []jobs.Stat{{Kind: jobs.StripeCustomer, Queued: 2, Oldest: 2 * time.Second, Overdue: 2 * time.Second}, {Kind: jobs.WelcomeMail, Queued: 3, Dead: 1, Oldest: 3 * time.Second, Overdue: 2 * time.Second}}
		if diff := gocmp.Diff(want, stats); err != nil || diff != "" {
			t.Errorf("counted %v (-want +got):\n%s", err, diff)
		}
	},
	"ListedInPages": func(t *testing.T, b Backend) {
		for range 3 {
			someoneWith(t, b, jobs.WelcomeMail, jobs.StripeCustomer)
		}
		for _, j := range claim(t, b, jobs.WelcomeMail, 2) {
			done(t, b.Bury(t.Context(), j, ""))
		}
		for _, tt := range []struct {
			f    jobs.Filter
			want int
		}{{jobs.Filter{}, 6}, {jobs.Filter{Kind: jobs.StripeCustomer}, 3}, {jobs.Filter{Dead: true}, 2}, {jobs.Filter{Kind: jobs.StripeCustomer, Dead: true}, 0}} {
			var got []string
			for after := (jobs.Job{}); ; {
				page, err := b.Jobs(t.Context(), tt.f, after, 2)
				if err != nil || len(page) > 2 {
					t.Fatalf("a page of %d, %v", len(page), err)
				}
				if len(page) == 0 {
					break
				}
				for _, j := range page {
					got = append(got, string(j.Kind)+" "+j.Subject)
				}
				after = page[len(page)-1]
			}
			if len(got) != tt.want || !slices.IsSorted(got) || len(slices.Compact(got)) != tt.want {
				t.Errorf("%+v: %q, want %d in order", tt.f, got, tt.want)
			}
		}
	},
}
