package billing_test

import (
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gatehouse/internal/billing"
)

// ledger is a sound account: the sign-up's grant and then one entry for each
// amount, which must not take the balance below zero.
func ledger(customer string, amounts ...int64) billing.Account {
	a := billing.Account{CustomerID: customer}
	add := func(amount int64, source billing.Source, reference string) {
		a.Balance += amount
		a.Entries = append(a.Entries, billing.Entry{
			Number: int64(len(a.Entries) + 1), Amount: amount, BalanceAfter: a.Balance, Source: source, Reference: reference,
		})
	}
	add(5, billing.TrialSignUp, billing.SignUpReference(customer))
	for i, amount := range amounts {
		add(amount, "adjustment", fmt.Sprintf("%s's fact %d", customer, i))
	}
	return a
}

func sequence(accounts ...billing.Account) iter.Seq2[billing.Account, error] {
	return func(yield func(billing.Account, error) bool) {
		for _, a := range accounts {
			if !yield(a, nil) {
				return
			}
		}
	}
}

// The kinds of damage, by what a finding says of each.
const (
	numbering = "missing or doubled"
	sum       = "add up to"
	belowZero = "below zero"
	again     = "again"
	noGrant   = "no sign-up grant"
	noEntry   = "no entry"
	balance   = "customer's balance"
	debt      = "customer's debt"
)

// The customer's own sums first: they too are said to add up to something.
var kinds = []string{balance, debt, numbering, sum, belowZero, again, noGrant, noEntry}

// kindOf tells what kind of damage a finding is about.
func kindOf(t interface{ Fatalf(string, ...any) }, f billing.Finding) string {
	for _, k := range kinds {
		if strings.Contains(f.Problem, k) {
			return k
		}
	}
	t.Fatalf("a finding of no known kind: %+v", f)
	return ""
}

// found are the findings, each as number and kind, in order.
func found(t interface{ Fatalf(string, ...any) }, r billing.Report) []string {
	all := []string{}
	for _, f := range r.Findings {
		all = append(all, fmt.Sprintf("%d: %s", f.Number, kindOf(t, f)))
	}
	slices.Sort(all)
	return all
}

