package settings

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"

	"gatehouse/internal/nearest"
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
}

type found struct{ value, source string }

// Load finds the value of each setting, hands it to Read and returns all
// values, in order. Its error is all that was wrong, joined.
func Load(all []Setting, from Sources) (values []Value, err error) {
	file, fileErr := readFile(all, from.File)
	env, envErr := readEnv(all, from.Environ)
	errs := []error{fileErr, envErr}
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
			switch {
			case s.Secret:
				errs = append(errs, fmt.Errorf("--%s is a secret, which other users of the machine could read: use the variable %s or %s_FILE", s.Name, s.Env(), s.Env()))
			case s.MayHoldPassword && holdsPassword(f):
				errs = append(errs, fmt.Errorf("flag --%s holds a password, which other users of the machine can read: use the variable %s or %s_FILE", s.Name, s.Env(), s.Env()))
			}
		}
		if err := s.Read(v.value); err != nil {
			errs = append(errs, fmt.Errorf("%s (%s): %w", s.Name, v.source, err))
		}
		values = append(values, Value{s.Name, s.mask(v.value), v.source})
	}
	return values, errors.Join(errs...)
}

// serviceLink matches the variables that Kubernetes sets for a Service whose
// name begins with "gatehouse"; they are not ours and not mistakes. The one
// that could be one, GATEHOUSE_PORT, holds a URL.
var serviceLink = regexp.MustCompile(`^GATEHOUSE(_[A-Z0-9_]+)?_(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)=|PORT(_[0-9]+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://|PORT_[0-9]+_(TCP|UDP|SCTP)_(PROTO|PORT|ADDR)=)`)

func readEnv(all []Setting, environ []string) (map[string]found, error) {
	byEnv := make(map[string]Setting, len(all))
	names := make([]string, 0, len(all))
	for _, s := range all {
		byEnv[s.Env()] = s
		names = append(names, s.Env())
	}
	values := make(map[string]found)
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
		case value == "" && (ok || fromFile): // as if it were not set
			continue
		case fromFile:
			text, err := os.ReadFile(value)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
				continue
			}
			value = strings.TrimRight(string(text), "\r\n")
		case ok:
		case serviceLink.MatchString(line):
			continue
		default:
			errs = append(errs, fmt.Errorf("unknown variable %s%s", name, nearest.DidYouMean(name, names)))
			continue
		}
		if _, twice := values[s.Name]; twice {
			errs = append(errs, fmt.Errorf("%s and %s_FILE are both set: keep one", s.Env(), s.Env()))
			continue
		}
		values[s.Name] = found{value, "variable " + name}
	}
	return values, errors.Join(errs...)
}

func holdsPassword(raw string) bool {
	_, holds := redact(raw)
	return holds
}

// redact returns a URL with its passwords masked, and whether it holds any.
// What is no URL of a clear form is masked whole as soon as there might be one
// in it: too much masked is a nuisance, too little is a leak.
func redact(raw string) (masked string, holds bool) {
	if strings.HasPrefix(raw, "sqlite:") { // a file
		return raw, false
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" || u.Host == "" || strings.Contains(u.Path+u.RawQuery+u.Fragment, "@") {
		holds = strings.Contains(raw, "@") || strings.Contains(strings.ToLower(raw), "password")
		if holds {
			return "xxxxx", true
		}
		return raw, false
	}
	_, holds = u.User.Password()
	query, err := url.ParseQuery(u.RawQuery)
	for name := range query {
		if strings.Contains(strings.ToLower(name), "password") {
			holds = true
			query.Set(name, "xxxxx")
		}
	}
	switch {
	case err != nil:
		return "xxxxx", true
	case !holds:
		return raw, false
	}
	u.RawQuery = query.Encode()
	return u.Redacted(), true
}

func (s Setting) mask(value string) string {
	if value == "" {
		return ""
	}
	if s.Secret {
		return "xxxxx"
	}
	if s.MayHoldPassword {
		value, _ = redact(value)
	}
	return value
}
