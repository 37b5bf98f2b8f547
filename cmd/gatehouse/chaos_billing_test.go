package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/stripe/sim"
)

var (
	chaosCopies = flag.Int("chaos.copies", 2, "how many customers live each of TestChaosBilling's lives")
	chaosSeed   = flag.Uint64("chaos.seed", 0, "what its choices follow from; 0: a new one")
)

// rescued is when the effect of an event must be there whose worker was killed.
const rescued = 2 * time.Minute

// fate is how a customer ends: what a calm run ends in, and every other one has
// to.
type fate struct {
	plan, state   string
	balance, debt int64
	entries       map[string]int // amount and source, how often
}

func (f fate) String() string {
	var all []string
	for _, entry := range slices.Sorted(maps.Keys(f.entries)) {
		all = append(all, fmt.Sprintf("%d × %s", f.entries[entry], entry))
	}
	return fmt.Sprintf("%s, %s, %d credits, %d owed; %s", f.plan, cmp.Or(f.state, "no state"), f.balance, f.debt, strings.Join(all, ", "))
}

// life is what happens to a customer at Stripe, which Gatehouse hears of only
// by events.
type life struct {
	name    string
	live    func(*living)
	want    fate
	charges int // that Gatehouse makes itself, which takes a key
}

const (
	trialEntry  = "+5 trial_signup"
	methodEntry = "+5 payment_method_added"
	proEntry    = "+60 pro_subscription_payment"
)

func lives() []life {
	return []life{
		{"fixes by credits, then by charges", func(l *living) {
			l.fix(5)
			l.attach("pm_card_visa")
			l.awaitBalance(5)
			l.fix(7)
		}, fate{"pay_as_you_go", "", 0, 0, map[string]int{trialEntry: 1, methodEntry: 1, "-1 fix": 12, "+1 charge": 2}}, 2},
		{"renewed twice, then canceled at the period's end", func(l *living) {
			l.attach("pm_card_visa")
			sub := l.subscribe()
			l.months(2)
			l.post("/v1/subscriptions/"+sub, "cancel_at_period_end", "true")
			l.months(1)
		}, fate{"pay_as_you_go", "canceled", 190, 0, map[string]int{trialEntry: 1, methodEntry: 1, proEntry: 3}}, 0},
		{"fails to pay, and pays", func(l *living) {
			good := l.attach("pm_card_visa")
			l.subscribe()
			l.attach("pm_card_chargeCustomerFail")
			l.months(1)
			l.use(good)
			l.post("/v1/invoices/" + l.newest("/v1/invoices") + "/pay")
		}, fate{"pro", "active", 130, 0, map[string]int{trialEntry: 1, methodEntry: 1, proEntry: 2}}, 0},
		{"fails to pay", func(l *living) {
			l.attach("pm_card_visa")
			l.subscribe()
			l.attach("pm_card_chargeCustomerFail")
			l.months(1)
		}, fate{"pro", "past_due", 70, 0, map[string]int{trialEntry: 1, methodEntry: 1, proEntry: 1}}, 0},
		{"canceled at once, and subscribed again", func(l *living) {
			l.attach("pm_card_visa")
			l.call(http.MethodDelete, "/v1/subscriptions/"+l.subscribe())
			l.subscribe()
		}, fate{"pro", "active", 130, 0, map[string]int{trialEntry: 1, methodEntry: 1, proEntry: 2}}, 0},
		{"refunded", func(l *living) {
			l.attach("pm_card_visa")
			l.subscribe()
			l.post("/v1/refunds", "charge", l.newest("/v1/charges"))
		}, fate{"pro", "active", 10, 0, map[string]int{trialEntry: 1, methodEntry: 1, proEntry: 1, "-60 refund": 1}}, 0},
		{"refunded in two parts", func(l *living) {
			l.attach("pm_card_visa")
			l.subscribe()
			charge := l.newest("/v1/charges")
			l.post("/v1/refunds", "charge", charge, "amount", "29950")
			l.post("/v1/refunds", "charge", charge)
		}, fate{"pro", "active", 10, 0, map[string]int{trialEntry: 1, methodEntry: 1, proEntry: 1, "-30 refund": 2}}, 0},
		{"disputed and won", func(l *living) {
			l.attach("pm_card_visa")
			l.subscribe()
			dispute := l.post("/_sim/disputes", "charge", l.newest("/v1/charges"))
			l.post("/_sim/disputes/"+dispute+"/close", "status", "won")
		}, fate{"pro", "active", 70, 0, map[string]int{trialEntry: 1, methodEntry: 1, proEntry: 1, "-60 dispute": 1, "+60 dispute_won": 1}}, 0},
		{"disputed and lost", func(l *living) {
			l.attach("pm_card_visa")
			l.subscribe()
			dispute := l.post("/_sim/disputes", "charge", l.newest("/v1/charges"))
			l.post("/_sim/disputes/"+dispute+"/close", "status", "lost")
		}, fate{"pro", "active", 10, 0, map[string]int{trialEntry: 1, methodEntry: 1, proEntry: 1, "-60 dispute": 1}}, 0},
		{"attached, detached and attached", func(l *living) {
			l.post("/v1/payment_methods/" + l.attach("pm_card_visa") + "/detach")
			l.attach("pm_card_visa")
			l.post("/v1/subscriptions", "customer", l.stripeID, "items[0][price]", "price_other", "metadata[gatehouse_customer_id]", l.customer.customerID)
		}, fate{"pay_as_you_go", "", 10, 0, map[string]int{trialEntry: 1, methodEntry: 1}}, 0},
	}
}

