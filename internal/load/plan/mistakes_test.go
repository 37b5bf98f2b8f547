package plan_test

import (
	"fmt"
	"strings"
	"testing"

	"gatehouse/internal/load/plan"
)

// small is a plan in which mistakes are made: it is sound, and each is on a
// line of its own.
const small = `name: small
stages:
  - {duration: 1s, rate: 10}
requests:
  - name: get
    method: GET
    path: /
    headers: {Accept: text/plain}
    body: hello
outcomes:
  ok: {status: 200, kind: success}
gates:
  - ok.count > 0
`

func parse(text string, o plan.Options) (*plan.Plan, error) {
	return plan.Parse("p.yaml", []byte(text), o)
}

// says checks all that is wrong with a plan: each line begins with its place and
// has a text after it.
func says(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	got := strings.Split(err.Error(), "\n")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) {
			t.Errorf("%d mistakes, want %d:\n%v", len(got), len(want), err)
			return
		}
		place, text, _ := strings.Cut(want[i], " ")
		if !strings.HasPrefix(got[i], "p.yaml:"+place+" ") || !strings.Contains(got[i], text) {
			t.Errorf("it says\n%s\nwant\np.yaml:%s … %s", got[i], place, text)
		}
	}
}

func TestMistakeIsToldWithItsPlaceAndAHint(t *testing.T) {
	const get = "  - {name: get, method: GET, path: /}\n"
	tests := []struct {
		name, old, text string // text is put instead of old in small
		says            []string
	}{
		{"unknown key", "gates:", "gatess:", []string{`12:1: unknown key "gatess"; did you mean "gates"?`}},
		{"unknown key unlike any", "gates:", "xyzzy:", []string{`12:1: unknown key "xyzzy"; there are name, profiles, stages`}},
		{"unknown key of a stage", "rate: 10", "rates: 10", []string{"3:5: rate is missing", `3:20: unknown key "rates"; did you mean "rate"?`}},
		{"unknown key of a request", "    body:", "    bodi:", []string{`9:5: unknown key "bodi"; did you mean "body"?`}},
		{"unknown key of an outcome", "kind: success", "kind: success, knd: x", []string{`11:36: unknown key "knd"; did you mean "kind"?`}},
		{"key twice", "outcomes:", "name: other\noutcomes:", []string{`10:1: "name" is here twice, first in line 1`}},
		{"no name", "name: small\n", "", []string{"1:1: name is missing"}},
		{"no stages", "stages:\n  - {duration: 1s, rate: 10}\n", "", []string{"1:1: stages is missing"}},
		{"no requests", "requests:\n  - name: get\n    method: GET\n    path: /\n    headers: {Accept: text/plain}\n    body: hello\n", "", []string{"1:1: requests is missing"}},
		{"request without all it needs", "  - name: get\n    method: GET\n    path: /\n", "  - weight: 1\n", []string{"5:5: name is missing", "5:5: method is missing", "5:5: path is missing"}},
		{"outcome without all it needs", "{status: 200, kind: success}", "{}", []string{"11:7: status is missing", "11:7: kind is missing"}},
		{"stages nothing", "\n  - {duration: 1s, rate: 10}\n", "\n", []string{"2:8: stages: want a list, found nothing"}},
		{"stages empty", "\n  - {duration: 1s, rate: 10}\n", " []\n", []string{"2:9: stages: want 1 to 1000 of them, found 0"}},
		{"stage a text", "{duration: 1s, rate: 10}", "1s", []string{`3:5: stage: want keys and values, found the text "1s"`}},
		{"rate negative", "rate: 10", "rate: -5", []string{"3:26: rate: want a number of requests a second from 0 to 1000000, found -5"}},
		{"rate a storm", "rate: 10", "rate: 1e9", []string{`3:26: rate: want a number of requests a second from 0 to 1000000, found the text "1e9"`}},
		{"rate without end", "rate: 10", "rate: .inf", []string{"3:26: rate: want a number"}},
		{"rate no number", "rate: 10", "rate: NaN", []string{"3:26: rate: want a number"}},
		{"rate no number of YAML", "rate: 10", "rate: .nan", []string{"3:26: rate: want a number"}},
		{"rate in quotes", "rate: 10", `rate: "10"`, []string{`3:26: rate: want a number of requests a second from 0 to 1000000, found the text "10"`}},
		{"rate a list", "rate: 10", "rate: [10]", []string{"3:26: rate: want a number of requests a second from 0 to 1000000, found a list"}},
		{"rate zero", "rate: 10", "rate: 0", []string{"3:3: stages: they send nothing"}},
		{"rate near zero", "rate: 10", "rate: 0.5", []string{"3:3: stages: they send nothing, for they come to 0.25 requests"}},
		{"rate that is almost a request", "rate: 10", "rate: 1.9999", []string{"3:3: stages: they send nothing, for they come to 0.999 requests"}},
		{"rate octal", "rate: 10", "rate: 010", []string{"3:26: rate: want a number of requests a second from 0 to 1000000, found 010; write plain digits, such as 10 or 0.5"}},
		{"rate octal or not", "rate: 10", "rate: 08", []string{"3:26: rate: want a number of requests a second from 0 to 1000000, found "}},
		{"rate hexadecimal", "rate: 10", "rate: 0x1p4", []string{"3:26: rate: want a number of requests a second from 0 to 1000000, found "}},
		{"rate with a grouping", "rate: 10", "rate: 1_000", []string{"3:26: rate: want a number of requests a second from 0 to 1000000, found "}},
		{"rate with a sign", "rate: 10", "rate: +10", []string{"3:26: rate: want a number of requests a second from 0 to 1000000, found "}},
		{"rate so small that it is none", "rate: 10}", "rate: 10}\n  - {duration: 1s, rate: 1e-400}", []string{"4:26: rate: want a number of requests a second from 0 to 1000000, found "}},
		{"duration a number", "1s", "60", []string{"3:16: duration: want a duration such as 60s or 5m, above 0 and at most 24h0m0s, found 60; write 60s for seconds"}},
		{"duration in words", "1s", "5 min", []string{`3:16: duration: want a duration such as 60s or 5m, above 0 and at most 24h0m0s, found the text "5 min"`}},
		{"duration zero", "1s", "0s", []string{"3:16: duration: want a duration such as 60s or 5m, above 0"}},
		{"duration negative", "1s", "-1s", []string{"3:16: duration: want a duration such as 60s or 5m, above 0"}},
		{"duration of days", "1s", "25h", []string{"3:16: duration: want a duration such as 60s or 5m, above 0 and at most 24h0m0s"}},
		{"durations of days together", "1s, rate: 10}", "20h, rate: 10}\n  - {duration: 5h, rate: 1}", []string{"4:16: duration: all stages together take over 24h0m0s"}},
		{"durations of days together and none", "1s, rate: 10}", "20h, rate: 10}\n  - {duration: 5h, rate: 1}\n  - {rate: 1}",
			[]string{"4:16: duration: all stages together take over 24h0m0s", "5:5: duration is missing"}},
		{"time-out too long", "gates:", "timeout: 11m\ngates:", []string{"12:10: timeout: want a duration such as 60s or 5m, above 0 and at most 10m0s"}},
		{"no places in flight", "gates:", "max_in_flight: 0\ngates:", []string{"12:16: max_in_flight: want a whole number from 1 to 1000000, found 0"}},
		{"part of a place in flight", "gates:", "max_in_flight: 1.5\ngates:", []string{"12:16: max_in_flight: want a whole number from 1 to 1000000, found 1.5"}},
		{"name with a space", "small", "a b", []string{`1:7: name: want a letter, then letters, digits, - and _, 64 in all, found "a b"`}},
		{"name a number", "small", "5", []string{"1:7: name: want text, found 5; put it in quotes"}},
		{"weight zero", "    body:", "    weight: 0\n    body:", []string{"9:13: weight: want a number from 0.001 to 1000000, found 0"}},
		{"two requests of a name", "outcomes:", get + "outcomes:", []string{`10:12: name: another request is named "get" too`}},
		{"method in small letters", "GET", "get", []string{"6:13: method: want one of GET, HEAD, POST"}},
		{"method of two words", "GET", "GET /", []string{`6:13: method: want one of GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, found "GET /"`}},
		{"method of a proxy", "GET", "CONNECT", []string{"6:13: method: want one of GET, HEAD, POST"}},
		{"path without slash", "path: /", "path: health", []string{"7:11: path: it begins with /"}},
		{"path a URL", "path: /", "path: http://x/", []string{"7:11: path: it begins with /"}},
		{"path empty", "path: /", `path: ""`, []string{"7:11: path: it begins with /"}},
		{"path a place", "path: /", "path: '{{seq}}'", []string{"7:11: path: it begins with /"}},
		{"path with a space", "path: /", "path: /a b", []string{"7:11: path: it has a space, a #, a control character or one beyond ASCII; write its bytes as %XX"}},
		{"path with a request of its own", "path: /", `path: "/ HTTP/1.1\r\nHost: x"`, []string{"7:11: path: it has a space"}},
		{"path with a line end", "path: /", `path: "/\r\n"`, []string{"7:11: path: it has a space, a #, a control character"}},
		{"path with a fragment", "path: /", "path: /#a", []string{"7:11: path: it has a space, a #"}},
		{"path beyond ASCII", "path: /", "path: /ü", []string{"7:11: path: it has a space, a #, a control character or one beyond ASCII"}},
		{"header that the engine writes", "Accept: text/plain", "content-length: '5'", []string{"8:15: headers: content-length is written by the engine"}},
		{"header of the connection", "Accept: text/plain", "Transfer-Encoding: chunked", []string{"8:15: headers: Transfer-Encoding is written by the engine"}},
		{"header name of two words", "Accept: text/plain", "A b: c", []string{`8:15: headers: "A b" is no field's name`}},
		{"header twice", "Accept: text/plain", "Accept: a, accept: b", []string{"8:26: headers: Accept is here twice"}},
		{"header with a line end", "text/plain", `"a\r\nHost: x"`, []string{"8:23: Accept: it has a line end"}},
		{"header with a control character", "text/plain", `"a\x01"`, []string{"8:23: Accept: it has a line end or another control character"}},
		{"header a number", "text/plain", "5", []string{"8:23: Accept: want text, found 5; put it in quotes"}},
		{"body a mapping", "hello", "{name: x}", []string{"9:11: body: want text, found keys and values"}},
		{"body no JSON", "Accept: text/plain}\n    body: hello", "content-type: application/JSON; charset=utf-8}\n    body: hello", []string{"9:11: body: it is no JSON once its places are filled"}},
		{"body with a place outside its quotes", "Accept: text/plain}\n    body: hello", "Content-Type: application/json}\n    body: '{\"id\": {{uuid}}}'", []string{"9:11: body: it is no JSON once its places are filled"}},
		{"body with a mistake is told that alone", "Accept: text/plain}\n    body: hello", "Content-Type: application/json}\n    body: '{{sqe}}'", []string{"9:11: body: {{sqe}}: there is no such place"}},
		{"clients not told apart", "gates:", "clients: {count: 5}\ngates:", []string{"12:18: count: 5 clients can't be told apart; add `via: source`"}},
		{"clients by magic", "gates:", "clients: {count: 5, via: magic}\ngates:", []string{`12:26: via: want one of source, forwarded, none, found "magic"`}},
		{"clients by nothing", "gates:", "clients: {via: ''}\ngates:", []string{`12:16: via: want one of source, forwarded, none, found ""`}},
		{"no clients", "gates:", "clients: {count: 0, via: source}\ngates:", []string{"12:18: count: want a whole number from 1 to 100000, found 0"}},
		{"too many clients", "gates:", "clients: {count: 200000, via: forwarded}\ngates:", []string{"12:18: count: want a whole number from 1 to 100000, found 200000"}},
		{"clients and their header", "{Accept: text/plain}", "{x-forwarded-for: a}\n    clients: {count: 2, via: forwarded}", []string{"8:15: headers: x-forwarded-for is written by `via: forwarded`"}},
		{"outcome named as a kind", "ok: {", "all: {", []string{"11:3: outcomes: all is what gates call many outcomes", `13:5: gate "ok.count > 0": no outcome`}},
		{"outcome named as the generator's columns", "ok: {", "lag: {", []string{"11:3: outcomes: lag is the generator's own in samples.csv", `13:5: gate "ok.count > 0": no outcome`}},
		{"outcome with a bad name", "ok: {", "o.k: {", []string{`11:3: outcomes: want a letter, then letters, digits, - and _, 64 in all, found "o.k"`, "13:5: gate"}},
		{"status unknown to HTTP", "status: 200", "status: 600", []string{"11:16: status: want a whole number from 100 to 599, found 600"}},
		{"status of many", "status: 200", "status: 2xx", []string{`11:16: status: want a whole number from 100 to 599, found the text "2xx"`}},
		{"status twice", "gates:", "  fine: {status: 200, kind: success}\ngates:", []string{"12:18: status: 200 is ok already"}},
		{"kind empty", "kind: success", "kind: ''", []string{`11:27: kind: want one of success, expected, failure, found ""`}},
		{"kind unknown", "kind: success", "kind: good", []string{`11:27: kind: want one of success, expected, failure, found "good"`}},
		{"gate that is none", "ok.count > 0", "ok > 0", []string{`13:5: gate "ok > 0"`}},
		{"gate on an unknown outcome", "ok.count", "okay.count", []string{`13:5: gate "okay.count > 0": no outcome is named "okay"`}},
		{"gate on an unknown request", "ok.count", "gett/ok.count", []string{`13:5: gate "gett/ok.count > 0": no request is named "gett"; did you mean "get"?`}},
		{"gate a mapping", "ok.count > 0", "ok: 0", []string{"13:5: gate: want text, found keys and values"}},
		{"baseline a number", "gates:", "baseline: 5\ngates:", []string{"12:11: baseline: want text, found 5"}},
		{"several at once", "rate: 10", "rate: x, rat: 1", []string{"3:26: rate: want a number", `3:29: unknown key "rat"; did you mean "rate"?`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(small, tt.old, tt.text, 1)
			if text == small {
				t.Fatalf("%q is nowhere in the plan", tt.old)
			}
			_, err := parse(text, plan.Options{Loopback: true})
			says(t, err, tt.says...)
		})
	}
}

