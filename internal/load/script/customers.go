package script

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/load"
)

// customer is one whose key the script has. The parts guard what they add.
type customer struct {
	id, key string
	refused atomic.Bool // the key was, during the run
	granted
}

const (
	onboardPath = "/api/v1/customers/onboard"
	accountPath = "/api/v1/account"

	maxAnswer    = 4 << 20 // bytes
	maxCustomers = 5000
	// leaveFree is the part of a limit that is left for chance and for retries.
	leaveFree = 0.25
	// signUpsPerSecond is how fast customers are signed up before a run: gently,
	// since that is no part of what is measured.
	signUpsPerSecond = 100
	// maxList is how many credentials a customer may come to have: its list has to
	// be read, within maxAnswer.
	maxList = 5000
)

// account is what GET /api/v1/account says, as far as it matters here.
type account struct {
	Customer struct {
		ID            string  `json:"id"`
		Plan          string  `json:"subscription_plan"`
		State         *string `json:"subscription_state"`
		CreditBalance int64   `json:"credit_balance"`
	} `json:"customer"`
	Usage struct {
		Start     time.Time `json:"period_start"`
		Providers map[string]struct {
			Requests int64 `json:"requests"`
		} `json:"providers"`
	} `json:"usage"`
}

// limit is a policy as an answer tells it; the zero limit is none.
type limit struct {
	quota  int
	used   int // of it, with the request that was answered
	window time.Duration
}

// makeCustomers gets as many keys as the plan's rate needs under the limits
// that the target tells: those given, or of customers who sign up.
func (s *Script) makeCustomers(ctx context.Context) error {
	for i, k := range s.o.Keys {
		var a account
		if _, err := s.get(ctx, k, accountPath, &a); err != nil {
			return fmt.Errorf("key %d of --keys-file: %w", i+1, err)
		}
		if twin := slices.IndexFunc(s.customers, func(c *customer) bool { return c.id == a.Customer.ID }); twin >= 0 {
			return fmt.Errorf("keys %d and %d of --keys-file are of one customer, whose limit and counts are one: give a key of each customer", twin+1, i+1)
		}
		c := &customer{id: a.Customer.ID, key: k}
		c.before = a.Usage.Providers[provider].Requests
		s.customers = append(s.customers, c)
	}
	if len(s.customers) == 0 {
		if err := s.signUp(ctx, 1); err != nil {
			return err
		}
	}
	first := s.customers[0]
	api, err := s.get(ctx, first.key, accountPath, nil)
	if err != nil {
		return fmt.Errorf("a customer's account: %w", err)
	}
	answer := s.call(ctx, http.MethodPost, "/api/v1/credentials/exchange", header("X-Api-Key", first.key), "{}") // 422, and tells the policy
	if answer.err != nil {
		return fmt.Errorf("ask for the limit of exchanges: %w", answer.err)
	}
	exchange := policy(answer.header)
	s.noteOthers(exchange, "exchanges of a key's customer")
	s.readClock(answer.header)

	need, why := s.need(exchange, api)
	switch {
	case len(s.o.Keys) > 0 && len(s.o.Keys) < need:
		return fmt.Errorf("--keys-file has %d keys, and the plan needs %d: %s", len(s.o.Keys), need, why)
	case need > maxCustomers:
		return fmt.Errorf("the plan needs %d customers, and at most %d are made: %s", need, maxCustomers, why)
	case len(s.o.Keys) == 0 && need > 1:
		return s.signUp(ctx, need-1)
	}
	return nil
}

// need is how many customers' keys keep below the limits, and why.
func (s *Script) need(exchange, api limit) (n int, why string) {
	n, why = 1, "no limit was told"
	peak, arrivals := s.offered()
	consider := func(m float64, reason string) {
		if int(math.Ceil(m)) > n {
			n, why = int(math.Ceil(m)), reason
		}
	}
	limited := s.share(func(r role) bool { return r.limited })
	consider(arrivals*limited/maxList, fmt.Sprintf("%.0f exchanges, and a list of more than %d credentials is not read", arrivals*limited, maxList))
	if exchange.quota > 0 {
		in := min(peak*limited*exchange.window.Seconds(), arrivals*limited)
		consider(in/(float64(exchange.quota)*(1-leaveFree)), fmt.Sprintf("%.0f exchanges in %v, and a customer may make %d", in, exchange.window, exchange.quota))
	}
	other := s.share(func(r role) bool { return r.credentials != nil && !r.limited && !r.gateway })
	if api.quota > 0 {
		in := min(peak*other*api.window.Seconds(), arrivals*other)
		consider(in/(float64(api.quota)*(1-leaveFree)-10), fmt.Sprintf("%.0f other calls in %v, and a key may make %d", in, api.window, api.quota))
	}
	if s.has(func(r role) bool { return r.webhooks != nil }) {
		lives := arrivals * s.share(func(r role) bool { return r.webhooks != nil }) / (2 * lifeLength) // each lives on twice
		consider(min(max(lives, fewLives), float64(s.manyLives())), "events need customers")
	}
	return n, why
}

// offered is the plan's highest rate, and how many arrivals it has.
func (s *Script) offered() (peak, arrivals float64) {
	before := 0.0
	for _, st := range s.o.Plan.Stages {
		peak = max(peak, st.Rate)
		arrivals += (before + st.Rate) / 2 * st.Duration.Seconds()
		before = st.Rate
	}
	return peak, arrivals
}

