package gate

// Verdict is what a gate, or a run, came to.
type Verdict string

// The verdicts of the contract.
const (
	Pass         Verdict = "pass"
	Fail         Verdict = "fail"
	Inconclusive Verdict = "inconclusive"
)

// Unit is what a check's numbers are in.
type Unit string

// The units of checks.
const (
	Milliseconds Unit = "ms"
	Count        Unit = "count"
	PerSecond    Unit = "/s"
	Share        Unit = "share" // 0 to 1
	Ratio        Unit = "ratio"
	Truth        Unit = "truth" // 1 yes, 0 no
)

// Check is one gate, or one other thing asked of a run, looked at.
type Check struct {
	Name       string   `json:"name"`       // for people: "created latency p95"
	Expression string   `json:"expression"` // as in the plan
	Unit       Unit     `json:"unit"`
	Observed   *float64 `json:"observed"` // in Unit; nil if it could not be measured
	Verdict    Verdict  `json:"verdict"`
	Why        string   `json:"why,omitzero"` // why it is inconclusive, or ""
}
