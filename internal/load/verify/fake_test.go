package verify

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// fake is a limiter with a network around it. Its zero lies make it a true
// one.
type fake struct {
	limit  int
	window time.Duration
	nodes  int

	oneMore    bool // admits limit+1
	perNode    bool
	perKey     bool
	keys       int
	aligned    bool          // begins anew when the clock says so
	fromFirst  bool          // begins anew a window after the first request
	weighted   bool          // estimates from two fixed windows
	bucket     bool          // refills bit by bit
	extends    bool          // a refusal takes a place, too
	resets     bool          // a refusal makes the wait begin anew
	hasty      bool          // says Retry-After: 1 always
	sluggish   bool          // says to wait longer than is needed
	stingy     bool          // frees a place half a second late
	short      time.Duration // frees places so much before a window has passed, and tells otherwise
	spoofable  bool          // counts by what a header field claims
	miscounts  bool          // Remaining is one too high
	misresets  bool          // X-RateLimit-Reset is when the window ends, not when a place comes back
	mute       bool          // answers refusals with another message
	plain      bool          // refuses without header fields
	slow       time.Duration // refuses so much later
	forgets    time.Duration
	off        bool
	dead       int // node that can't be reached, from 1
	diesAt     time.Duration
	backAt     time.Duration // 0: never
	revoked    time.Duration
	others     time.Duration // somebody else asks, so often
	usedBefore int
	crawls     time.Duration // each answer takes so long
	skew       time.Duration // of its wall clock
	setAt      time.Duration // when somebody sets it an hour on

	mu      sync.Mutex
	rnd     *rand.Rand
	began   time.Time
	phase   time.Duration
	stamps  map[string][]time.Time
	windows map[string]map[int64]int
	asked   int
}

func newFake(seed uint64, limit int, window time.Duration) *fake {
	f := &fake{limit: limit, window: window, nodes: 1, rnd: rand.New(rand.NewPCG(seed, 1)), began: time.Now(), stamps: map[string][]time.Time{}, windows: map[string]map[int64]int{}}
	f.phase = time.Duration(f.rnd.Int64N(int64(window)))
	return f
}

// journey is a request's or an answer's time on the network.
func (f *fake) journey() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crawls + time.Millisecond + time.Duration(f.rnd.ExpFloat64()*float64(3*time.Millisecond))
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (f *fake) send(ctx context.Context, ask Ask) (a Attempt) {
	a.Sent = time.Since(ask.Epoch)
	if at := time.Since(f.began); ask.Target == f.dead-1 && at >= f.diesAt && (f.backAt == 0 || at < f.backAt) {
		a.Received, a.Err, a.Unsent = a.Sent, "connection refused", true
		return a
	}
	pause(ctx, f.journey())
	f.mu.Lock()
	a.Answer = f.answer(ask)
	f.mu.Unlock()
	if a.Status == http.StatusTooManyRequests {
		pause(ctx, f.slow)
	}
	pause(ctx, f.journey())
	a.Received = time.Since(ask.Epoch)
	if ctx.Err() != nil {
		a.Err = ctx.Err().Error()
	}
	return a
}

