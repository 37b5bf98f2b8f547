package ratelimit

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// at makes stamps from seconds relative to now, which is second 0.
func at(seconds ...int) []Instant {
	stamps := make([]Instant, 0, len(seconds)+1)
	for _, s := range seconds {
		stamps = append(stamps, now+Instant(s)*1_000_000)
	}
	return stamps
}

const now Instant = 1_795_000_000_000_000

func TestAdmit(t *testing.T) {
	limit := Limit{Count: 2, Window: time.Minute}
	tests := []struct {
		name   string
		stamps []Instant
		clock  Instant
		kept   []Instant
		want   Decision
	}{
		{"first request is free", nil, now, at(0), Decision{true, 1, 60 * time.Second}},
		{"second fills the window", at(-10), now, at(-10, 0), Decision{true, 0, 50 * time.Second}},
		{"third waits for the oldest to leave", at(-50, -10), now, at(-50, -10), Decision{false, 0, 10 * time.Second}},
		{"a stamp exactly one window old has left", at(-60, -10), now, at(-10, 0), Decision{true, 0, 50 * time.Second}},
		{"a stamp a microsecond younger has not", []Instant{now - 60_000_000 + 1, now}, now, []Instant{now - 60_000_000 + 1, now}, Decision{false, 0, time.Microsecond}},
		{"all have left", at(-100, -70), now, at(0), Decision{true, 1, 60 * time.Second}},
		{"two at once", at(0), now, at(0, 0), Decision{true, 0, 60 * time.Second}},
		{"more than the limit, after it was lowered", at(-50, -40, -30, -20), now, at(-50, -40, -30, -20), Decision{false, 0, 30 * time.Second}},
		{"more than the limit, two have left", at(-70, -65, -30, -20), now, at(-30, -20), Decision{false, 0, 30 * time.Second}},
		{"the clock stepped back: time stands still", at(30), now, at(30, 30), Decision{true, 0, 90 * time.Second}},
		{"the clock stepped back: the wait grows by the step", at(10, 30), now, at(10, 30), Decision{false, 0, 70 * time.Second}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			kept, d := Admit(limit, slices.Clone(tt.stamps), tt.clock)
			if d != tt.want || !slices.Equal(kept, tt.kept) {
				t.Errorf("Admit = %v, %+v, want %v, %+v", kept, d, tt.kept, tt.want)
			}
		})
	}
}

// A key's whole life against the definition: over any interval shorter than
// the window at most Count admissions, and no refusal while a place is free;
// who waits as long as told is admitted.
func TestAdmitIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := Limit{Count: rapid.IntRange(1, 6).Draw(t, "count"), Window: time.Duration(rapid.IntRange(1, 50).Draw(t, "window")) * time.Millisecond}
		window := Instant(limit.Window / time.Microsecond)
		var stamps, admitted []Instant
		clock, wall := now, now // wall never steps; clock may, by steps of the operator
		for range rapid.IntRange(1, 200).Draw(t, "requests") {
			step := Instant(rapid.IntRange(0, 20_000).Draw(t, "step"))
			clock, wall = clock+step, wall+step
			if rapid.IntRange(0, 50).Draw(t, "back") == 0 {
				clock -= Instant(rapid.IntRange(0, 100_000).Draw(t, "by"))
			}
			kept, d := Admit(limit, slices.Clone(stamps), clock)
			live := 0
			for _, a := range admitted {
				if a > wall-window {
					live++
				}
			}
			if d.Admitted {
				if live >= limit.Count {
					t.Fatalf("admitted with %d of %d in the window", live, limit.Count)
				}
				stamps, admitted = kept, append(admitted, wall)
				continue
			}
			if clock == wall && live < limit.Count && slices.Max(stamps) <= clock {
				t.Fatalf("refused with %d of %d in the window", live, limit.Count)
			}
			if _, again := Admit(limit, slices.Clone(stamps), clock+Instant(d.Wait/time.Microsecond)); !again.Admitted {
				t.Fatalf("refused again after the wait of %v: %+v", d.Wait, again)
			}
			if _, early := Admit(limit, slices.Clone(stamps), clock+Instant(d.Wait/time.Microsecond)-1); early.Admitted {
				t.Fatalf("admitted before the wait of %v was over", d.Wait)
			}
		}
	})
}
