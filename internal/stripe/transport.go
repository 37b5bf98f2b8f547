package stripe

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxAnswer  = 16 << 20 // bytes: a hundred events are some 500 KiB, and one may have 1 MiB
	maxMessage = 300      // bytes of what Stripe says that are kept
	maxField   = 64       // bytes of an error's type, code, parameter and request id
	maxIdle    = 16       // connections that are kept, where Stripe's one with HTTP/2 is none
)

// transport hands stripe-go only answers that are 200 and JSON: stripe-go reads
// bodies of any length and quotes them. Its errors are fit to be kept.
type transport struct{ base *http.Transport }

func newTransport() transport {
	return transport{&http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		ForceAttemptHTTP2:      true, // a TLSClientConfig turns it off
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}}
}

// RoundTrip also turns a redirect into an error, before a client follows it.
func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(r)
	if err != nil {
		return nil, errors.New(clean(err.Error(), maxMessage))
	}
	defer resp.Body.Close()
	status := resp.StatusCode
	if status != http.StatusOK && status < http.StatusBadRequest {
		return nil, fmt.Errorf("status %d, which Stripe's API does not give", status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("status %d, then: %s", status, clean(err.Error(), maxMessage))
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("status %d with %w", status, errTooLong)
	case !jsontext.Value(body).IsValid():
		return nil, fmt.Errorf("status %d with what is not JSON", status)
	case status >= http.StatusBadRequest:
		return nil, refusal(resp, body)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

var errTooLong = fmt.Errorf("more than %d bytes", maxAnswer)

// refusalError is what an answer of 400 and above stands for. Its text is fit to
// be kept; the rest is for telling what became of the request.
type refusalError struct {
	status       int
	kind, code   string
	decline      string // why a card was declined
	intent       string // the payment intent that the request made all the same
	intentStatus string
	text         string // the others are as they came
}

func (e *refusalError) Error() string { return e.text }

// isMissing says whether Stripe has no object of an id that was named.
func (e *refusalError) isMissing() bool { return e.code == "resource_missing" }

// forGood says whether the same request would be refused again. Only Stripe
// itself refuses for good: a proxy's 403 has another form and may go away.
func (e *refusalError) forGood() bool {
	return e.status < 500 && e.status != http.StatusTooManyRequests && e.status != http.StatusConflict // 409: the key is in use just now
}

func refusal(resp *http.Response, body []byte) error {
	var said struct {
		Error struct {
			Type    string `json:"type"`
			Code    string `json:"code"`
			Param   string `json:"param"`
			Message string `json:"message"`
			Decline string `json:"decline_code"`
			Intent  struct {
				ID     string `json:"id"`
				Status string `json:"status"`
			} `json:"payment_intent"`
		} `json:"error"`
	}
	status := resp.StatusCode
	if err := json.Unmarshal(body, &said); err != nil || said.Error.Type == "" {
		return fmt.Errorf("status %d with what is no error of Stripe's", status)
	}
	text := fmt.Sprintf("status %d", status)
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		text = fmt.Sprintf("Stripe refused the API key (%d): set GATEHOUSE_STRIPE_API_KEY, "+
			"then run gatehouse admin jobs retry --all", status)
	}
	for _, field := range []struct{ name, value string }{
		{"type", said.Error.Type}, {"code", said.Error.Code}, {"decline code", said.Error.Decline}, {"param", said.Error.Param}, {"request", resp.Header.Get("Request-Id")},
	} {
		if field.value != "" {
			text += ", " + field.name + " " + clean(field.value, maxField)
		}
	}
	return &refusalError{
		status: status, kind: said.Error.Type, code: said.Error.Code, decline: said.Error.Decline,
		intent: said.Error.Intent.ID, intentStatus: said.Error.Intent.Status,
		text: text + ": " + clean(said.Error.Message, maxMessage),
	}
}

// private is found in words that may be an address or an API key. Stripe's 401
// quotes a part of the key, and its 400s the address.
var private = regexp.MustCompile(`(?i)[@＠]|%40|[srp]k_|whsec_`)

// clean makes of a stranger's words one line of printable characters, of at
// most limit bytes, without those that may be private.
func clean(s string, limit int) string {
	words := strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s))
	for i, word := range words {
		if private.MatchString(word) {
			words[i] = "…"
		}
	}
	s = strings.Join(words, " ")
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit-len("…")], "") + "…"
	}
	return s
}
