package plan

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/nearest"
)

// Options is what a plan depends on beside its file.
type Options struct {
	Profile  string                      // "" runs the plan as it is
	Domain   string                      // for {{domain}}; "" if none was given
	Loopback bool                        // the target is on this machine, so it can be called from many addresses
	Via      load.Via                    // how all that are many clients are told apart; "" leaves it to the plan
	Getenv   func(string) (string, bool) // for {{env NAME}}; os.LookupEnv
	Given    []string                    // names of places that the run's script fills, by their numbers
}

// Plan is a plan in effect: the file's keys, those of the profile instead of
// them, and defaults.
type Plan struct {
	Name        string
	Profile     string   // as asked for
	Profiles    []string // all there are, in the file's order
	Stages      []load.Stage
	Requests    []load.Request // those without clients of their own share the plan's
	Outcomes    []load.Outcome
	Gates       []gate.Gate
	MaxInFlight int
	Timeout     time.Duration
	Baseline    string // the name of an earlier run to compare with, or ""
	// Hash is the SHA-256, in hex, of the file and the options but one. Two
	// runs with one hash ran the same plan, except for what {{env NAME}} stood
	// for: that may be secret, and a short secret can be guessed from its hash.
	Hash string
}

// Peak is the highest rate of its stages.
func (p *Plan) Peak() (peak float64) {
	for _, s := range p.Stages {
		peak = max(peak, s.Rate)
	}
	return peak
}

const profileKeys = "stages requests clients max_in_flight timeout outcomes gates baseline"

// Parse reads a plan. The file's name is for messages alone.
//
// The error joins all that is wrong, in the file's order, each on a line that
// begins FILE:LINE:COLUMN. Profiles that were not asked for are checked too,
// but for what depends on the target, the domain and the environment.
func Parse(file string, text []byte, o Options) (*Plan, error) {
	if len(text) > maxBytes {
		return nil, fmt.Errorf("%s: a plan has at most %d bytes, and this has %d", file, maxBytes, len(text))
	}
	s := &source{file: file, anchors: make(map[string]ast.Node)}
	var p *Plan
	if root := s.parse(text); root != nil {
		p = s.plan(root, o)
	}
	if err := s.err(); err != nil {
		return nil, err
	}
	p.Hash = fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q", text, o.Profile, o.Domain, o.Via)))
	return p, nil
}

// plan makes the plan asked for, and all the others to see what is wrong there.
func (s *source) plan(n ast.Node, o Options) *Plan {
	top := s.table(n, "the plan", "name", "profiles "+profileKeys)
	if top.value == nil {
		return nil
	}
	profiles := s.named(top, "profiles", maxProfiles)
	switch {
	case o.Profile != "" && !slices.Contains(profiles.keys, o.Profile):
		s.failAt(cmp.Or(profiles.at, top.at), "there is no profile %q%s; there are %s",
			short(o.Profile), nearest.DidYouMean(o.Profile, profiles.keys), cmp.Or(strings.Join(profiles.keys, ", "), "none"))
	case o.Profile == "" && len(profiles.keys) > 0 && top.value["stages"] == nil:
		s.failAt(top.at, "stages is missing; choose a profile: %s", strings.Join(profiles.keys, ", "))
	case o.Profile == "":
		s.need(top, "stages", "requests")
	}

	name := s.name(top, "name")
	chosen := s.variant(top, o, o.Profile == "")
	for _, k := range profiles.keys {
		own := s.table(profiles.value[k], "profile "+k, "", profileKeys)
		both := table{at: profiles.key[k], value: maps.Clone(top.value)}
		maps.Copy(both.value, own.value)
		s.need(both, "stages", "requests")
		if p := s.variant(both, o, k == o.Profile); k == o.Profile {
			chosen = p
		}
	}
	chosen.Name, chosen.Profile, chosen.Profiles = name, o.Profile, profiles.keys
	return chosen
}

// variant makes a plan of what is in effect in one profile, or without any.
// One that is not to be run is only checked.
func (s *source) variant(t table, o Options, run bool) *Plan {
	b := builder{source: s, options: o, run: run, shared: &load.Clients{Count: 1, Via: load.ViaNone}}
	b.shared = b.readClients(t)
	p := &Plan{
		MaxInFlight: cmp.Or(s.integer(t, "max_in_flight", 1, load.MaxInFlight), 10_000),
		Timeout:     cmp.Or(s.duration(t, "timeout", load.MaxTimeout), 10*time.Second),
		Stages:      b.readStages(t),
		Requests:    b.readRequests(t),
		Outcomes:    b.readOutcomes(t),
	}
	p.Baseline, _ = s.text(t.value["baseline"], "baseline")
	p.Gates = b.readGates(t)
	return p
}