// living is one customer who lives a life.
type living struct {
	*billingRun
	life
	customer call
	stripeID string
	clock    string
	now      time.Time // by the clock
	fixes    int
	random   *rand.Rand
}

// fix records fixes until each is recorded, twice.
func (l *living) fix(n int) {
	for range n {
		l.fixes++
		body := fmt.Sprintf(`{"external_id": "fix-%d"}`, l.fixes)
		first := l.gatehouse(l.random, http.MethodPost, "/api/v1/fixes", l.customer.key, "", body)
		again := l.gatehouse(l.random, http.MethodPost, "/api/v1/fixes", l.customer.key, "", body)
		if first.status/100 != 2 || again.status != http.StatusOK || string(first.body) != string(again.body) {
			l.strangely("%s: fix %d: %d %s, then %d %s", l.name, l.fixes, first.status, first.body, again.status, again.body)
		}
	}
}

func (l *living) awaitBalance(n int64) {
	for tired := time.Now().Add(rescued); l.fate(l.random).balance != n; pause(10 * time.Millisecond) {
		if time.Now().After(tired) {
			l.strangely("%s: the balance is not %d", l.name, n)
			return
		}
	}
}

// post and call ask Stripe, and return the id of what it answers.
func (l *living) post(path string, form ...string) string {
	return l.call(http.MethodPost, path, form...)
}

func (l *living) call(method, path string, form ...string) string {
	id, _ := l.ask(method, path, form...)["id"].(string)
	return id
}

// attach attaches a card and has it charged from now on.
func (l *living) attach(card string) string {
	id := l.post("/v1/payment_methods/"+card+"/attach", "customer", l.stripeID)
	l.use(id)
	return id
}

func (l *living) use(method string) {
	l.post("/v1/customers/"+l.stripeID, "invoice_settings[default_payment_method]", method)
}

func (l *living) subscribe() string {
	return l.post("/v1/subscriptions", "customer", l.stripeID, "items[0][price]", "price_pro", "metadata[gatehouse_customer_id]", l.customer.customerID)
}

// months lets some pass, and the hour after which an invoice is paid.
func (l *living) months(n int) {
	for range n {
		l.now = l.now.AddDate(0, 1, 0)
		l.post("/v1/test_helpers/test_clocks/"+l.clock+"/advance", "frozen_time", strconv.FormatInt(l.now.Add(2*time.Hour).Unix(), 10))
	}
}

