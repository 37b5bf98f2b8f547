package apikey_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"

	"gatehouse/internal/apikey"
)

// shows reports whether a print has a part of a key that nobody can guess, as
// it is or in hexadecimal: any eight characters of its secret in a row.
func shows(secret apikey.Secret, printed string) bool {
	key := secret.Reveal()
	for at := len("gk_live_") + 12; at+8 <= len(key); at++ {
		part := key[at : at+8]
		if strings.Contains(printed, part) || strings.Contains(strings.ToLower(printed), hex.EncodeToString([]byte(part))) {
			return true
		}
	}
	return false
}

func TestSecretDoesNotShowItselfInFormats(t *testing.T) {
	secret, issue, err := apikey.NewIssue(apikey.Live, "default", time.Now(), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		value any
	}{
		{"itself", secret},
		{"a pointer to it", &secret},
		{"a slice", []apikey.Secret{secret}},
		{"a map", map[string]apikey.Secret{"key": secret}},
		{"a field", struct{ Key apikey.Secret }{secret}},
		{"a field with a pointer", struct{ Key *apikey.Secret }{&secret}},
		{"an unexported field", struct{ key apikey.Secret }{secret}},
		{"an unexported field with a slice", struct{ keys []apikey.Secret }{[]apikey.Secret{secret}}},
		{"what is stored of it", issue},
		{"an error about it", fmt.Errorf("add %v: %w", secret, errors.New("full"))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, verb := range []string{"%v", "%+v", "%s", "%q", "%x", "%X", "%d", "%#v"} {
				if printed := fmt.Sprintf(verb, tt.value); shows(secret, printed) {
					t.Errorf("%s shows the key: %s", verb, printed)
				}
			}
		})
	}
	if printed := fmt.Sprint(secret, &secret); shows(secret, printed) || !strings.Contains(printed, "gk_…") {
		t.Errorf("Print shows the key, or says nothing of it: %s", printed)
	}
	if !shows(secret, secret.Reveal()) || !shows(secret, fmt.Sprintf("%x", secret.Reveal())) {
		t.Error("this test does not see a key that is shown")
	}
}

func TestSecretDoesNotShowItselfInLogs(t *testing.T) {
	secret, _ := apikey.Generate(apikey.Live)
	handlers := map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"json": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	}
	for name, handler := range handlers {
		var out bytes.Buffer
		log := slog.New(handler(&out))
		log.Info("issued", "key", secret, "pointer", &secret, "list", []apikey.Secret{secret},
			"inside", struct{ Key apikey.Secret }{secret}, slog.Group("g", "key", secret))
		if shows(secret, out.String()) {
			t.Errorf("a log as %s shows the key: %s", name, out.String())
		}
		if !strings.Contains(out.String(), secret.String()) {
			t.Errorf("a log as %s does not say that there was a key: %s", name, out.String())
		}
	}
}

func TestSecretDoesNotShowItselfInJSON(t *testing.T) {
	secret, _ := apikey.Generate(apikey.Live)
	for name, v := range map[string]any{
		"itself": secret, "a pointer": &secret, "a field": struct{ Key apikey.Secret }{secret}, "a slice": []apikey.Secret{secret},
	} {
		for library, marshal := range map[string]func(any) ([]byte, error){
			"encoding/json": json.Marshal,
			"json v2":       func(v any) ([]byte, error) { return jsonv2.Marshal(v) },
		} {
			out, err := marshal(v)
			if err != nil {
				out = []byte(err.Error()) // a refusal is fine, too
			}
			if shows(secret, string(out)) {
				t.Errorf("%s of %s shows the key: %s", library, name, out)
			}
		}
	}
}

func TestZeroSecretIsEmpty(t *testing.T) {
	var none apikey.Secret
	if none.Reveal() != "" {
		t.Errorf("the zero Secret reveals %q", none.Reveal())
	}
	if got := fmt.Sprint(none); !strings.HasPrefix(got, "gk_") {
		t.Errorf("the zero Secret prints %q", got)
	}
}
