package report

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

// Markdown writes the run for people, most important first.
func Markdown(w io.Writer, r *Run) error {
	d := &document{page: page{Run: r, Outcomes: byOutcome(r.Result)}}
	d.verdict()
	d.sent()
	d.gates()
	d.outcomes()
	d.limits()
	d.errors()
	d.connections()
	d.environment()
	d.baseline()
	_, err := io.WriteString(w, d.text.String())
	return err
}

// document is a report as it grows. It shares the page's view of a run.
type document struct {
	page
	text strings.Builder
}

func (d *document) verdict() {
	profile := ""
	if d.Profile != "" {
		profile = ", profile " + plain(d.Profile)
	}
	d.line("# Load run %s%s", plain(d.Plan), profile)
	d.line("**%s**", plain(Headline(d.Run)))
	if len(d.Reasons) > 0 {
		d.line("Why it is no pass:")
		d.list(d.Reasons)
	}
	d.list(d.Notes)
}

func (d *document) sent() {
	res := d.Result
	d.line("## What was sent")
	var stages []string
	for _, s := range d.Stages {
		stages = append(stages, fmt.Sprintf("%s to %s", s.Duration, gate.PerSecond.Text(s.Rate)))
	}
	took := res.Elapsed.Round(time.Millisecond).String()
	if res.Interrupted {
		took += ", interrupted"
	}
	d.table([]string{"", ""}, [][]string{
		{"target", d.Target},
		{"started", res.Started.UTC().Format(time.RFC3339)},
		{"planned, took", res.Planned.String() + ", " + took},
		{"stages", strings.Join(stages, "; ")},
		{"clients", d.Clients},
		{"rate offered, achieved", d.Rate(res.Scheduled) + ", " + d.Rate(res.Sent)},
		{"requests due, sent, answered", count(res.Scheduled) + ", " + count(res.Sent) + ", " + count(res.Answered)},
		{"without an answer, never sent", count(res.Errors) + ", " + count(res.Unsent)},
		{"in flight on average, at most", fmt.Sprintf("%.1f, %d", res.InFlightAvg, res.InFlightMax)},
		{"time-out", d.Timeout.String()},
		{"lag of the generator, p99 and longest", quantile(res.Lag, 0.99) + ", " + longest(res.Lag)},
		{"cost to the generator", fmt.Sprintf("%.2f s of processor time, %s of memory", res.Generator.CPU.Seconds(), d.MemoryUsed())},
		{"seed", fmt.Sprint(d.Seed)},
		{"plan's SHA-256", d.PlanHash},
		{"tool", d.ToolVersion},
	})
}

func (d *document) gates() {
	d.line("## Gates")
	if len(d.Checks) == 0 {
		d.line("The plan has no gates.")
		return
	}
	var rows [][]string
	for _, c := range d.Checks {
		rows = append(rows, []string{string(c.Verdict), c.Name, known(c.Unit, c.Observed), c.Expression, c.Why})
	}
	d.table([]string{"verdict", "gate", "observed:", "asked for", "why"}, rows)
}

func (d *document) outcomes() {
	d.line("## Outcomes")
	d.line("Latency counts from when a request was due, so that a target that stalls can't hide the requests that waited; service counts from its sending, and is "+
		"nearest to what most tools call duration (k6's http_req_duration). %s stands where there were too few to tell.", unknown)
	head := []string{"request", "outcome", "kind", "count:", "share:", "rate:", "p50:", "p90:", "p95:", "p99:", "p99.9:", "max:", "service p95:"}
	var rows [][]string
	row := func(request string, s *load.Series) {
		cells := []string{request, outcomeName(s.Name, s.Key), string(s.Kind), count(s.Count()), d.Share(s.Count()), d.Rate(s.Count())}
		for _, q := range []float64{0.50, 0.90, 0.95, 0.99, 0.999} {
			cells = append(cells, quantile(s.Latency, q))
		}
		rows = append(rows, append(cells, longest(s.Latency), quantile(s.Service, 0.95)))
	}
	for _, s := range d.Outcomes {
		row("all", s)
	}
	for _, s := range d.Series() {
		row(s.Request, s)
	}
	d.table(head, rows)
	if more := d.MoreSeries(); more > 0 {
		d.line("%s more are in summary.json.", count(int64(more)))
	}
}

func (d *document) limits() {
	d.line("## Limits engaging")
	if at := d.Refused(); at != "" {
		d.line("The first expected refusal came at %s.", at)
	} else {
		d.line("Nothing was refused as expected.")
	}
	if policies := d.Result.Connections.Policies; len(policies) > 0 {
		d.line("Answers told of %s.", plain(strings.Join(policies, ", ")))
	} else {
		d.line("No answer told of a rate limit policy.")
	}
}

