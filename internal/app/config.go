package app

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"gatehouse/internal/account/email"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/gateway"
	"gatehouse/internal/mail"
	"gatehouse/internal/nearest"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/seal"
	"gatehouse/internal/settings"
	"gatehouse/internal/stripe"
	"gatehouse/internal/vending"
)

// Mode is what a node is for.
type Mode string

// The modes.
const (
	Live Mode = "live"
	Test Mode = "test" // issues test keys
	Dev  Mode = "dev"  // issues test keys
)

// KeyKind is the kind of key that a node of this mode issues.
func (m Mode) KeyKind() apikey.Kind {
	if m == Live {
		return apikey.Live
	}
	return apikey.Test
}

// Config is a node's settings, read.
type Config struct {
	Listen, AdminListen string
	Database            Database
	Cluster             string // the name of the nodes' cluster, which a PostgreSQL database keeps
	AutoMigrate         bool
	TrustedProxies      []netip.Prefix
	Mode                Mode
	DrainTimeout        time.Duration
	TLSCert, TLSKey     string
	TLS                 *tls.Config // made of the two; nil: plain HTTP
	EmailAllow          []string
	EmailDeny           []string
	CheckMX             bool
	LoadTestDomains     []string     // of sign-ups that are a load test's, as email.ParseDomain spells them
	PurgeDomains        []string     // that a purge may be told: those, or the default wherever this listens
	SMTP                *mail.Server // nil: no mail is sent
	MailFrom            *mail.From
	StripeKey           *stripe.Key // nil: Stripe is not asked
	StripeBase          string
	WebhookSecrets      stripe.Secrets // none: the endpoint is off
	ReconcileEvery      time.Duration
	Catalogue           billing.Catalogue
	PublicURL           string // without a slash at its end
	Upstreams           map[string]gateway.Upstream
	OpenAIKeys          OpenAIKeys
	OpenRouterKeys      OpenRouterKeys
	Prices              billing.Prices
	MasterKeys          *seal.Ring // those that are set; see masterKeys
	LogFormat, LogLevel string
	Policies            map[ratelimit.Name]ratelimit.Policy
}

// LoadConfig reads the settings from flags, environ and file. The values are
// for `gatehouse config`.
func LoadConfig(flags map[string]string, environ []string, file string) (c Config, values []settings.Value, err error) {
	values, err = settings.Load(c.Settings(), settings.Sources{Flags: flags, Environ: environ, File: file})
	if c.SMTP != nil && c.MailFrom == nil && err == nil { // or the reader of mail-from has said it
		err = errors.Join(err, errors.New("mail-from: not set, and smtp-url is: say whom mail is from, such as Gatehouse <noreply@example.com>"))
	}
	return c, values, errors.Join(err, c.loadTLS(), c.checkMakers())
}

// loadTLS reads the certificate, so that a wrong one is found with all else
// that is wrong, and before anything is done.
func (c *Config) loadTLS() error {
	switch {
	case c.TLSCert == "" && c.TLSKey == "":
		return nil
	case c.TLSCert == "" || c.TLSKey == "":
		return errors.New("tls-cert and tls-key go together: set both, or neither to serve plain HTTP")
	}
	pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return fmt.Errorf("tls-cert, tls-key: %w", err)
	}
	c.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	return nil
}

