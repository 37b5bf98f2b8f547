package api_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestInvalidJSON(t *testing.T) {
	s := newServer(t, unlimited)
	tests := map[string]string{
		"cut":                         `{"name": "Ada"`,
		"cut in a string":             `{"name": "Ad`,
		"one brace":                   `{`,
		"spaces":                      "  \n",
		"word":                        `nul`,
		"text after it":               `{} x`,
		"brace after it":              `{}}`,
		"two documents":               `{}{}`,
		"comma at the end":            `{"name": "Ada",}`,
		"comment":                     `{} // done`,
		"single quotes":               `{'name': 'Ada'}`,
		"bare key":                    `{name: "Ada"}`,
		"not a number":                `{"x": NaN}`,
		"number with a zero in front": `{"x": 01}`,
		"key twice":                   `{"name": "Ada", "name": "Ada"}`,
		"unknown key twice":           `{"x": 1, "x": 1}`,
		"key twice, once escaped":     `{"name": "Ada", "n\u0061me": "Ada"}`,
		"key twice, nested":           `{"x": {"y": 1, "y": 1}}`,
		"key twice, in an array":      `{"x": [{}, {"y": 1, "y": 1}]}`,
		"key twice, empty":            `{"": 1, "": 1}`,
		"byte that is no UTF-8":       "{\"name\": \"\xff\"}",
		"byte that is no UTF-8, key":  "{\"\xff\": 1}",
		"cut UTF-8":                   "{\"name\": \"\xe6\xbc\"}",
		"overlong UTF-8":              "{\"name\": \"\xc0\xaf\"}",
		"surrogate as UTF-8":          "{\"name\": \"\xed\xa0\x80\"}",
		"beyond Unicode":              "{\"name\": \"\xf4\x90\x80\x80\"}",
		"lone high surrogate":         `{"name": "\ud83d"}`,
		"lone low surrogate":          `{"name": "\ude00"}`,
		"surrogates in wrong order":   `{"name": "\ude00\ud83d"}`,
		"lone surrogate in a key":     `{"\ud83d": 1}`,
		"lone surrogate, unknown key": `{"x": ["\ud83d"]}`,
		"byte order mark":             "\xef\xbb\xbf{}",
		"UTF-16":                      "{\x00}\x00",
		"raw NUL":                     "{\"name\": \"\x00\"}",
		"NUL after it":                "{}\x00",
		"raw newline in a string":     "{\"name\": \"a\nb\"}",
		"unknown escape":              `{"name": "\x41"}`,
		"60,000 deep and cut":         strings.Repeat("[", 60_000),
		"30,000 deep":                 `{"x":` + strings.Repeat("[", 30_000) + strings.Repeat("]", 30_000) + "}",
		"10,000 objects deep":         strings.Repeat(`{"x":`, 10_001) + "1" + strings.Repeat("}", 10_001),
	}
	for endpoint, post := range posts(t, s) {
		for name, text := range tests {
			t.Run(endpoint+"/"+name, func(t *testing.T) {
				s.send(t, "POST", post.path, post.auth, document(text)).refused(t, http.StatusBadRequest, "INVALID_JSON")
			})
		}
	}
}