// noteOthers tells of a limit that was used when nothing had been sent.
func (s *Script) noteOthers(l limit, what string) {
	if l.used > 1 {
		s.notes = append(s.notes, fmt.Sprintf("Of %d %s in %v %d had been used before the run: by others, or by a run a moment ago.", l.quota, what, l.window, l.used-1))
	}
}

// fewLives and manyLives bound how many customers share the events: enough to
// mix them, and no more than may sign up.
const fewLives = 8

func (s *Script) manyLives() int {
	if s.o.via() == load.ViaNone {
		return fewLives // of the ten that one address may sign up in a minute
	}
	return 100
}

// opening is a script that signs customers up, with the run's engine.
type opening struct {
	s      *Script
	mu     sync.Mutex
	failed string
}

// Next implements load.Script.
func (o *opening) Next(*load.Arrival) {}

// Ended implements load.Script.
func (o *opening) Ended(a *load.Arrival, status int, body []byte) {
	var in struct {
		Customer struct {
			ID string `json:"id"`
		} `json:"customer"`
		Key string `json:"api_key"`
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.s.o.Wrote(a, http.MethodPost, onboardPath, status)
	if status != http.StatusCreated || json.Unmarshal(body, &in) != nil || in.Key == "" {
		if o.failed = fmt.Sprintf("status %d, %s", status, load.Clean(string(body), 200)); status == 0 {
			o.failed = "it had no answer: " + load.Clean(string(body), 200)
		}
		return
	}
	o.s.customers = append(o.s.customers, &customer{id: in.Customer.ID, key: in.Key})
}

// signUp signs n customers up, each from an address of its own where there are.
func (s *Script) signUp(ctx context.Context, n int) error {
	have := len(s.customers)
	body := load.Template{{Text: `{"name": "Load ` + s.run + `", "email": "load-`}, {Place: load.UUID}, {Text: "@" + s.o.Domain + `"}`}}
	via := s.o.via()
	clients := &load.Clients{Count: n, Via: via}
	if via == load.ViaNone {
		clients.Count = 1
	}
	const rate = signUpsPerSecond
	o := &opening{s: s}
	_, err := load.Run(ctx, &load.Job{
		Targets: []*url.URL{s.o.Target}, Stages: []load.Stage{{Duration: time.Nanosecond, Rate: rate}, {Duration: time.Duration(n)*time.Second/rate + time.Millisecond, Rate: rate}},
		Requests: []load.Request{{
			Name: "onboard", Weight: 1, Method: http.MethodPost, Path: load.Literally(onboardPath), Body: body, Clients: clients,
			Headers: []load.Header{{Name: "Content-Type", Value: load.Literally("application/json")}},
		}},
		MaxInFlight: 64, Timeout: 10 * time.Second, Script: o,
	})
	if err != nil {
		return err
	}
	if got := len(s.customers) - have; got < n {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("of %d customers %d could be signed up, by --clients-via %s; the last that could not: %s", n, got, via, o.failed)
	}
	return nil
}

// answer is what one request of the script's own came to.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error
}

func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i+1 < len(pairs); i += 2 {
		h.Set(pairs[i], pairs[i+1])
	}
	return h
}

// call makes one request that is no part of the load.
func (s *Script) call(ctx context.Context, method, path string, h http.Header, body string) (a answer) {
	path, query, _ := strings.Cut(path, "?")
	u := s.o.Target.JoinPath(path)
	u.RawQuery = query
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader([]byte(body)))
	if err != nil {
		return answer{err: err}
	}
	req.Header = h
	if method == http.MethodPost {
		h.Set("Content-Type", "application/json")
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	a = answer{status: resp.StatusCode, header: resp.Header}
	a.body, a.err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return a
}

// get reads JSON with a key, and what policy the answer told of.
func (s *Script) get(ctx context.Context, k, path string, into any) (limit, error) {
	a := s.call(ctx, http.MethodGet, path, header("X-Api-Key", k), "")
	switch {
	case a.err != nil:
		return limit{}, a.err
	case a.status != http.StatusOK:
		return limit{}, fmt.Errorf("GET %s: status %d, %s", path, a.status, load.Clean(string(a.body), 200))
	case into != nil && json.Unmarshal(a.body, into) != nil:
		return limit{}, errors.New("GET " + path + ": the answer is not as in the contract")
	}
	return policy(a.header), nil
}

// policy reads RateLimit-Policy: "name";q=10;w=60.
func policy(h http.Header) (l limit) {
	var seconds int
	_, rest, _ := strings.Cut(h.Get("RateLimit-Policy"), ";")
	if n, err := fmt.Sscanf(rest, "q=%d;w=%d", &l.quota, &seconds); n != 2 || err != nil || l.quota < 1 || seconds < 1 {
		return limit{}
	}
	l.window = time.Duration(seconds) * time.Second
	if left, err := strconv.Atoi(h.Get("X-RateLimit-Remaining")); err == nil {
		l.used = l.quota - left
	}
	return l
}

// readClock learns how far the target's clock is ahead: a signature has a time.
func (s *Script) readClock(h http.Header) {
	if at, err := http.ParseTime(h.Get("Date")); err == nil {
		if ahead := time.Until(at); ahead.Abs() > 2*time.Second { // it is in whole seconds
			s.ahead = ahead
			s.notes = append(s.notes, fmt.Sprintf("The target's clock is %v from this machine's: events were signed by it.", ahead.Round(time.Second)))
		}
	}
}

// eventually asks again until it is true, as long as there is patience. Its
// pauses grow, since what it asks counts against a limit.
func (s *Script) eventually(ctx context.Context, patience time.Duration, is func() (done bool)) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for pause := s.waits.again; !is(); pause *= 2 {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			is()
			return
		}
	}
}