// Settings declares all settings, each of which reads into c.
func (c *Config) Settings() []settings.Setting {
	all := []settings.Setting{
		{Name: "listen", Default: "127.0.0.1:8080", Help: "address of the public API", Read: address(&c.Listen)},
		{Name: "admin-listen", Default: "127.0.0.1:9090", Help: "address of /metrics, /environment and pprof, which have no authentication; off: none", Read: func(s string) error {
			if s == "off" {
				c.AdminListen = ""
				return nil
			}
			return address(&c.AdminListen)(s)
		}},
		{Name: "database", Default: "sqlite:gatehouse.db", MayHoldPassword: true, Help: "where everything is kept: sqlite:FILE, or postgres://USER@HOST/NAME for many nodes (a password goes into the variable, or its file)", Read: func(s string) (err error) {
			c.Database, err = ParseDatabase(s)
			return err
		}},
		{Name: "cluster", Default: "gatehouse", Help: "name of the cluster: the first node names its PostgreSQL database so, and nodes of another name are refused it", Read: c.readCluster},
		{Name: "auto-migrate", Default: "true", Help: "bring the database's schema up to date at start", Read: boolean(&c.AutoMigrate)},
		{Name: "trusted-proxies", Help: "CIDRs of proxies whose X-Forwarded-For counts, by comma", Read: c.readProxies},
		{Name: "mode", Default: "live", Help: "live, test or dev; test and dev issue gk_test_ keys", Read: func(s string) error {
			if c.Mode = Mode(s); c.Mode != Live && c.Mode != Test && c.Mode != Dev {
				return fmt.Errorf("%q: want live, test or dev%s", s, nearest.DidYouMean(s, []string{"live", "test", "dev"}))
			}
			return nil
		}},
		{Name: "drain-timeout", Default: "30s", Help: "how long a stop may take; a quarter of it, 1s to 5s, is the delay for balancers", Read: duration(&c.DrainTimeout, minDrain, time.Hour)},
		{Name: "tls-cert", Help: "file of the certificate chain, in PEM; serves HTTPS together with tls-key", Read: plain(&c.TLSCert)},
		{Name: "tls-key", Help: "file of the certificate's key, in PEM", Read: plain(&c.TLSKey)},
		{Name: "email-allow", Help: "domains, with their subdomains, that may sign up though they are on a built-in list, by comma", Read: domains(&c.EmailAllow, func(d []string) error { _, err := email.NewRules(d, nil); return err })},
		{Name: "email-deny", Help: "domains, with their subdomains, that may not sign up, by comma", Read: domains(&c.EmailDeny, func(d []string) error { _, err := email.NewRules(nil, d); return err })},
		{Name: "check-mx", Default: "false", Help: "refuse sign-ups whose domain can't receive mail; when the resolver gives no answer they pass", Read: boolean(&c.CheckMX)},
		{Name: "load-test-domains", Help: "domains, without their subdomains, of load tests' customers, by comma: they may sign up wherever they are, get no mail and no Stripe customer, and admin customers purge removes them; not set: " + loadTestDomain + " if listen is a loopback address, else none; off: none", Read: c.readLoadTestDomains},
		{Name: "smtp-url", MayHoldPassword: true, Help: "where mail is handed over: smtp://USER:PASSWORD@HOST:587 (insists on STARTTLS but on loopback; ?tls=off at its end lets mail through in the open, without a password) or smtps://…; not set: no mail is sent", Read: optionally(&c.SMTP, mail.ParseServer)},
		{Name: "mail-from", Help: "whom mail is from, such as Gatehouse <noreply@example.com>; needed with smtp-url", Read: optionally(&c.MailFrom, mail.ParseFrom)},
		{Name: "stripe-api-key", Secret: true, Help: "Stripe's secret key (sk_… or rk_…); not set: Stripe is not asked", Read: optionally(&c.StripeKey, stripe.ParseKey)},
		{Name: "stripe-api-base", Default: "https://api.stripe.com", Help: "where Stripe is; a stand-in's address in development", Read: func(s string) (err error) {
			c.StripeBase, err = stripe.ParseBase(s)
			return err
		}},
		{Name: "stripe-webhook-secrets", Secret: true, Help: "what Stripe signs its webhooks with (whsec_…), by comma: several while one is rolled; not set: the endpoint is off", Read: func(s string) (err error) {
			c.WebhookSecrets, err = stripe.ParseSecrets(s)
			return err
		}},
		{Name: "stripe-reconcile-every", Default: "5m", Help: "how often Stripe's list of events is read for those that never arrived, if stripe-api-key is set", Read: duration(&c.ReconcileEvery, time.Second, 24*time.Hour)},
		{Name: "catalogue", Help: "file of plans, prices and credits, in YAML; not set: the one in the binary, which gatehouse catalogue prints", Read: c.readCatalogue},
		{Name: "master-key", Secret: true, Help: "what secrets are sealed with: 32 bytes in base64; several by comma, of which the first seals and all open; not set: the file beside a SQLite database with .key added, which serve makes; needed on PostgreSQL, the same on all nodes", Read: func(s string) (err error) {
			c.MasterKeys, err = seal.Parse(s)
			return err
		}},
		{Name: "public-url", Help: "where clients reach this, such as https://gate.example.com: base_url of credentials begins so; not set: scheme and listen address", Read: c.readPublicURL},
		{Name: "prices", Help: "file of what AI providers ask for, in YAML; not set: the one in the binary, which gatehouse catalogue --prices prints", Read: c.readPrices},
		{Name: "log-format", Default: "json", Help: "json or text", Read: oneOf(&c.LogFormat, "json", "text")},
		{Name: "log-level", Default: "info", Help: "debug, info, warn or error", Read: oneOf(&c.LogLevel, "debug", "info", "warn", "error")},
	}
	c.Upstreams = make(map[string]gateway.Upstream)
	for _, p := range []struct{ name, base, example string }{
		{"anthropic", "https://api.anthropic.com", "sk-ant-…"}, {"openai", "https://api.openai.com", "sk-…"}, {"openrouter", "https://openrouter.ai", "sk-or-v1-…"}, {"ollama", "http://127.0.0.1:11434", ""},
	} {
		all = append(all, settings.Setting{Name: p.name + "-base-url", Default: p.base, Help: "where " + p.name + "'s API is; what follows /gateway/" + p.name + " is appended", Read: func(s string) error {
			return c.readBase(p.name, s)
		}})
		if p.example != "" {
			all = append(all, settings.Setting{Name: p.name + "-api-key", Secret: true, Help: "the key (" + p.example + ") that the gateway uses there; not set: no credentials for it", Read: func(s string) error {
				return c.readProviderKey(p.name, s)
			}})
		}
	}
	all = append(all, c.makerSettings()...)
	c.Policies = make(map[ratelimit.Name]ratelimit.Policy)
	for _, p := range ratelimit.Defaults() {
		all = append(all, settings.Setting{
			Name: "limit-" + strings.ReplaceAll(string(p.Name), "_", "-"), Default: p.String(),
			Help: fmt.Sprintf("limit of the policy %s: a count and a sliding window such as %s, or off", p.Name, p),
			Read: func(s string) (err error) {
				c.Policies[p.Name], err = p.ParseLimit(s)
				return err
			},
		})
	}
	return all
}