func TestMistakeInTheNotation(t *testing.T) {
	tests := []struct {
		name, text string
		says       []string
	}{
		{"nothing", "", []string{"1:1: the plan is empty"}},
		{"blank", "\n\n", []string{"1:1: the plan is empty"}},
		{"a comment", "# plan\n", []string{"1:1: the plan is empty"}},
		{"null", "~", []string{"1:1: the plan: want keys and values, found nothing"}},
		{"a text", "onboarding", []string{`1:1: the plan: want keys and values, found the text "onboarding"`}},
		{"a list", "- name: x", []string{"1:1: the plan: want keys and values, found a list"}},
		{"a tab", "name: x\nstages:\n\t- {}\n", []string{"3:1: no YAML: a tab; indent with spaces"}},
		{"an open bracket", "name: [x\n", []string{"1:7: no YAML: "}},
		{"an open quote", "name: 'x\n", []string{"1:7: no YAML: "}},
		{"two colons", "name: x\nstages: a: b\n", []string{"2:9: no YAML: "}},
		{"two documents", small + "---\n" + small, []string{"14:1: another document"}},
		{"a document and its end", small + "---\n", []string{"14:1: another document"}},
		{"a NUL", "name: x\nüa\x00: y\n", []string{"2:3: not UTF-8, or a NUL byte"}},
		{"no UTF-8", "name: x\nü\xff: y\n", []string{"2:2: not UTF-8"}},
		{"a merge", small + "<<: {timeout: 1s}\n", []string{"14:1: want a plain key, such as `name: value`, found <<"}},
		{"a complex key", small + "? timeout\n: 1s\n", []string{"14:1: want a plain key"}},
		{"a tag", small + "timeout: !!str 1s\n", []string{"14:10: timeout: want a duration such as 60s or 5m, above 0 and at most 10m0s, found !!str"}},
		{"an unknown alias", small + "timeout: *t\n", []string{"14:10: *t refers to nothing"}},
		{"an alias with an escape for terminals", small + "timeout: *\x1b[31m\n", []string{"14:10: *?[31m refers to nothing"}},
		{"an alias before its anchor", "timeout: *t\n" + small + "max_in_flight: &t 1\n", []string{"1:10: *t refers to nothing"}},
		{"an anchor of nothing", small + "timeout: &t\n", []string{"14:10: no YAML: undefined anchor value"}},
		{"an alias of nothing", small + "max_in_flight: &t\ntimeout: *t\n", []string{"14:17: max_in_flight: want a whole number", "14:17: timeout: want a duration"}},
		{"an alias of what it is in", small + "profiles: {a: &a {requests: [{name: b, method: GET, path: /, body: *a}]}}\n", []string{"14:18: body: want text, found keys and values"}},
		{"an alias of itself", small + "timeout: &t\n  *t\n", []string{"15:3: it refers to itself"}},
		{"a profile of itself", small + "profiles: &p {a: *p}\n", []string{`14:15: unknown key "a"`}},
		{"brackets in brackets", strings.Repeat("[", 40_000), []string{"1:33: over 50000 words and signs, or nested over 32 deep"}},
		{"lists in lists", strings.Repeat("- ", 20_000), []string{"1:65: over 50000 words and signs, or nested over 32 deep"}},
		{"keys of keys", strings.Repeat("? ", 20_000), []string{"1:65: over 50000 words and signs, or nested over 32 deep"}},
		{"anchors of anchors", strings.Repeat("&a ", 10_000), []string{"1:97: over 50000 words and signs, or nested over 32 deep"}},
		{"many keys", strings.Repeat("k: v\n", 50_000), []string{"16667:4: over 50000 words and signs"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(tt.text, plan.Options{})
			says(t, err, tt.says...)
		})
	}
}

func TestHugeFileIsRefused(t *testing.T) {
	_, err := parse(small+strings.Repeat("# filler\n", 1<<17), plan.Options{})
	if want := fmt.Sprintf("p.yaml: a plan has at most %d bytes", 1<<20); err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("it says %v, want %s", err, want)
	}
	if _, err := parse(small+"# "+strings.Repeat("x", 1<<19)+"\n", plan.Options{}); err != nil {
		t.Errorf("half a megabyte: %v", err)
	}
}

func TestMistakesAreToldUpToABound(t *testing.T) {
	var text strings.Builder
	text.WriteString(small)
	for i := range 100 {
		fmt.Fprintf(&text, "unknown%d: x\n", i)
	}
	_, err := parse(text.String(), plan.Options{})
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != 51 || lines[50] != "p.yaml: and more" {
		t.Errorf("it tells %d lines, the last %q; want 50 and that there are more", len(lines), lines[len(lines)-1])
	}
}
