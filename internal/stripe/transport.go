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

	"gatehouse/internal/jobs"
)

const (
	maxAnswer  = 1 << 20 // bytes: a hundred customers are some 150 KiB
	maxMessage = 300     // bytes of what Stripe says that are kept
	maxField   = 64      // bytes of an error's type, code, parameter and request id
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
		MaxIdleConns:           2,
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
		return nil, fmt.Errorf("status %d with more than %d bytes", status, maxAnswer)
	case !jsontext.Value(body).IsValid():
		return nil, fmt.Errorf("status %d with what is not JSON", status)
	case status >= http.StatusBadRequest:
		return nil, refusal(resp, body)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

// refusal is the error that an answer of 400 and above stands for. Only Stripe
// itself refuses for good: a proxy's 403 has another form and may go away.
func refusal(resp *http.Response, body []byte) error {
	var said struct {
		Error struct {
			Type    string `json:"type"`
			Code    string `json:"code"`
			Param   string `json:"param"`
			Message string `json:"message"`
		} `json:"error"`
	}
	status := resp.StatusCode
	if err := json.Unmarshal(body, &said); err != nil || said.Error.Type == "" {
		return fmt.Errorf("status %d with what is no error of Stripe's", status)
	}
	text := fmt.Sprintf("status %d", status)
	if status == http.StatusUnauthorized || status == http.StatusForbidden {
		text = fmt.Sprintf("Stripe refused the API key (%d): set GATEHOUSE_STRIPE_API_KEY, "+
			"then run gatehouse admin jobs retry --kind stripe_customer", status)
	}
	for _, field := range []struct{ name, value string }{
		{"type", said.Error.Type}, {"code", said.Error.Code}, {"param", said.Error.Param}, {"request", resp.Header.Get("Request-Id")},
	} {
		if field.value != "" {
			text += ", " + field.name + " " + clean(field.value, maxField)
		}
	}
	err := errors.New(text + ": " + clean(said.Error.Message, maxMessage))
	if status >= 500 || status == http.StatusTooManyRequests || status == http.StatusConflict { // 409: the key is in use just now
		return err
	}
	return jobs.Permanent(err)
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