// 100,000 deep is more than the body may be long; it must not cost a stack.
func TestDeepestJSON(t *testing.T) {
	s := newServer(t, unlimited)
	for endpoint, post := range posts(t, s) {
		t.Run(endpoint, func(t *testing.T) {
			s.send(t, "POST", post.path, post.auth, document(strings.Repeat("[", 100_000))).refused(t, http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
		})
	}
}

func TestBodyMustBeAnObject(t *testing.T) {
	s := newServer(t, unlimited)
	for endpoint, post := range posts(t, s) {
		for _, text := range []string{`[]`, `[{"name": "Ada"}]`, `null`, `"text"`, `5`, `-1.5e3`, `true`, ` false `} {
			t.Run(endpoint+"/"+text, func(t *testing.T) {
				s.send(t, "POST", post.path, post.auth, document(text)).refused(t, http.StatusUnprocessableEntity, "VALIDATION_FAILED")
			})
		}
	}
}

func TestWrongTypes(t *testing.T) {
	s := newServer(t, unlimited)
	endpoints := posts(t, s)
	for _, test := range []struct {
		endpoint, field string
		values          []string
	}{
		{"sign-up", "name", []string{`5`, `true`, `[]`, `["Ada"]`, `{}`, `{"name": "Ada"}`, `1e999`}},
		{"sign-up", "email", []string{`5`, `false`, `["a@company.dev"]`, `{}`}},
		{"sign-up", "company", []string{`5`, `true`, `[]`, `{}`}},
		{"sign-up", "source", []string{`0`, `true`, `["api"]`, `{}`}},
		{"create", "name", []string{`5`, `true`, `[]`, `{}`}},
		{"create", "expires_at", []string{`1893456000`, `true`, `[]`, `{}`}},
		{"exchange", "providers", []string{`"anthropic"`, `5`, `true`, `{}`, `{"anthropic": true}`}},
		{"exchange", "ttl_minutes", []string{`"5"`, `""`, `true`, `[]`, `[5]`, `{}`, `1.5`, `1e400`, `1e2`, `60.0`, `-1e400`}},
		{"exchange", "max_cents", []string{`"5"`, `true`, `[5]`, `{}`, `0.5`, `1e400`}},
		{"refresh", "credential_id", []string{`5`, `true`, `[]`, `["x"]`, `{}`, `1e400`}},
		{"report", "provider", []string{`5`, `true`, `["openai"]`, `{}`}},
		{"report", "tokens_used", []string{`"5"`, `""`, `"NaN"`, `true`, `[5]`, `{}`, `1.5`, `-1.5`, `1e400`}},
		{"report", "request_count", []string{`"5"`, `true`, `[5]`, `{}`, `1.5`, `1e400`}},
		{"report", "job_id", []string{`5`, `true`, `["x"]`, `{}`}},
		{"rotate", "grace_minutes", []string{`"5"`, `""`, `true`, `[]`, `[5]`, `{}`, `1.5`, `1e400`, `9223372036854775808`, `-9223372036854775809`}},
	} {
		post := endpoints[test.endpoint]
		if test.endpoint == "refresh" {
			post = endpoints["exchange"]
			post.path = refresh
		}
		for _, value := range test.values {
			t.Run(test.endpoint+"/"+test.field+"="+value, func(t *testing.T) {
				text := `{"` + test.field + `": ` + value + `}`
				if test.endpoint == "sign-up" { // all else is right
					fields := map[string]string{"name": `"Ada"`, "email": `"` + someone() + `"`, "company": `"Engines"`, "source": `"api"`}
					fields[test.field] = value
					text = `{"name": ` + fields["name"] + `, "email": ` + fields["email"] + `, "company": ` + fields["company"] + `, "source": ` + fields["source"] + `}`
				}
				s.send(t, "POST", post.path, post.auth, document(text)).invalid(t, test.field, "malformed")
			})
		}
	}
}

// What is not named is ignored, however deep and odd, and in whatever case a
// known field is spelled.
func TestUnknownFieldsAreIgnored(t *testing.T) {
	s := newServer(t, unlimited)
	for endpoint, post := range posts(t, s) {
		for _, extra := range []string{
			`"x": 1`, `"": null`, `"x": {"name": 5, "email": []}`, `"Name": 5`, `"NAME": [], "grace_Minutes": "x"`, `"\u0000": "\u0000"`,
			`"x": ` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000), `"__proto__": {"admin": true}`, `"x": 1e400`,
		} {
			t.Run(endpoint+"/"+extra[:min(len(extra), 30)], func(t *testing.T) {
				text := strings.Replace(post.body(), "{", "{"+extra+",", 1)
				s.send(t, "POST", post.path, post.auth, document(text)).done(t)
			})
		}
	}
}

// A field in another case is another field: then the real one is missing.
func TestFieldsHaveOneSpelling(t *testing.T) {
	s := newServer(t, unlimited)
	s.send(t, "POST", onboard, document(`{"Name": "Ada", "email": "`+someone()+`"}`)).invalid(t, "name", "required")
	s.send(t, "POST", onboard, document(`{"name": "Ada", "Email": "`+someone()+`"}`)).invalid(t, "email", "required")
}

func TestAWrongTypeIsToldTheRightOne(t *testing.T) {
	s := newServer(t, unlimited)
	_, apiKey := s.signUp(t)
	for text, want := range map[string]string{
		`{"providers": "openai"}`:                       "providers must be a list",
		`{"providers": [5]}`:                            "providers/0 must be text",
		`{"providers": ["openai"], "ttl_minutes": "5"}`: "ttl_minutes must be a whole number",
		`{"providers": ["openai"], "max_cents": 1.5}`:   "max_cents must be a whole number",
	} {
		if p := s.exchange(t, apiKey, text).refused(t, http.StatusUnprocessableEntity, "VALIDATION_FAILED"); p.Error.Message != want {
			t.Errorf("%s: %q, want %q", text, p.Error.Message, want)
		}
	}
}
