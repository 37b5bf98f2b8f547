package report

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

// came is a run whose requests came to these outcomes; more are all requests'.
func came(hash string, requests map[string]map[string]int64) *Summary {
	kinds := map[string]load.Kind{"201": load.Success, "202": load.Success, "success": load.Success, "429": load.Expected}
	s := &Summary{PlanHash: hash, Outcomes: map[string]Outcome{}, ByRequest: map[string]map[string]Outcome{}}
	for request, outcomes := range requests {
		own := map[string]Outcome{}
		for key, n := range outcomes {
			kind := kinds[key]
			if kind == "" {
				kind = load.Failure
			}
			own[key] = Outcome{Name: key, Kind: kind, Count: n}
			s.Outcomes[key] = Outcome{Name: key, Kind: kind, Count: s.Outcomes[key].Count + n}
		}
		if request != "" {
			s.ByRequest[request] = own
		}
	}
	return s
}

func TestShifts(t *testing.T) {
	of := func(hash, request string, outcomes map[string]int64) *Summary {
		return came(hash, map[string]map[string]int64{request: outcomes})
	}
	type counts = map[string]int64
	usual := of("h", "r", counts{"201": 900, "429": 100})
	for _, tt := range []struct {
		name          string
		before, after *Summary
		want          []string
	}{
		{"itself", usual, usual, nil},
		{"a new success", usual, of("h", "r", counts{"201": 890, "202": 10, "429": 100}), []string{"r/202 is new, with 1.0 % of its requests"}},
		{"one that hardly came", usual, of("h", "r", counts{"201": 891, "202": 9, "429": 100}), nil},
		{"a failure is counted by gates", usual, of("h", "r", counts{"201": 880, "500": 20, "429": 100}), nil},
		{"more refusals", usual, of("h", "r", counts{"201": 849, "429": 151}),
			[]string{"r/201 has 84.9 % of its requests, and had 90.0 %", "r/429 has 15.1 % of its requests, and had 10.0 %"}},
		{"a few more", usual, of("h", "r", counts{"201": 851, "429": 149}), nil},
		{"of so few it is chance", of("h", "r", counts{"201": 18, "429": 2}), of("h", "r", counts{"201": 14, "429": 6}), nil},
		{"of so few it is none", of("h", "r", counts{"201": 20}), of("h", "r", counts{"500": 20}),
			[]string{"r/201 has 0.0 % of its requests, and had 100.0 %", "r/500 has 100.0 % of its requests, and had 0.0 %"}},
		{"another plan", usual, of("g", "r", counts{"201": 500, "202": 9, "429": 491}), nil},
		{"and a new outcome", usual, of("g", "r", counts{"201": 900, "202": 100}), []string{"r/202 is new, with 10.0 % of its requests"}},
		{"in one of two requests", came("", map[string]map[string]int64{"a": {"201": 100}, "b": {"201": 9900}}),
			came("", map[string]map[string]int64{"a": {"201": 50, "202": 50}, "b": {"201": 9900}}),
			[]string{"a/201 has 50.0 % of its requests, and had 100.0 %", "a/202 is new, with 50.0 % of its requests"}},
		{"nothing by request", of("", "", counts{"201": 900, "429": 100}), of("h", "r", counts{"201": 900, "202": 100}),
			[]string{"202 is new, with 10.0 % of its requests", "429 has 0.0 % of its requests, and had 10.0 %"}},
		{"a tool's", of("", "", counts{"success": 900, "failure": 100}), of("h", "r", counts{"201": 600, "202": 300, "429": 100}), nil},
		{"a tool's, and more refusals", of("", "", counts{"success": 900, "failure": 100}), of("h", "r", counts{"201": 500, "429": 500}),
			[]string{"all else has 50.0 % of its requests, and had 10.0 %", "success has 50.0 % of its requests, and had 90.0 %"}},
		{"of refusals alone", of("", "", counts{"429": 1000}), usual, nil},
		{"of nothing", &Summary{}, usual, nil},
	} {
		if diff := cmp.Diff(tt.want, Shifts(tt.before, tt.after)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

// TestCompareShifts: a baseline's check is open where requests come to something else.
func TestCompareShifts(t *testing.T) {
	p50 := 2.0
	with := func(counts map[string]int64) *Summary {
		s := came("h", map[string]map[string]int64{"r": counts})
		o := s.Outcomes["201"]
		o.Latency.P50 = &p50
		s.Outcomes["201"] = o
		return s
	}
	_, checks := Compare("before", with(map[string]int64{"201": 100}), with(map[string]int64{"201": 55, "202": 45}))
	if len(checks) != 2 || checks[0].Verdict != gate.Pass || checks[1].Verdict != gate.Inconclusive ||
		checks[1].Why != "r/201 has 55.0 % of its requests, and had 100.0 %; r/202 is new, with 45.0 % of its requests" {
		t.Errorf("%+v", checks)
	}
}
