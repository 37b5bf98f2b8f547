package plan_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/load"
	"gatehouse/internal/load/plan"
)

// body is a plan whose body begins in line 4, column 67.
func body(value string) string {
	return "name: x\nstages: [{duration: 1s, rate: 2}]\nrequests:\n" +
		"  - {name: a, method: GET, path: /, headers: {Accept: a}, body:   " + value + "}\n"
}

func TestTemplate(t *testing.T) {
	tests := []struct {
		name, text string
		want       load.Template
	}{
		{"nothing", `""`, nil},
		{"no place", "'{\"a\": {\"b\": 1}}'", load.Literally(`{"a": {"b": 1}}`)},
		{"a place alone", "'{{seq}}'", load.Template{{Place: load.Seq}}},
		{"places side by side", "'{{uuid}}{{ now }}'", load.Template{{Place: load.UUID}, {Place: load.Now}}},
		{"a brace after a place", `'{"n": {{seq}}}'`, load.Template{{Text: `{"n": `}, {Place: load.Seq}, {Text: "}"}}},
		{"what is known becomes text", "'a{{domain}}{{env TOKEN}}'", load.Template{{Text: "a"}, {Text: "load.example"}, {Text: "t0ken"}}},
		{"a pick", "'{{pick a  b-c\td}}'", load.Template{{Place: load.Pick, Picks: []string{"a", "b-c", "d"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := mustParse(t, body(tt.text), options()).Requests[0].Body
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestGivenPlaces are those that a run's script fills, known by their numbers.
func TestGivenPlaces(t *testing.T) {
	o := options()
	o.Given = []string{"key", "token"}
	want := load.Template{{Text: "a"}, {Place: load.Given, Given: 1}, {Text: " "}, {Place: load.Given}, {Place: load.Seq}}
	if diff := cmp.Diff(want, mustParse(t, body("'a{{token}} {{ key }}{{seq}}'"), o).Requests[0].Body); diff != "" {
		t.Error(diff)
	}
	_, err := parse(body("'{{tokn}} {{key 1}}'"), o)
	says(t, err, `4:67: body: {{tokn}}: there is no such place; did you mean "token"?`, "4:67: body: {{key 1}}: write {{key}}")
	_, err = parse(body("'{{random}}'"), o)
	says(t, err, "4:67: body: {{random}}: there is no such place; there are seq, uuid, now, domain, env, pick, key, token")
	_, err = parse(body("'{{key}}'"), options())
	says(t, err, "4:67: body: {{key}}: there is no such place")
}

func TestTemplateMistakes(t *testing.T) {
	tests := []struct {
		name, text string
		says       []string
	}{
		{"unknown place", "'a {{sqe}}'", []string{`4:67: body: {{sqe}}: there is no such place; did you mean "seq"?`}},
		{"unknown place unlike any", "'a {{random}}'", []string{"4:67: body: {{random}}: there is no such place; there are seq, uuid, now, domain, env, pick"}},
		{"the second of them", `"ü {{seq}} {{uid}}"`, []string{`4:67: body: {{uid}}: there is no such place; did you mean "uuid"?`}},
		{"all of them", `'{{a}} {{b}}'`, []string{"4:67: body: {{a}}", "4:67: body: {{b}}"}},
		{"no name", "'{{ }}'", []string{"4:67: body: {{}}: it names no place; there are seq"}},
		{"in capitals", "'{{SEQ}}'", []string{"4:67: body: {{SEQ}}: there is no such place"}},
		{"not closed", "'a {{seq'", []string{"4:67: body: {{seq is not closed"}},
		{"not closed before another", "'{{pick a {{seq}}'", []string{"4:67: body: {{pick a  is not closed"}},
		{"a pick from nothing", "'{{pick}}'", []string{"4:67: body: {{pick}}: write {{pick a b c}}"}},
		{"a place with a word", "'{{seq 5}}'", []string{"4:67: body: {{seq 5}}: write {{seq}}"}},
		{"env of nothing", "'{{env}}'", []string{"4:67: body: {{env}}: write {{env NAME}}"}},
		{"env of two", "'{{env A B}}'", []string{"4:67: body: {{env A B}}: write {{env NAME}}"}},
		{"env of no name", "'{{env $A}}'", []string{"4:67: body: {{env $A}}: the variable $A is not set"}},
		{"env that is not set", "'{{env NOWHERE}}'", []string{"4:67: body: {{env NOWHERE}}: the variable NOWHERE is not set"}},
		{"too many places", "'" + strings.Repeat("{{seq}}", 1001) + "'", []string{"4:67: body: it has over 1000 places"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(body(tt.text), options())
			says(t, err, tt.says...)
		})
	}
}

func TestMistakeInATemplateIsToldWhereItsTextBegins(t *testing.T) {
	const start = "name: x\nstages: [{duration: 1s, rate: 2}]\nrequests:\n  - name: a\n    method: GET\n    path: /\n    body: "
	for _, tt := range []struct{ name, text string }{
		{"plain", "a {{x}}"},
		{"plain, over lines", "a {{seq}}\n      b {{x}}"},
		{"double quotes", `"\"a\" {{x}}"`},
		{"double quotes, over lines", "\"{{seq}}\n      b {{x}}\""},
		{"a block", "|\n      {{seq}}\n\n      b {{x}}\n"},
		{"a block with a comment", "|- # {{seq}}\n      b {{x}}\n"},
		{"a folded block", ">\n      a\n      b {{x}}\n"},
		{"an anchor", "&b 'a {{x}}'"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(start+tt.text, options())
			says(t, err, "7:11: body: {{x}}: there is no such place")
		})
	}
}

func TestWhatAPlaceStandsForIsCheckedToo(t *testing.T) {
	const start = "name: x\nstages: [{duration: 1s, rate: 2}]\nrequests:\n  - name: a\n    method: GET\n"
	for _, tt := range []struct{ name, text, env, want string }{
		{"a header in a variable", "    path: /\n    headers: {A: '{{env V}}'}", "hunter2\r\nHost: x", "7:18: A: {{env V}}: what it stands for has a line end"},
		{"a request in a variable", "    path: /{{env V}}", "hunter2 HTTP/1.1", "6:11: path: {{env V}}: what it stands for has a space"},
		{"a line end in a variable of the path", "    path: /{{env V}}", "hunter2\n", "6:11: path: {{env V}}: what it stands for has a space, a #, a control character"},
		{"a quote in a variable of JSON", "    path: /\n    headers: {Content-Type: application/json}\n    body: '{\"a\": \"{{env V}}\"}'", `hunter2"`, "8:11: body: it is no JSON once its places are filled, and its Content-Type says so; does an {{env NAME}} hold a quote?"},
		{"a control character to pick", "    path: \"/{{pick a \\x01}}\"", "", `6:11: path: {{pick a `},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(start+tt.text+"\n", plan.Options{Getenv: func(string) (string, bool) { return tt.env, true }})
			says(t, err, tt.want)
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error tells the variable's value:\n%v", err)
			}
		})
	}
}

var line = regexp.MustCompile(`^p\.yaml:([1-9][0-9]*:[1-9][0-9]*: |( a plan has at most| and more))`)

// Whatever a file holds, reading it ends, without a panic, in a plan that can be
// run or in mistakes with their places.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"", small, whole, body("'{{seq}} {{pick a b}}'"), "name: &a [*a]\n<<: *a\n", "{a: 1, a: 2}", "? a\n: b\n", "- - - x", "a: |+2\n   b\n\n", "%TAG ! x\n---\n", "a: \"\\u007b{\"\n", "*\n/\n\n0",
	} {
		f.Add(text, "quick")
	}
	f.Fuzz(func(t *testing.T, text, profile string) {
		o := options()
		o.Profile = profile
		p, err := parse(text, o)
		if err != nil {
			for l := range strings.Lines(err.Error()) {
				if !line.MatchString(l) {
					t.Errorf("the line %q has no place", l)
				}
			}
			return
		}
		sent := 0.0
		before := 0.0
		for _, s := range p.Stages {
			sent += (before + s.Rate) / 2 * s.Duration.Seconds()
			before = s.Rate
		}
		if sent < 1 || p.Name == "" || len(p.Requests) == 0 || p.Timeout <= 0 || p.MaxInFlight <= 0 {
			t.Errorf("it takes a plan that can't be run: %+v", p)
		}
		for _, r := range p.Requests {
			if r.Name == "" || r.Method == "" || len(r.Path) == 0 || r.Weight <= 0 || r.Clients == nil || r.Clients.Count < 1 {
				t.Errorf("it takes a request that can't be sent: %+v", r)
			}
		}
	})
}
