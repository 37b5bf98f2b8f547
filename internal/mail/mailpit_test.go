package mail_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/jobs"
	"gatehouse/internal/mail"
)

// mailpit is a real mail server, running.
type mailpit struct {
	smtp, api string
}

// startMailpit starts mailpit on free ports, with flags beside those that any
// test needs. It can't be told to choose its ports, so somebody may take one
// before it does: then it ends, and is started again.
func startMailpit(t *testing.T, flags ...string) mailpit {
	t.Helper()
	binary := os.Getenv("MAILPIT")
	if binary == "" {
		t.Skip("MAILPIT is not set: run `make test PKG=./internal/mail`")
	}
	for range 3 {
		if p, up := tryMailpit(t, binary, flags); up {
			return p
		}
	}
	t.Fatal("mailpit does not start")
	return mailpit{}
}

func tryMailpit(t *testing.T, binary string, flags []string) (p mailpit, up bool) {
	t.Helper()
	p.smtp, p.api = freePorts(t)
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, append(slices.Clip(flags), "--smtp", p.smtp, "--listen", p.api,
		"--database", filepath.Join(t.TempDir(), "mail.db"), "--disable-version-check", "--smtp-disable-rdns")...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	dead := make(chan struct{})
	go func() { _ = cmd.Wait(); close(dead) }() // it ends with the test's context
	t.Cleanup(func() {
		<-dead
		if t.Failed() {
			t.Logf("mailpit said:\n%s", log.String())
		}
	})
	listens := func(addr string) bool {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
		if err != nil {
			return false
		}
		return c.Close() == nil
	}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !listens(p.api) || !listens(p.smtp) {
		select {
		case <-again.C:
		case <-dead:
			return p, false
		case <-time.After(30 * time.Second):
			t.Fatal("mailpit does not listen")
		}
	}
	select {
	case <-dead: // somebody else listens there
		return p, false
	default:
		return p, true
	}
}

func freePorts(t *testing.T) (one, other string) {
	t.Helper()
	for _, p := range []*string{&one, &other} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close() //nolint:gocritic // both are held until both are known
		*p = ln.Addr().String()
	}
	return one, other
}

// get reads the answer of mailpit's interface to path.
func (p mailpit) get(t *testing.T, path string, into any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.api+"/api/v1/"+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v: %s", path, answer.Status, err, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		t.Fatalf("%s: %v: %s", path, err, body)
	}
}

// inbox is the ids of the messages that came.
func (p mailpit) inbox(t *testing.T) (ids []string) {
	t.Helper()
	var list struct {
		Messages []struct{ ID string } `json:"messages"`
	}
	p.get(t, "messages", &list)
	for _, m := range list.Messages {
		ids = append(ids, m.ID)
	}
	return ids
}

func TestARealServerReadsTheWelcomeAsMeant(t *testing.T) {
	p := startMailpit(t, "--smtp-strict-rfc-headers")
	out := sender(t, server(t, "smtp://"+p.smtp))
	c := jane
	c.Name, c.Email = "Zoë O'Neil", "jane@Bücher.de"
	for range 2 {
		if err := out.Welcome(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	ids := p.inbox(t)
	if len(ids) != 2 {
		t.Fatalf("%d mails", len(ids))
	}
	for _, id := range ids {
		type address struct{ Name, Address string }
		var m struct {
			MessageID, Subject, Text, HTML string
			From                           address
			To, Cc, Bcc                    []address
			Attachments, Inline            []any
		}
		p.get(t, "message/"+id, &m)
		if m.MessageID != "welcome."+c.ID+"@gatehouse.dev" || m.Subject != "Your Gatehouse account is open" ||
			m.From != (address{"Gatehouse", "support@gatehouse.dev"}) || len(m.To) != 1 || m.To[0] != (address{"", "jane@xn--bcher-kva.de"}) ||
			len(m.Cc)+len(m.Bcc)+len(m.Attachments)+len(m.Inline) != 0 {
			t.Errorf("%+v", m)
		}
		if text := strings.ReplaceAll(m.Text, "\r\n", "\n"); !strings.HasPrefix(text, "Hello Zoë O'Neil,\n\nyour Gatehouse account is open, with a credit of 50 fixes.\n\nYour API key") {
			t.Errorf("text: %q", text)
		}
		if !strings.Contains(m.HTML, "<p>Hello Zoë O&#39;Neil,</p>") || !strings.Contains(m.HTML, "a credit of 50 fixes.</p>") {
			t.Errorf("html: %q", m.HTML)
		}
		var headers map[string][]string
		p.get(t, "message/"+id+"/headers", &headers)
		if got := headers["Auto-Submitted"]; len(got) != 1 || got[0] != "auto-generated" || headers["User-Agent"] != nil || headers["X-Mailer"] != nil {
			t.Errorf("headers %v", headers)
		}
	}
}

// certificate makes a certificate for loopback that nobody but roots trusts.
func certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key, roots = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), x509.NewCertPool()
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	roots.AppendCertsFromPEM(public)
	for name, text := range map[string][]byte{cert: public, key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key, roots
}

func TestPasswordsGoOverTLSThatIsChecked(t *testing.T) {
	for scheme, flag := range map[string]string{"smtp": "--smtp-require-starttls", "smtps": "--smtp-require-tls"} {
		t.Run(scheme, func(t *testing.T) {
			cert, key, roots := certificate(t)
			users := filepath.Join(t.TempDir(), "users")
			if err := os.WriteFile(users, []byte("jane:s3cret/@\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			p := startMailpit(t, flag, "--smtp-tls-cert", cert, "--smtp-tls-key", key, "--smtp-auth-file", users)
			at := func(user string) mail.Server {
				s := server(t, scheme+"://"+user+p.smtp)
				if scheme == "smtp" {
					s = s.Abroad()
				}
				return s
			}
			for name, s := range map[string]mail.Server{
				"certificate": at("jane:s3cret%2F%40@"), // that nobody signed
				"535":         at("jane:s3cret@").Trusting(roots),
				"530":         at("").Trusting(roots), // who are you
			} {
				err := sender(t, s).Welcome(t.Context(), jane)
				if err == nil || jobs.IsPermanent(err) || !strings.Contains(err.Error(), name) {
					t.Errorf("%s: %v", name, err)
					continue
				}
				tidy(t, err.Error())
			}
			if ids := p.inbox(t); len(ids) != 0 {
				t.Errorf("%d mails came", len(ids))
			}
			if err := sender(t, at("jane:s3cret%2F%40@").Trusting(roots)).Welcome(t.Context(), jane); err != nil || len(p.inbox(t)) != 1 {
				t.Errorf("%v, %d mails came", err, len(p.inbox(t)))
			}
		})
	}
}
