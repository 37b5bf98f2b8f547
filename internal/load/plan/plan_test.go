package plan_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/plan"
)

// whole has every key, and profiles that replace some.
const whole = `# Comments, a mark, anchors and blocks are YAML too.
---
name: whole
stages:
  - &ramp {duration: 1m30s, rate: 1e2}
  - *ramp
  - {duration: 500ms, rate: 0.5}
requests:
  - name: sign_up
    weight: 2.5
    method: POST
    path: /v1/{{pick a b}}?n={{ seq }}
    headers:
      Content-Type: application/json
      X-Trace: '{{uuid}}-{{now}}'
    body: |
      {"email": "{{uuid}}@{{domain}}", "token": "{{env TOKEN}}"}
    clients: {count: 3, via: source}
  - {name: look, method: GET, path: /}
  - {name: peek, method: HEAD, path: "/{{env TOKEN}}"}
clients: {count: 200, via: forwarded}
max_in_flight: 50
timeout: 2s
baseline: last-week
outcomes:
  created: {status: 201, kind: success}
  limited: {status: 429, kind: expected}
gates:
  - sign_up/created.latency.p95 < 100ms
  - limited.count > 0
profiles:
  quick:
    stages: [{duration: 1s, rate: 20}]
    gates: [all.count > 0]
  other:
    outcomes: {fine: {status: 200, kind: success}}
    gates: [fine.count > 0]
    baseline: yesterday
`

func options() plan.Options {
	return plan.Options{
		Domain:   "load.example",
		Loopback: true,
		Getenv: func(name string) (string, bool) {
			return "t0ken", name == "TOKEN"
		},
	}
}

