package api

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"gatehouse/internal/fault"
	"gatehouse/internal/ratelimit"
)

// The headers of the policy that decided. They are set under these very
// names: net/http would write X-Ratelimit-Limit.
const (
	headerLimit      = "X-RateLimit-Limit"
	headerRemaining  = "X-RateLimit-Remaining"
	headerReset      = "X-RateLimit-Reset"
	headerIETF       = "RateLimit"
	headerIETFPolicy = "RateLimit-Policy"
)

// limitHeaders says a policy's decisions. What is the same on all its answers
// is made once.
type limitHeaders struct {
	off           bool
	limit, policy []string
	prefix        string // of RateLimit
	message       string
}

func newLimitHeaders(p ratelimit.Policy) *limitHeaders {
	return &limitHeaders{
		off:     p.Off,
		limit:   []string{strconv.Itoa(p.Count)},
		policy:  []string{fmt.Sprintf("%q;q=%d;w=%s", p.Name, p.Count, windowSeconds(p.Window))},
		prefix:  fmt.Sprintf("%q;r=", p.Name),
		message: p.Message(),
	}
}

// windowSeconds writes a window in whole seconds, rounded up: the header has
// no fractions.
func windowSeconds(w time.Duration) string { return strconv.FormatInt(ceilSeconds(w), 10) }

// pass sets the headers of a decision, and refuses what was not admitted.
func (l *limitHeaders) pass(x *exchange, d ratelimit.Decision) error {
	if l.off {
		return nil
	}
	seconds := ceilSeconds(d.Wait)
	reset := x.route.api.Now().Add(d.Wait)
	unix := reset.Unix()
	if reset.Nanosecond() > 0 {
		unix++
	}
	remaining := strconv.Itoa(d.Remaining)
	h := x.Header()
	h[headerLimit] = l.limit
	h[headerRemaining] = x.value(remaining)
	h[headerReset] = x.value(strconv.FormatInt(unix, 10))
	h[headerIETFPolicy] = l.policy
	h[headerIETF] = x.value(l.prefix + remaining + ";t=" + strconv.FormatInt(seconds, 10))
	if d.Admitted {
		return nil
	}
	return &fault.Error{Kind: fault.Limited, Code: "RATE_LIMITED", Message: l.message, RetryAfter: max(d.Wait, time.Second)}
}

func dropLimitHeaders(h http.Header) {
	for _, name := range []string{headerLimit, headerRemaining, headerReset, headerIETF, headerIETFPolicy} {
		delete(h, name)
	}
}

func ceilSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }
