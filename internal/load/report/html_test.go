package report

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

func render(t testing.TB, r *Run) string {
	t.Helper()
	return rendered(t, pages(r))
}

func rendered(t testing.TB, r *Report) string {
	t.Helper()
	var b strings.Builder
	if err := HTML(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestPageSaysTheVerdictFirst(t *testing.T) {
	page := render(t, judged(pageRun(300), gate.Fail))
	last := 0
	for _, want := range []string{
		`<span class="word">FAIL</span>`, "succeeded (p95 ", "created latency p95 was 131.20 ms", `id="gates"`, "131.20 ms", `id="rate"`, `id="latency"`, "created: latency",
		"error:timeout: latency", "Percentile curve", `id="limits"`, "refusal came at 0:31", `id="errors"`, "no answer within 10s", `id="connections"`,
		`id="generator"`, `id="resources"`, "30 / 30", "0.123 / 0.2", `id="outcomes"`, `id="environment"`, "Some CPU @ 2.50GHz", `id="baseline"`, "Environments first", "no counterpart",
	} {
		at := strings.Index(page[last:], want)
		if at < 0 {
			t.Fatalf("%q is not there, or not after what should come before it", want)
		}
		last += at
	}
}

func TestPageIsAccessible(t *testing.T) {
	page := render(t, judged(pageRun(300), gate.Pass))
	for want, n := range map[string]int{`<html lang="en">`: 1, "<main>": 1, "<h1 ": 1, "<script": 0, " style=": 0} {
		if got := strings.Count(page, want); got != n {
			t.Errorf("%q is there %d times, want %d", want, got, n)
		}
	}
	level := 0
	for _, m := range regexp.MustCompile(`<h([1-6])[ >]`).FindAllStringSubmatch(page, -1) {
		next, _ := strconv.Atoi(m[1])
		if next > level+1 {
			t.Errorf("a heading of level %d follows one of level %d", next, level)
		}
		level = next
	}
	ids := map[string]bool{}
	for _, m := range regexp.MustCompile(` id="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if ids[m[1]] {
			t.Errorf("two elements have the id %q", m[1])
		}
		ids[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`aria-labelledby="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if !ids[m[1]] {
			t.Errorf("something is labelled by %q, which is not there", m[1])
		}
	}
	tables := regexp.MustCompile(`<table[^>]*>(\s*)<caption><span>[^<]+`).FindAllString(page, -1)
	if n := strings.Count(page, "<table"); n < 6 || len(tables) != n {
		t.Errorf("%d of %d tables begin with a caption", len(tables), n)
	}
	if bare := regexp.MustCompile(`<th( class="n")?>`).FindString(page); bare != "" {
		t.Errorf("%s has no scope", bare)
	}
	outer := regexp.MustCompile(`<svg (role="img"><title>[^<]+</title><desc>[^<]+</desc>|class="swatch" aria-hidden="true">|viewBox=)`).FindAllString(page, -1)
	if n := strings.Count(page, "<svg"); n < 10 || len(outer) != n {
		t.Errorf("%d of %d SVGs are told in words, decoration or inside another", len(outer), n)
	}
}

func TestPageAsksNobody(t *testing.T) {
	r := judged(pageRun(60), gate.Pass)
	r.Target = "http://target.invalid:8080"
	for _, s := range r.Result.Series {
		s.Example = "" // what others wrote is text, and the next test's
	}
	page := render(t, r)
	if bad := regexp.MustCompile(`(?i)(src|href|action|data|srcset|poster)\s*=|url\(|@import|<link|<iframe|<object|<embed|<base`).FindString(page); bad != "" {
		t.Errorf("the page has %q", bad)
	}
	compared := pageRun(60).Target // what the baseline's table has
	if other := strings.NewReplacer(r.Target, "", compared, "").Replace(page); strings.Contains(other, "://") {
		t.Error("the page has an address that is not the target's")
	}
	_, style, _ := strings.Cut(page, "<style>")
	style, _, _ = strings.Cut(style, "</style>")
	sum := sha256.Sum256([]byte(style))
	m := regexp.MustCompile(`content="([^"]*)"`).FindStringSubmatch(policy.FindString(page))
	if m == nil {
		t.Fatal("the page has no policy")
	}
	// A browser reads the escaped sign; that the style is applied is seen in the screenshots.
	got := strings.ReplaceAll(strings.ReplaceAll(m[1], "&#39;", "'"), "&#43;", "+")
	want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'"
	if got != want {
		t.Errorf("the policy is %s\nwant %s", got, want)
	}
}

func TestPageEscapesWhatOthersWrote(t *testing.T) {
	r := judged(pageRun(60), gate.Fail)
	r.Plan, r.Profile, r.Target, r.Clients, r.PlanHash, r.ToolVersion = hostile, hostile, hostile, hostile, hostile, hostile
	r.Reasons, r.Notes = []string{hostile}, []string{hostile}
	r.Checks[0].Name, r.Checks[0].Expression, r.Checks[0].Why = hostile, hostile, hostile
	for _, s := range r.Result.Series {
		s.Request, s.Name, s.Example = hostile, hostile, strings.Repeat(hostile, 10_000)
	}
	r.Environment.Target.Policies = []string{hostile}
	r.Environment.Target.Database.Settings = map[string]string{hostile: hostile}
	r.Environment.Target.Limits = map[string]string{hostile: hostile}
	r.Resources.Source, r.Resources.Why = hostile, hostile
	r.Baseline = &Comparison{
		Name: hostile, Notes: []string{hostile}, Environment: []EnvironmentRow{{hostile, hostile, hostile}},
		Rows: []ComparisonRow{{Name: hostile, Key: hostile}, {Name: hostile, Stat: hostile}},
	}
	page := render(t, r)
	if n := strings.Count(page, "&lt;script&gt;alert"); n < 30 {
		t.Errorf("the text is there %d times", n)
	}
	if bad := regexp.MustCompile(`(?i)<script|</script|<img|alert\("x"\)`).FindString(page); bad != "" {
		t.Errorf("the page has %s", bad)
	}
	if n := strings.Count(page, "</title>"); n != 1+strings.Count(page, `<svg role="img">`) {
		t.Errorf("%d titles end", n)
	}
	if len(page) > 1<<20 {
		t.Errorf("the page has %d bytes", len(page))
	}
}

func TestPageOfLittle(t *testing.T) {
	timeouts := func() *Run {
		run := pageRun(60)
		r := run.Result
		r.Series = []*load.Series{{Request: "a", Key: "error:timeout", Name: "error:timeout", Kind: load.Failure, Latency: spread(3, 0, 0), Service: spread(3, 0, 0)}}
		run.Seconds = Seconds{}
		for second := range 60 {
			run.Seconds.Add(&load.Sample{Second: second, Spreads: []load.Spread{{Request: "a", Key: "error:timeout", Bins: binned(0)}}})
		}
		return run
	}
	one := pageRun(60)
	one.Seconds.all = one.Seconds.all[:1]
	idle := Seconds{all: []*load.Sample{{}, {Second: 1}}}
	tests := []struct {
		name string
		run  *Run
		want string
	}{
		{"nothing at all", &Run{Result: &load.Result{}}, "No request came to an end."},
		{"seconds and no answer", &Run{Result: &load.Result{Planned: time.Second, Unsent: 3}, Seconds: idle}, "No request came to an end."},
		{"one second", one, "created: latency"},
		{"errors alone, that took no time", timeouts(), "Nothing was refused as expected."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, stages := range [][]load.Stage{nil, {{Rate: 10}}, {{Duration: time.Second, Rate: 10}, {Duration: time.Second}}} {
				page := render(t, &Run{Verdict: gate.Inconclusive, Result: tt.run.Result, Seconds: tt.run.Seconds, Stages: stages})
				if !strings.Contains(page, tt.want) {
					t.Errorf("the page does not say %q", tt.want)
				}
				_, body, _ := strings.Cut(page, "</style>")
				if bad := regexp.MustCompile(`NaN|Inf|[0-9]e[+-]|ZgotmplZ|%!|"-[0-9.]+%"`).FindString(body); bad != "" {
					t.Errorf("the page has %s", bad)
				}
			}
		})
	}
}

