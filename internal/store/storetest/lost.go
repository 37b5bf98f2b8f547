package storetest

import (
	"context"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"gatehouse/internal/fault"
	"gatehouse/internal/vending"
)

// held is for how long a hold stands, as a meter makes it.
const held = 30 * time.Second

// dead holds money for a call of a node that will never be heard of again.
func dead(t testing.TB, b Backend, l vending.Lease, micro int64) vending.Hold {
	t.Helper()
	h := hold(t, l, micro)
	done(t, b.Hold(t.Context(), h, held))
	return h
}

// wantBooked checks that a look for lost calls books these.
func wantBooked(t testing.TB, b Backend, want ...vending.Audit) {
	t.Helper()
	got, err := b.BookLost(t.Context(), 1000)
	done(t, err)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("booked as lost (-want +got):\n%s", diff)
	}
}

// wantCalls checks which calls under a lease, other than of wantRoom, are in the
// trail.
func wantCalls(t testing.TB, b Backend, l vending.Lease, want ...vending.Audit) {
	t.Helper()
	var got []vending.Audit
	for _, a := range trail(t, b, vending.AuditFilter{CredentialID: l.CredentialID, Action: vending.Calling}) {
		if a.Cost > 0 {
			got = append(got, a)
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

var lostTests = map[string]func(*testing.T, Backend){
	"CountsUntilItIsBooked": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		l := capped(t, b, by, 100)
		h := dead(t, b, l, 30)
		lapsed := b.Clock.Now().Add(held)
		b.Clock.Move(held + time.Second)
		wantRoom(t, b, l, 70)
		wantBooked(t, b)
		b.Clock.Move(vending.LostAfter - time.Second - time.Microsecond)
		wantBooked(t, b)
		b.Clock.Move(time.Microsecond)
		wantRoom(t, b, l, 70)
		row := vending.Audit{
			ID: h.ID, At: lapsed, CustomerID: by.CustomerID, KeyID: by.KeyID, CredentialID: l.CredentialID, GrantID: l.GrantID,
			Action: vending.Calling, Provider: vending.OpenAI, Model: "gpt-5", Requests: 1, Cost: 30, Estimated: true, Outcome: "lost",
		}
		wantBooked(t, b, row)
		wantBooked(t, b)
		wantRoom(t, b, l, 70)
		wantCalls(t, b, l, row)
		// Its own node comes back too late.
		done(t, b.KeepHolds(t.Context(), []string{h.ID}, held))
		done(t, b.Settle(t.Context(), []vending.Spending{spending(t, b, l, 12, h.ID)}))
		wantRoom(t, b, l, 70)
		wantCalls(t, b, l, row)
		used, err := b.UsedBetween(t.Context(), by.CustomerID, lapsed, lapsed.Add(time.Microsecond))
		if diff := gocmp.Diff(map[vending.Provider]vending.Used{vending.OpenAI: {Requests: 1}}, used); err != nil || diff != "" {
			t.Errorf("%v, used (-want +got):\n%s", err, diff)
		}
	},
	"SettledBeforeIsWhatItCameTo": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		l := capped(t, b, by, 100)
		h := dead(t, b, l, 30)
		b.Clock.Move(held + vending.LostAfter + time.Hour)
		call := spending(t, b, l, 12, h.ID)
		done(t, b.Settle(t.Context(), []vending.Spending{call}))
		wantBooked(t, b)
		wantRoom(t, b, l, 88)
		wantCalls(t, b, l, call.Audit)
	},
	"LetGoOfWithoutACallIsNotLost": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		l := capped(t, b, by, 100)
		var releases []vending.Spending
		for range 3 {
			r := spending(t, b, l, 30, dead(t, b, l, 30).ID)
			r.ID = "" // which is no row, whatever else is said
			releases = append(releases, r)
		}
		call := spending(t, b, l, 12, dead(t, b, l, 10).ID)
		releases = append(releases, call, vending.Spending{Reservation: newID(t)}) // which was not written
		for range 2 {
			done(t, b.Settle(t.Context(), releases))
			wantRoom(t, b, l, 88)
		}
		b.Clock.Move(held + vending.LostAfter)
		wantBooked(t, b)
		wantCalls(t, b, l, call.Audit)
	},
	"KeptThoughItLapsedIsNotLost": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		l := capped(t, b, by, 100)
		kept, gone := dead(t, b, l, 30), dead(t, b, l, 50)
		b.Clock.Move(held + vending.LostAfter)
		done(t, b.KeepHolds(t.Context(), []string{kept.ID}, held))
		wantBooked(t, b, gone.Lost(b.Clock.Now().Add(-vending.LostAfter)))
		wantRoom(t, b, l, 20)
		b.Clock.Move(held + vending.LostAfter - time.Microsecond)
		wantBooked(t, b)
		done(t, b.Settle(t.Context(), []vending.Spending{spending(t, b, l, 25, kept.ID)}))
		wantRoom(t, b, l, 25)
	},
	"CountsAgainstTheDayItLapsedOn": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		l := capped(t, b, by, 0)
		done(t, b.SetBudget(t.Context(), by.CustomerID, 1)) // 10,000
		dead(t, b, l, 6000)
		b.Clock.Move(held + time.Second)
		wantRoom(t, b, l, 4000)
		b.Clock.Move(vending.LostAfter)
		wantBookedSome(t, b, 10, 1)
		wantRoom(t, b, l, 4000)
		b.Clock.Move(11*time.Hour + 53*time.Minute) // some minutes to midnight
		dead(t, b, l, 1000)
		b.Clock.Move(vending.LostAfter + time.Minute) // some seconds after
		wantRoom(t, b, l, 9000)
		wantBookedSome(t, b, 10, 1)
		wantRoom(t, b, l, 10_000)
	},
	"IsBookedOnceByManyNodes": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		_, _, eve := signUp(t, b, "eve@example.dev")
		hers, theirs := capped(t, b, by, 1000), capped(t, b, eve, 1000)
		for range 20 {
			dead(t, b, hers, 7)
			dead(t, b, theirs, 9)
		}
		b.Clock.Move(held + vending.LostAfter)
		booked := make([]int, 8)
		if n := atOnce(t, len(booked), fault.Unavailable, func(i int) error {
			return patiently(func() error {
				rows, err := b.BookLost(t.Context(), 15+i)
				booked[i] += len(rows)
				return err
			})
		}); n != len(booked) {
			t.Errorf("%d of %d looks succeeded", n, len(booked))
		}
		all := 0
		for _, n := range booked {
			all += n
		}
		rest, err := b.BookLost(t.Context(), 1000)
		if all += len(rest); err != nil || all != 40 {
			t.Errorf("%d were booked, %v, want 40", all, err)
		}
		wantRoom(t, b, hers, 1000-20*7)
		wantRoom(t, b, theirs, 1000-20*9)
	},
	"IsBookedOnceThoughItsNodeComesBack": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		l := capped(t, b, by, 10_000)
		var calls []vending.Spending
		var ids []string
		for range 60 {
			h := dead(t, b, l, 100)
			calls, ids = append(calls, spending(t, b, l, 40, h.ID)), append(ids, h.ID)
		}
		b.Clock.Move(held + vending.LostAfter)
		ctx := context.WithoutCancel(t.Context())
		atOnce(t, 18, fault.Unavailable, func(i int) error {
			return patiently(func() (err error) {
				switch some := i / 3 * 10; i % 3 {
				case 0:
					err = b.Settle(ctx, calls[some:some+10])
				case 1:
					_, err = b.BookLost(ctx, 10)
				default:
					err = b.KeepHolds(ctx, ids[some:some+10], held)
				}
				return err
			})
		})
		var spent int64
		rows := trail(t, b, vending.AuditFilter{CredentialID: l.CredentialID, Action: vending.Calling})
		for _, a := range rows {
			if spent += a.Cost; a.Cost != 40 && (a.Cost != 100 || a.Outcome != "lost") {
				t.Errorf("a row is %+v", a)
			}
		}
		if len(rows) != 60 {
			t.Errorf("%d rows for 60 calls", len(rows))
		}
		wantBooked(t, b)
		wantRoom(t, b, l, 10_000-spent)
	},
	"AreBookedSomeAtATime": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		l := capped(t, b, by, 100)
		for range 3 {
			dead(t, b, l, 10)
		}
		b.Clock.Move(held + vending.LostAfter)
		for _, test := range []struct{ limit, want int }{{0, 0}, {2, 2}, {2, 1}, {2, 0}} {
			wantBookedSome(t, b, test.limit, test.want)
		}
		wantRoom(t, b, l, 70)
	},
	"OfAnOlderVersionIsBookedAndInNoSum": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		l := capped(t, b, by, 100)
		start := b.Clock.Now()
		h := vending.Hold{ID: newID(t), CustomerID: by.CustomerID, GrantID: l.GrantID, Micro: 30}
		done(t, b.Hold(t.Context(), h, held))
		b.Clock.Move(held + vending.LostAfter)
		wantBooked(t, b, h.Lost(start.Add(held)))
		wantRoom(t, b, l, 70)
		if used, err := b.UsedBetween(t.Context(), by.CustomerID, start, start.Add(time.Minute)); err != nil || len(used) != 0 {
			t.Errorf("used %v, %v", used, err)
		}
	},
}

func wantBookedSome(t testing.TB, b Backend, limit, want int) {
	t.Helper()
	if rows, err := b.BookLost(t.Context(), limit); err != nil || len(rows) != want {
		t.Errorf("with limit %d are booked %+v, %v, want %d", limit, rows, err, want)
	}
}
