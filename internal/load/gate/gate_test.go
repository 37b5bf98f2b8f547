package gate_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/load/gate"
)

func TestParse(t *testing.T) {
	tests := []struct {
		expression string
		want       gate.Gate
	}{
		{"created.latency.p95 < 100ms", gate.Gate{Subject: "created", Measure: gate.Latency, Stat: "p95", Quantile: 0.95, Op: "<", Value: 100}},
		{"onboard/created.service.p99.9<=1.5s", gate.Gate{Request: "onboard", Subject: "created", Measure: gate.Service, Stat: "p99.9", Quantile: 0.999, Op: "<=", Value: 1500}},
		{"all.latency.p99_9 < 1s", gate.Gate{Subject: "all", Measure: gate.Latency, Stat: "p99.9", Quantile: 0.999, Op: "<", Value: 1000}},
		{"all.latency.p0.5 > 0s", gate.Gate{Subject: "all", Measure: gate.Latency, Stat: "p0.5", Quantile: 0.005, Op: ">"}},
		{"a-b_1.latency.max == .5ms", gate.Gate{Subject: "a-b_1", Measure: gate.Latency, Stat: "max", Op: "==", Value: 0.5}},
		{"  limited.count   >  0 ", gate.Gate{Expression: "limited.count > 0", Subject: "limited", Measure: gate.Counted, Op: ">"}},
		{"success.rate >= 49.5", gate.Gate{Subject: "success", Measure: gate.Rate, Op: ">=", Value: 49.5}},
		{"failure.share < 10%", gate.Gate{Subject: "failure", Measure: gate.ShareOfAll, Op: "<", Value: 0.1}},
		{"o/failure.share_excl_expected < 0.10", gate.Gate{Request: "o", Subject: "failure", Measure: gate.ShareExclExpected, Op: "<", Value: 0.1}},
		{"all.share == 100%", gate.Gate{Subject: "all", Measure: gate.ShareOfAll, Op: "==", Value: 1}},
	}
	for _, tt := range tests {
		t.Run(tt.expression, func(t *testing.T) {
			if tt.want.Expression == "" {
				tt.want.Expression = tt.expression
			}
			got, err := gate.Parse(tt.expression)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	tests := []struct{ expression, want string }{
		{"", "want SUBJECT.MEASURE[.STAT] OP VALUE"},
		{"created.latency.p95", "it has none of < <= > >= =="},
		{"created.latency.p95 = 1ms", `"=" does not compare`},
		{"created.latency.p95 != 1ms", `"!=" does not compare`},
		{"created.latency.p95 => 1ms", `"=>" does not compare`},
		{"created < 1", `"created" lacks a measure`},
		{".count < 1", `"" is no subject`},
		{"1st.count < 1", `"1st" is no subject`},
		{"cre ated.count < 1", `"cre ated" is no subject`},
		{"429.count < 1", `"429" is no subject`},
		{"/created.count < 1", `"" is no request's name`},
		{"a/b/c.count < 1", `"b/c" is no subject`},
		{"created.latncy.p95 < 1ms", `did you mean "latency"?`},
		{"created.shares < 1", `did you mean "share"?`},
		{"created.Count < 1", `did you mean "count"?`},
		{"created.latency < 1ms", "latency needs a statistic, as in created.latency.p95"},
		{"created.count.p95 < 1", `count is one number: leave out ".p95"`},
		{"created.latency.p0 < 1ms", `"p0" is no statistic`},
		{"created.latency.p100 < 1ms", `"p100" is no statistic`},
		{"created.latency.p0.0 < 1ms", `"p0.0" is no statistic`},
		{"created.latency.p095 < 1ms", `"p095" is no statistic`},
		{"created.latency.p9x < 1ms", `"p9x" is no statistic`},
		{"created.latency.mean < 1ms", "want avg, min, max or a percentile"},
		{"created.latency.p99.9.9 < 1ms", "is no statistic"},
		{"created.latency.mix < 1ms", `did you mean "min"?`},
		{"created.latency.p95 < 100", "is no duration of zero or more"},
		{"created.latency.p95 < ", `"" is no duration`},
		{"created.latency.p95 < -1ms", "is no duration of zero or more"},
		{"created.latency.p95 < +1ms", "is no duration of zero or more"},
		{"created.latency.p95 < 1e9h", "is no duration"},
		{"created.latency.p95 < 9999999999h", "is no duration"},
		{"created.latency.p95 < 1h", `"1h" is out of reach: times are told up to an hour`},
		{"created.latency.max > 90m", "is out of reach"},
		{"created.latency.p95 < NaN", "is no duration"},
		{"created.latency.p95 < 1ms < 2ms", "is no duration"},
		{"created.count < NaN", "is no number of zero or more"},
		{"created.count < Inf", "is no number of zero or more"},
		{"created.count < -1", "is no number of zero or more"},
		{"created.count < 1e400", "is no number of zero or more"},
		{"created.count < 0x10", "is no number of zero or more"},
		{"created.count < ", `"" is no number`},
		{"created.count < 10%", "count is no percentage"},
		{"created.rate > 10 /s", "is no number"},
		{"created.share < 10", "is beyond the whole"},
		{"created.share < 101%", "is beyond the whole"},
		{"created.share < %", "is no number"},
		{"expected.share_excl_expected < 1", "is always nothing: want expected.share"},
		{"created.count < 1" + strings.Repeat("0", 400), "longer than 300 characters"},
	}
	for _, tt := range tests {
		t.Run(tt.expression, func(t *testing.T) {
			g, err := gate.Parse(tt.expression)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("Parse = %+v, %v; want an error with %q", g, err, tt.want)
			}
			if !strings.HasPrefix(err.Error(), `gate "`) || strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("the error %q does not begin with the gate, or has more than a line", err)
			}
		})
	}
}

func TestKnown(t *testing.T) {
	tests := []struct{ expression, want string }{
		{"created.count > 0", ""},
		{"onboard/limited.count > 0", ""},
		{"onboard/success.count > 0", ""},
		{"all.count > 0", ""},
		{"craeted.count > 0", `no outcome is named "craeted": want one of created, limited, success, expected, failure, all; did you mean "created"?`},
		{"failures.count > 0", `did you mean "failure"?`},
		{"onbord/created.count > 0", `no request is named "onbord"; did you mean "onboard"?`},
	}
	for _, tt := range tests {
		t.Run(tt.expression, func(t *testing.T) {
			g, err := gate.Parse(tt.expression)
			if err != nil {
				t.Fatal(err)
			}
			err = g.Known([]string{"onboard"}, []string{"created", "limited"})
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Known = %v, want %q", err, tt.want)
			}
		})
	}
}

