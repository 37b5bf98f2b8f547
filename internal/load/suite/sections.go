package suite

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/load"
	"gatehouse/internal/load/compare"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
	"gatehouse/internal/load/verify"
)

// scenarios are the reference system's, from its report.
var scenarios = []struct {
	name string
	rate float64 // requests a second
}{{"normal operation", 10}, {"launch day peak", 50}, {"viral spike", 200}}

const unknown = "–"

// sections are those that the reference's report had, in its order, and those
// that it should have had.
func sections(s *Summary) []section {
	return []section{
		summarySection(s), coverage(s), configuration(s), profile(s), throughput(s), latency(s), limits(s), errorsSection(s), connections(s),
		comparison(s), resourcesSection(s), health(s), deployment(s), thresholds(s), issues(s), recommendations(s), readiness(s), nextReview(s),
	}
}

// plans are the parts that are plans and ran.
func (s *Summary) plans() (all []*Part) {
	for _, p := range s.Parts {
		if p.run != nil {
			all = append(all, p)
		}
	}
	return all
}

func (s *Summary) limits() *verify.Summary {
	for _, p := range s.Parts {
		if p.verified != nil {
			return p.verified
		}
	}
	return nil
}

func ms(v *float64) string {
	if v == nil {
		return unknown
	}
	return gate.Milliseconds.Text(*v)
}

func count(n int64) string { return gate.Count.Text(float64(n)) }

// tally counts a run's answers by kind, and its slowest p95 of a success.
func tally(r *report.Summary) (n map[load.Kind]int64, p95 *float64) {
	n = make(map[load.Kind]int64)
	for _, o := range r.Outcomes {
		n[o.Kind] += o.Count
		if o.Kind == load.Success && o.Latency.P95 != nil && (p95 == nil || *o.Latency.P95 > *p95) {
			p95 = o.Latency.P95
		}
	}
	return n, p95
}

// failed is the share of failures without what was expected; nil of nothing.
func failed(r *report.Summary) *float64 {
	n, _ := tally(r)
	all := n[load.Success] + n[load.Failure] + r.Requests.Unsent
	if all == 0 {
		return nil
	}
	share := float64(n[load.Failure]+r.Requests.Unsent) / float64(all)
	return &share
}

func summarySection(s *Summary) section {
	sec := section{ID: "summary", Title: "Summary"}
	t := table{Head: []string{"part", "verdict", "what it came to"}}
	for _, p := range s.Parts {
		said := p.Why
		switch {
		case p.run != nil:
			n, p95 := tally(p.run)
			said = fmt.Sprintf("%s of %s requests succeeded (p95 %s), %s were refused as expected, %s failed",
				count(n[load.Success]), count(p.run.Requests.Scheduled), ms(p95), count(n[load.Expected]), count(n[load.Failure]))
		case p.verified != nil:
			said = p.verified.Headline()
		}
		t.add(p.Name, string(p.Verdict), said)
	}
	sec.Tables = []table{t}
	return sec
}

func coverage(s *Summary) section {
	sec := section{ID: "coverage", Title: "Coverage", Text: []string{"A part that was not run fails the suite."}}
	t := table{Head: []string{"part", "run", "why not", "what it covers"}}
	covers := map[string]string{
		"onboarding": "sign-up, and its limit", "credentials": "exchange, refresh, revocation, the gateway, revoked tokens",
		"webhooks": "Stripe's events: signed, doubled, out of order, stale, forged; their effects", "mixed": "all of it at once", Verify: "every limit, from outside",
	}
	for _, p := range s.Parts {
		ran := "no"
		if p.Ran {
			ran = "yes"
		}
		t.add(p.Name, ran, p.Why, covers[p.Name])
	}
	sec.Tables = []table{t}
	return sec
}