func TestEachDamageIsFoundOnce(t *testing.T) {
	// Numbers 1 to 6, balances 5, 4, 7, 6, 10, 9; the debt is 2 after entry 2, and 0
	// after entry 5.
	sound := func() billing.Account {
		a := ledger("jane", -1, 3, -1, 4, -1)
		a.Entries[1].Debt, a.Entries[4].Debt = 2, -2
		return a
	}
	at := func(number int, change func(*billing.Entry)) func(*billing.Account) {
		return func(a *billing.Account) { change(&a.Entries[number-1]) }
	}
	tests := []struct {
		name   string
		damage func(*billing.Account)
		want   []string
	}{
		{"none", func(*billing.Account) {}, []string{}},
		{"a number is left out", func(a *billing.Account) {
			for i := 3; i < len(a.Entries); i++ {
				a.Entries[i].Number++
			}
		}, []string{"5: " + numbering}},
		{"a number is given twice", func(a *billing.Account) {
			for i := 3; i < len(a.Entries); i++ {
				a.Entries[i].Number--
			}
		}, []string{"3: " + numbering}},
		{"numbers begin at 2", func(a *billing.Account) {
			for i := range a.Entries {
				a.Entries[i].Number++
			}
		}, []string{"2: " + numbering}},
		{"an entry is lost", func(a *billing.Account) { a.Entries = slices.Delete(a.Entries, 2, 3) },
			[]string{"4: " + sum, "4: " + numbering}},
		{"an entry is there twice", func(a *billing.Account) { a.Entries = slices.Insert(a.Entries, 3, a.Entries[2]) },
			[]string{"3: " + sum, "3: " + again, "3: " + numbering}},
		{"an amount was changed", at(3, func(e *billing.Entry) { e.Amount = 30 }), []string{"3: " + sum}},
		{"the last amount was changed", at(6, func(e *billing.Entry) { e.Amount = -2 }), []string{"6: " + sum}},
		{"a balance is wrong", at(3, func(e *billing.Entry) { e.BalanceAfter = 8 }), []string{"3: " + sum}},
		{"the last balance is wrong", at(6, func(e *billing.Entry) { e.BalanceAfter = 8 }), []string{"6: " + sum}},
		{"two balances in a row are wrong", func(a *billing.Account) {
			a.Entries[2].BalanceAfter, a.Entries[3].BalanceAfter = 100, 200
		}, []string{"3: " + sum, "4: " + sum}},
		{"two balances are wrong by the same", func(a *billing.Account) {
			a.Entries[2].BalanceAfter++
			a.Entries[4].BalanceAfter++
		}, []string{"3: " + sum, "5: " + sum}},
		{"two amounts were changed", func(a *billing.Account) {
			a.Entries[2].Amount++
			a.Entries[4].Amount++
		}, []string{"3: " + sum, "5: " + sum}},
		{"an amount was changed, and one back", func(a *billing.Account) {
			a.Entries[2].Amount++
			a.Entries[4].Amount--
		}, []string{"3: " + sum, "5: " + sum}},
		{"a balance is wrong, and the customer's by the same", func(a *billing.Account) {
			a.Entries[2].BalanceAfter++
			a.Balance++
		}, []string{"0: " + balance, "3: " + sum}},
		{"an amount was changed, and the customer's balance by the same", func(a *billing.Account) {
			a.Entries[2].Amount++
			a.Balance++
		}, []string{"0: " + balance, "3: " + sum}},
		{"a fact counts twice", at(5, func(e *billing.Entry) { e.Reference = "jane's fact 1" }), []string{"5: " + again}},
		{"a fact counts three times", func(a *billing.Account) {
			a.Entries[3].Reference, a.Entries[4].Reference = "jane's fact 1", "jane's fact 1"
		}, []string{"4: " + again, "5: " + again}},
		{"the grant has another source", at(1, func(e *billing.Entry) { e.Source = "adjustment" }), []string{"1: " + noGrant}},
		{"the grant is another's", at(1, func(e *billing.Entry) { e.Reference = billing.SignUpReference("sam") }), []string{"1: " + noGrant}},
		{"there is no entry", func(a *billing.Account) { *a = billing.Account{CustomerID: a.CustomerID} }, []string{"0: " + noEntry}},
		{"the customer has one more", func(a *billing.Account) { a.Balance++ }, []string{"0: " + balance}},
		{"the customer has one less", func(a *billing.Account) { a.Balance-- }, []string{"0: " + balance}},
		{"an entry after the last one seen is lost", func(a *billing.Account) { a.Entries = a.Entries[:5] }, []string{"0: " + balance}},
		{"the customer owes one more", func(a *billing.Account) { a.Debt++ }, []string{"0: " + debt}},
		{"the customer owes one less", func(a *billing.Account) { a.Debt-- }, []string{"0: " + debt}},
		{"what an entry adds to the debt was changed", at(3, func(e *billing.Entry) { e.Debt = 7 }), []string{"0: " + debt}},
		{"what an entry takes from the debt was changed", at(5, func(e *billing.Entry) { e.Debt = -3 }), []string{"0: " + debt, "5: " + belowZero}},
		{"a debt is settled before it is made", func(a *billing.Account) {
			a.Entries[1].Debt, a.Entries[4].Debt = -2, 2
		}, []string{"2: " + belowZero}},
		{"an entry that made the debt is lost", func(a *billing.Account) {
			a.Entries = slices.Delete(a.Entries, 1, 2)
		}, []string{"0: " + debt, "3: " + sum, "3: " + numbering, "5: " + belowZero}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			jane := sound()
			tt.damage(&jane)
			report, err := billing.Verify(sequence(ledger("ann", 2), jane, ledger("zoe", -5)))
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(tt.want)
			if diff := cmp.Diff(tt.want, found(t, report)); diff != "" {
				t.Errorf("found (-want +got):\n%s%+v", diff, report.Findings)
			}
			for _, f := range report.Findings {
				if f.CustomerID != "jane" {
					t.Errorf("found in a sound ledger: %+v", f)
				}
			}
			if want := len(jane.Entries) + 2 + 2; report.Customers != 3 || report.Entries != want {
				t.Errorf("it counts %d customers and %d entries, want 3 and %d", report.Customers, report.Entries, want)
			}
		})
	}
}

