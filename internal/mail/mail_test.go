package mail_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"gatehouse/internal/account"
	"gatehouse/internal/jobs"
	"gatehouse/internal/mail"
	"gatehouse/internal/mail/mailtest"
)

var jane = account.Customer{
	ID: "01993b6e-8a4f-7000-8000-000000000001", Name: "Jane Doe", Email: "jane@acme.com", Company: "ACME Rockets",
	CreditBalance: 50, StripeCustomerID: "cus_1",
}

func server(t *testing.T, rawURL string) mail.Server {
	t.Helper()
	s, err := mail.ParseServer(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sender(t *testing.T, s mail.Server) *mail.Sender {
	t.Helper()
	f, err := mail.ParseFrom("Gatehouse <support@gatehouse.dev>")
	if err != nil {
		t.Fatal(err)
	}
	return mail.New(s, f)
}

// start starts a stand-in, and a sender that hands its mail to it.
func start(t *testing.T) (*mailtest.Server, *mail.Sender) {
	t.Helper()
	s := mailtest.Start()
	t.Cleanup(s.Close)
	return s, sender(t, server(t, s.URL()))
}

// bodies returns the text and the HTML of a message.
func bodies(t *testing.T, m mailtest.Message) (text, html string) {
	t.Helper()
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("content type %s, %v", kind, err)
	}
	whole, err := netmail.ReadMessage(strings.NewReader(string(m.Raw)))
	if err != nil {
		t.Fatal(err)
	}
	parts := multipart.NewReader(whole.Body, params["boundary"])
	for _, to := range []*string{&text, &html} {
		p, err := parts.NextRawPart()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		*to = strings.ReplaceAll(string(body), "\r\n", "\n")
	}
	if _, err := parts.NextPart(); !errors.Is(err, io.EOF) {
		t.Errorf("a third part, %v", err)
	}
	return text, html
}

// tidy fails the test if an error holds what must not be kept or logged.
func tidy(t *testing.T, text string) {
	t.Helper()
	bare := strings.ReplaceAll(text, "…@…", "")
	if strings.Contains(bare, "@") || strings.Contains(text, "s3cret") || len([]rune(text)) > 400 ||
		strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("not fit for a log: %.1000q", text)
	}
}

