package report

import (
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/resources"
	"gatehouse/internal/machine"
)

// Run is what a run was, and what it came to. A Summary is made of it.
type Run struct {
	ToolVersion string
	Plan        string // its name
	PlanHash    string // SHA-256 of the plan in effect, in hex
	Profile     string // "" for the plan as it is
	Seed        uint64
	Target      string // URL
	Stages      []load.Stage
	Clients     string // who sent, in words: "onboard: 400 loopback addresses"
	Timeout     time.Duration
	Gates       int // of the plan; Checks has more

	Result      *load.Result
	Seconds     Seconds
	Writes      *int // rows that writes.csv is to have; nil: there is none
	Environment Environment
	Resources   resources.Usage
	Checks      []gate.Check
	Verdict     gate.Verdict
	Reasons     []string    // why it is no pass; empty for a pass
	Notes       []string    // what a reader should know and that decides nothing
	Baseline    *Comparison // nil: compared with nothing
}

// Environment is what the figures hold for.
type Environment struct {
	Generator Generator `json:"generator"`
	Target    Target    `json:"target"`
}

// Generator is where the load came from.
type Generator struct {
	machine.Facts
	Go         string `json:"go"`
	GOMAXPROCS int    `json:"gomaxprocs"`
}

// Target is what was measured, as far as it told.
type Target struct {
	// Source says where this is from: "admin listener", "health" or "" when the
	// target told nothing.
	Source string `json:"source"`
	// SameMachine: it shared the generator's processors, by its loopback address.
	SameMachine bool `json:"same_machine"`
	*machine.Facts
	Node       string            `json:"node,omitzero"`
	Version    string            `json:"version,omitzero"`
	Mode       string            `json:"mode,omitzero"`
	Go         string            `json:"go,omitzero"`
	GOMAXPROCS int               `json:"gomaxprocs,omitzero"`
	Nodes      int               `json:"nodes,omitzero"`
	Database   Database          `json:"database,omitzero"`
	Limits     map[string]string `json:"limits,omitzero"`   // policy to "10/60s" or "off"
	Policies   []string          `json:"policies,omitzero"` // RateLimit-Policy fields seen in answers
}

// Database is the target's.
type Database struct {
	Driver   string            `json:"driver,omitzero"`
	Version  string            `json:"version,omitzero"`
	Settings map[string]string `json:"settings,omitzero"` // those that decide durability and speed
}

// Comparison puts a run beside an earlier one.
type Comparison struct {
	Name        string           `json:"name"`
	Notes       []string         `json:"notes"` // what the earlier one lacks: "summary only", "refusals only"
	Environment []EnvironmentRow `json:"environment"`
	Rows        []ComparisonRow  `json:"rows"`
}

// EnvironmentRow is one fact about both runs: it is compared before any figure.
type EnvironmentRow struct {
	Fact   string `json:"fact"`
	Ours   string `json:"ours"`
	Theirs string `json:"theirs"`
}

// ComparisonRow is one statistic of one of our outcomes, in milliseconds. What
// is nil is not known.
type ComparisonRow struct {
	Name        string   `json:"name"` // the outcome's
	Key         string   `json:"key"`
	Stat        string   `json:"stat"` // "p95"; "" where theirs has no counterpart, and then there is no more
	Ours        *float64 `json:"ours"`
	OursService *float64 `json:"ours_service"` // sent to done: the nearest to what most tools call duration
	Theirs      *float64 `json:"theirs"`
	Ratio       *float64 `json:"ratio"` // of ours by theirs
}
