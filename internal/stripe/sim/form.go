package sim

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// form is what a call sends. It keeps the first thing that is wrong with it,
// so that a handler reads all and asks once.
type form struct {
	values url.Values
	read   map[string]bool
	wrong  *Failure
}

func newForm(values url.Values) *form { return &form{values: values, read: make(map[string]bool)} }

func missing(param, id string) *Failure {
	return invalid(param, "resource_missing", "No such object: '"+id+"'")
}

// refuse notes what is wrong.
func (f *form) refuse(wrong *Failure) {
	if f.wrong == nil {
		f.wrong = wrong
	}
}

// done is asked when all is read: what was not read is unknown.
func (f *form) done() *Failure {
	for _, name := range slices.Sorted(maps.Keys(f.values)) {
		if !f.read[name] {
			f.refuse(invalid(name, "parameter_unknown", "Received unknown parameter: "+name+" (or one that this stand-in does not know)"))
		}
	}
	return f.wrong
}

func (f *form) has(name string) bool { return f.values.Has(name) }

func (f *form) text(name string) string {
	f.read[name] = true
	return f.values.Get(name)
}

// need is a text that may not be left out.
func (f *form) need(name string) string {
	text := f.text(name)
	if text == "" {
		f.refuse(invalid(name, "parameter_missing", "Missing required param: "+name+"."))
	}
	return text
}

// ignore takes parameters that change nothing here.
func (f *form) ignore(names ...string) {
	for _, name := range names {
		f.read[name] = true
	}
}

// number is a whole number that is not negative.
func (f *form) number(name string, otherwise int64) int64 {
	text := f.text(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		f.refuse(invalid(name, "parameter_invalid_integer", "Invalid integer: "+text))
	}
	return n
}

func (f *form) flag(name string, otherwise bool) bool {
	switch text := f.text(name); text {
	case "":
		return otherwise
	case "true", "false":
		return text == "true"
	default:
		f.refuse(invalid(name, "", "Invalid boolean: "+text))
		return false
	}
}

// duration is one as Go writes it, such as 1.5s.
func (f *form) duration(name string, otherwise time.Duration) time.Duration {
	text := f.text(name)
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		f.refuse(invalid(name, "", "Invalid duration "+text+": want one such as 500ms"))
	}
	return d
}

// all are the texts of a list: name[]=a or name[0]=a.
func (f *form) all(name string) []string {
	f.read[name+"[]"] = true
	texts := slices.Clone(f.values[name+"[]"])
	for i := 0; f.has(fmt.Sprintf("%s[%d]", name, i)); i++ {
		texts = append(texts, f.text(fmt.Sprintf("%s[%d]", name, i)))
	}
	return texts
}

// metadata is old with what is sent: a key without a value is taken out, and
// metadata itself without one takes out all.
func (f *form) metadata(old map[string]string) map[string]string {
	merged := maps.Clone(old)
	if merged == nil || f.has("metadata") && f.text("metadata") == "" {
		merged = make(map[string]string)
	}
	for field := range f.values {
		name, inside := strings.CutPrefix(field, "metadata[")
		name, closed := strings.CutSuffix(name, "]")
		if !inside || !closed {
			continue
		}
		if merged[name] = f.text(field); merged[name] == "" {
			delete(merged, name)
		}
	}
	return merged
}
