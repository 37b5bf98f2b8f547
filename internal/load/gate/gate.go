package gate

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse/internal/nearest"
)

// maxExpression is the longest gate, in bytes: two names and a number fit many
// times over.
const maxExpression = 300

// Gate is one condition that a plan sets: SUBJECT.MEASURE[.STAT] OP VALUE.
type Gate struct {
	Expression string // as written
	Request    string // before the slash; "" for all requests
	Subject    string // an outcome's name, or one of the kinds, or "all"
	Measure    Measure
	Stat       string  // of latency and service: "avg", "min", "max", or a percentile, "p99.9"
	Quantile   float64 // of a percentile, between 0 and 1; otherwise 0
	Op         string
	Value      float64 // in the measure's unit
}

// Measure is what a gate looks at.
type Measure string

// The measures of the contract.
const (
	Latency           Measure = "latency" // due to done
	Service           Measure = "service" // sent to done
	Counted           Measure = "count"
	Rate              Measure = "rate"                // a second, over the planned duration
	ShareOfAll        Measure = "share"               // of all answered, errored and unsent
	ShareExclExpected Measure = "share_excl_expected" // the same without the expected ones
)

var (
	subjects = []string{"success", "expected", "failure", "all"}
	measures = []string{string(Latency), string(Service), string(Counted), string(Rate), string(ShareOfAll), string(ShareExclExpected)}
	stats    = []string{"avg", "min", "max", "p50", "p90", "p95", "p99", "p99.9"}
	ops      = map[string]func(a, b float64) bool{
		"<":  func(a, b float64) bool { return a < b },
		"<=": func(a, b float64) bool { return a <= b },
		">":  func(a, b float64) bool { return a > b },
		">=": func(a, b float64) bool { return a >= b },
		"==": func(a, b float64) bool { return a == b },
	}

	name       = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)
	percentile = regexp.MustCompile(`^p(0|[1-9][0-9]?)([._][0-9]{1,4})?$`)
	decimal    = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
)

// Parse reads a gate. Whether its names exist is for Known.
//
// An error says which part is wrong, what was wanted and the nearest valid
// word; it has the expression in it, and no position.
func Parse(expression string) (Gate, error) {
	g, err := parse(expression)
	if err != nil {
		return Gate{}, fmt.Errorf("gate %.80q: %w", expression, err)
	}
	return g, nil
}

func parse(expression string) (g Gate, err error) {
	if len(expression) > maxExpression {
		return g, fmt.Errorf("it is longer than %d characters", maxExpression)
	}
	g.Expression = strings.Join(strings.Fields(expression), " ")
	at := strings.IndexAny(expression, "<>=!")
	if at < 0 {
		return g, errors.New("want SUBJECT.MEASURE[.STAT] OP VALUE, as in created.latency.p95 < 100ms; it has none of < <= > >= ==")
	}
	left, right := expression[:at], expression[at:]
	value := strings.TrimLeft(right, "<>=!")
	g.Op = right[:len(right)-len(value)]
	if ops[g.Op] == nil {
		return g, fmt.Errorf("%q does not compare: want one of < <= > >= ==", g.Op)
	}
	subject, measure, found := strings.Cut(strings.TrimSpace(left), ".")
	if !found {
		return g, fmt.Errorf("%q lacks a measure: want SUBJECT.MEASURE[.STAT], as in created.latency.p95", subject)
	}
	g.Subject = subject
	if strings.Contains(subject, "/") {
		if g.Request, g.Subject, _ = strings.Cut(subject, "/"); !name.MatchString(g.Request) {
			return g, fmt.Errorf("%q is no request's name: want letters, digits, _ and -, a letter first", g.Request)
		}
	}
	if !name.MatchString(g.Subject) {
		return g, fmt.Errorf("%q is no subject: want an outcome's name, success, expected, failure or all, or REQUEST/ and one of these", g.Subject)
	}
	measure, g.Stat, found = strings.Cut(measure, ".")
	g.Measure = Measure(measure)
	switch {
	case !slices.Contains(measures, measure):
		return g, fmt.Errorf("%q is no measure: want one of %s%s", measure, strings.Join(measures, ", "), nearest.DidYouMean(measure, measures))
	case found && !g.timed():
		return g, fmt.Errorf("%s is one number: leave out %q", measure, "."+g.Stat)
	case !found && g.timed():
		return g, fmt.Errorf("%s needs a statistic, as in %s.%s.p95", measure, subject, measure)
	case g.Measure == ShareExclExpected && g.Subject == "expected":
		return g, errors.New("expected.share_excl_expected is always nothing: want expected.share")
	}
	if err := g.parseStat(); err != nil {
		return g, err
	}
	return g, g.parseValue(strings.TrimSpace(value))
}

func (g *Gate) parseStat() (err error) {
	if !g.timed() || slices.Contains(stats[:3], g.Stat) {
		return nil
	}
	if percentile.MatchString(g.Stat) {
		g.Stat = strings.Replace(g.Stat, "_", ".", 1)
		g.Quantile, err = strconv.ParseFloat(g.Stat[1:]+"e-2", 64) // p99.9 is 0.999 to the last bit
	}
	if err != nil || g.Quantile <= 0 || g.Quantile >= 1 {
		return fmt.Errorf("%q is no statistic: want avg, min, max or a percentile above p0 and below p100, as in p95 or p99.9%s",
			g.Stat, nearest.DidYouMean(g.Stat, stats))
	}
	return nil
}

func (g *Gate) parseValue(value string) error {
	if g.timed() {
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 || value[0] == '+' {
			return fmt.Errorf("%.80q is no duration of zero or more: want one with its unit, as in 100ms or 1.5s", value)
		}
		if d >= time.Hour { // where load's distributions end: what took longer is as good as an hour
			return fmt.Errorf("%.80q is out of reach: times are told up to an hour", value)
		}
		g.Value = milliseconds(d)
		return nil
	}
	digits, percent := strings.CutSuffix(value, "%")
	v, err := strconv.ParseFloat(digits, 64)
	if err != nil || !decimal.MatchString(digits) {
		return fmt.Errorf("%.80q is no number of zero or more: want plain digits, as in 100 or 0.10", value)
	}
	share := g.unit() == Share
	if percent && !share {
		return fmt.Errorf("%s is no percentage: want a plain number, not %.80q", g.Measure, value)
	}
	if percent {
		v /= 100
	}
	if share && v > 1 {
		return fmt.Errorf("%.80q is beyond the whole: want 0 to 1, or a percentage such as 10%%", value)
	}
	g.Value = v
	return nil
}

// timed says whether what is measured is a time, and so has a statistic.
func (g Gate) timed() bool { return g.Measure == Latency || g.Measure == Service }

// Known says which name of the gate is none of the plan's requests or outcomes,
// and the nearest that is.
func (g Gate) Known(requests, outcomes []string) error {
	if g.Request != "" && !slices.Contains(requests, g.Request) {
		return fmt.Errorf("gate %.80q: no request is named %q%s", g.Expression, g.Request, nearest.DidYouMean(g.Request, requests))
	}
	known := slices.Concat(outcomes, subjects)
	if !slices.Contains(known, g.Subject) {
		return fmt.Errorf("gate %.80q: no outcome is named %q: want one of %s%s",
			g.Expression, g.Subject, strings.Join(known, ", "), nearest.DidYouMean(g.Subject, known))
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
