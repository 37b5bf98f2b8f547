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
		{"literals become one", "'a{{domain}}b{{env TOKEN}}c'", load.Literally("aload.examplebt0kenc")},
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

func TestTemplateMistakes(t *testing.T) {
	tests := []struct {
		name, text string
		says       []string
	}{
		{"unknown place", "'a {{sqe}}'", []string{`4:70: body: {{sqe}}: there is no such place; did you mean "seq"?`}},
		{"unknown place unlike any", "'a {{random}}'", []string{"4:70: body: {{random}}: there is no such place; there are seq, uuid, now, domain, env, pick"}},
		{"the second of them", `"ü {{seq}} {{uid}}"`, []string{`4:78: body: {{uid}}: there is no such place; did you mean "uuid"?`}},
		{"all of them", `'{{a}} {{b}}'`, []string{"4:68: body: {{a}}", "4:74: body: {{b}}"}},
		{"no name", "'{{ }}'", []string{"4:68: body: {{}}: it names no place; there are seq"}},
		{"in capitals", "'{{SEQ}}'", []string{"4:68: body: {{SEQ}}: there is no such place"}},
		{"not closed", "'a {{seq'", []string{"4:70: body: {{ is not closed"}},
		{"not closed before another", "'{{pick a {{seq}}'", []string{"4:68: body: {{ is not closed"}},
		{"a pick from nothing", "'{{pick}}'", []string{"4:68: body: {{pick}}: it has nothing to pick from; write {{pick a b c}}"}},
		{"a place with a word", "'{{seq 5}}'", []string{"4:68: body: {{seq 5}}: it takes nothing; write {{seq}}"}},
		{"env of nothing", "'{{env}}'", []string{"4:68: body: {{env}}: it takes one variable; write {{env NAME}}"}},
		{"env of two", "'{{env A B}}'", []string{"4:68: body: {{env A B}}: it takes one variable"}},
		{"env of no name", "'{{env $A}}'", []string{"4:68: body: {{env $A}}: that is no variable's name"}},
		{"env that is not set", "'{{env NOWHERE}}'", []string{"4:68: body: {{env NOWHERE}}: the variable NOWHERE is not set"}},
		{"too many places", "'" + strings.Repeat("{{seq}}", 1001) + "'", []string{"4:67: body: it has over 1000 places"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(body(tt.text), options())
			says(t, err, tt.says...)
		})
	}
}

func TestPlaceIsFoundInEveryFormOfText(t *testing.T) {
	const start = "name: x\nstages: [{duration: 1s, rate: 2}]\nrequests:\n  - name: a\n    method: GET\n    path: /\n    body: "
	for _, tt := range []struct{ name, text, want string }{
		{"plain", "a {{x}}", "7:13:"},
		{"plain, over lines", "a {{seq}}\n      b {{x}}", "8:9:"},
		{"double quotes", `"\"a\" {{x}}"`, "7:18:"},
		{"double quotes, over lines", "\"{{seq}}\n      b {{x}}\"", "8:9:"},
		{"a block", "|\n      {{seq}}\n\n      b {{x}}\n", "10:9:"},
		{"a block with a comment", "|- # {{seq}}\n      b {{x}}\n", "8:9:"},
		{"a folded block", ">\n      a\n      b {{x}}\n", "9:9:"},
		{"an anchor", "&b 'a {{x}}'", "7:17:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(start+tt.text, options())
			says(t, err, tt.want+" body: {{x}}: there is no such place")
		})
	}
}

func TestWhatAPlaceStandsForIsCheckedToo(t *testing.T) {
	const start = "name: x\nstages: [{duration: 1s, rate: 2}]\nrequests:\n  - name: a\n    method: GET\n"
	for _, tt := range []struct{ name, text, env, want string }{
		{"a header in a variable", "    path: /\n    headers: {A: '{{env V}}'}", "hunter2\r\nHost: x", "7:19: A: {{env V}}: what it stands for has a line end"},
		{"a request in a variable", "    path: /{{env V}}", "hunter2 HTTP/1.1", "6:12: path: {{env V}}: what it stands for has a space"},
		{"a line end in a variable of the path", "    path: /{{env V}}", "hunter2\n", "6:12: path: {{env V}}: what it stands for has a line end"},
		{"a control character to pick", "    path: \"/{{pick a \\x01}}\"", "", `6:13: path: {{pick a `},
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