func TestPageOfADayStaysSmall(t *testing.T) {
	r := pageRun(300)
	some := r.Seconds.all
	r.Seconds.all = nil
	for second := range 24 * 60 * 60 {
		s := *some[second%len(some)]
		s.Second = second
		r.Seconds.all = append(r.Seconds.all, &s)
	}
	r.Stages = []load.Stage{{Duration: 24 * time.Hour, Rate: 50}}
	all := pages(r)
	for i := range 10_000 {
		all.ByRequest["onboard"][strconv.Itoa(1000+i)] = Outcome{Kind: load.Failure}
	}
	page := rendered(t, all)
	if len(page) > 1<<20 {
		t.Errorf("the page has %d bytes", len(page))
	}
	if !strings.Contains(page, "A point is the highest of 144 seconds.") || !strings.Contains(page, ">24:00:00<") {
		t.Error("the charts don't say what a point is, or don't cover the day")
	}
	for _, m := range regexp.MustCompile(` d="([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if n := strings.Count(m[1], "L"); n > chartPoints+2 {
			t.Errorf("a line has %d points", n)
		}
	}
}

type failing struct{}

var errFull = errors.New("the disk is full")

func (failing) Write([]byte) (int, error) { return 0, errFull }

func TestPageTellsAFailedWrite(t *testing.T) {
	if err := HTML(failing{}, pages(fixture())); !errors.Is(err, errFull) {
		t.Errorf("HTML = %v", err)
	}
}

// Text has to be readable by people who see little contrast: WCAG 2 asks for
// 4.5 to 1, and 3 to 1 for lines.
func TestPageContrast(t *testing.T) {
	themes := strings.SplitN(pageStyle, "@media", 3)
	for i, theme := range themes[:2] {
		colours := map[string]string{}
		for _, m := range regexp.MustCompile(`--([\w-]+): #(\w{6});`).FindAllStringSubmatch(theme, -1) {
			colours[m[1]] = m[2]
		}
		check := func(ink, paper string, least float64) {
			if got := contrast(t, colours[ink], colours[paper]); got < least {
				t.Errorf("theme %d: %s on %s has a contrast of %.2f, want %.1f", i, ink, paper, got, least)
			}
		}
		for _, verdict := range []string{"pass", "fail", "inconclusive"} {
			check(verdict, verdict+"-sheet", 4.5)
			check(verdict, "paper", 4.5)
			check("ink", verdict+"-sheet", 4.5)
		}
		check("ink", "paper", 4.5)
		check("quiet", "paper", 4.5)
		check("quiet", "sheet", 4.5)
		check("quiet", "area", 4.5)
		for _, line := range []string{"l1", "l2", "l3", "l4", "l5", "l6", "planned"} {
			check(line, "paper", 3)
		}
	}
}

func contrast(t *testing.T, a, b string) float64 {
	luminance := func(colour string) float64 {
		n, err := strconv.ParseUint(colour, 16, 32)
		if err != nil {
			t.Fatalf("no colour: %q", colour)
		}
		var sum float64
		for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
			c := float64(n>>(16-8*i)&0xff) / 255
			if c <= 0.04045 {
				c /= 12.92
			} else {
				c = math.Pow((c+0.055)/1.055, 2.4)
			}
			sum += weight * c
		}
		return sum
	}
	x, y := luminance(a)+0.05, luminance(b)+0.05
	return max(x, y) / min(x, y)
}