func configuration(s *Summary) section {
	sec := section{ID: "configuration", Title: "Configuration"}
	t := table{Head: []string{"", ""}}
	t.add("targets", strings.Join(s.Targets, ", "))
	t.add("profile", s.Profile)
	t.add("started", s.Started())
	t.add("took", (time.Duration(s.Seconds) * time.Second).String())
	t.add("tool", s.ToolVersion)
	of := table{Head: []string{"plan", "seed:", "clients", "SHA-256 of the plan"}}
	for _, p := range s.plans() {
		of.add(p.Name, fmt.Sprint(p.run.Seed), p.run.Clients, p.run.PlanHash)
	}
	sec.Tables = []table{t, of}
	return sec
}

func profile(s *Summary) section {
	sec := section{ID: "profile", Title: "Load profile", Text: []string{"Rates are what was offered: requests were due whether or not earlier ones had been answered."}}
	t := table{Head: []string{"plan", "stages"}}
	for _, p := range s.plans() {
		var stages []string
		for _, st := range p.run.Stages {
			stages = append(stages, fmt.Sprintf("%gs to %g/s", st.Seconds, st.Rate))
		}
		t.add(p.Name, strings.Join(stages, "; "))
	}
	sec.Tables = []table{t}
	return sec
}

func throughput(s *Summary) section {
	sec := section{ID: "throughput", Title: "Throughput"}
	t := table{Head: []string{"plan", "offered:", "achieved:", "due:", "answered:", "without an answer:", "never sent:", "in flight at most:", "generator's lag p99:"}}
	for _, p := range s.plans() {
		r := p.run
		t.add(p.Name, gate.PerSecond.Text(r.Rate.Offered), gate.PerSecond.Text(r.Rate.Achieved), count(r.Requests.Scheduled), count(r.Requests.Answered),
			count(r.Requests.Errors), count(r.Requests.Unsent), count(int64(r.InFlight.Max)), gate.Milliseconds.Text(r.Generator.P99Lag))
	}
	sec.Tables = []table{t}
	return sec
}

// eachOutcome goes through what the requests of all plans came to, in order.
func (s *Summary) eachOutcome(do func(plan, request string, o report.Outcome)) {
	for _, p := range s.plans() {
		for _, request := range slices.Sorted(maps.Keys(p.run.ByRequest)) {
			outcomes := p.run.ByRequest[request]
			for _, k := range slices.Sorted(maps.Keys(outcomes)) {
				do(p.Name, request, outcomes[k])
			}
		}
	}
}

func latency(s *Summary) section {
	sec := section{ID: "latency", Title: "Latency", Text: []string{"From when a request was due to its last byte. Successes and refusals stand apart: a refusal is fast, and must not make the others look fast. – stands where there were too few to tell."}}
	t := table{Head: []string{"plan", "request", "outcome", "count:", "avg:", "p50:", "p90:", "p95:", "p99:", "p99.9:", "max:", "service p95:"}}
	s.eachOutcome(func(plan, request string, o report.Outcome) {
		if o.Kind != load.Failure {
			l := o.Latency
			t.add(plan, request, o.Name, count(o.Count), ms(l.Avg), ms(l.P50), ms(l.P90), ms(l.P95), ms(l.P99), ms(l.P999), ms(l.Max), ms(o.Service.P95))
		}
	})
	sec.Tables = []table{t}
	return sec
}

func limits(s *Summary) section {
	sec := section{ID: "limits", Title: "Rate limits"}
	v := s.limits()
	if v == nil {
		sec.Text = []string{"No limit was verified. That refusals were seen proves nothing of when they begin."}
		return sec
	}
	sec.Text = []string{v.Headline()}
	t := table{Head: []string{"policy", "limit", "verdict", "proved:", "violated:", "undecidable:", "what was not proved"}}
	for _, trial := range v.Policies {
		n := map[verify.Verdict]int{}
		var open []string
		for _, f := range trial.Findings {
			if n[f.Verdict]++; f.Verdict != verify.Proved {
				open = append(open, f.Property+": "+f.Why)
			}
		}
		if trial.Why != "" {
			open = append(open, trial.Why)
		}
		t.add(trial.Policy, fmt.Sprintf("%d in %g s", trial.Limit, trial.Window), string(verify.AsGate(trial.Verdict)),
			fmt.Sprint(n[verify.Proved]), fmt.Sprint(n[verify.Violated]), fmt.Sprint(n[verify.Undecidable]), strings.Join(open, "; "))
	}
	for _, trial := range v.NotVerified {
		t.add(trial.Policy, "", "not verified", "", "", "", trial.Why)
	}
	sec.Tables = []table{t}
	return sec
}