// FuzzParse: what is a gate is one again when read from its expression, and
// its number can be compared with.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"created.latency.p95 < 100ms", "a/b.service.p99_9 >= 59m", "x.share<5%", "x.count==1e9", "x.rate > 0.1",
		"\x00.count > 1", "x.latency.p00.1 < 1ns", "é.count < 1", "x.count < ∞", "x.latency.max < 1µs",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		g, err := gate.Parse(expression)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("the error %q has more than a line", err)
			}
			return
		}
		if !(g.Value >= 0 && g.Value < 1e300) || g.Quantile < 0 || g.Quantile >= 1 {
			t.Errorf("%q has the value %v and the quantile %v", expression, g.Value, g.Quantile)
		}
		again, err := gate.Parse(g.Expression)
		if err != nil || again != g {
			t.Errorf("%q read again is %+v, %v; was %+v", g.Expression, again, err, g)
		}
	})
}

func TestUnitText(t *testing.T) {
	tests := []struct {
		unit gate.Unit
		v    float64
		want string
	}{
		{gate.Milliseconds, 6.42, "6.42 ms"},
		{gate.Milliseconds, 0, "0.00 ms"},
		{gate.Milliseconds, 0.004, "0.004 ms"},
		{gate.Milliseconds, 12345.6, "12,346 ms"},
		{gate.Count, 0, "0"},
		{gate.Count, 999, "999"},
		{gate.Count, 190620, "190,620"},
		{gate.Count, 1234567.5, "1,234,567.5"},
		{gate.Count, -1234, "-1,234"},
		{gate.PerSecond, 353.77, "353.77/s"},
		{gate.Share, 0.9995, "99.95 %"},
		{gate.Share, 0.1, "10 %"},
		{gate.Share, 0, "0 %"},
		{gate.Share, 1, "100 %"},
		{gate.Share, 0.000001, "< 0.01 %"},
		{gate.Share, 0.999999, "> 99.99 %"},
		{gate.Ratio, 0.312, "0.31×"},
		{gate.Ratio, 0.00309, "0.003×"},
		{gate.Truth, 1, "yes"},
		{gate.Truth, 0, "no"},
	}
	for _, tt := range tests {
		if got := tt.unit.Text(tt.v); got != tt.want {
			t.Errorf("%v %s = %q, want %q", tt.v, tt.unit, got, tt.want)
		}
	}
}