func (f *fake) answer(ask Ask) Answer {
	f.asked++
	now, h := time.Now(), http.Header{}
	key := "all"
	if f.perNode {
		key = strconv.Itoa(ask.Target)
	}
	if f.perKey {
		key += strconv.Itoa(ask.Key)
	}
	if f.spoofable && ask.Spoofed {
		key = fmt.Sprint("spoofed", ask.N)
	}
	switch {
	case f.off:
		return readAnswer(http.StatusCreated, h)
	case f.revoked > 0 && now.Sub(f.began) > f.revoked:
		h.Set("RateLimit-Policy", `"auth_failure";q=60;w=60`)
		a := readAnswer(http.StatusUnauthorized, h)
		a.Code = "INVALID_API_KEY"
		return a
	}
	for ; f.usedBefore > 0; f.usedBefore-- {
		f.decide(key, now)
	}
	if f.others > 0 {
		for t := now.Truncate(f.others); now.Sub(t) < f.others/3; t = t.Add(-f.others) {
			f.decide(key, now)
		}
	}
	if f.forgets > 0 && now.Sub(f.began) > f.forgets {
		f.forgets, f.stamps = 0, map[string][]time.Time{}
	}
	admitted, remaining, wait := f.decide(key, now)
	if f.miscounts && admitted {
		remaining++
	}
	seconds := int(math.Ceil(wait.Seconds()))
	status := http.StatusCreated
	h.Set("X-RateLimit-Limit", strconv.Itoa(f.limit))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(remaining))
	reset := wait
	if f.misresets {
		reset = f.window
	}
	if f.setAt > 0 && now.Sub(f.began) > f.setAt {
		reset += time.Hour
	}
	h.Set("X-RateLimit-Reset", strconv.FormatInt(now.Add(reset+f.skew).Unix()+1, 10))
	h.Set("RateLimit-Policy", fmt.Sprintf("\"onboarding\";q=%d;w=%d", f.limit, int(math.Ceil(f.window.Seconds()))))
	a := Answer{}
	if !admitted {
		status = http.StatusTooManyRequests
		switch {
		case f.hasty:
			seconds = 1
		case f.sluggish:
			seconds += []int{3, 3600}[f.asked%2]
		}
		h.Set("Retry-After", strconv.Itoa(max(seconds, 1)))
		policy := Policies()[0]
		a.Code, a.Message = "RATE_LIMITED", policy.message(f.limit, f.window)
		if f.mute {
			a.Message = "Too many requests."
		}
	}
	h.Set("RateLimit", fmt.Sprintf("\"onboarding\";r=%d;t=%d", remaining, seconds))
	if f.plain && !admitted {
		h = http.Header{}
	}
	code, message := a.Code, a.Message
	a = readAnswer(status, h)
	a.Code, a.Message = code, message
	return a
}

// decide is a true limiter's decision, but for the lies.
func (f *fake) decide(key string, now time.Time) (admitted bool, remaining int, wait time.Duration) {
	limit, window := f.limit, f.window
	if f.oneMore {
		limit++
	}
	if f.stingy {
		window += window / 40
	}
	window -= f.short
	stamps := f.stamps[key]
	switch {
	case f.aligned || f.fromFirst || f.weighted:
		return f.decideFixed(key, now)
	case f.bucket: // a place frees each window/limit: the stamps are theoretical
		gap := window / time.Duration(limit)
		stamps = slices.DeleteFunc(stamps, func(t time.Time) bool { return !t.After(now) })
		if len(stamps) < limit {
			next := now.Add(gap)
			if n := len(stamps); n > 0 {
				next = stamps[n-1].Add(gap)
			}
			stamps, admitted = append(stamps, next), true
		}
		f.stamps[key] = stamps
		return admitted, limit - len(stamps), stamps[0].Sub(now)
	}
	stamps = slices.DeleteFunc(stamps, func(t time.Time) bool { return !t.Add(window).After(now) })
	if len(stamps) < limit {
		stamps, admitted = append(stamps, now), true
	} else if f.extends {
		stamps = append(stamps[1:], now)
	}
	if f.resets && !admitted {
		for i := range stamps {
			stamps[i] = now
		}
	}
	f.stamps[key] = stamps
	return admitted, max(0, f.limit-len(stamps)), stamps[max(0, len(stamps)-limit)].Add(window + f.short).Sub(now)
}

func (f *fake) decideFixed(key string, now time.Time) (bool, int, time.Duration) {
	since := now.Sub(f.began) + f.phase
	if f.fromFirst {
		stamps := f.stamps[key]
		if len(stamps) == 0 || now.Sub(stamps[0]) >= f.window {
			f.stamps[key], f.windows[key] = []time.Time{now}, nil
		}
		since = now.Sub(f.stamps[key][0])
	}
	if f.windows[key] == nil {
		f.windows[key] = map[int64]int{}
	}
	n, into := int64(since/f.window), since%f.window
	used := f.windows[key][n]
	if f.weighted {
		used += int(float64(f.windows[key][n-1]) * (1 - into.Seconds()/f.window.Seconds()))
	}
	wait := f.window - into
	if used >= f.limit {
		return false, 0, wait
	}
	f.windows[key][n]++
	return true, f.limit - used - 1, wait
}