func TestTheWelcomeSaysWhatItShouldAndNoMore(t *testing.T) {
	s, out := start(t)
	if err := out.Welcome(t.Context(), jane); err != nil {
		t.Fatal(err)
	}
	m := s.Messages()[0]
	if m.Helo != "gatehouse.dev" || !strings.HasPrefix(m.From, "<support@gatehouse.dev>") || !slices.Equal(m.To, []string{"<jane@acme.com>"}) {
		t.Errorf("envelope: hello %q, from %q, to %q", m.Helo, m.From, m.To)
	}
	want := map[string]string{
		"From": `"Gatehouse" <support@gatehouse.dev>`, "To": "<jane@acme.com>", "Subject": "Your Gatehouse account is open",
		"Message-Id": "<welcome." + jane.ID + "@gatehouse.dev>", "Auto-Submitted": "auto-generated", "Mime-Version": "1.0",
		"Date": m.Header.Get("Date"), "Content-Type": m.Header.Get("Content-Type"),
	}
	for name, values := range m.Header {
		if len(values) != 1 || values[0] != want[name] {
			t.Errorf("header %s: %q, want %q", name, values, want[name])
		}
		delete(want, name)
	}
	if _, err := m.Header.Date(); err != nil || len(want) > 0 {
		t.Errorf("date: %v; missing: %v", err, want)
	}
	text, html := bodies(t, m)
	for _, part := range []string{text, html} {
		for _, says := range []string{"Hello Jane Doe,", "a credit of 50 fixes.", "API key was shown once", "did not sign up?"} {
			if !strings.Contains(part, says) {
				t.Errorf("no %q in:\n%s", says, part)
			}
		}
		for _, never := range []string{jane.ID, jane.Company, jane.Email, jane.StripeCustomerID, "http", "src="} {
			if strings.Contains(part, never) {
				t.Errorf("%q is in:\n%s", never, part)
			}
		}
	}
	one := jane
	one.CreditBalance = 1
	if err := out.Welcome(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	if text, _ := bodies(t, s.Messages()[1]); !strings.Contains(text, "a credit of 1 fix.") {
		t.Error(text)
	}
}

func TestRefusalsArePermanentAndEverythingElseIsTriedAgain(t *testing.T) {
	tests := []struct {
		verb, answer string
		permanent    bool
		says         string
	}{
		{"RCPT", "550 5.1.1 no such user", true, `550 "5.1.1 no such user"`},
		{"RCPT", "501 5.1.3 bad address", true, "501"},
		{"DATA", "554 5.6.0 no", true, "554"},
		{"DATA", "550 no", true, "550"},
		{".", "552 5.3.4 too big", true, "552"},
		{".", "554 5.6.1 spam", true, "spam"},
		{"RCPT", "554 5.7.1 relay access denied", false, "relay"},
		{".", "550 5.7.26 not yours", false, "yours"},
		{"RCPT", "450 4.2.0 greylisted", false, `450 "4.2.0 greylisted"`},
		{"RCPT", "421 4.3.0 going down", false, "421"},
		{"RCPT", "530 5.7.0 who are you", false, "530"},
		{".", "451 4.3.0 later", false, "451"},
		{".", "221 what", false, "221"},
		{"MAIL", "550 5.1.0 not you", false, "550"},
		{"MAIL", "452 4.3.1 full", false, "452"},
		{"EHLO", "554 no", false, "AUTH"},
		{"AUTH", "535 5.7.8 wrong password", false, "535"},
		{"AUTH", "334 not base64", false, "base64"},
		{"RCPT", "what?", false, "what?"},
		{"RCPT", "600 eh", false, "600"},
		{"RCPT", "5", false, "short"},
	}
	for _, tt := range tests {
		t.Run(tt.verb+" "+tt.answer, func(t *testing.T) {
			t.Parallel()
			s := mailtest.Start()
			t.Cleanup(s.Close)
			s.Answer(tt.verb, tt.answer)
			err := sender(t, server(t, "smtp://jane:s3cret@"+s.Addr())).Welcome(t.Context(), jane)
			if err == nil || jobs.IsPermanent(err) != tt.permanent || !strings.Contains(err.Error(), tt.says) {
				t.Fatalf("%v, permanent %t", err, jobs.IsPermanent(err))
			}
			tidy(t, err.Error())
			if got := s.Messages(); len(got) != 0 {
				t.Errorf("taken: %v", got)
			}
		})
	}
}

func TestFaults(t *testing.T) {
	tests := []struct {
		fault     mailtest.Fault
		says      string // "": no error
		permanent bool
		taken     int
	}{
		{mailtest.None, "", false, 1},
		{mailtest.Refuse, `550 "5.1.1 …@… nobody here"`, true, 0},
		{mailtest.Busy, `451 "too many of you"`, false, 0},
		{mailtest.Garbage, "…@…", false, 0},
		{mailtest.Flood, "said more than 1048576 bytes", false, 0},
		{mailtest.Drop, "EOF", false, 1},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.fault, tt.says), func(t *testing.T) {
			t.Parallel()
			s, out := start(t)
			s.Fault(tt.fault)
			err := out.Welcome(t.Context(), jane)
			if (err == nil) != (tt.says == "") || jobs.IsPermanent(err) != tt.permanent {
				t.Fatalf("%v, permanent %t", err, jobs.IsPermanent(err))
			}
			if err != nil {
				tidy(t, err.Error())
				if !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "affected") {
					t.Errorf("%v, want … %s …", err, tt.says)
				}
			}
			s.Fault(mailtest.None)
			if err := out.Welcome(t.Context(), jane); err != nil {
				t.Fatal(err)
			}
			got := s.Messages()
			if len(got) != tt.taken+1 {
				t.Fatalf("taken %d, want %d", len(got), tt.taken+1)
			}
			for _, m := range got {
				if m.MessageID() != got[0].MessageID() || m.MessageID() == "" {
					t.Errorf("message ids %s and %s", got[0].MessageID(), m.MessageID())
				}
			}
		})
	}
}