func (c *Config) readCatalogue(file string) error {
	if file == "" {
		c.Catalogue = billing.DefaultCatalogue()
		return nil
	}
	text, err := os.ReadFile(file)
	if err == nil {
		c.Catalogue, err = billing.ParseCatalogue(text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func (c *Config) readPrices(file string) (err error) {
	if file == "" {
		c.Prices = billing.DefaultPrices()
		return nil
	}
	text, err := os.ReadFile(file)
	if err == nil {
		c.Prices, err = billing.ParsePrices(text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// readPublicURL is called after listen and the certificate are read.
func (c *Config) readPublicURL(s string) error {
	if s == "" {
		scheme := "http://"
		if c.TLSCert != "" {
			scheme = "https://"
		}
		c.PublicURL = scheme + c.Listen
		return nil
	}
	base, err := webAddress(s)
	c.PublicURL = base
	return err
}

// webAddress reads a URL of a scheme, a host and perhaps a path.
func webAddress(s string) (string, error) {
	s = strings.TrimSuffix(s, "/")
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || strings.ContainsAny(s, "?#% ") {
		return "", errors.New("want http(s)://HOST[/PATH], without user, query and fragment") // not the value: it may hold a password
	}
	return s, nil
}

// readBase is where a provider is. Those without a key of ours are offered by
// that alone.
func (c *Config) readBase(provider, s string) error {
	base, err := webAddress(s)
	if err == nil {
		c.Upstreams[provider] = gateway.Upstream{Base: base, Key: c.Upstreams[provider].Key}
	}
	return err
}

func (c *Config) readProviderKey(provider, s string) error {
	u := c.Upstreams[provider]
	err := printable(&u.Key)(s)
	c.Upstreams[provider] = u
	return err
}

// printable reads what goes into a header or a path.
func printable(into *string) func(string) error {
	return func(s string) error {
		if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return errors.New("want printable ASCII without spaces")
		}
		*into = s
		return nil
	}
}

// offered are the providers that credentials can be had for.
func (c Config) offered() (all []vending.Provider, upstreams map[string]gateway.Upstream) {
	upstreams = make(map[string]gateway.Upstream)
	for _, p := range vending.Providers() {
		if u := c.Upstreams[string(p)]; u.Key != "" || p == vending.Ollama {
			all, upstreams[string(p)] = append(all, p), u
		}
	}
	return all, upstreams
}

func (c *Config) readCluster(s string) error {
	if s == "" || len(s) > 63 || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%q: want 1 to 63 printable ASCII characters without spaces, such as production", s)
	}
	c.Cluster = s
	return nil
}

// CanServe says what a node is missing that an operator's command is not.
func (c Config) CanServe() error {
	if c.Database.URL != "" && !c.MasterKeys.Ready() {
		return errors.New("master-key: not set, and nodes on PostgreSQL need one, the same on all: set GATEHOUSE_MASTER_KEY to what `openssl rand -base64 32` prints, and keep it")
	}
	return nil
}

func (c *Config) readProxies(s string) error {
	c.TrustedProxies = nil
	for _, item := range split(s) {
		p, err := netip.ParsePrefix(item)
		if a, aerr := netip.ParseAddr(item); err != nil && aerr == nil { // one proxy
			p, err = a.Prefix(a.BitLen())
		}
		if err != nil || strings.Contains(item, "%") {
			return fmt.Errorf("%q: want CIDRs or addresses by comma, such as 10.0.0.0/8,fd00::/8", item)
		}
		if p.Addr().Is4In6() {
			return fmt.Errorf("%q: write IPv4 as IPv4", item)
		}
		c.TrustedProxies = append(c.TrustedProxies, p.Masked())
	}
	return nil
}

// loadTestDomain is where load tests of one's own machine sign up: .internal
// is nobody's, so the address is nobody's either.
const loadTestDomain = "load.gatehouse.internal"

// readLoadTestDomains is called after listen is read, which decides what the
// default is. A purge has the default in any case: it removes only who signed
// up where it held.
func (c *Config) readLoadTestDomains(s string) error {
	c.LoadTestDomains, c.PurgeDomains = nil, nil
	switch s {
	case "off":
		return nil
	case "":
		c.PurgeDomains = []string{loadTestDomain}
		if onLoopback(c.Listen) {
			c.LoadTestDomains = c.PurgeDomains
		}
		return nil
	}
	for _, item := range split(s) {
		domain, err := email.ParseDomain(item)
		if err != nil {
			return fmt.Errorf("%w: want domains by comma, such as load.example.com, or off", err)
		}
		// A purge goes by canonical addresses, and none is at such a domain.
		if a, err := email.Parse("x@" + domain); err != nil || a.Canonical != "x@"+domain {
			return fmt.Errorf("%q: its mailboxes are another domain's too: want domains of your own by comma, such as load.example.com, or off", item)
		}
		c.LoadTestDomains = append(c.LoadTestDomains, domain)
	}
	c.PurgeDomains = c.LoadTestDomains
	return nil
}

// onLoopback reports whether only this machine reaches a HOST:PORT.
func onLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil || host == "localhost" {
		return err == nil
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func address(into *string) func(string) error {
	return func(s string) error {
		_, port, err := net.SplitHostPort(s)
		if _, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil {
			return fmt.Errorf("%q: want HOST:PORT, such as 127.0.0.1:8080", s)
		}
		*into = s
		return nil
	}
}

// optionally reads what may be left out, which leaves nil.
func optionally[T any](into **T, parse func(string) (T, error)) func(string) error {
	return func(s string) error {
		*into = nil
		if s == "" {
			return nil
		}
		v, err := parse(s)
		if err == nil {
			*into = &v
		}
		return err
	}
}

func plain(into *string) func(string) error {
	return func(s string) error { *into = s; return nil }
}

func domains(into *[]string, check func([]string) error) func(string) error {
	return func(s string) error {
		*into = split(s)
		if err := check(*into); err != nil {
			return fmt.Errorf("%q: want domains by comma, such as example.com,co.example: %w", s, err)
		}
		return nil
	}
}

func split(s string) (items []string) {
	for item := range strings.SplitSeq(s, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

func boolean(into *bool) func(string) error {
	return func(s string) (err error) {
		if *into, err = strconv.ParseBool(s); err != nil {
			return fmt.Errorf("%q: want true or false", s)
		}
		return nil
	}
}

func duration(into *time.Duration, least, most time.Duration) func(string) error {
	return func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil || d < least || d > most {
			return fmt.Errorf("%q: want a duration from %s to %s, such as 30s", s, least, most)
		}
		*into = d
		return nil
	}
}

func oneOf(into *string, values ...string) func(string) error {
	return func(s string) error {
		for _, v := range values {
			if s == v {
				*into = v
				return nil
			}
		}
		return fmt.Errorf("%q: want %s%s", s, strings.Join(values, " or "), nearest.DidYouMean(s, values))
	}
}
