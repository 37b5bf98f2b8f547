package api_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
)

// logs is all that a node logged, from debug on, and the secrets that it gave
// out meanwhile.
type logs struct {
	mu      sync.Mutex
	text    bytes.Buffer
	secrets []string
}

// newLogs makes a log that is searched when the test has ended.
func newLogs(t testing.TB) *logs {
	t.Helper()
	l := new(logs)
	t.Cleanup(func() {
		for _, leak := range leaks(l.lines(), l.secrets) {
			t.Errorf("logged: %s", leak)
		}
	})
	return l
}

// Write takes in one line.
func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.FieldsFunc(l.text.String(), func(r rune) bool { return r == '\n' })
}

// issued notes the secrets of an answer.
func (l *logs) issued(body []byte) {
	for _, found := range secretText.FindAllString(string(body), -1) {
		l.mu.Lock()
		l.secrets = append(l.secrets, found[strings.LastIndexByte(found, '_')+1:])
		l.mu.Unlock()
	}
}

// leaks finds what no log may hold: keys, parts of keys that were given out,
// and e-mail addresses.
func leaks(lines, secrets []string) (found []string) {
	for _, line := range lines {
		if secretText.MatchString(line) {
			found = append(found, "a key: "+line)
		}
		for _, s := range secrets {
			if strings.Contains(line, s) {
				found = append(found, "a secret: "+line)
			}
		}
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			found = append(found, fmt.Sprintf("no record (%v): %s", err, line))
			continue
		}
		delete(record, "request_id") // the client's own words, as the contract has it
		if strings.Contains(fmt.Sprint(record), "@") {
			found = append(found, "an address: "+line)
		}
	}
	return found
}

func TestLeaksAreFound(t *testing.T) {
	const line = `{"level":"INFO","msg":"request failed","err":%q}`
	secret := strings.Repeat("s", 49)
	for _, text := range []string{
		"key gk_live_0123456789ab_" + secret, "key gk_test_0123456789ab_x", "secret " + secret, "insert jane@company.dev", "jane\u0040company.dev",
	} {
		if found := leaks([]string{fmt.Sprintf(line, text)}, []string{secret}); len(found) == 0 {
			t.Errorf("%q is not found", text)
		}
	}
	if found := leaks([]string{"no JSON"}, nil); len(found) == 0 {
		t.Error("a line that is no record is not found")
	}
	if found := leaks([]string{fmt.Sprintf(line, "key gk_live_0123456789ab, prefix alone"), `{"request_id":"jane@company.dev"}`}, []string{secret}); len(found) > 0 {
		t.Errorf("found in a clean log: %q", found)
	}
}
