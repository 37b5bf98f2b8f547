package plan

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/nearest"
)

// What a plan that does not say gets.
const (
	defaultTimeout     = 10 * time.Second
	defaultMaxInFlight = 10_000
)

// Options is what a plan depends on beside its file.
type Options struct {
	Profile  string                      // "" runs the plan as it is
	Domain   string                      // for {{domain}}; "" if none was given
	Loopback bool                        // the target is on this machine, so it can be called from many addresses
	Via      load.Via                    // how all that are many clients are told apart; "" leaves it to the plan
	Getenv   func(string) (string, bool) // for {{env NAME}}; os.LookupEnv
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

// The keys of a plan. A profile has all but the first two.
var planKeys = []string{
	"name", "profiles",
	"stages", "requests", "clients", "max_in_flight", "timeout", "outcomes", "gates", "baseline",
}

// Parse reads a plan. The file's name is for messages alone.
//
// The error joins all that is wrong, in the file's order, each on a line that
// begins FILE:LINE:COLUMN. Profiles that were not asked for are checked too,
// but for what depends on the target, the domain and the environment.
func Parse(file string, text []byte, o Options) (*Plan, error) {
	if len(text) > maxBytes {
		return nil, fmt.Errorf("%s: a plan has at most %d bytes, and this has %d", file, maxBytes, len(text))
	}
	s := &source{file: file}
	root := s.parse(text)
	if root == nil {
		return nil, s.err()
	}
	p := s.plan(root, o)
	if err := s.err(); err != nil {
		return nil, err
	}
	p.Hash = fmt.Sprintf("%x", sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q", text, o.Profile, o.Domain, o.Via)))
	return p, nil
}

// plan makes the plan asked for, and all the others to see what is wrong there.
func (s *source) plan(n ast.Node, o Options) *Plan {
	top, ok := s.table(n, "the plan", planKeys...)
	if !ok {
		return nil
	}
	s.need(top, "name")
	name := ""
	if v := top.value["name"]; v != nil {
		name = s.name(v, "name")
	}
	var profiles table
	if v := top.value["profiles"]; v != nil {
		profiles, _ = s.table(v, "profiles")
	}
	if len(profiles.keys) > maxProfiles {
		s.failAt(profiles.at, "profiles: want at most %d of them, found %d", maxProfiles, len(profiles.keys))
		return nil
	}

	var chosen *Plan
	if o.Profile == "" {
		if len(profiles.keys) > 0 && top.value["stages"] == nil {
			s.failAt(top.at, "stages is missing; choose a profile: %s", strings.Join(profiles.keys, ", "))
		} else {
			s.need(top, "stages", "requests")
		}
		chosen = s.variant(top, &o)
	} else {
		s.variant(top, nil)
	}
	for _, k := range profiles.keys {
		if !isName(k) {
			s.failAt(profiles.key[k], "profiles: want a letter, then letters, digits, - and _, found %q", k)
		}
		own, ok := s.table(profiles.value[k], "profile "+k, planKeys[2:]...)
		if !ok {
			continue
		}
		whole := table{at: profiles.key[k], value: maps.Clone(top.value)}
		maps.Copy(whole.value, own.value)
		s.need(whole, "stages", "requests")
		if k == o.Profile {
			chosen = s.variant(whole, &o)
		} else {
			s.variant(whole, nil)
		}
	}
	if _, ok := profiles.value[o.Profile]; !ok && o.Profile != "" {
		at, hint := top.at, nearest.DidYouMean(o.Profile, profiles.keys)
		if len(profiles.keys) > 0 {
			at = profiles.at
			hint += "; there are " + strings.Join(profiles.keys, ", ")
		}
		s.failAt(at, "there is no profile %q%s", short(o.Profile), hint)
	}
	if chosen != nil {
		chosen.Name, chosen.Profile, chosen.Profiles = name, o.Profile, profiles.keys
	}
	return chosen
}

// variant makes a plan of what is in effect in one profile, or without any.
// Without options it is only checked.
func (s *source) variant(t table, o *Options) *Plan {
	p := &Plan{MaxInFlight: defaultMaxInFlight, Timeout: defaultTimeout}
	b := builder{source: s, options: o, clients: &load.Clients{Count: 1, Via: load.ViaNone}}
	if n := t.value["max_in_flight"]; n != nil {
		p.MaxInFlight = s.integer(n, "max_in_flight", 1, load.MaxInFlight)
	}
	if n := t.value["timeout"]; n != nil {
		p.Timeout = s.duration(n, "timeout", load.MaxTimeout)
	}
	if n := t.value["baseline"]; n != nil {
		p.Baseline, _ = s.text(n, "baseline")
	}
	if n := t.value["clients"]; n != nil {
		b.shared = n
		b.clients = b.readClients(n)
	}
	if n := t.value["stages"]; n != nil {
		p.Stages = b.stages(n)
	}
	if n := t.value["requests"]; n != nil {
		p.Requests = b.requests(n)
	}
	if n := t.value["outcomes"]; n != nil {
		p.Outcomes = b.outcomes(n)
	}
	if n := t.value["gates"]; n != nil {
		p.Gates = b.gates(n, p)
	}
	return p
}
