package native

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/apikey"
	"gatehouse/internal/vending"
)

const (
	maxAnswer = 4 << 20 // bytes; a hundred keys are some 100 KiB
	maxPages  = 1000    // of a list
	pageSize  = 100     // both providers' most
	maxID     = 255     // characters of a key's id
	maxSecret = 4096
)

// client calls a provider's administrative API.
type client struct {
	base string // without a slash at its end
	key  string
	http *http.Client
}

func newClient(base, key string) client {
	return client{base, key, &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 30 * time.Second, MaxIdleConnsPerHost: 16, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Base implements vending.Maker.
func (c client) Base() string { return c.base }

// statusError is an answer that is no success.
type statusError int

func (s statusError) Error() string { return fmt.Sprintf("status %d", int(s)) }

// call sends a request, in JSON if there is one, and reads the answer's JSON.
// Errors quote neither.
func (c client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return errors.New("the provider's URL can't be called")
	}
	r.Header.Set("Authorization", "Bearer "+c.key)
	r.Header.Set("Content-Type", "application/json")
	r.GetBody = nil // never sent twice behind our back
	resp, err := c.http.Do(r)
	if err != nil {
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the URL
		}
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return statusError(resp.StatusCode)
	case err != nil:
		return errors.New("the answer was cut")
	case len(text) > maxAnswer:
		return errors.New("the answer is too long")
	case out == nil:
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return errors.New("the answer can't be read") // what it was may hold a key
	}
	return nil
}

// create asks for a key. That a provider refused is certain where it says so.
func (c client) create(ctx context.Context, path string, in, out any) error {
	err := c.call(ctx, http.MethodPost, path, in, out)
	if s, ok := errors.AsType[statusError](err); ok && s >= 400 && s < 500 && s != http.StatusRequestTimeout && s != http.StatusConflict {
		return fmt.Errorf("%w: %w", vending.ErrNotMade, err)
	}
	return err
}

// made checks what a provider says that it made.
func made(id, secret string, expires time.Time) (vending.Made, error) {
	if id == "" || len(id) > maxID || secret == "" || len(secret) > maxSecret {
		return vending.Made{}, errors.New("the answer has no key")
	}
	return vending.Made{ID: id, Secret: apikey.NewSecret(secret), ExpiresAt: expires}, nil
}

// remove deletes keys; one that is not there is gone.
func (c client) remove(ctx context.Context, path string, ids ...string) error {
	for _, id := range ids {
		err := c.call(ctx, http.MethodDelete, path+"/"+url.PathEscape(id), nil, nil)
		if s, ok := errors.AsType[statusError](err); ok && (s == http.StatusNotFound || s == http.StatusGone) {
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var errEndless = errors.New("the list of keys has no end")