func TestBalanceBelowZeroIsFound(t *testing.T) {
	report, err := billing.Verify(sequence(ledger("jane", -5, -1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"3: " + belowZero}, found(t, report)); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
}

// What a sign-up is given is the catalogue's, which may have been another.
func TestGrantMayBeOfAnyAmount(t *testing.T) {
	for _, amount := range []int64{0, 5, 50} {
		jane := ledger("jane")
		jane.Entries[0].Amount, jane.Entries[0].BalanceAfter, jane.Balance = amount, amount, amount
		report, err := billing.Verify(sequence(jane))
		if err != nil || len(report.Findings) > 0 {
			t.Errorf("a grant of %d: %+v, %v", amount, report.Findings, err)
		}
	}
}

func TestNothingToVerifyIsSound(t *testing.T) {
	report, err := billing.Verify(sequence())
	if want := (billing.Report{Findings: []billing.Finding{}}); err != nil || !cmp.Equal(report, want) {
		t.Errorf("Verify = %+v, %v, want %+v (its findings a list, for JSON)", report, err, want)
	}
}

func TestErrorOfTheSequencePassesThrough(t *testing.T) {
	away := errors.New("away")
	broken := func(yield func(billing.Account, error) bool) {
		if !yield(ledger("jane", -9), nil) || yield(billing.Account{}, away) {
			t.Error("Verify went on, or stopped, where it should not have")
		}
	}
	report, err := billing.Verify(broken)
	if !errors.Is(err, away) {
		t.Errorf("Verify = %v, want the sequence's error", err)
	}
	if report.Customers != 1 || !slices.Contains(found(t, report), "2: "+belowZero) {
		t.Errorf("what was found before the error is lost: %+v", report)
	}
}

// soundLedgers are of any length and amounts, never below zero.
var soundLedgers = rapid.Custom(func(t *rapid.T) billing.Account {
	left := int64(5)
	amounts := make([]int64, rapid.IntRange(0, 12).Draw(t, "length"))
	for i := range amounts {
		amounts[i] = rapid.Int64Range(-left, 60).Draw(t, "amount")
		left += amounts[i]
	}
	return ledger("jane", amounts...)
})

func TestSoundLedgersHaveNoFindings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		report, err := billing.Verify(sequence(soundLedgers.Draw(t, "ledger")))
		if err != nil || len(report.Findings) > 0 {
			t.Fatalf("found %+v, %v", report.Findings, err)
		}
	})
}

// Whatever else is found then, the entry that was touched is named.
func TestAnyChangeOfALedgerIsFound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := soundLedgers.Draw(t, "ledger")
		i := rapid.IntRange(0, len(a.Entries)-1).Draw(t, "entry")
		by := rapid.Int64Range(-20, 20).Filter(func(n int64) bool { return n != 0 }).Draw(t, "by")
		e := &a.Entries[i]
		number := e.Number
		damages := map[string]func(){
			"amount":  func() { e.Amount += by },
			"balance": func() { e.BalanceAfter += by },
			"debt":    func() { e.Debt += by; number = 0 },
			"number":  func() { e.Number += by; number = e.Number },
			"doubled": func() { a.Entries = slices.Insert(a.Entries, i, a.Entries[i]) },
		}
		if i > 0 {
			damages["reference"] = func() { e.Reference = a.Entries[0].Reference }
		}
		damage := rapid.SampledFrom(slices.Sorted(maps.Keys(damages))).Draw(t, "damage")
		damages[damage]()
		report, err := billing.Verify(sequence(a))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(report.Findings, func(f billing.Finding) bool { return f.Number == number }) {
			t.Fatalf("changed the %s of entry %d by %d, found %+v", damage, number, by, report.Findings)
		}
	})
}
