package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"gatehouse/internal/jobs"
)

const (
	mail   = jobs.WelcomeMail
	stripe = jobs.StripeCustomer
)

func one(h jobs.Handler) map[jobs.Kind]jobs.Handler { return map[jobs.Kind]jobs.Handler{mail: h} }

func wantOutcomes(t *testing.T, n *node, want map[jobs.Outcome]int) {
	t.Helper()
	if got := n.outcomes(); !maps.Equal(got, want) {
		t.Errorf("outcomes are %v, want %v", got, want)
	}
}

func TestEachJobIsHandledOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, d := newQueue(), &diary{}
		q.fill(mail, 300, 0)
		q.fill(stripe, 200, 0)
		h := d.handle(func(ctx context.Context, _ jobs.Job) error { return busy(ctx, 20*time.Millisecond) })
		n := start(t, q, map[jobs.Kind]jobs.Handler{mail: h, stripe: h})
		pass(5 * time.Second)
		if left := q.left(); len(left) > 0 || len(d.calls) != 500 || d.tries() != 500 {
			t.Errorf("%d are left, %d of 500 were handled in %d tries", len(left), len(d.calls), d.tries())
		}
		wantOutcomes(t, n, map[jobs.Outcome]int{jobs.Done: 500})
		q.fill(mail, 1, 0) // and who idles finds what comes
		pass(250 * time.Millisecond)
		wantOutcomes(t, n, map[jobs.Outcome]int{jobs.Done: 501})
	})
}

func TestDelayDoublesWithinItsBounds(t *testing.T) {
	for tries := range 40 {
		whole := min(time.Second<<min(max(tries-1, 0), 20), 6*time.Hour)
		seen := make(map[time.Duration]bool)
		for range 100 {
			d := jobs.Delay(tries)
			if seen[d] = true; d < whole/2 || d > whole {
				t.Fatalf("after try %d: %s, want within %s and %s", tries, d, whole/2, whole)
			}
		}
		if len(seen) < 90 {
			t.Errorf("after try %d only %d of 100 delays differ", tries, len(seen))
		}
	}
}

func TestJobThatAlwaysFailsDiesAfterDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, d := newQueue(), &diary{}
		q.fill(mail, 1, 0)
		begun := time.Now()
		n := start(t, q, one(d.handle(func(context.Context, jobs.Job) error { return errors.New("no such host") })))
		pass(7 * 24 * time.Hour)
		j, tries := q.left()[0], d.times("00000")
		if len(tries) != jobs.MaxTries || j.Reason != "no such host" || j.Running {
			t.Fatalf("after %d tries: %+v", len(tries), j)
		}
		if took := j.DeadAt.Sub(begun); took < 63*time.Hour || took > 6*24*time.Hour {
			t.Errorf("dead after %s", took)
		}
		for i := 1; i < len(tries); i++ {
			whole := min(time.Second<<min(i-1, 20), 6*time.Hour)
			if apart := tries[i].Sub(tries[i-1]); apart < whole/2 || apart > whole+16*time.Second {
				t.Errorf("try %d came %s after the one before", i+1, apart)
			}
		}
		wantOutcomes(t, n, map[jobs.Outcome]int{jobs.Retried: jobs.MaxTries - 1, jobs.Died: 1})
	})
}

func TestJobWhoseProcessAlwaysDiesIsNotBegunAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, d := newQueue(), &diary{}
		q.fill(mail, 1, jobs.MaxTries)
		n := start(t, q, one(d.handle(func(context.Context, jobs.Job) error { return nil })))
		pass(time.Second)
		if j := q.left()[0]; d.tries() != 0 || j.DeadAt.IsZero() || j.Reason != "36 tries ended without an outcome" {
			t.Errorf("after %d calls: %+v", d.tries(), j)
		}
		wantOutcomes(t, n, map[jobs.Outcome]int{jobs.Died: 1})
	})
}

func TestPermanentFailureIsDeadAtOnce(t *testing.T) {
	gone := errors.New("550 no such mailbox")
	if wrapped := fmt.Errorf("send: %w", jobs.Permanent(gone)); !jobs.IsPermanent(wrapped) || !errors.Is(wrapped, gone) || jobs.IsPermanent(gone) || jobs.IsPermanent(nil) {
		t.Error("a permanent error is not told from another")
	}
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		q.fill(mail, 1, 0)
		n := start(t, q, one(func(context.Context, jobs.Job) error { return fmt.Errorf("send: %w", jobs.Permanent(gone)) }))
		pass(time.Hour)
		if j := q.left()[0]; j.DeadAt.IsZero() || j.Tries != 1 || j.Reason != "send: 550 no such mailbox" {
			t.Errorf("the job is %+v", j)
		}
		wantOutcomes(t, n, map[jobs.Outcome]int{jobs.Died: 1})
		n.stop()
		<-n.ended
		want := `level=ERROR msg="job is dead" kind=welcome_mail subject=00000 tries=1 err="send: 550 no such mailbox"`
		if !strings.Contains(n.log.String(), want) {
			t.Errorf("the log does not say so:\n%s", &n.log)
		}
	})
}

func TestPanicIsAFailedTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, d := newQueue(), &diary{}
		q.fill(mail, 1, 0)
		var reason string
		n := start(t, q, one(d.handle(func(_ context.Context, j jobs.Job) error {
			if j.Tries < 3 {
				panic("ada@example.dev")
			}
			reason = j.Reason
			return nil
		})))
		pass(time.Minute)
		if d.tries() != 3 || len(q.left()) > 0 || !strings.HasPrefix(reason, "panic: string at runner_test.go:") {
			t.Errorf("%d tries, left are %+v, for %q", d.tries(), q.left(), reason)
		}
		wantOutcomes(t, n, map[jobs.Outcome]int{jobs.Retried: 2, jobs.Done: 1})
	})
}

func TestHandlerThatHangsIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		q.fill(mail, 1, 0)
		var took time.Duration
		n := start(t, q, one(func(ctx context.Context, j jobs.Job) error {
			if j.Tries > 1 {
				return nil
			}
			begun := time.Now()
			<-ctx.Done()
			took = time.Since(begun)
			return fmt.Errorf("wait for an answer: %w", ctx.Err())
		}))
		pass(30 * time.Second)
		if j := q.left()[0]; took != 30*time.Second || j.Running || j.Reason != "it took longer than 30s: wait for an answer: context deadline exceeded" {
			t.Errorf("ended after %s: %+v", took, j)
		}
		pass(2 * time.Second)
		wantOutcomes(t, n, map[jobs.Outcome]int{jobs.Retried: 1, jobs.Done: 1})
	})
}

func TestPoisonJobsHoldUpNobody(t *testing.T) {
	for name, poison := range map[string]func() error{
		"fails": func() error { return errors.New("broken") }, "panics": func() error { panic("broken") },
		"is permanent": func() error { return jobs.Permanent(errors.New("broken")) },
	} {
		for _, tt := range []struct {
			poisoned int
			within   time.Duration // 1000 jobs at Rate take 2.5 s
		}{{1, 4 * time.Second}, {12, 4 * time.Second}, {20, 80 * time.Second}} { // more than run at once look like an outage
			t.Run(fmt.Sprintf("%d %s", tt.poisoned, name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					q, d := newQueue(), &diary{}
					q.fill(mail, 1000, 0)
					first := fmt.Sprintf("%05d", tt.poisoned)
					n := start(t, q, one(d.handle(func(ctx context.Context, j jobs.Job) error {
						if j.Subject < first {
							return poison()
						}
						return busy(ctx, 20*time.Millisecond)
					})))
					pass(tt.within)
					for _, j := range q.left() {
						if j.Subject >= first || j.Reason == "" {
							t.Fatalf("after %s there is %+v", tt.within, j)
						}
					}
					if got := n.outcomes(); got[jobs.Done] != 1000-tt.poisoned {
						t.Errorf("outcomes are %v", got)
					}
				})
			})
		}
	}
}

func TestOutageMakesTriesRareAndItsEndIsSeen(t *testing.T) {
	for name, away := range map[string]func(context.Context) error{
		"refuses": func(context.Context) error { return errors.New("connection refused") },
		"hangs":   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, d := newQueue(), &diary{}
				q.fill(mail, 1000, 0)
				begun, end := time.Now(), make(chan struct{})
				n := start(t, q, one(d.handle(func(ctx context.Context, _ jobs.Job) error {
					select {
					case <-end:
						return busy(ctx, 20*time.Millisecond)
					default:
					}
					if time.Since(begun) > time.Hour { // it ends as soon as it was seen once more
						close(end)
					}
					return away(ctx)
				})))
				<-end
				if tries := d.tries(); tries < 200 || tries > 300 {
					t.Errorf("%d tries in an hour", tries)
				}
				if got := n.outcomes(); got[jobs.Done]+got[jobs.Died] > 0 {
					t.Errorf("outcomes are %v", got)
				}
				pass(15*time.Second + 3*time.Second)
				for _, j := range q.left() { // what hangs still hangs
					if name == "refuses" || j.DueAt.Before(time.Now()) {
						t.Fatalf("18 s after the end there is %+v", j)
					}
				}
				pass(time.Minute)
				if left := q.left(); len(left) > 0 {
					t.Errorf("%d are left, such as %+v", len(left), left[0])
				}
			})
		})
	}
}