// newest is the customer's newest object of a list.
func (l *living) newest(path string) string {
	list, _ := l.ask(http.MethodGet, path+"?limit=1&customer="+l.stripeID)["data"].([]any)
	if len(list) == 0 {
		l.strangely("%s: the customer has no %s", l.name, path)
		return ""
	}
	id, _ := list[0].(map[string]any)["id"].(string)
	return id
}

// billingRun is one run of all lives.
type billingRun struct {
	*cluster
	stripe *sim.Server
	mu     sync.Mutex
	wrong  []string
}

func (r *billingRun) strangely(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = append(r.wrong, fmt.Sprintf(format, args...))
}

// ask makes one call to Stripe, which has no troubles of its own.
func (r *billingRun) ask(method, path string, form ...string) map[string]any {
	values := url.Values{}
	for i := 0; i < len(form); i += 2 {
		values.Set(form[i], form[i+1])
	}
	req, err := http.NewRequest(method, r.stripe.URL()+path, strings.NewReader(values.Encode()))
	if err != nil {
		r.t.Error(err)
		return nil
	}
	req.Header.Set("Authorization", "Bearer sk_test_lives")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.strangely("%s %s: %v", method, path, err)
		return nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	var answer map[string]any
	if err == nil {
		err = json.Unmarshal(body, &answer)
	}
	if err != nil || resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusPaymentRequired {
		r.strangely("%s %s %v: %d %s, %v", method, path, form, resp.StatusCode, body, err)
	}
	return answer
}

// gatehouse asks any node until it answers.
func (r *billingRun) gatehouse(random *rand.Rand, method, path, key, once, body string) call {
	for {
		_, n := r.some(random, nil)
		if n == nil {
			return call{}
		}
		client := newClient("")
		c := doOnce(client, method, n.url+path, key, once, body)
		client.CloseIdleConnections()
		if c.answered() && c.status != http.StatusServiceUnavailable && c.status != http.StatusConflict {
			return c
		}
	}
}

// begin signs a customer up whom Stripe knows from its own side.
func (r *billingRun) begin(random *rand.Rand, of life, clock string, now time.Time) *living {
	l := &living{billingRun: r, life: of, clock: clock, now: now, random: rand.New(rand.NewPCG(random.Uint64(), 1))}
	domain := "load.gatehouse.internal" // nobody there gets a Stripe customer, so this test makes one
	if of.charges > 0 {
		domain = "gatehouse.dev"
	}
	email := fmt.Sprintf("life-%d@%s", random.Uint64(), domain)
	l.customer = r.gatehouse(l.random, http.MethodPost, "/api/v1/customers/onboard", "", fmt.Sprintf("life-%020d", random.Uint64()), `{"name": "E. Twoe", "email": "`+email+`"}`)
	var told struct {
		Customer struct{ ID string }
		APIKey   string `json:"api_key"`
	}
	if err := l.customer.decode(&told); err != nil || told.APIKey == "" {
		r.strangely("sign-up: %d %s, %v", l.customer.status, l.customer.body, err)
	}
	l.customer.customerID, l.customer.key = told.Customer.ID, told.APIKey
	if of.charges > 0 {
		l.stripeID = l.known()
		return l
	}
	l.stripeID = l.post("/v1/customers", "email", email, "test_clock", clock, "metadata[gatehouse_customer_id]", told.Customer.ID)
	return l
}

// known waits until the customer has a Stripe customer, and returns its id.
func (l *living) known() string {
	for tired := time.Now().Add(rescued); time.Now().Before(tired); pause(10 * time.Millisecond) {
		var told struct {
			Customer struct {
				ID string `json:"stripe_customer_id"`
			} `json:"customer"`
		}
		if l.gatehouse(l.random, http.MethodGet, "/api/v1/account", l.customer.key, "", "").decode(&told) == nil && told.Customer.ID != "" {
			return told.Customer.ID
		}
	}
	l.strangely("%s: there is no Stripe customer", l.name)
	return ""
}

