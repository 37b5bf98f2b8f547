package api_test

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/routers"
)

// limitNames are the headers of the policy that decided.
var limitNames = []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit", "RateLimit-Policy"}

// limits is what the limit headers of an answer say.
type limits struct {
	policy                          string
	limit, remaining, window, until int // until Remaining rises, in seconds
	reset                           int64
}

var (
	policyForm = regexp.MustCompile(`^"([a-z_]+)";q=(\d+);w=(\d+)$`)
	stateForm  = regexp.MustCompile(`^"([a-z_]+)";r=(\d+);t=(\d+)$`)
)

// limitsOf reads the limit headers, and refuses ones that contradict each
// other; there are all of them, or none and the zero value.
func limitsOf(h http.Header) (l limits, err error) {
	var missing []string
	for _, name := range limitNames {
		if h.Get(name) == "" {
			missing = append(missing, name)
		}
	}
	if len(missing) == len(limitNames) {
		return limits{}, nil
	}
	if len(missing) > 0 {
		return limits{}, fmt.Errorf("there are limit headers, but no %s", strings.Join(missing, ", "))
	}
	p, s := policyForm.FindStringSubmatch(h.Get("RateLimit-Policy")), stateForm.FindStringSubmatch(h.Get("RateLimit"))
	if p == nil || s == nil {
		return limits{}, fmt.Errorf("RateLimit-Policy: %s and RateLimit: %s have another form", h.Get("RateLimit-Policy"), h.Get("RateLimit"))
	}
	number := func(text string) int {
		n, nerr := strconv.Atoi(text)
		err = errors.Join(err, nerr)
		return n
	}
	l = limits{policy: p[1], limit: number(p[2]), window: number(p[3]), remaining: number(s[2]), until: number(s[3])}
	l.reset = int64(number(h.Get("X-RateLimit-Reset")))
	if p[1] != s[1] || h.Get("X-RateLimit-Limit") != p[2] || h.Get("X-RateLimit-Remaining") != s[2] {
		err = errors.Join(err, fmt.Errorf("the limit headers contradict each other: %v", h))
	}
	return l, err
}

// checkLimits refuses limit headers that are missing, contradict each other
// or are those of the wrong policy. off are the policies that send none.
func checkLimits(route *routers.Route, got answer, response *openapi3.Response, off map[string]bool) error {
	l, err := limitsOf(got.header)
	if err != nil {
		return err
	}
	if _, limited := response.Headers["RateLimit"]; !limited {
		return nil // checkHeaders refuses those that there are
	}
	policies := []string{"api"}
	switch {
	case route.Path == "/api/v1/customers/onboard":
		policies = []string{"onboarding"}
	case route.Path == exchange && got.status == http.StatusTooManyRequests:
		policies = []string{"credential_exchange", "auth_failure"}
	case route.Path == exchange && got.status != http.StatusUnauthorized:
		policies = []string{"credential_exchange"}
	case route.Path == "/api/webhooks/stripe" && got.status == http.StatusTooManyRequests:
		policies = []string{"stripe_webhook", "webhook_unauthentic"}
	case route.Path == "/api/webhooks/stripe" && got.status == http.StatusUnauthorized:
		policies = []string{"webhook_unauthentic"}
	case route.Path == "/api/webhooks/stripe":
		policies = []string{"stripe_webhook"}
	case got.status == http.StatusUnauthorized:
		policies = []string{"auth_failure"}
	case got.status == http.StatusTooManyRequests:
		policies = []string{"api", "auth_failure"}
	}
	if l.policy == "" {
		if off[policies[0]] {
			return nil
		}
		return fmt.Errorf("%d without limit headers, though %s is on", got.status, policies[0])
	}
	if policy := strings.Join(policies, " or "); off[l.policy] || !strings.Contains(policy, l.policy) {
		return fmt.Errorf("limit headers of %s, want those of %s", l.policy, policy)
	}
	if l.remaining >= l.limit {
		return fmt.Errorf("%d of %d places are left after one was taken", l.remaining, l.limit)
	}
	if l.until > l.window || l.until < 1 {
		return fmt.Errorf("the next place frees in %d s, in a window of %d s", l.until, l.window)
	}
	if got.status == http.StatusTooManyRequests && (l.remaining != 0 || got.header.Get("Retry-After") != strconv.Itoa(l.until)) {
		return fmt.Errorf("refused with Retry-After %s, RateLimit %s", got.header.Get("Retry-After"), got.header.Get("RateLimit"))
	}
	return nil
}