// That tries of jobs are used up does not show that what they need is back.
func TestDyingOfAnOutageDoesNotQuickenIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, d := newQueue(), &diary{}
		q.fill(mail, 1000, jobs.MaxTries-1)
		start(t, q, one(d.handle(func(context.Context, jobs.Job) error { return errors.New("connection refused") })))
		pass(time.Hour)
		if tries := d.tries(); tries < 200 || tries > 300 {
			t.Errorf("%d tries in an hour", tries)
		}
	})
}

func TestKindsDoNotHoldEachOtherUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		q.fill(mail, 100, 0)
		q.fill(stripe, 100, 0)
		n := start(t, q, map[jobs.Kind]jobs.Handler{
			mail:   func(ctx context.Context, _ jobs.Job) error { <-ctx.Done(); return ctx.Err() },
			stripe: func(ctx context.Context, _ jobs.Job) error { return busy(ctx, 20*time.Millisecond) },
		})
		pass(time.Second)
		wantOutcomes(t, n, map[jobs.Outcome]int{jobs.Done: 100})
	})
}

func TestNoMoreRunThanThereAreWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, d := newQueue(), &diary{}
		q.fill(mail, 200, 0)
		start(t, q, one(d.handle(func(ctx context.Context, j jobs.Job) error {
			return busy(ctx, time.Duration(10+len(j.Subject)+int(j.Subject[4]-'0')*7)*time.Millisecond)
		})))
		pass(100 * time.Millisecond)
		running := 0
		for _, j := range q.left() {
			if j.Running {
				running++
			}
		}
		if running > jobs.Workers {
			t.Errorf("%d are claimed at once", running)
		}
		pass(time.Minute)
		if d.most != jobs.Workers || d.tries() != 200 {
			t.Errorf("%d ran at once, want %d; %d tries", d.most, jobs.Workers, d.tries())
		}
	})
}

func TestStopLetsWhatRunsFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, d := newQueue(), &diary{}
		q.fill(mail, 100, 0)
		n := start(t, q, one(d.handle(func(ctx context.Context, _ jobs.Job) error { return busy(ctx, 10*time.Second) })))
		pass(time.Second)
		n.stop()
		asked := q.asked
		<-n.ended
		left := q.left()
		if len(left) != 100-jobs.Workers || q.asked != asked {
			t.Errorf("%d are left; asked for more %d times", len(left), q.asked-asked)
		}
		for _, j := range left {
			if j.Running || j.Tries > 0 {
				t.Errorf("begun and not finished: %+v", j)
			}
		}
		wantOutcomes(t, n, map[jobs.Outcome]int{jobs.Done: jobs.Workers})
	})
}

func TestWhatIsCutOffIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		q.fill(mail, 20, 3)
		n := start(t, q, one(func(ctx context.Context, j jobs.Job) error {
			<-ctx.Done()
			if j.Subject == "00003" { // which was done just then
				return nil
			}
			return jobs.Permanent(ctx.Err()) // or takes the end for its own failure
		}))
		pass(time.Second)
		n.stop()
		pass(time.Second)
		n.cut()
		<-n.ended
		left := q.left()
		for _, j := range left {
			if j.Running || j.Tries != 3 || j.DueAt.After(time.Now()) || !j.DeadAt.IsZero() || j.Reason != "" {
				t.Errorf("given back as %+v", j)
			}
		}
		if len(left) != 19 {
			t.Errorf("%d are left", len(left))
		}
		wantOutcomes(t, n, map[jobs.Outcome]int{jobs.Returned: jobs.Workers - 1, jobs.Done: 1})
	})
}

func TestStoppedRunnerClaimsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 50 { // a choice by chance would show
			q := newQueue()
			q.fill(mail, 1, 0)
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			handlers := one(func(context.Context, jobs.Job) error { return nil })
			jobs.NewRunner(q, handlers, slog.New(slog.DiscardHandler), jobs.Observer{Tried: func(jobs.Kind, jobs.Outcome, time.Duration) {}}).Run(ctx, t.Context())
			if q.asked > 0 {
				t.Fatal("it asked for jobs after its end")
			}
		}
	})
}

func TestWorkGoesOnAfterTheQueueWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, d := newQueue(), &diary{}
		q.fill(mail, 100, 0)
		q.fails(true, "claim", "stats")
		n := start(t, q, one(d.handle(func(context.Context, jobs.Job) error { return nil })))
		pass(time.Minute)
		if d.tries() > 0 || n.Stats() != nil || q.asked > 301 {
			t.Errorf("%d tries, stats are %+v, asked %d times", d.tries(), n.Stats(), q.asked)
		}
		q.fails(false, "claim")
		pass(time.Second)
		wantOutcomes(t, n, map[jobs.Outcome]int{jobs.Done: 100})
	})
}