func TestASilentServerIsLeftWhenTheContextEnds(t *testing.T) {
	for _, at := range []string{"greeting", "handshake", "EHLO", "MAIL", "RCPT", "DATA", "."} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			s, out := start(t)
			switch at {
			case "greeting":
				s.Fault(mailtest.Hang)
			case "handshake":
				s.Fault(mailtest.Hang)
				out = sender(t, server(t, "smtps://"+s.Addr()))
			default:
				s.Answer(at, "")
			}
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- out.Welcome(ctx, jane) }()
			select {
			case err := <-done:
				if !errors.Is(err, context.DeadlineExceeded) || jobs.IsPermanent(err) {
					t.Error(err)
				}
			case <-time.After(20 * time.Second): // far from what it takes, and from the sender's own limit
				t.Error("still waiting for the server")
			}
		})
	}
}

func TestAMailThatWasTakenIsSentWhateverFollows(t *testing.T) {
	for _, goodbye := range []string{"", "421 and do not come back", "what?"} {
		s, out := start(t)
		s.Answer("RSET", goodbye)
		s.Answer("QUIT", goodbye)
		if err := out.Welcome(t.Context(), jane); err != nil || len(s.Messages()) != 1 {
			t.Errorf("%q: %v, taken %d", goodbye, err, len(s.Messages()))
		}
	}
}

func TestAnOutageIsSurvived(t *testing.T) {
	s, out := start(t)
	addr := s.Addr()
	s.Close()
	if err := out.Welcome(t.Context(), jane); err == nil || jobs.IsPermanent(err) {
		t.Errorf("nobody there: %v", err)
	}
	again, err := mailtest.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	sent := make(chan error, 1)
	go func() { sent <- out.Welcome(t.Context(), jane) }()
	if got, err := again.Wait(t.Context(), 1); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}

func TestNothingIsSaidWithoutTheTLSWanted(t *testing.T) {
	s, _ := start(t)
	here := server(t, "smtp://jane:s3cret@"+s.Addr())
	err := sender(t, here.Abroad()).Welcome(t.Context(), jane)
	if err == nil || jobs.IsPermanent(err) || !strings.Contains(err.Error(), "STARTTLS") || len(s.Messages()) > 0 {
		t.Errorf("%v, taken %d", err, len(s.Messages()))
	}
	if err := sender(t, here).Welcome(t.Context(), jane); err != nil || len(s.Messages()) != 1 {
		t.Errorf("on loopback: %v", err)
	}
}