func errorsSection(s *Summary) section {
	sec := section{ID: "errors", Title: "Errors"}
	t := table{Head: []string{"plan", "request", "outcome", "count:", "the first one said"}}
	s.eachOutcome(func(plan, request string, o report.Outcome) {
		if o.Kind == load.Failure {
			t.add(plan, request, o.Name, count(o.Count), o.Example)
		}
	})
	if len(t.Rows) == 0 {
		sec.Text = []string{"Nothing failed."}
		return sec
	}
	sec.Tables = []table{t}
	return sec
}

func connections(s *Summary) section {
	sec := section{ID: "connections", Title: "Connections"}
	t := table{Head: []string{"plan", "opened:", "found open:", "TCP p50:", "TCP p95:", "TLS p95:", "waiting p50:", "waiting p95:", "receiving p95:"}}
	for _, p := range s.plans() {
		c := p.run.Connections
		t.add(p.Name, count(c.Opened), count(c.Reused), ms(c.Connect.P50), ms(c.Connect.P95), ms(c.Handshake.P95), ms(c.Waiting.P50), ms(c.Waiting.P95), ms(c.Receiving.P95))
	}
	sec.Tables = []table{t}
	return sec
}

func comparison(s *Summary) section {
	sec := section{ID: "comparison", Title: "Comparison with an earlier suite"}
	t, unlike := table{Head: []string{"plan", "gate", "change", "largest ratio", "its 95 % interval", "why"}}, table{Head: []string{"plan", "differs", "then", "now"}}
	for _, p := range s.Parts {
		c := p.Comparison
		if c == nil {
			continue
		}
		worst, interval := unknown, unknown
		if len(c.Cells) > 0 {
			cell := slices.MaxFunc(c.Cells, func(a, b compare.Cell) int { return cmp.Compare(a.Ratio, b.Ratio) })
			worst = fmt.Sprintf("%.2f, %s %s", cell.Ratio, cell.Name, cell.Stat)
			if cell.Low != nil {
				interval = fmt.Sprintf("%.2f to %.2f", *cell.Low, *cell.High)
			}
		}
		for _, d := range c.Unlike {
			unlike.add(p.Name, d.Fact, d.Old, d.New)
		}
		t.add(p.Name, string(c.Gate.Verdict), string(c.Change.Answer), worst, interval, strings.Join(c.Gate.Reasons, "; "))
	}
	if len(t.Rows) == 0 {
		sec.Text = []string{"It was compared with none (--baseline)."}
		return sec
	}
	sec.Text = []string{"Where the environments differ comes first: figures compare only as far as these do. Ratios are NEW/OLD of latencies."}
	if len(unlike.Rows) > 0 {
		sec.Tables = append(sec.Tables, unlike)
	}
	sec.Tables = append(sec.Tables, t)
	return sec
}

func health(s *Summary) section {
	sec := section{ID: "health", Title: "Health before and after"}
	t := table{Head: []string{"target", "before", "after"}}
	for _, h := range s.Health {
		t.add(h.Target, said(h.Before), said(h.After))
	}
	sec.Tables = []table{t}
	return sec
}

func said(v jsontext.Value) string {
	if v = v.Clone(); v.Kind() != '{' || v.Compact() != nil {
		return "it did not say"
	}
	return string(v)
}

