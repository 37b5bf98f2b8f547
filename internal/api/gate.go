package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/ratelimit"
)

// byAddress lets requests in at the rate of a policy per client address.
func (a *API) byAddress(l *ratelimit.Limiter) gate {
	return a.by(l, func(x *exchange) string { return limitKey(x.client) })
}

// by lets requests in at the rate of a policy per what key makes of them.
func (a *API) by(l *ratelimit.Limiter, key func(*exchange) string) gate {
	headers := newLimitHeaders(l.Policy)
	return func(x *exchange) error {
		d, err := l.Take(x.context(), key(x))
		if err != nil {
			return err
		}
		return headers.pass(x, d)
	}
}

// byKey lets requests with a usable key in, at the rate of a door's policy.
// Failures take places of their own, per client address; a usable key passes
// even where those are used up.
func (a *API) byKey(l *limitHeaders, enter enter) gate {
	return func(x *exchange) error {
		key, err := presentedKey(x.Request.Header)
		if err != nil {
			return err
		}
		who, d, err := enter(x.context(), key)
		if err != nil {
			return err
		}
		if err := l.pass(x, d); err != nil {
			return err
		}
		if who.Suspended {
			return apikey.Suspended()
		}
		x.who = who
		return nil
	}
}

// enter is a door's answer to who presents a key.
type enter func(ctx context.Context, key string) (apikey.Principal, ratelimit.Decision, error)

// byCustomer lets requests with a usable key in, at the rate of a policy per
// customer, over all its keys.
func (a *API) byCustomer(l *ratelimit.Limiter) gate {
	return a.byKey(newLimitHeaders(l.Policy), func(ctx context.Context, key string) (apikey.Principal, ratelimit.Decision, error) {
		return a.Door.EnterFor(ctx, key, l)
	})
}

// limitFailure makes every 401 for want of a key, a handler's too, take a place
// of the policy auth_failure; where there is none it becomes that policy's 429.
func (a *API) limitFailure(x *exchange, err error) error {
	if f, ok := errors.AsType[*fault.Error](err); !ok || f.Kind != fault.Unauthenticated {
		return err
	}
	dropLimitHeaders(x.Header())
	if refusal := a.failureGate(x); refusal != nil {
		return refusal
	}
	return err
}

// CountFailure counts a 401 that the gateway is about to answer as those of the
// API are, and sets that policy's headers. Where too many came from the address
// its error is to be answered instead.
func (a *API) CountFailure(w http.ResponseWriter, r *http.Request) error {
	return a.failureGate(&exchange{ResponseWriter: w, Request: r, route: a.none, client: clientAddr(r, a.Trusted)})
}

// presentedKey reads the key from X-API-Key or from Authorization: Bearer.
// Two that differ are as good as a wrong one.
func presentedKey(h http.Header) (string, error) {
	key, found := "", 0
	for _, v := range h["X-Api-Key"] {
		if v == "" {
			continue
		}
		if found++; found > 1 && v != key {
			return "", apikey.Unknown()
		}
		key = v
	}
	for _, v := range h["Authorization"] {
		scheme, token, _ := strings.Cut(v, " ")
		if token = strings.Trim(token, " "); token == "" || !strings.EqualFold(scheme, "Bearer") {
			continue
		}
		if found++; found > 1 && token != key {
			return "", apikey.Unknown()
		}
		key = token
	}
	if found == 0 {
		return "", &fault.Error{
			Kind: fault.Unauthenticated, Code: "AUTH_REQUIRED",
			Message: "An API key is required, as X-API-Key or as Authorization: Bearer.",
		}
	}
	return key, nil
}