// charged is how often the customer was charged by Gatehouse.
func (l *living) charged() (n int) {
	for _, i := range l.stripe.Intents() {
		if i.Metadata["gatehouse_fix_id"] != "" && i.Status == "succeeded" && i.Customer == l.stripeID {
			n++
		}
	}
	return n
}

// fate is how the customer stands now.
func (l *living) fate(random *rand.Rand) (f fate) {
	var account struct {
		Customer struct {
			Plan    string `json:"subscription_plan"`
			State   string `json:"subscription_state"`
			Balance int64  `json:"credit_balance"`
			Debt    int64  `json:"credit_debt"`
		} `json:"customer"`
	}
	var ledger struct {
		Entries []struct {
			Amount int64  `json:"amount"`
			Source string `json:"source"`
		} `json:"entries"`
	}
	a := l.gatehouse(random, http.MethodGet, "/api/v1/account", l.customer.key, "", "")
	e := l.gatehouse(random, http.MethodGet, "/api/v1/account/ledger?limit=200", l.customer.key, "", "")
	if a.decode(&account) != nil || e.decode(&ledger) != nil {
		return fate{}
	}
	f = fate{account.Customer.Plan, account.Customer.State, account.Customer.Balance, account.Customer.Debt, make(map[string]int)}
	for _, entry := range ledger.Entries {
		f.entries[fmt.Sprintf("%+d %s", entry.Amount, entry.Source)]++
	}
	return f
}

