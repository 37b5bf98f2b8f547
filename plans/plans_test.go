package plans_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/plan"
	"gatehouse/internal/load/script"
	"gatehouse/plans"
)

// The limit on sign-ups, for each address.
const (
	limit  = 10
	window = 60 * time.Second
)

func read(t *testing.T, name, profile string) *plan.Plan {
	t.Helper()
	p, err := parse(t, name, plan.Options{Profile: profile, Domain: "load.example", Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func parse(t *testing.T, name string, o plan.Options) (*plan.Plan, error) {
	t.Helper()
	text, ok := plans.Named(name)
	if !ok {
		t.Fatalf("there is no plan %q", name)
	}
	o.Given = script.Places()
	return plan.Parse(name+".yaml", text, o)
}

func TestNames(t *testing.T) {
	if got := plans.Names(); !slices.Equal(got, []string{"credentials", "mixed", "onboarding", "webhooks"}) {
		t.Errorf("Names() = %v", got)
	}
	for _, name := range []string{"", ".", "nowhere", "../plans/onboarding", "onboarding.yaml"} {
		if _, ok := plans.Named(name); ok {
			t.Errorf("there is a plan %q", name)
		}
	}
}

func TestEachPlanIsSoundInEachProfile(t *testing.T) {
	for _, name := range plans.Names() {
		p := read(t, name, "")
		if p.Name != name || !slices.Equal(p.Profiles, []string{"smoke", "gate", "staging", "production", "reference"}) {
			t.Errorf("%s names itself %s, with the profiles %v", name, p.Name, p.Profiles)
		}
		for _, profile := range append(p.Profiles, "") {
			p := read(t, name, profile)
			o := script.Options{Plan: p, Loopback: true, Secret: "whsec_x"}
			if err := o.Check(); err != nil || script.Needed(p) != (name != "onboarding") {
				t.Errorf("%s, profile %q: a script is needed: %t, %v", name, profile, script.Needed(p), err)
			}
			// Elsewhere than on this machine clients can't have addresses of their own.
			away := plan.Options{Profile: profile, Domain: "load.example"}
			if _, err := parse(t, name, away); err == nil || !strings.Contains(err.Error(), "--clients-via forwarded") {
				t.Errorf("%s, profile %q, off loopback: %v", name, profile, err)
			}
			for _, away.Via = range []load.Via{load.ViaForwarded, load.ViaNone} {
				if _, err := parse(t, name, away); err != nil {
					t.Errorf("%s, profile %q, off loopback via %s: %v", name, profile, away.Via, err)
				}
			}
		}
	}
}

// TestPlansWithAScript does the arithmetic that the files' comments claim.
func TestPlansWithAScript(t *testing.T) {
	of := func(p *plan.Plan, named ...string) (weight float64) { // in 100
		for _, r := range p.Requests {
			if slices.Contains(named, r.Name) {
				weight += r.Weight
			}
		}
		return weight
	}
	for _, tt := range []struct {
		plan, profile string
		peak          float64
		planned       time.Duration
	}{
		{"credentials", "", 25, 150 * time.Second},
		{"credentials", "smoke", 20, 20 * time.Second},
		{"credentials", "staging", 200, 540 * time.Second},
		{"credentials", "production", 100, 540 * time.Second},
		{"credentials", "reference", 200, 540 * time.Second},
		{"webhooks", "", 15, 150 * time.Second},
		{"webhooks", "smoke", 15, 20 * time.Second},
		{"webhooks", "staging", 50, 540 * time.Second},
		{"webhooks", "production", 15, 540 * time.Second},
		{"webhooks", "reference", 50, 540 * time.Second},
		{"mixed", "", 50, 300 * time.Second},
		{"mixed", "smoke", 20, 20 * time.Second},
		{"mixed", "staging", 200, 540 * time.Second},
		{"mixed", "production", 50, 540 * time.Second},
		{"mixed", "reference", 200, 540 * time.Second},
	} {
		t.Run(tt.plan+" "+tt.profile, func(t *testing.T) {
			p := read(t, tt.plan, tt.profile)
			n, peak, planned := arrivals(p.Stages)
			if peak != tt.peak || planned.Round(time.Second) != tt.planned {
				t.Errorf("it sends up to %v/s in %v, want %v/s in %v", peak, planned, tt.peak, tt.planned)
			}
			if all := of(p, names(p)...); all != 100 {
				t.Errorf("its weights come to %v", all)
			}
			// Each gate that counts something has some ten to count.
			for _, g := range p.Gates {
				if g.Request != "" && of(p, g.Request)/100*n < 10 {
					t.Errorf("%s has %.0f requests to look at", g.Expression, of(p, g.Request)/100*n)
				}
			}
			perWindow := min(peak*window.Seconds(), n)
			switch tt.plan {
			case "mixed":
				onboard := p.Requests[slices.Index(names(p), "onboard")]
				if per := perWindow * onboard.Weight / 100 / float64(onboard.Clients.Count); per > 0.75*limit {
					t.Errorf("an address signs up %.2f in a window, want at most %v", per, 0.75*limit)
				}
			case "webhooks":
				const events, unauthentic = 1000, 60 // the contract's, a window
				if within := tt.profile != "staging" && tt.profile != "reference"; within != (perWindow < events) {
					t.Errorf("it brings %.0f events in a window, of the %d that are taken", perWindow, events)
				}
				if d := of(p, "redeliver"); d != 10 {
					t.Errorf("%v in 100 are duplicates", d)
				}
				forged := p.Requests[slices.Index(names(p), "forged")]
				if per := perWindow * of(p, "stale", "forged") / 100 / float64(forged.Clients.Count); per > 0.75*unauthentic {
					t.Errorf("an address brings %.1f unauthentic events in a window, of %d", per, unauthentic)
				}
			case "credentials":
				const failures = 60 // a window, of an address
				dead := p.Requests[slices.Index(names(p), "use_revoked")]
				if per := perWindow * dead.Weight / 100 / float64(dead.Clients.Count); per > 0.75*failures {
					t.Errorf("an address tries %.1f revoked tokens in a window, of %d", per, failures)
				}
			}
		})
	}
}

func names(p *plan.Plan) (all []string) {
	for _, r := range p.Requests {
		all = append(all, r.Name)
	}
	return all
}

// arrivals is how many the stages send, and at what rate at most.
func arrivals(stages []load.Stage) (n, peak float64, planned time.Duration) {
	before := 0.0
	for _, s := range stages {
		n += (before + s.Rate) / 2 * s.Duration.Seconds()
		peak = max(peak, s.Rate)
		planned += s.Duration
		before = s.Rate
	}
	return n, peak, planned
}

// TestOnboardingMeasuresBothOutcomes does the arithmetic that the file's
// comments claim.
func TestOnboardingMeasuresBothOutcomes(t *testing.T) {
	tests := []struct {
		profile       string
		peak          float64
		planned       time.Duration
		least, most   float64 // arrivals
		gates         int
		needsBaseline string
	}{
		{"", 50, 540 * time.Second, 20_000, 21_000, 9, ""},
		{"smoke", 20, 20 * time.Second, 400, 401, 6, ""},
		{"staging", 100, 540 * time.Second, 40_000, 41_000, 9, "reference-staging-2025-10-30"},
		{"production", 50, 540 * time.Second, 20_000, 21_000, 9, "reference-production-2025-11-03"},
		{"reference", 353, 540 * time.Second, 190_620, 190_621, 10, "reference-production-2025-11-03"},
	}
	for _, tt := range tests {
		t.Run("profile "+tt.profile, func(t *testing.T) {
			p := read(t, "onboarding", tt.profile)
			n, peak, planned := arrivals(p.Stages)
			if peak != tt.peak || planned.Round(time.Second) != tt.planned || n < tt.least || n >= tt.most {
				t.Errorf("it sends %.1f at up to %v/s in %v, want %v to %v at %v/s in %v", n, peak, planned, tt.least, tt.most, tt.peak, tt.planned)
			}
			if len(p.Gates) != tt.gates || p.Baseline != tt.needsBaseline {
				t.Errorf("it has %d gates and the baseline %q, want %d and %q", len(p.Gates), p.Baseline, tt.gates, tt.needsBaseline)
			}
			if len(p.Requests) != 2 || p.Requests[0].Name != "onboard" || p.Requests[1].Name != "over_limit" {
				t.Fatalf("its requests are %+v", p.Requests)
			}
			onboard, over := p.Requests[0], p.Requests[1]
			share := onboard.Weight / (onboard.Weight + over.Weight)

			perWindow := min(peak*window.Seconds(), n) * share / float64(onboard.Clients.Count)
			if perWindow > 0.75*limit {
				t.Errorf("an address of onboard sends %.2f a window, want at most %v", perWindow, 0.75*limit)
			}

			// Each address of over_limit is granted 10 in any 60 s.
			windows := math.Ceil(planned.Seconds() / window.Seconds())
			granted := windows * limit * float64(over.Clients.Count)
			sent := n * (1 - share)
			spread := 5 * math.Sqrt(n*share*(1-share)) // of a draw by weight: five deviations
			if refused, needed := sent-spread-granted, float64(load.Needed(0.95)); refused < needed {
				t.Errorf("over_limit has perhaps %.0f refused, and p95 needs %v", refused, needed)
			}
			if refused := sent - granted; refused < sent/2 {
				t.Errorf("over_limit has %.0f of %.0f refused, want most of them", refused, sent)
			}
			if sure := n*share - spread; tt.profile == "smoke" && sure < 200 {
				t.Errorf("perhaps %.0f sign-ups succeed, and a gate wants 200", sure)
			}
		})
	}
}