func TestWhatACustomerWroteAddsNoRecipientAndNoHeader(t *testing.T) {
	s, out := start(t)
	want := []string{"Auto-Submitted", "Content-Type", "Date", "From", "Message-Id", "Mime-Version", "Subject", "To"}
	sent := 0
	check := func(c account.Customer, to string) {
		t.Helper()
		if err := out.Welcome(t.Context(), c); err != nil {
			t.Errorf("%q <%q>: %v", c.Name, c.Email, err)
			return
		}
		sent++
		got := s.Messages()
		m := got[len(got)-1]
		if len(got) != sent || !slices.Equal(m.To, []string{"<" + to + ">"}) || m.Header.Get("To") != "<"+to+">" || strings.Contains(m.From, "SMTPUTF8") {
			t.Errorf("%q <%q>: %d mails, from %s to %q, header %q", c.Name, c.Email, len(got), m.From, m.To, m.Header.Get("To"))
		}
		if names := slices.Sorted(maps.Keys(m.Header)); !slices.Equal(names, want) {
			t.Errorf("%q <%q>: headers %q", c.Name, c.Email, names)
		}
		if text, html := bodies(t, m); strings.Contains(text+html, "evil") || strings.Contains(text+html, "<b>") {
			t.Errorf("%q: %s%s", c.Name, text, html)
		}
	}
	for _, name := range evil {
		c := jane
		c.Name = name
		check(c, "jane@acme.com")
	}
	for given, to := range map[string]string{
		"Jane.Doe+x@ACME.com":                    "Jane.Doe+x@acme.com",
		"jane@Bücher.de":                         "jane@xn--bcher-kva.de",
		"!#$%&'*+-/=?^_`{|}~@acme.com":           "!#$%&'*+-/=?^_`{|}~@acme.com",
		"=?utf-8?q?a=0d=0aBcc=3a?=@acme.com":     "=?utf-8?q?a=0d=0aBcc=3a?=@acme.com",
		strings.Repeat("a", 64) + "@acme.com":    strings.Repeat("a", 64) + "@acme.com",
		"a@" + strings.Repeat("b.", 123) + "com": "a@" + strings.Repeat("b.", 123) + "com",
	} {
		c := jane
		c.Email = given
		check(c, to)
	}
	for _, bad := range append(evil, "jane@acme.com\r\nRCPT TO:<joe@evil.com>", "jane@acme.com, joe@evil.com", "jane@acme.com> NOTIFY=NEVER",
		"Joe <joe@evil.com>", `"a> ORCPT=x"@acme.com`, "jane@acme.com\x00", "jane\u202e@acme.com", "jané@acme.com", "jane@[127.0.0.1]") {
		if bad == "joe@evil.com" {
			continue // it is an address
		}
		c := jane
		c.Email = bad
		err := out.Welcome(t.Context(), c)
		if !jobs.IsPermanent(err) || len(s.Messages()) != sent {
			t.Errorf("<%q>: %v, %d mails, want %d", bad, err, len(s.Messages()), sent)
			continue
		}
		tidy(t, err.Error())
	}
}

func TestSendersAreOneAddress(t *testing.T) {
	s, _ := start(t)
	for given, want := range map[string]string{
		"support@acme.com":                   "<support@acme.com>",
		"Gatehouse <support@ACME.com>":       `"Gatehouse" <support@acme.com>`,
		`"Gatehouse, Inc." <a@acme.com>`:     `"Gatehouse, Inc." <a@acme.com>`,
		"Büro <a@bücher.de>":                 "=?utf-8?q?B=C3=BCro?= <a@xn--bcher-kva.de>",
		"=?utf-8?q?B=C3=BCro?= <a@acme.com>": "=?utf-8?q?B=C3=BCro?= <a@acme.com>",
	} {
		from, err := mail.ParseFrom(given)
		if err != nil {
			t.Errorf("%q: %v", given, err)
			continue
		}
		if err := mail.New(server(t, s.URL()), from).Welcome(t.Context(), jane); err != nil {
			t.Errorf("%q: %v", given, err)
		}
		got := s.Messages()
		if from := got[len(got)-1].Header.Get("From"); from != want {
			t.Errorf("%q: From: %s, want %s", given, from, want)
		}
	}
	for _, given := range []string{
		"", "acme.com", "@acme.com", "a@localhost", "a@acme.com, b@acme.com", "Gatehouse", "a@[127.0.0.1]", "ü@acme.com",
		"=?utf-8?q?a=0d=0aBcc=3a_x?= <a@acme.com>", "a@acme.com\r\nBcc: x@acme.com", strings.Repeat("x", 1000),
	} {
		if from, err := mail.ParseFrom(given); err == nil || !strings.Contains(err.Error(), "want one address like") || len(err.Error()) > 500 {
			t.Errorf("%q is %v, %v", given, from, err)
		}
	}
}