func (d *document) errors() {
	d.line("## Errors")
	var rows [][]string
	for _, s := range d.Failures() {
		rows = append(rows, []string{outcomeName(s.Name, s.Key), count(s.Count()), d.Share(s.Count()), excerpt(s.Example)})
	}
	if len(rows) == 0 {
		d.line("Nothing failed.")
		return
	}
	d.table([]string{"outcome", "count:", "share:", "the first one said"}, rows)
}

func (d *document) connections() {
	c := d.Result.Connections
	d.line("## Connections")
	d.line("%s opened; %s requests found one open.", count(c.Opened), count(c.Reused))
	var rows [][]string
	for _, p := range d.Phases() {
		rows = append(rows, []string{p.Name, count(p.Of.Count()), quantile(p.Of, 0.50), quantile(p.Of, 0.95), quantile(p.Of, 0.99), longest(p.Of)})
	}
	d.table([]string{"phase", "count:", "p50:", "p95:", "p99:", "max:"}, rows)
}

func (d *document) environment() {
	d.line("## Environment")
	switch t := d.Environment.Target; {
	case t.Source == "":
		d.line("The target told nothing of itself.")
	default:
		d.line("The target's side is from its %s.", plain(t.Source))
	}
	if d.Environment.Target.SameMachine {
		d.line("It shared the generator's machine, so the two took processor time from each other.")
	}
	var rows [][]string
	for _, f := range d.Facts() {
		rows = append(rows, []string{f.Name, f.Generator, f.Target})
	}
	d.table([]string{"", "generator", "target"}, rows)
}

func (d *document) baseline() {
	b := d.Baseline
	if b == nil {
		return
	}
	d.line("## Beside %s", plain(b.Name))
	d.list(b.Notes)
	d.line("Figures compare only as far as the environments do:")
	var rows [][]string
	for _, e := range b.Environment {
		rows = append(rows, []string{e.Fact, e.Ours, e.Theirs})
	}
	d.table([]string{"", "this run", b.Name}, rows)
	d.line("The ratio is this run's latency by theirs: below 1 this run is faster.")
	rows = nil
	for _, o := range b.Outcomes {
		name := outcomeName(o.Name, o.Key)
		if !o.Counterpart {
			rows = append(rows, []string{name, "", "", "", "no counterpart", ""})
		}
		for _, c := range o.Rows {
			rows = append(rows, []string{
				name, c.Stat, known(gate.Milliseconds, c.Ours), known(gate.Milliseconds, c.OursService),
				known(gate.Milliseconds, c.Theirs), known(gate.Ratio, c.Ratio),
			})
		}
	}
	d.table([]string{"outcome", "statistic", "this run:", "its service:", b.Name + ":", "ratio:"}, rows)
}

// outcomeName is the plan's name with the status it is for.
func outcomeName(name, key string) string {
	if name == key {
		return name
	}
	return name + " (" + key + ")"
}

// line writes a paragraph. What is put into it must be plain.
func (d *document) line(format string, args ...any) { fmt.Fprintf(&d.text, format+"\n\n", args...) }

func (d *document) list(items []string) {
	for _, item := range items {
		d.text.WriteString("- " + plain(item) + "\n")
	}
	if len(items) > 0 {
		d.text.WriteByte('\n')
	}
}

// table writes one; a column whose head ends in a colon is set to the right.
func (d *document) table(head []string, rows [][]string) {
	rule := make([]string, len(head))
	for i, h := range head {
		text, right := strings.CutSuffix(h, ":")
		head[i], rule[i] = text, "---"
		if right {
			rule[i] = "---:"
		}
	}
	d.row(head)
	d.text.WriteString("|" + strings.Join(rule, "|") + "|\n")
	for _, r := range rows {
		d.row(r)
	}
	d.text.WriteByte('\n')
}

func (d *document) row(cells []string) {
	for _, c := range cells {
		d.text.WriteString("| " + plain(c) + " ")
	}
	d.text.WriteString("|\n")
}

// plain is text that Markdown shows as it is, on one line: a plan's names and a
// target's answers must not become markup.
func plain(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case strings.ContainsRune("\\`*_[]<>|&~$#", r):
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsSpace(r) || unicode.IsControl(r):
			b.WriteByte(' ')
		case !unicode.Is(unicode.Cf, r): // marks that turn the direction of text
			b.WriteRune(r)
		}
	}
	return strings.TrimSpace(b.String())
}