func TestOutcomeThatCouldNotBeWrittenIsAnotherTry(t *testing.T) {
	for call, result := range map[string]error{"done": nil, "postpone": errors.New("busy"), "bury": jobs.Permanent(errors.New("gone"))} {
		synctest.Test(t, func(t *testing.T) {
			q, d := newQueue(), &diary{}
			q.fill(mail, 1, 0)
			q.fails(true, call)
			start(t, q, one(d.handle(func(context.Context, jobs.Job) error { return result })))
			pass(jobs.Lease - time.Second)
			if d.tries() != 1 {
				t.Errorf("%s: %d tries within the lease", call, d.tries())
			}
			q.fails(false, call)
			pass(2 * time.Second)
			times := d.times("00000")
			if len(times) != 2 || times[1].Sub(times[0]) < jobs.Lease {
				t.Errorf("%s: tried at %v", call, times)
			}
			for _, j := range q.left() {
				if call == "done" || j.Running || j.Tries != 2 {
					t.Errorf("%s: there is %+v", call, j)
				}
			}
		})
	}
}

// A database that is busy for a moment must not have a mail sent twice.
func TestOutcomeIsWrittenOnceTheQueueIsBack(t *testing.T) {
	for call, result := range map[string]error{"done": nil, "postpone": errors.New("busy"), "bury": jobs.Permanent(errors.New("gone"))} {
		synctest.Test(t, func(t *testing.T) {
			q, d := newQueue(), &diary{}
			q.fill(mail, 1, 20)
			q.fails(true, call)
			start(t, q, one(d.handle(func(context.Context, jobs.Job) error { return result })))
			pass(10 * time.Second)
			q.fails(false, call)
			pass(jobs.Lease)
			if d.tries() != 1 {
				t.Errorf("%s: %d tries", call, d.tries())
			}
			for _, j := range q.left() {
				if call == "done" || j.Running || j.Reason == "" {
					t.Errorf("%s: there is %+v", call, j)
				}
			}
		})
	}
}

func TestReasonsAreShortLines(t *testing.T) {
	texts := []string{
		"one\ntwo\r\nthree\ttab\x00\x1b[31m\u2028\u0085.", "\xff\xfe invalid \xc3", "", strings.Repeat("long ", 1000), strings.Repeat("\xf0\x9f", 600),
	}
	for offset := range 4 { // wherever the bound falls in a character
		texts = append(texts, strings.Repeat("x", offset)+strings.Repeat("🙂", 200), strings.Repeat("x", 496+offset)+"\xff\xff\xff")
	}
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		q.fill(mail, len(texts), 0)
		start(t, q, one(func(_ context.Context, j jobs.Job) error {
			var i int
			if _, err := fmt.Sscanf(j.Subject, "%d", &i); err != nil {
				return err
			}
			return jobs.Permanent(errors.New(texts[i]))
		}))
		pass(time.Minute)
		for i, j := range q.left() {
			if len(j.Reason) > 500 || !utf8.ValidString(j.Reason) || strings.ContainsFunc(j.Reason, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q became %q", texts[i], j.Reason)
			}
			if len(texts[i]) > 600 && len(j.Reason) < 490 {
				t.Errorf("%d bytes became %d", len(texts[i]), len(j.Reason))
			}
		}
		if got := q.left()[0].Reason; got != "one two  three tab  [31m  ." {
			t.Errorf("kept %q", got)
		}
	})
}

func TestStatsAreWhatWasLastSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		q.fill("retired_kind", 7, 0) // nobody works on it, and it is seen
		n := start(t, q, map[jobs.Kind]jobs.Handler{mail: nil, stripe: nil})
		pass(time.Second)
		q.fails(true, "stats")
		q.fill("retired_kind", 1, 0)
		pass(time.Minute)
		if got := n.Stats(); len(got) != 1 || got[0].Queued != 7 {
			t.Errorf("stats are %+v", got)
		}
		q.fails(false, "stats")
		pass(5 * time.Second)
		want := map[jobs.Kind]jobs.Stat{"retired_kind": {Kind: "retired_kind", Queued: 8}}
		for _, kind := range jobs.Kinds() {
			want[kind] = jobs.Stat{Kind: kind}
		}
		if got := n.Stats(); got[0].Queued != 8 || !maps.Equal(n.counted, want) {
			t.Errorf("stats are %+v, counted %+v", got, n.counted)
		}
	})
}