func mustParse(t *testing.T, text string, o plan.Options) *plan.Plan {
	t.Helper()
	p, err := parse(text, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustGate(t *testing.T, expression string) gate.Gate {
	t.Helper()
	g, err := gate.Parse(expression)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestPlanIsReadAsItIs(t *testing.T) {
	got := mustParse(t, whole, options())
	shared := &load.Clients{Count: 200, Via: load.ViaForwarded}
	want := &plan.Plan{
		Name:     "whole",
		Profiles: []string{"quick", "other"},
		Stages:   []load.Stage{{Duration: 90 * time.Second, Rate: 100}, {Duration: 90 * time.Second, Rate: 100}, {Duration: 500 * time.Millisecond, Rate: 0.5}},
		Requests: []load.Request{
			{
				Name: "sign_up", Weight: 2.5, Method: "POST",
				Path: load.Template{{Text: "/v1/"}, {Place: load.Pick, Picks: []string{"a", "b"}}, {Text: "?n="}, {Place: load.Seq}},
				Headers: []load.Header{
					{Name: "Content-Type", Value: load.Literally("application/json")},
					{Name: "X-Trace", Value: load.Template{{Place: load.UUID}, {Text: "-"}, {Place: load.Now}}},
				},
				Body:    load.Template{{Text: `{"email": "`}, {Place: load.UUID}, {Text: "@"}, {Text: "load.example"}, {Text: `", "token": "`}, {Text: "t0ken"}, {Text: "\"}\n"}},
				Clients: &load.Clients{Count: 3, Via: load.ViaSource},
			},
			{Name: "look", Weight: 1, Method: "GET", Path: load.Literally("/"), Clients: shared},
			{Name: "peek", Weight: 1, Method: "HEAD", Path: load.Template{{Text: "/"}, {Text: "t0ken"}}, Clients: shared},
		},
		Outcomes: []load.Outcome{
			{Name: "created", Status: 201, Kind: load.Success},
			{Name: "limited", Status: 429, Kind: load.Expected},
		},
		Gates:       []gate.Gate{mustGate(t, "sign_up/created.latency.p95 < 100ms"), mustGate(t, "limited.count > 0")},
		MaxInFlight: 50,
		Timeout:     2 * time.Second,
		Baseline:    "last-week",
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(plan.Plan{}, "Hash")); diff != "" {
		t.Error(diff)
	}
	if got.Requests[1].Clients != got.Requests[2].Clients {
		t.Error("requests without clients of their own do not share the plan's")
	}
}

func TestPlanWithoutTheRestHasDefaults(t *testing.T) {
	got := mustParse(t, "\ufeffname: x\r\nstages: [{duration: 1s, rate: 2}]\r\nrequests: [{name: a, method: GET, path: /}]\r\n", plan.Options{})
	want := &plan.Plan{
		Name:        "x",
		Stages:      []load.Stage{{Duration: time.Second, Rate: 2}},
		Requests:    []load.Request{{Name: "a", Weight: 1, Method: "GET", Path: load.Literally("/"), Clients: &load.Clients{Count: 1, Via: load.ViaNone}}},
		MaxInFlight: 10_000,
		Timeout:     10 * time.Second,
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(plan.Plan{}, "Hash")); diff != "" {
		t.Error(diff)
	}
}

func TestProfileReplacesWholeKeys(t *testing.T) {
	o := options()
	plain := mustParse(t, whole, o)
	o.Profile = "quick"
	quick := mustParse(t, whole, o)
	want := *plain
	want.Profile, want.Hash = "quick", quick.Hash
	want.Stages = []load.Stage{{Duration: time.Second, Rate: 20}}
	want.Gates = []gate.Gate{mustGate(t, "all.count > 0")}
	if diff := cmp.Diff(&want, quick); diff != "" {
		t.Errorf("quick: %s", diff)
	}
	o.Profile = "other"
	if other := mustParse(t, whole, o); len(other.Outcomes) != 1 || other.Baseline != "yesterday" || len(other.Stages) != 3 {
		t.Errorf("other is %+v", other)
	}
}

func TestProfileMistakes(t *testing.T) {
	bare := strings.Replace(small, "stages:\n  - {duration: 1s, rate: 10}\n", "", 1)
	tests := []struct {
		name, text, profile string
		says                []string
	}{
		{"unknown", whole, "quik", []string{`32:3: there is no profile "quik"; did you mean "quick"?; there are quick, other`}},
		{"unknown and unlike any", whole, "xyzzy", []string{`32:3: there is no profile "xyzzy"; there are quick, other`}},
		{"of none", small, "quick", []string{`1:1: there is no profile "quick"; there are none`}},
		{"needed and not chosen", bare + "profiles: {a: {stages: [{duration: 1s, rate: 4}]}}\n", "", []string{"1:1: stages is missing; choose a profile: a"}},
		{"without what the plan lacks", bare + "profiles: {a: {timeout: 1s}}\n", "a", []string{"12:12: stages is missing"}},
		{"mistaken and not chosen", whole + "    timeout: 5\n  third: {stages: [{duration: 1s, rate: -1}]}\n", "quick",
			[]string{"39:14: timeout: want a duration", "40:41: rate: want a number"}},
		{"with a name", whole + "    name: x\n", "quick", []string{`39:5: unknown key "name"; there are stages, requests`}},
		{"badly named", small + "profiles: {a b: {}}\n", "", []string{"14:12: profiles: want a letter"}},
		{"no mapping", small + "profiles: {a: 5}\n", "", []string{"14:15: profile a: want keys and values, found 5"}},
		{"a list", small + "profiles: [a]\n", "", []string{"14:11: profiles: want keys and values, found a list"}},
		{"whose outcomes leave a gate alone", small + "profiles: {a: {outcomes: {fine: {status: 200, kind: success}}}}\n", "",
			[]string{`13:5: gate "ok.count > 0": no outcome is named "ok"`}},
		{"that replaces what is wrong", strings.Replace(whole, "limited.count", "limitd.count", 1), "quick", []string{`30:5: gate "limitd.count > 0": no outcome`}},
		{"beside one mistake of the plan", strings.Replace(whole, "rate: 0.5", "rate: -1", 1), "other", []string{"7:29: rate: want a number"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options()
			o.Profile = tt.profile
			_, err := parse(tt.text, o)
			says(t, err, tt.says...)
		})
	}
}

func TestProfileCompletesAPlan(t *testing.T) {
	text := strings.Replace(small, "stages:\n  - {duration: 1s, rate: 10}\n", "", 1) +
		"profiles: {a: {stages: [{duration: 1s, rate: 4}]}, b: {stages: [{duration: 1s, rate: 2}]}}\n"
	if p := mustParse(t, text, plan.Options{Profile: "b"}); len(p.Stages) != 1 || p.Stages[0].Rate != 2 {
		t.Errorf("its stages are %v", p.Stages)
	}
}

func TestBodyIsJSONWhereItsHeaderSaysSo(t *testing.T) {
	const rest = `'{"n": {{seq}}, "n": "{{uuid}} {{now}}", "b": {{pick true 1}}, "t": "{{env TOKEN}}@{{domain}}"}'`
	sound := strings.Replace(body(rest), "Accept: a", "Content-Type: application/json", 1)
	mustParse(t, sound, options())
	mustParse(t, strings.Replace(body("''"), "Accept: a", "Content-Type: application/json", 1), options())
	mustParse(t, strings.Replace(body("a=b"), "Accept: a", "Content-Type: application/x-www-form-urlencoded", 1), options())
	// A profile that is not run may lack what its places stand for.
	mustParse(t, small+"profiles:\n  a:\n    requests: [{name: get, method: GET, path: /, headers: {Content-Type: application/json}, body: '{\"n\": {{env N}}}'}]\n", options())
}

// What depends on where and by whom a plan is run is asked of what is run alone.
func TestProfileNotChosenNeedsNoEnvironment(t *testing.T) {
	text := small + `profiles:
  far:
    clients: {count: 5, via: source}
    requests: [{name: get, method: GET, path: '/{{env BASE}}/{{domain}}'}]
`
	mustParse(t, text, plan.Options{})
	_, err := parse(text, plan.Options{Profile: "far"})
	says(t, err,
		"16:14: clients: `via: source` sends from loopback addresses",
		"17:47: path: {{env BASE}}: the variable BASE is not set",
		"17:47: path: {{domain}}: no domain was given; add --email-domain")
}

func TestHashIsOfThePlanInEffect(t *testing.T) {
	hashes := make(map[string]string)
	for name, change := range map[string]func(text *string, o *plan.Options){
		"as it is":     func(*string, *plan.Options) {},
		"a profile":    func(_ *string, o *plan.Options) { o.Profile = "quick" },
		"a domain":     func(_ *string, o *plan.Options) { o.Domain = "other.example" },
		"another text": func(text *string, _ *plan.Options) { *text += "# longer\n" },
	} {
		text, o := whole, options()
		change(&text, &o)
		hash := mustParse(t, text, o).Hash
		if len(hash) != 64 || hash != mustParse(t, text, o).Hash {
			t.Errorf("%s: the hash is %s, and then another", name, hash)
		}
		if other, ok := hashes[hash]; ok {
			t.Errorf("%s has the hash of %s", name, other)
		}
		hashes[hash] = name
	}
	o := options()
	o.Getenv = func(string) (string, bool) { return "another", true }
	if hash := mustParse(t, whole, o).Hash; hashes[hash] != "as it is" {
		t.Error("the hash tells a variable's value")
	}
}

// A plan for loopback addresses can be run elsewhere: its clients are then
// told apart in another way, or not at all.
func TestParseClientsVia(t *testing.T) {
	text := []byte(`name: a
stages: [{duration: 1s, rate: 9}]
clients: {count: 20, via: source}
requests: [{name: b, method: GET, path: /}, {name: c, method: GET, path: /, clients: {via: none}}, {name: d, method: GET, path: /, clients: {via: source}}]
`)
	for via, want := range map[load.Via]load.Clients{
		load.ViaForwarded: {Count: 20, Via: load.ViaForwarded},
		load.ViaNone:      {Count: 1, Via: load.ViaNone},
	} {
		p, err := plan.Parse("a.yaml", text, plan.Options{Via: via})
		if err != nil {
			t.Fatalf("%s: %v", via, err)
		}
		if got := *p.Requests[0].Clients; got != want {
			t.Errorf("%s: clients %+v, want %+v", via, got, want)
		}
		if got := *p.Requests[1].Clients; got != (load.Clients{Count: 1, Via: load.ViaNone}) {
			t.Errorf("%s: the request that is one client has %+v", via, got)
		}
		if got := *p.Requests[2].Clients; got != (load.Clients{Count: 1, Via: via}) {
			t.Errorf("%s: the request from one address has %+v", via, got)
		}
	}
}
