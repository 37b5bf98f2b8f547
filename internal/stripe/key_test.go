package stripe_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"gatehouse/internal/stripe"
)

// secretPart is put together here, so that no scanner takes it for a real key.
const secretPart = "51Hq" + "ZtVwXyAbCdEfGhJkMnPq9876"

const testKey = "sk_test_" + secretPart

func mustKey(t *testing.T) stripe.Key {
	t.Helper()
	key, err := stripe.ParseKey(testKey)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// shows reports whether text has any eight characters of the key's secret.
func shows(text string) bool {
	for at := 0; at+8 <= len(secretPart); at++ {
		part := secretPart[at : at+8]
		if strings.Contains(text, part) || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", part)) {
			return true
		}
	}
	return false
}

func TestKeyIsOneOfFourKinds(t *testing.T) {
	for _, good := range []string{"sk_test_", "rk_test_", "sk_live_", "rk_live_"} {
		if _, err := stripe.ParseKey(good + secretPart); err != nil {
			t.Errorf("a key %s…: %v", good, err)
		}
	}
	for name, bad := range map[string]string{
		"nothing": "", "no secret": "sk_test_", "publishable": "pk_test_" + secretPart, "a webhook's": "whsec_" + secretPart,
		"capitals": "SK_TEST_" + secretPart, "a space before": " " + testKey, "a line end": testKey + "\n", "a sign": testKey + "-",
		"a header": testKey + "\r\nX: y", "no mode": "sk_" + secretPart, "256 characters": "sk_test_" + strings.Repeat("a", 248),
	} {
		_, err := stripe.ParseKey(bad)
		if err == nil {
			t.Errorf("%s is taken", name)
		} else if shows(err.Error()) {
			t.Errorf("%s: the error repeats it: %v", name, err)
		}
	}
}

func TestKeyDoesNotShowItself(t *testing.T) {
	key := mustKey(t)
	client := stripe.New(key, stripe.DefaultBase)
	values := []any{
		key, &key, []stripe.Key{key}, map[string]stripe.Key{"k": key}, struct{ Key stripe.Key }{key}, struct{ key *stripe.Key }{&key},
		client, *client, []*stripe.Client{client}, struct{ c *stripe.Client }{client}, fmt.Errorf("use %v: %w", key, errors.New("no")),
	}
	var log bytes.Buffer
	text, asJSON := slog.New(slog.NewTextHandler(&log, nil)), slog.New(slog.NewJSONHandler(&log, nil))
	for _, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			if printed := fmt.Sprintf(verb, v); shows(printed) {
				t.Errorf("%s of a %T shows the key: %s", verb, v, printed)
			}
		}
		text.Info("started", "value", v)
		asJSON.Info("started", "value", v)
		if out, err := json.Marshal(v); err == nil && shows(string(out)) {
			t.Errorf("JSON of a %T shows the key: %s", v, out)
		}
	}
	if shows(log.String()) {
		t.Errorf("a log shows the key:\n%s", log.String())
	}
	if !shows(testKey) || !shows(fmt.Sprintf("%X", testKey)) {
		t.Error("this test does not see a key that is shown")
	}
}

func TestBaseIsASchemeAndAHost(t *testing.T) {
	for given, want := range map[string]string{
		"":                                            "https://api.stripe.com",
		"https://api.stripe.com":                      "https://api.stripe.com",
		"https://api.stripe.com/":                     "https://api.stripe.com",
		"https://stripe.test:8443":                    "https://stripe.test:8443",
		"http://127.0.0.1:12111":                      "http://127.0.0.1:12111",
		"http://localhost:12111":                      "http://localhost:12111",
		"http://[::1]:12111":                          "http://[::1]:12111",
		"http://api.stripe.com":                       "!",
		"http://127.0.0.1.nip.test":                   "!",
		"ftp://127.0.0.1":                             "!",
		"api.stripe.com":                              "!",
		"//api.stripe.com":                            "!",
		"https://":                                    "!",
		"https://:443":                                "!",
		"https://api.stripe.com/v1":                   "!",
		"https://api.stripe.com?a=b":                  "!",
		"https://api.stripe.com?":                     "!",
		"https://api.stripe.com#a":                    "!",
		"https://u:" + secretPart + "@api.stripe.com": "!",
		"https://api.stripe.com\n":                    "!",
		"https:api.stripe.com":                        "!",
	} {
		got, err := stripe.ParseBase(given)
		if want == "!" && err == nil || want != "!" && got != want {
			t.Errorf("ParseBase(%q) = %q, %v; want %q", given, got, err, want)
		}
		if err != nil && shows(err.Error()) {
			t.Errorf("the error repeats what was given: %v", err)
		}
	}
}