// TestChaosBilling lives the same lives again and again: once calmly, and then
// with events dropped, doubled, shuffled and late and nodes killed; with no
// webhook at all, so that the reconciler alone hears of them; and by events
// alone, without a key to ask Stripe with. All have to end alike.
func TestChaosBilling(t *testing.T) {
	needLinux(t)
	key := []string{"GATEHOUSE_STRIPE_API_KEY=sk_test_node"}
	shuffled := sim.DeliveryFaults{Duplicate: 2, Reorder: 12, Delay: 20 * time.Millisecond}
	dropped := shuffled
	dropped.Drop = 0.3
	for _, tt := range []struct {
		name     string
		postgres bool
		nodes    int
		env      []string
		faults   sim.DeliveryFaults
		kills    int
	}{
		{"calm", false, 1, key, sim.DeliveryFaults{}, 0},
		{"chaos on SQLite", false, 1, key, dropped, 6},
		{"chaos on three nodes", true, 3, key, dropped, 9},
		{"every webhook dropped", false, 1, key, sim.DeliveryFaults{Drop: 1}, 2},
		{"no key, calm", true, 1, nil, sim.DeliveryFaults{}, 0},
		{"no key, shuffled", false, 1, nil, shuffled, 4},
		{"no key, shuffled, an old API version", false, 1, nil, sim.DeliveryFaults{Duplicate: 2, Reorder: 12, APIVersion: "2022-11-15"}, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			seed := *chaosSeed
			for seed == 0 {
				seed = rand.Uint64()
			}
			t.Logf("once more: -chaos.seed=%d", seed)
			stripe, err := sim.New(sim.Options{Seed: seed, Retry: 50 * time.Millisecond, GiveUp: 10 * time.Minute, Timeout: 5 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			defer stripe.Close()
			database := newDatabase(t)
			if tt.postgres {
				database = newPostgres(t)
			}
			env := append([]string{
				"GATEHOUSE_STRIPE_API_BASE=" + stripe.URL(), "GATEHOUSE_STRIPE_WEBHOOK_SECRETS=whsec_sim", "GATEHOUSE_STRIPE_RECONCILE_EVERY=1s",
				"GATEHOUSE_LIMIT_API=off", "GATEHOUSE_LIMIT_ONBOARDING=off", "GATEHOUSE_LIMIT_STRIPE_WEBHOOK=10000/60s", "GATEHOUSE_LOAD_TEST_DOMAINS=load.gatehouse.internal",
			}, tt.env...)
			r := &billingRun{cluster: newCluster(t, tt.nodes, database, env), stripe: stripe}
			r.liveAll(rand.New(rand.NewPCG(seed, 7)), tt.faults, tt.kills, tt.env != nil)
		})
	}
}

// liveAll lives all lives at once, kills nodes meanwhile, and waits for their
// fates. asks says whether nodes have a key to ask Stripe with; then every fourth
// answer about a charge is lost where nodes are killed.
func (r *billingRun) liveAll(random *rand.Rand, faults sim.DeliveryFaults, kills int, asks bool) {
	r.deliver()
	r.stripe.SetDelivery(faults)
	if kills > 0 {
		r.stripe.Set(sim.Trouble{Fault: sim.Lost, Every: 4, Path: "/v1/payment_intents"})
	}
	var everybody []*living
	now := time.Now()
	for range *chaosCopies {
		for _, l := range lives() {
			if l.charges > 0 && !asks {
				continue
			}
			clock, _ := r.ask(http.MethodPost, "/v1/test_helpers/test_clocks", "frozen_time", strconv.FormatInt(now.Unix(), 10))["id"].(string)
			everybody = append(everybody, r.begin(random, l, clock, now))
		}
	}
	var living sync.WaitGroup
	for _, l := range everybody {
		living.Go(func() { l.live(l) })
	}
	for range kills {
		pause(time.Duration(random.Int64N(int64(400 * time.Millisecond))))
		if _, n := r.some(random, nil); n != nil {
			n.kill()
		}
		r.start()
		r.deliver()
	}
	living.Wait()
	if err := r.stripe.Flush(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	tired := time.Now().Add(rescued)
	for _, l := range everybody {
		got := l.fate(random)
		for got.String() != l.want.String() && time.Now().Before(tired) {
			pause(20 * time.Millisecond)
			got = l.fate(random)
		}
		if got.String() != l.want.String() {
			r.t.Errorf("%s (%s, %s):\nends with %s\nwant      %s", l.name, l.customer.customerID, l.stripeID, got, l.want)
		}
		if n := l.charged(); n != l.charges {
			r.t.Errorf("%s: charged %d times, want %d", l.name, n, l.charges)
		}
	}
	for _, wrong := range r.wrong {
		r.t.Error(wrong)
	}
	r.again(everybody, random)
}

// again has all events applied once more, which changes nothing.
func (r *billingRun) again(everybody []*living, random *rand.Rand) {
	c := gatehouse(r.t, "admin", "webhooks", "replay", "--state", "done", databaseFlag(r.database))
	if o := finish(r.t, c); o.code != exitOK {
		r.t.Errorf("replay: exit code %d: %s", o.code, o.stderr)
	}
	idle := func() bool {
		o := finish(r.t, gatehouse(r.t, "admin", "webhooks", "list", "--state", "received", "--json", databaseFlag(r.database)))
		return o.code == exitOK && strings.TrimSpace(o.stdout) == "[]"
	}
	for tired := time.Now().Add(patience); !idle(); {
		if time.Now().After(tired) {
			r.t.Error("the replayed events are not decided")
			break
		}
	}
	for _, l := range everybody {
		if got := l.fate(random); got.String() != l.want.String() {
			r.t.Errorf("%s, once all was replayed: ends with %s, want %s", l.name, got, l.want)
		}
	}
	if o := finish(r.t, gatehouse(r.t, "admin", "ledger", "verify", databaseFlag(r.database))); o.code != exitOK {
		r.t.Errorf("admin ledger verify: exit code %d, %s%s", o.code, o.stdout, o.stderr)
	}
	if r.t.Failed() {
		o := finish(r.t, gatehouse(r.t, "admin", "webhooks", "list", "--limit", "1000", databaseFlag(r.database)))
		r.t.Log(o.stdout)
	}
}

// deliver has Stripe's events sent to the nodes that there are now.
func (r *billingRun) deliver() {
	var urls []string
	for _, p := range r.places {
		if n := p.alive(); n != nil {
			urls = append(urls, n.url+"/api/webhooks/stripe")
		}
	}
	r.stripe.SetWebhooks(urls...)
}
