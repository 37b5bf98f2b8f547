package settings

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// EnvPrefix begins every variable of ours.
const EnvPrefix = "GATEHOUSE_"

// Setting is one thing that can be set.
type Setting struct {
	Name    string // as a flag and in the file: "admin-listen"
	Default string
	Help    string // one line; for a flag's usage and the docs
	// Secret keeps the value out of every print and allows it to come from
	// a variable, a file named by the variable with _FILE, or the settings
	// file, but not from a flag.
	Secret bool
	// MayHoldPassword marks a URL: its password is masked in prints, it may
	// come from a _FILE, and a flag that holds one is refused.
	MayHoldPassword bool
	// Read takes the value over, or says what was wanted instead.
	Read func(value string) error
}

// Env is the variable that sets s.
func (s Setting) Env() string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
}

// Value is a setting's value and where it came from.
type Value struct {
	Name   string `json:"name"`
	Value  string `json:"value"`  // masked where it is secret
	Source string `json:"source"` // such as "flag --listen" or "default"
}

// Sources are where values come from, in falling precedence.
type Sources struct {
	Flags   map[string]string // by name, only those that were given
	Environ []string          // as of os.Environ
	File    string            // a YAML file; "": none
	// Later are variables that are known but of a later version: they are
	// passed over, and Load returns those it met.
	Later []string
}

type found struct{ value, source string }

// Load finds the value of each setting, hands it to Read and returns all
// values, in order. Its error is all that was wrong, joined.
func Load(all []Setting, from Sources) (values []Value, later []string, err error) {
	file, err := readFile(all, from.File)
	if err != nil {
		return nil, nil, err
	}
	env, later, err := readEnv(all, from.Environ, from.Later)
	errs := []error{err}
	for _, s := range all {
		v := found{s.Default, "default"}
		if f, ok := file[s.Name]; ok {
			v = f
		}
		if f, ok := env[s.Name]; ok {
			v = f
		}
		if f, ok := from.Flags[s.Name]; ok {
			v = found{f, "flag --" + s.Name}
			if s.MayHoldPassword && hasPassword(f) {
				errs = append(errs, fmt.Errorf("flag --%s holds a password, which other users of the machine can read: use the variable %s or %s_FILE", s.Name, s.Env(), s.Env()))
			}
		}
		if err := s.Read(v.value); err != nil {
			errs = append(errs, fmt.Errorf("%s (%s): %w", s.Name, v.source, err))
		}
		values = append(values, Value{s.Name, s.mask(v.value), v.source})
	}
	return values, later, errors.Join(errs...)
}

// serviceLink matches the variables that Kubernetes sets for a Service named
// "gatehouse"; they are not ours and not mistakes.
var serviceLink = regexp.MustCompile(`^GATEHOUSE(_[A-Z0-9_]+)?_(SERVICE_(HOST|PORT.*)|PORT(_[0-9]+_.*)?)$`)

func readEnv(all []Setting, environ, known []string) (map[string]found, []string, error) {
	byEnv := make(map[string]Setting, len(all))
	names := make([]string, 0, len(all))
	for _, s := range all {
		byEnv[s.Env()] = s
		names = append(names, s.Env())
	}
	values := make(map[string]found)
	var later []string
	var errs []error
	for _, line := range environ {
		name, value, _ := strings.Cut(line, "=")
		if !strings.HasPrefix(name, EnvPrefix) {
			continue
		}
		s, ok := byEnv[name]
		fromFile := false
		if !ok {
			s, fromFile = byEnv[strings.TrimSuffix(name, "_FILE")]
			fromFile = fromFile && (s.Secret || s.MayHoldPassword)
		}
		switch {
		case ok && value == "": // as if it were not set
			continue
		case fromFile:
			text, err := os.ReadFile(value)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
				continue
			}
			value = strings.TrimRight(string(text), "\r\n")
		case ok:
		case slices.Contains(known, strings.TrimSuffix(name, "_FILE")):
			later = append(later, name)
			continue
		case serviceLink.MatchString(name):
			continue
		default:
			errs = append(errs, fmt.Errorf("unknown variable %s%s", name, DidYouMean(name, names)))
			continue
		}
		if _, twice := values[s.Name]; twice {
			errs = append(errs, fmt.Errorf("%s and %s_FILE are both set: keep one", s.Env(), s.Env()))
			continue
		}
		values[s.Name] = found{value, "variable " + name}
	}
	return values, later, errors.Join(errs...)
}

// hasPassword says whether a URL has a password, or might: for a flag, one
// too many is better refused.
func hasPassword(rawURL string) bool {
	before, after := splitPassword(rawURL)
	return before != after
}

// splitPassword returns rawURL as it is and with its password masked, in the
// userinfo and in a query's password parameter. It works on text that is no
// valid URL, too.
func splitPassword(rawURL string) (as, masked string) {
	masked = rawURL
	if scheme, rest, ok := strings.Cut(rawURL, "://"); ok {
		authority, path := rest, ""
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			// A password may hold a slash that should have been escaped.
			if at := strings.LastIndexByte(rest, '@'); at > i {
				i = at + 1 + max(0, strings.IndexAny(rest[at+1:]+"/", "/?#"))
			}
			authority, path = rest[:i], rest[i:]
		}
		if at := strings.LastIndexByte(authority, '@'); at >= 0 {
			if user, _, ok := strings.Cut(authority[:at], ":"); ok {
				masked = scheme + "://" + user + ":xxxxx" + authority[at:] + path
			}
		}
	}
	return rawURL, passwordParameter.ReplaceAllString(masked, "${1}xxxxx")
}

var passwordParameter = regexp.MustCompile(`(?i)([?&\s][a-z_]*password=)[^&\s]*`)

func (s Setting) mask(value string) string {
	if value == "" {
		return ""
	}
	if s.Secret {
		return "xxxxx"
	}
	if s.MayHoldPassword {
		_, value = splitPassword(value)
	}
	return value
}
