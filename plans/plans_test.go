package plans_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/plan"
	"gatehouse/plans"
)

// The limit on sign-ups, for each address.
const (
	limit  = 10
	window = 60 * time.Second
)

func read(t *testing.T, name, profile string) *plan.Plan {
	t.Helper()
	text, ok := plans.Named(name)
	if !ok {
		t.Fatalf("there is no plan %q", name)
	}
	p, err := plan.Parse(name+".yaml", text, plan.Options{Profile: profile, Domain: "load.example", Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestNames(t *testing.T) {
	if got := plans.Names(); !slices.Contains(got, "onboarding") {
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
		if p.Name != name {
			t.Errorf("%s names itself %s", name, p.Name)
		}
		for _, profile := range p.Profiles {
			read(t, name, profile)
		}
	}
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