func deployment(s *Summary) section {
	sec := section{ID: "deployment", Title: "Deployment"}
	plans := s.plans()
	if len(plans) == 0 {
		sec.Text = []string{"No plan ran: nothing is known."}
		return sec
	}
	t := table{Head: []string{"fact", "generator", "target"}}
	for _, f := range report.Facts(plans[0].run) {
		if f.Name != "requests sent" {
			t.add(f.Name, f.Generator, f.Target)
		}
	}
	sec.Text = []string{"As " + plans[0].Name + " saw it."}
	sec.Tables = []table{t}
	return sec
}

func issues(s *Summary) section {
	sec := section{ID: "issues", Title: "Issues"}
	sec.Text = s.Reasons
	t := table{Head: []string{"part", "note"}}
	for _, p := range s.plans() {
		for _, n := range p.run.Notes {
			t.add(p.Name, n)
		}
	}
	if len(sec.Text) == 0 {
		sec.Text = []string{"None."}
	}
	if len(t.Rows) > 0 {
		sec.Tables = []table{t}
	}
	return sec
}

// recommendations follow from what was seen; each by a rule.
func recommendations(s *Summary) section {
	sec := section{ID: "recommendations", Title: "Recommendations"}
	shared := false
	var short []string
	for _, p := range s.Parts {
		if p.Verdict == gate.Inconclusive {
			short = append(short, p.Name)
		}
		shared = shared || p.run != nil && p.run.Environment.Target.SameMachine
	}
	add := func(when bool, text string) {
		if when {
			sec.Text = append(sec.Text, text)
		}
	}
	add(s.Verdict == gate.Fail, "Don't release on this: see Issues, mend them, and run the suite again.")
	add(len(short) > 0, "Run again what was inconclusive ("+strings.Join(short, ", ")+"), longer or on a quieter machine.")
	add(shared, "Load and target shared a machine, so that these figures are a lower bound of what the target can do: measure capacity from another machine.")
	add(s.CoversRate < scenarios[2].rate, fmt.Sprintf("All at once was not held above %g/s: use a larger profile before traffic comes near it.", s.CoversRate))
	add(s.Profile != "smoke" && !slices.ContainsFunc(s.Parts, func(p *Part) bool { return p.Comparison != nil }), "Keep this folder: the next suite can be compared with it (--baseline).")
	if sec.Text == nil {
		sec.Text = []string{"None."}
	}
	return sec
}

func readiness(s *Summary) section {
	sec := section{ID: "readiness", Title: "Readiness"}
	t := table{Head: []string{"criterion", "verdict"}}
	whole := gate.Pass
	for _, p := range s.Parts {
		if !p.Ran {
			whole = gate.Fail
		}
	}
	t.add("every part was run", string(whole))
	for _, p := range s.Parts {
		t.add(p.Name, string(p.Verdict))
	}
	sound := gate.Pass
	for _, h := range s.Health {
		v, _ := h.judge(s.Seconds)
		sound = worse(sound, v)
	}
	t.add("every target was up and well throughout", string(sound))
	for _, sc := range scenarios {
		verdict := "not tested"
		if s.CoversRate >= sc.rate {
			verdict = string(gate.Pass)
		}
		t.add(fmt.Sprintf("%s, %g/s, was held by all at once", sc.name, sc.rate), verdict)
	}
	t.add("the whole", string(s.Verdict))
	sec.Tables = []table{t}
	return sec
}

func nextReview(s *Summary) section {
	if why := s.Due(s.StartedAt, 0); why != "" {
		return section{ID: "review", Title: "Next review", Text: []string{"Now: " + why + ". gatehouse load suite --due says so."}}
	}
	return section{ID: "review", Title: "Next review", Text: []string{fmt.Sprintf(
		"By %s, 90 days after this one, or before that when traffic comes above %g/s, which is the most that all at once held, or when the deployment changes. gatehouse load suite --due says so.",
		s.ReviewBy.Format("2 January 2006"), s.CoversRate)}}
}
