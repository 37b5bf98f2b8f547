package api_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/api"
	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
)

const (
	webhooks      = "/api/webhooks/stripe"
	webhookSecret = "whsec_0123456789abcdef"
	maxEvent      = 1 << 20
)

// secretOf configures Stripe's secrets, by comma; "" is none.
func secretOf(secrets string) option {
	return func(_ testing.TB, s *setup) { s.secrets = secrets }
}

// someEvent is the id of an event that there was none of yet.
func someEvent() string { return "evt_" + strconv.FormatInt(named.Add(1), 10) }

// event is a body as Stripe sends them.
func event(id string) string {
	return `{"id": "` + id + `", "object": "event", "api_version": "2025-03-31.basil", "created": 1893456000, "type": "customer.created", "livemode": false,
		"data": {"object": {"id": "cus_1", "object": "customer"}}}`
}

// signature is what a secret makes of a body at a time.
func signature(secret string, at time.Time, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%d.%s", at.Unix(), body)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(mac.Sum(nil)))
}

// signed sends a body as Stripe would.
func signed(text string) detail {
	return func(r *http.Request) {
		body(text)(r)
		header("Stripe-Signature", signature(webhookSecret, time.Now(), text))(r)
	}
}

// event sends an event as Stripe would.
func (c *client) event(t testing.TB, text string, details ...detail) answer {
	t.Helper()
	return c.send(t, "POST", webhooks, append(details, signed(text), header("Content-Type", "application/json; charset=utf-8"))...)
}

// received fails the test unless the answer says that an event was taken in,
// for the first time or not.
func (a answer) received(t testing.TB, isNew bool) answer {
	t.Helper()
	type form struct{ Received, Duplicate bool }
	if got := decode[form](t, a.want(t, http.StatusOK)); got != (form{true, !isNew}) {
		t.Fatalf("answered %s, want new: %v", a.body, isNew)
	}
	return a
}

// events are all that are kept, without their payloads.
func (s *server) events(t testing.TB) []billing.StoredEvent {
	t.Helper()
	all, err := s.database.Events(t.Context(), billing.EventFilter{}, "", 10_000)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// kept is an event with its payload.
func (s *server) kept(t testing.TB, id string) billing.StoredEvent {
	t.Helper()
	e, err := s.database.Event(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEventIsTakenIn(t *testing.T) {
	s := newServer(t)
	id := someEvent()
	text := event(id)
	s.event(t, text).received(t, true).limits(t, "stripe_webhook")
	got := s.kept(t, id)
	if got.Type != "customer.created" || string(got.Payload) != text || got.State != billing.Received || !strings.Contains(got.History[0], "received: by webhook") {
		t.Errorf("kept %+v", got)
	}
	queued, err := s.database.JobStats(t.Context())
	if err != nil || len(queued) != 1 || queued[0].Kind != "stripe_event" || queued[0].Queued != 1 {
		t.Errorf("queued: %+v (%v)", queued, err)
	}
	for range 3 { // with a signature of its own each time, as Stripe does
		s.event(t, text).received(t, false)
		s.event(t, strings.Replace(text, "customer.created", "customer.deleted", 1)).received(t, false)
	}
	if again := s.kept(t, id); cmp.Diff(got, again) != "" || len(s.events(t)) != 1 {
		t.Errorf("the same again changed %+v into %+v", got, again)
	}
}

// What counts are the raw bytes: neither what they are said to be nor what
// they mean.
func TestSignatureIsOverTheRawBytes(t *testing.T) {
	s := newServer(t, limit("webhook_unauthentic", "1000/60s"))
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write([]byte(event("evt_zipped"))); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for name, details := range map[string][]detail{
		"no type":                            nil,
		"another type":                       {header("Content-Type", "text/plain; charset=iso-8859-1")},
		"two types":                          {header("Content-Type", "a/b"), header("Content-Type", "c/d")},
		"an encoding":                        {header("Content-Encoding", "gzip")},
		"an API key":                         {key("gk_live_x")},
		"an Idempotency-Key in no good form": {under("short")},
	} {
		t.Run(name, func(t *testing.T) {
			text := event(someEvent())
			s.send(t, "POST", webhooks, append(details, signed(text))...).received(t, true)
		})
	}
	text := event(someEvent())
	right := header("Stripe-Signature", signature(webhookSecret, time.Now(), text))
	for name, other := range map[string]string{
		"a line feed more": text + "\n", "a space less": strings.Replace(text, ": ", ":", 1), "escaped": strings.Replace(text, "evt", `\u0065vt`, 1),
		"a byte order mark": "\xef\xbb\xbf" + text, "cut": text[:len(text)-1], "nothing": "", "zipped": zipped.String(),
	} {
		t.Run(name, func(t *testing.T) {
			s.send(t, "POST", webhooks, right, body(other)).refused(t, http.StatusUnauthorized, "INVALID_SIGNATURE")
		})
	}
	s.send(t, "POST", webhooks, right, chunked(strings.NewReader(text))).received(t, true)
	s.event(t, zipped.String(), header("Content-Encoding", "gzip")).received(t, true) // it is not unpacked, and so it is not understood
	if got := s.events(t)[0]; got.State != billing.Parked {
		t.Errorf("kept %+v", got)
	}
}

func TestForgedSignatures(t *testing.T) {
	s := newServer(t, limit("webhook_unauthentic", "1000/60s"))
	text, now := event(someEvent()), time.Now()
	right := signature(webhookSecret, now, text)
	stamp, v1, _ := strings.Cut(right, ",")
	_, digits, _ := strings.Cut(v1, "=")
	raw, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	for name, lines := range map[string][]string{
		"none":                    nil,
		"empty":                   {""},
		"the time alone":          {stamp},
		"v0 alone":                {stamp + ",v0=" + digits},
		"the signature alone":     {v1},
		"two times":               {stamp + "," + right},
		"two header lines":        {right, right},
		"a negative time":         {"t=-1," + v1},
		"a time beyond int64":     {"t=9223372036854775808," + v1},
		"a time with a sign":      {"t=+" + stamp[2:] + "," + v1},
		"a time in hex":           {"t=0x7fffffff," + v1},
		"spaces":                  {stamp + ", " + v1},
		"capital digits":          {stamp + ",v1=" + strings.ToUpper(digits)},
		"base64":                  {stamp + ",v1=" + base64.StdEncoding.EncodeToString(raw)},
		"cut":                     {right[:len(right)-2]},
		"longer":                  {right + "00"},
		"another secret's":        {signature("whsec_other", now, text)},
		"an empty secret's":       {signature("", now, text)},
		"another body's":          {signature(webhookSecret, now, text+" ")},
		"301 s old":               {signature(webhookSecret, now.Add(-302*time.Second), text)},
		"ahead by more than 60 s": {signature(webhookSecret, now.Add(70*time.Second), text)},
		"a hundred wrong ones":    {stamp + strings.Repeat(",v1="+strings.Repeat("0", 64), 100)},
		"more than are looked at": {right + strings.Repeat(",v1="+strings.Repeat("0", 64), 150)},
		"the time of another":     {"t=" + strconv.FormatInt(now.Unix()-1, 10) + "," + v1},
		"Bearer":                  {"Bearer " + webhookSecret},
	} {
		t.Run(name, func(t *testing.T) {
			a := s.send(t, "POST", webhooks, body(text), func(r *http.Request) {
				if lines != nil {
					r.Header["Stripe-Signature"] = lines
				}
			})
			p := a.refused(t, http.StatusUnauthorized, "INVALID_SIGNATURE")
			if a.limits(t, "webhook_unauthentic"); a.header["Www-Authenticate"] != nil || len(p.Error.Details) > 0 ||
				p.Error.Message != "The Stripe-Signature header is missing, or it is not a recent signature of this body." {
				t.Errorf("the answer tells more than it should: %s %v", a.body, a.header)
			}
		})
	}
	if all := s.events(t); len(all) != 0 {
		t.Errorf("forged, and kept: %+v", all)
	}
	s.send(t, "POST", webhooks, body(text), header("Stripe-Signature", right)).received(t, true)
	if l := s.send(t, "GET", "/api/v1/account").limits(t, "auth_failure"); l.remaining != 59 {
		t.Errorf("forged webhooks count as failed authentications: %d are left", l.remaining)
	}
}

// A signature holds from a minute before it was made until five minutes after.
func TestAgeOfASignature(t *testing.T) {
	now := newClock()
	s := newServer(t, func(_ testing.TB, s *setup) { s.stripeNow = now.now })
	for seconds, fresh := range map[int]bool{-301: false, -300: true, -299: true, 0: true, 59: true, 60: true, 61: false} {
		text := event(someEvent())
		a := s.send(t, "POST", webhooks, body(text), header("Stripe-Signature", signature(webhookSecret, now.now().Add(time.Duration(seconds)*time.Second), text)))
		if fresh {
			a.received(t, true)
		} else {
			a.refused(t, http.StatusUnauthorized, "INVALID_SIGNATURE")
		}
	}
}

// While a secret is rolled both count, and then the new one alone.
func TestSecretIsRolled(t *testing.T) {
	during := newServer(t, secretOf("whsec_old,whsec_new"))
	after := newServer(t, secretOf("whsec_new"), beside(during))
	send := func(s *server, secret string) answer {
		text := event(someEvent())
		return s.send(t, "POST", webhooks, body(text), header("Stripe-Signature", signature(secret, time.Now(), text)))
	}
	send(during, "whsec_old").received(t, true)
	send(during, "whsec_new").received(t, true)
	send(during, "whsec_old,whsec_new").refused(t, http.StatusUnauthorized, "INVALID_SIGNATURE")
	send(after, "whsec_new").received(t, true)
	send(after, "whsec_old").refused(t, http.StatusUnauthorized, "INVALID_SIGNATURE")
}

// Without a secret nothing is let in, and nothing is looked at.
func TestWebhooksOff(t *testing.T) {
	for _, none := range []string{"", " ", ",", " , ,"} {
		s := newServer(t, secretOf(none), limit("webhook_unauthentic", "1/60s"))
		for range 3 {
			text := event(someEvent())
			for name, details := range map[string][]detail{
				"signed with no secret": {body(text), header("Stripe-Signature", signature("", time.Now(), text))},
				"signed with a blank":   {body(text), header("Stripe-Signature", signature(none, time.Now(), text))},
				"signed with a secret":  {signed(text)},
				"not signed":            {body(text)},
				"empty":                 nil,
				"too long":              {signed(strings.Repeat(" ", maxEvent+1))},
			} {
				a := s.send(t, "POST", webhooks, details...)
				a.refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
				if a.unlimited(t); a.header.Get("Retry-After") != "60" {
					t.Errorf("%s: Retry-After is %q", name, a.header.Get("Retry-After"))
				}
			}
		}
		if all := s.events(t); len(all) != 0 {
			t.Errorf("kept: %+v", all)
		}
	}
}

// What Stripe signed is kept, and answered with 200, whatever it is.
func TestEventThatCantBeUnderstood(t *testing.T) {
	s := newServer(t)
	deep := strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)
	for name, text := range map[string]string{
		"nothing": "", "no JSON": "{", "no UTF-8": "\xff\xfe\x00", "NUL": "\x00", "an array": "[]", "no id": `{"object": "event", "type": "x"}`, "no type": `{"id": "evt_x", "object": "event"}`,
		"an id that is none": `{"id": 5, "object": "event", "type": "x"}`, "100,000 deep": `{"id": "evt_deep", "object": "event", "type": "x", "data": ` + deep + `}`,
		"a key twice": `{"id": "evt_a", "id": "evt_b", "object": "event", "type": "x"}`, "a thin event": `{"id": "evt_thin", "object": "v2.core.event", "type": "v1.billing.meter.error"}`,
	} {
		t.Run(name, func(t *testing.T) {
			before := len(s.events(t))
			s.event(t, text).received(t, true)
			all := s.events(t)
			if len(all) != before+1 {
				t.Fatalf("there are %d events, want one more than %d", len(all), before)
			}
			if got := s.kept(t, all[0].ID); got.State != billing.Parked || got.Reason == "" || string(got.Payload) != text {
				t.Errorf("kept %+v", got)
			}
			s.event(t, text).received(t, false)
		})
	}
	// Another version's, and another account's: that is for who applies them.
	for _, extra := range []string{`"api_version": "2022-11-15"`, `"account": "acct_1"`, `"livemode": true`, `"type": "unheard.of"`} {
		s.event(t, `{"id": "`+someEvent()+`", "object": "event", "data": {"object": {}}, `+extra+`}`).received(t, true)
	}
}

// A mebibyte passes and a byte more does not, whether its length is said or
// not; and it is looked at before the signature and counted by nothing.
func TestEventSize(t *testing.T) {
	s := newServer(t, limit("stripe_webhook", "3/60s"), limit("webhook_unauthentic", "2/60s"))
	fits := padded(event(someEvent()), maxEvent)
	over := padded(event(someEvent()), maxEvent+1)
	unsaid := func(text string) []detail { // its length
		return []detail{signed(text), chunked(strings.NewReader(text))}
	}
	for range 3 {
		for _, details := range [][]detail{{signed(over)}, unsaid(over), {body(over)}, {signed(""), chunked(new(endless))}} {
			a := s.send(t, "POST", webhooks, details...)
			a.unlimited(t)
			if p := a.refused(t, http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE"); p.Error.Message != "The body must be at most 1024 KiB." {
				t.Errorf("the message is %q", p.Error.Message)
			}
		}
	}
	s.send(t, "POST", webhooks, signed(fits)).received(t, true)
	s.send(t, "POST", webhooks, unsaid(fits)...).received(t, false)
	if l := s.event(t, event(someEvent())).received(t, true).limits(t, "stripe_webhook"); l.remaining != 0 {
		t.Errorf("%d places are left, want none", l.remaining)
	}
	if l := s.send(t, "POST", webhooks, body(fits)).refused(t, http.StatusUnauthorized, "INVALID_SIGNATURE"); l.Error.Message == "" {
		t.Error("no message")
	}
	// Also where no place is left.
	s.send(t, "POST", webhooks, signed(over)).want(t, http.StatusRequestEntityTooLarge)
	if got := string(s.kept(t, s.events(t)[1].ID).Payload); got != fits {
		t.Errorf("%d bytes are kept, want the %d that came", len(got), len(fits))
	}
}

// A body that did not come whole can't be verified: that is nobody's fault.
func TestEventIsCutOff(t *testing.T) {
	s := newServer(t, limit("webhook_unauthentic", "1/60s"))
	text := event(someEvent())
	head := "POST " + webhooks + " HTTP/1.1\r\nHost: gatehouse\r\nStripe-Signature: " + signature(webhookSecret, time.Now(), text) + "\r\n"
	for range 3 {
		for name, request := range map[string]string{
			"shorter than said": head + "Content-Length: " + strconv.Itoa(len(text)+1) + "\r\n\r\n" + text,
			"no last chunk":     head + "Transfer-Encoding: chunked\r\n\r\n" + strconv.FormatInt(int64(len(text)), 16) + "\r\n" + text + "\r\n",
		} {
			a := s.raw(t, "POST", webhooks, request)
			a.refused(t, http.StatusBadRequest, "INVALID_JSON")
			if a.unlimited(t); !a.close {
				t.Errorf("%s: the connection stays open", name)
			}
		}
	}
	// A part that is a whole of its own is what was signed, or it is not.
	s.raw(t, "POST", webhooks, head+"Content-Length: "+strconv.Itoa(len(text)-1)+"\r\n\r\n"+text).refused(t, http.StatusUnauthorized, "INVALID_SIGNATURE")
	if len(s.events(t)) != 0 {
		t.Error("something is kept")
	}
}

// The same event a hundred times at once, over two nodes: one of them is told
// that it is new.
func TestEventAtOnce(t *testing.T) {
	s := newServer(t)
	nodes := []*server{s, newServer(t, beside(s))}
	for range 3 {
		id := someEvent()
		text := event(id)
		isNew := 0
		for _, a := range s.atOnce(t, 100, func(i int) (answer, error) { return nodes[i%2].try(t.Context(), "POST", webhooks, signed(text)) }) {
			if !decode[struct{ Duplicate bool }](t, a.want(t, http.StatusOK)).Duplicate {
				isNew++
			}
		}
		if isNew != 1 {
			t.Errorf("%d answers say that it is new", isNew)
		}
		if got := s.kept(t, id); len(got.History) != 1 {
			t.Errorf("kept: %+v", got)
		}
	}
	if n := len(s.events(t)); n != 3 {
		t.Errorf("%d events are kept, want three", n)
	}
}

// Many events at once, one buffer after another: each is kept as it came.
func TestEventsKeepTheirBytes(t *testing.T) {
	s := newServer(t)
	bodies := make(map[string]string)
	var ids []string
	for i := range 100 {
		id := someEvent()
		ids = append(ids, id)
		bodies[id] = padded(event(id), 1000+997*i)
	}
	s.atOnce(t, 200, func(i int) (answer, error) {
		if i%2 == 0 { // forged ones between them, in the same buffers
			return s.try(t.Context(), "POST", webhooks, body(strings.Repeat("x", 100_000)))
		}
		return s.try(t.Context(), "POST", webhooks, signed(bodies[ids[i/2]]))
	})
	for id, text := range bodies {
		if got := string(s.kept(t, id).Payload); got != text {
			t.Errorf("%s is kept as %d bytes that begin %q, want the %d that came", id, len(got), got[:min(len(got), 50)], len(text))
		}
	}
}

// ailing is an inbox that fails, and keeps what it was given or does not.
type ailing struct {
	api.Inbox
	mu   sync.Mutex
	err  error
	take bool
}

func (a *ailing) TakeIn(ctx context.Context, r billing.Receipt) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil {
		return a.Inbox.TakeIn(ctx, r)
	}
	if a.take {
		if _, err := a.Inbox.TakeIn(ctx, r); err != nil {
			return false, err
		}
	}
	return false, a.err
}

func (a *ailing) heal() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = nil
}

// What can't be stored is not acknowledged, whatever the reason, so that it
// comes again; and then it is had once.
func TestEventThatCantBeStored(t *testing.T) {
	for name, failure := range map[string]error{
		"the database is away": fault.Away(errStore), "it is read-only": fault.Refused("The database is a fenced copy."), "our bug": errStore,
	} {
		for _, take := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, and it is kept: %v", name, take), func(t *testing.T) {
				sick := &ailing{err: failure, take: take}
				s := newServer(t, func(_ testing.TB, s *setup) {
					s.inbox = func(inbox api.Inbox) api.Inbox { sick.Inbox = inbox; return sick }
				})
				text := event(someEvent())
				for range 2 {
					a := s.event(t, text, header("X-Request-Id", "its id"))
					a.refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
					a.unlimited(t)
					if after, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || after < 1 || after > 4 {
						t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
					}
				}
				if f, ok := errors.AsType[*fault.Error](failure); !ok || f.Kind != fault.Unavailable {
					if record := s.logs.record(t, "its id"); record["level"] != "ERROR" || record["msg"] != "event can't be stored" {
						t.Errorf("logged: %v", record)
					}
				}
				sick.heal()
				s.event(t, text).received(t, !take)
				if n := len(s.events(t)); n != 1 {
					t.Errorf("%d events are kept", n)
				}
			})
		}
	}
}
