package app_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gatehouse/internal/apikey"
	"gatehouse/internal/app"
	"gatehouse/internal/billing"
	"gatehouse/internal/gateway"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/seal"
	"gatehouse/internal/settings"
)

// with reads the settings with one variable set, given as the setting's name.
func with(name, value string) (app.Config, error) {
	c, _, err := app.LoadConfig(nil, []string{settings.Setting{Name: name}.Env() + "=" + value}, "")
	return c, err
}

// says checks that an error says each of some things.
func says(t *testing.T, err error, things ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("there is no error, want one that says %q", things)
		return
	}
	for _, thing := range things {
		if !strings.Contains(err.Error(), thing) {
			t.Errorf("the error %q does not say %q", err, thing)
		}
	}
}

// policies are the limits of a configuration, as they are written.
func policies(c app.Config) map[ratelimit.Name]string {
	all := make(map[ratelimit.Name]string)
	for name, p := range c.Policies {
		all[name] = p.String()
	}
	return all
}

func TestDefaultsAreTheContracts(t *testing.T) {
	c, values, err := app.LoadConfig(nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	want := app.Config{
		Listen: "127.0.0.1:8080", AdminListen: "127.0.0.1:9090", Database: app.Database{File: "gatehouse.db"}, Cluster: "gatehouse", AutoMigrate: true,
		Mode: app.Live, DrainTimeout: 30 * time.Second, StripeBase: "https://api.stripe.com", ReconcileEvery: 5 * time.Minute, Catalogue: billing.DefaultCatalogue(), PublicURL: "http://127.0.0.1:8080", LogFormat: "json", LogLevel: "info",
		LoadTestDomains: []string{"load.gatehouse.internal"}, PurgeDomains: []string{"load.gatehouse.internal"},
	}
	if diff := cmp.Diff(want, c, cmpopts.IgnoreFields(app.Config{}, "Policies", "MasterKeys", "WebhookSecrets", "Prices", "Upstreams"), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the defaults differ (-want +got):\n%s", diff)
	}
	if c.WebhookSecrets.Any() {
		t.Error("there are webhook secrets")
	}
	wantPolicies := map[ratelimit.Name]string{"onboarding": "10/60s", "credential_exchange": "60/60s", "api": "500/3600s", "auth_failure": "60/60s", "stripe_webhook": "1000/60s", "webhook_unauthentic": "60/60s"}
	if diff := cmp.Diff(wantPolicies, policies(c)); diff != "" {
		t.Errorf("the limits differ (-want +got):\n%s", diff)
	}
	for _, v := range values {
		if v.Source != "default" {
			t.Errorf("%s comes from %s", v.Name, v.Source)
		}
	}
}

func TestModeDecidesTheKindOfKeys(t *testing.T) {
	for mode, want := range map[string]apikey.Kind{"live": apikey.Live, "test": apikey.Test, "dev": apikey.Test} {
		c, err := with("mode", mode)
		if err != nil || string(c.Mode) != mode || c.Mode.KeyKind() != want {
			t.Errorf("mode %s: %s keys, %v, want %s ones", mode, c.Mode.KeyKind(), err, want)
		}
	}
}

func TestEachSettingTakesItsGoodValues(t *testing.T) {
	tests := []struct {
		name, value string
		got         func(app.Config) any
		want        any
	}{
		{"listen", "0.0.0.0:80", func(c app.Config) any { return c.Listen }, "0.0.0.0:80"},
		{"listen", ":8080", func(c app.Config) any { return c.Listen }, ":8080"},
		{"listen", "[::1]:0", func(c app.Config) any { return c.Listen }, "[::1]:0"},
		{"listen", "localhost:65535", func(c app.Config) any { return c.Listen }, "localhost:65535"},
		{"admin-listen", "127.0.0.1:9", func(c app.Config) any { return c.AdminListen }, "127.0.0.1:9"},
		{"admin-listen", "off", func(c app.Config) any { return c.AdminListen }, ""},
		{"database", "sqlite:gatehouse.db", func(c app.Config) any { return c.Database }, app.Database{File: "gatehouse.db"}},
		{"database", "sqlite:/var/lib/gate house/a:b.db", func(c app.Config) any { return c.Database }, app.Database{File: "/var/lib/gate house/a:b.db"}},
		{"database", "postgres://gate@db.internal/gatehouse", func(c app.Config) any { return c.Database }, app.Database{URL: "postgres://gate@db.internal/gatehouse"}},
		{"database", "postgresql:///gatehouse?host=/run/postgresql", func(c app.Config) any { return c.Database.Driver() }, "postgres"},
		{"cluster", "production-1", func(c app.Config) any { return c.Cluster }, "production-1"},
		{"auto-migrate", "false", func(c app.Config) any { return c.AutoMigrate }, false},
		{"auto-migrate", "1", func(c app.Config) any { return c.AutoMigrate }, true},
		{"drain-timeout", "2s", func(c app.Config) any { return c.DrainTimeout }, 2 * time.Second},
		{"drain-timeout", "1h", func(c app.Config) any { return c.DrainTimeout }, time.Hour},
		{"drain-timeout", "1m30s", func(c app.Config) any { return c.DrainTimeout }, 90 * time.Second},
		{"email-allow", " acme.com ,, mailinator.com,", func(c app.Config) any { return c.EmailAllow }, []string{"acme.com", "mailinator.com"}},
		{"email-deny", "*.competitor.com,@bücher.de,xyz", func(c app.Config) any { return c.EmailDeny }, []string{"*.competitor.com", "@bücher.de", "xyz"}},
		{"check-mx", "true", func(c app.Config) any { return c.CheckMX }, true},
		{"load-test-domains", "Load.ACME.com, bücher.de", func(c app.Config) any { return c.LoadTestDomains }, []string{"load.acme.com", "xn--bcher-kva.de"}},
		{"load-test-domains", "off", func(c app.Config) any { return c.LoadTestDomains }, []string(nil)},
		{"stripe-webhook-secrets", " whsec_new, ,whsec_old,", func(c app.Config) any { return c.WebhookSecrets.Any() }, true},
		{"stripe-webhook-secrets", " , ", func(c app.Config) any { return c.WebhookSecrets.Any() }, false},
		{"stripe-reconcile-every", "1s", func(c app.Config) any { return c.ReconcileEvery }, time.Second},
		{"catalogue", "testdata/catalogue.yaml", func(c app.Config) any { return c.Catalogue.Pro.Credits }, int64(20)},
		{"public-url", "https://gate.example.com/", func(c app.Config) any { return c.PublicURL }, "https://gate.example.com"},
		{"anthropic-base-url", "http://127.0.0.1:9/x/", func(c app.Config) any { return c.Upstreams["anthropic"].Base }, "http://127.0.0.1:9/x"},
		{"openai-api-key", "sk-1", func(c app.Config) any { return c.Upstreams["openai"] }, gateway.Upstream{Base: "https://api.openai.com", Key: "sk-1"}},
		{"log-format", "text", func(c app.Config) any { return c.LogFormat }, "text"},
		{"log-level", "debug", func(c app.Config) any { return c.LogLevel }, "debug"},
		{"log-level", "error", func(c app.Config) any { return c.LogLevel }, "error"},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+tt.value, func(t *testing.T) {
			c, err := with(tt.name, tt.value)
			if err != nil || !cmp.Equal(tt.got(c), tt.want) {
				t.Errorf("read %v, %v, want %v", tt.got(c), err, tt.want)
			}
		})
	}
}

func TestEachSettingRefusesItsBadValues(t *testing.T) {
	const addresses, sqlite, domainList = "want HOST:PORT, such as", "want sqlite:FILE", "want domains by comma, such as load.example.com, or off"
	tests := []struct{ name, value, wanted string }{
		{"listen", "8080", addresses},
		{"listen", "127.0.0.1", addresses},
		{"listen", "127.0.0.1:", addresses},
		{"listen", "127.0.0.1:http", addresses},
		{"listen", "127.0.0.1:65536", addresses},
		{"listen", "127.0.0.1:-1", addresses},
		{"listen", "::1:8080", addresses},
		{"listen", "http://127.0.0.1:8080", addresses},
		{"listen", "off", addresses}, // there is no node without its API
		{"admin-listen", "none", addresses},
		{"database", "gatehouse.db", sqlite},
		{"database", "sqlite:", sqlite},
		{"database", "SQLITE:gatehouse.db", sqlite},
		{"database", "sqlite:a.db?mode=memory", sqlite},
		{"database", "sqlite:a.db#x", sqlite},
		{"database", "mysql://u:hunter2@h/db", sqlite},
		{"database", "postgres:gatehouse", sqlite},
		{"database", "postgres://u:hunter2@h:port/db", "the URL can't be read"},
		{"cluster", "my cluster", "1 to 63 printable"},
		{"auto-migrate", "yes", "want true or false"},
		{"mode", "Live", "want live, test or dev"},
		{"mode", "alive", `want live, test or dev; did you mean "live"?`},
		{"mode", "production", "want live, test or dev"},
		{"drain-timeout", "30", "want a duration from 2s to 1h0m0s, such as 30s"},
		{"drain-timeout", "999ms", "want a duration from 2s to 1h0m0s, such as 30s"},
		{"drain-timeout", "1h1ns", "want a duration from 2s to 1h0m0s, such as 30s"},
		{"drain-timeout", "-30s", "want a duration from 2s to 1h0m0s, such as 30s"},
		{"check-mx", "on", "want true or false"},
		{"email-allow", "two words.com", "want"},
		{"email-deny", "jane@acme.com", "want"},
		{"email-deny", "192.0.2.1", "want"},
		{"load-test-domains", "two words.com", domainList},
		{"load-test-domains", "internal", domainList},
		{"load-test-domains", "*.acme.com", domainList},
		{"load-test-domains", "jane@acme.com", domainList},
		{"load-test-domains", "192.0.2.1", domainList},
		{"load-test-domains", "GoogleMail.com", `"GoogleMail.com": its mailboxes are another domain's too`},
		{"stripe-reconcile-every", "off", "want a duration from 1s"},
		{"catalogue", "testdata/none.yaml", "testdata/none.yaml"},
		{"catalogue", "config_test.go", "config_test.go: not"},
		{"public-url", "gate.example.com", "want http(s)://HOST"},
		{"public-url", "https://u:hunter2@gate.example.com", "want http(s)://HOST"},
		{"ollama-base-url", "http://127.0.0.1:11434/?x", "want http(s)://HOST"},
		{"prices", "config_test.go", "config_test.go: not a price table"},
		{"log-format", "xml", "want json or text"},
		{"log-format", "JSON", "want json or text"},
		{"log-level", "info+2", "want debug or info or warn or error"},
		{"log-level", "warm", `; did you mean "warn"?`},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+tt.value, func(t *testing.T) {
			_, err := with(tt.name, tt.value)
			says(t, err, tt.name+" (variable "+settings.Setting{Name: tt.name}.Env()+"): ", tt.wanted)
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error tells the password: %v", err)
			}
			if err != nil && tt.name != "database" && !strings.HasSuffix(tt.name, "-url") && !strings.Contains(err.Error(), tt.value) {
				t.Errorf("the error %q does not say the value", err)
			}
		})
	}
}

// Nobody but this machine may pass as a load test unless the operator says so.
func TestLoadTestDomainsByDefaultAreOfLoopbackAlone(t *testing.T) {
	const ours = "load.gatehouse.internal"
	tests := []struct{ listen, value, signUp, purge string }{
		{"127.0.0.1:8080", "", ours, ours},
		{"127.9.9.9:0", "", ours, ours},
		{"[::1]:8080", "", ours, ours},
		{"[::ffff:127.0.0.1]:8080", "", ours, ours},
		{"localhost:8080", "", ours, ours},
		{":8080", "", "", ours},
		{"0.0.0.0:8080", "", "", ours},
		{"[::]:8080", "", "", ours},
		{"192.0.2.1:8080", "", "", ours},
		{"localhost.acme.com:8080", "", "", ours},
		{":8080", ours + ",load.acme.com", ours + ",load.acme.com", ours + ",load.acme.com"},
		{":8080", "load.acme.com", "load.acme.com", "load.acme.com"},
		{"127.0.0.1:8080", "load.acme.com", "load.acme.com", "load.acme.com"},
		{"127.0.0.1:8080", ",", "", ""},
		{"127.0.0.1:8080", "off", "", ""},
	}
	for _, tt := range tests {
		c, _, err := app.LoadConfig(map[string]string{"listen": tt.listen}, []string{"GATEHOUSE_LOAD_TEST_DOMAINS=" + tt.value}, "")
		if err != nil || strings.Join(c.LoadTestDomains, ",") != tt.signUp || strings.Join(c.PurgeDomains, ",") != tt.purge {
			t.Errorf("%s, %q: sign-ups at %q, purges of %q, %v; want %q and %q", tt.listen, tt.value, c.LoadTestDomains, c.PurgeDomains, err, tt.signUp, tt.purge)
		}
	}
}

func TestEmptyFlagIsRefusedWhereSomethingMustBe(t *testing.T) {
	for _, name := range []string{"listen", "admin-listen", "database", "auto-migrate", "mode", "drain-timeout", "log-format", "log-level", "limit-api"} {
		_, _, err := app.LoadConfig(map[string]string{name: ""}, nil, "")
		says(t, err, name+" (flag --"+name+"): ")
	}
	flags := map[string]string{"trusted-proxies": "", "tls-cert": "", "tls-key": "", "email-allow": "", "email-deny": "", "load-test-domains": ""}
	if _, _, err := app.LoadConfig(flags, nil, ""); err != nil {
		t.Errorf("where nothing may be: %v", err)
	}
}

func TestTrustedProxiesAreNetworksAndAddresses(t *testing.T) {
	tests := []struct {
		value string
		want  []string // none: refused
	}{
		{"10.0.0.0/8", []string{"10.0.0.0/8"}},
		{"10.1.2.3/8", []string{"10.0.0.0/8"}},
		{"127.0.0.1", []string{"127.0.0.1/32"}},
		{"::1", []string{"::1/128"}},
		{"fd00::1/8, 192.0.2.7 ,,", []string{"fd00::/8", "192.0.2.7/32"}},
		{"0.0.0.0/0,::/0", []string{"0.0.0.0/0", "::/0"}},
		{"10.0.0.0/33", nil},
		{"10.0.0.0/", nil},
		{"10.0.0/8", nil},
		{"10.0.0.1:80", nil},
		{"[::1]", nil},
		{"*", nil},
		{"proxy.internal", nil},
		{"10.0.0.0/8;10.0.0.1", nil},
		{"::ffff:10.0.0.1", nil},
		{"::ffff:10.0.0.0/104", nil},
		{"fe80::1%eth0", nil},
		{"fe80::%eth0/64", nil},
	}
	for _, tt := range tests {
		t.Run(tt.value, func(t *testing.T) {
			c, err := with("trusted-proxies", tt.value)
			if tt.want == nil {
				says(t, err, "trusted-proxies (variable GATEHOUSE_TRUSTED_PROXIES): ", tt.value)
				return
			}
			var want []netip.Prefix
			for _, s := range tt.want {
				want = append(want, netip.MustParsePrefix(s))
			}
			if err != nil || !slices.Equal(c.TrustedProxies, want) {
				t.Errorf("read %v, %v, want %v", c.TrustedProxies, err, want)
			}
		})
	}
}

func TestLimitIsACountAndAWindowOrOff(t *testing.T) {
	const counts, windows = "want a count from 1 to 10000, a slash and a window, such as 10/60s, or off", "want a window of whole milliseconds from 1ms to 24h0m0s"
	tests := []struct{ value, want, wanted string }{
		{"10/60s", "10/60s", ""},
		{"1/1ms", "1/1ms", ""},
		{"10/90m", "10/5400s", ""},
		{"10/1m30s", "10/90s", ""},
		{"10/1500ms", "10/1.5s", ""},
		{"10/0.5s", "10/500ms", ""},
		{"10000/24h", "10000/86400s", ""},
		{"off", "off", ""},
		{"10", "", counts},
		{"/60s", "", counts},
		{"0/60s", "", counts},
		{"-1/60s", "", counts},
		{"10001/60s", "", counts},
		{"1e9/1s", "", counts},
		{"99999999999999999999/1s", "", counts},
		{"1.5/1s", "", counts},
		{" 10/60s", "", counts},
		{"OFF", "", counts},
		{"none", "", counts},
		{"10/", "", windows},
		{"10/60", "", windows},
		{"10/0s", "", windows},
		{"10/-60s", "", windows},
		{"10/minute", "", windows},
		{"10/1d", "", windows},
		{"10/24h1ms", "", windows},
		{"10/100us", "", windows},
		{"10/1500us", "", windows},
		{"10/999999999999h", "", windows},
		{"10/60s/2", "", windows},
	}
	for _, tt := range tests {
		t.Run(tt.value, func(t *testing.T) {
			c, err := with("limit-onboarding", tt.value)
			if tt.wanted != "" {
				says(t, err, "limit-onboarding (variable GATEHOUSE_LIMIT_ONBOARDING): ", `"`+tt.value+`"`, tt.wanted)
				return
			}
			if err != nil || c.Policies[ratelimit.Onboarding].String() != tt.want {
				t.Fatalf("read %s, %v, want %s", c.Policies[ratelimit.Onboarding], err, tt.want)
			}
			if c.Policies[ratelimit.Onboarding].Off != (tt.value == "off") {
				t.Errorf("%s is off, or is not", tt.value)
			}
			again, err := with("limit-onboarding", tt.want)
			if err != nil || again.Policies[ratelimit.Onboarding] != c.Policies[ratelimit.Onboarding] {
				t.Errorf("what it is written as reads as %s, %v", again.Policies[ratelimit.Onboarding], err)
			}
		})
	}
}

func TestEachPolicyHasItsOwnLimit(t *testing.T) {
	c, _, err := app.LoadConfig(map[string]string{"limit-onboarding": "1/1s"}, []string{
		"GATEHOUSE_LIMIT_API=2/30s", "GATEHOUSE_LIMIT_AUTH_FAILURE=off", "GATEHOUSE_LIMIT_STRIPE_WEBHOOK=7/1s", "GATEHOUSE_LIMIT_WEBHOOK_UNAUTHENTIC=8/1s", "GATEHOUSE_LIMIT_CREDENTIAL_EXCHANGE=9/1s",
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	want := map[ratelimit.Name]string{"onboarding": "1/1s", "api": "2/30s", "auth_failure": "off", "stripe_webhook": "7/1s", "webhook_unauthentic": "8/1s", "credential_exchange": "9/1s"}
	if diff := cmp.Diff(want, policies(c)); diff != "" {
		t.Errorf("the limits differ (-want +got):\n%s", diff)
	}
	if got := c.Policies[ratelimit.API].Message(); got != "Rate limit exceeded. Maximum 2 API requests per 30 seconds per API key." {
		t.Errorf("the message is %q", got)
	}
}

func TestCertificateAndKeyGoTogether(t *testing.T) {
	for _, flags := range []map[string]string{{"tls-cert": "a.pem"}, {"tls-key": "a.key"}} {
		_, _, err := app.LoadConfig(flags, nil, "")
		says(t, err, "tls-cert and tls-key go together")
	}
	c, _, err := app.LoadConfig(map[string]string{"tls-cert": "a.pem"}, []string{"GATEHOUSE_TLS_KEY=a.key"}, "")
	says(t, err, "tls-cert, tls-key: ", "a.pem") // there is no such file; the binary's tests have real ones
	if c.TLS != nil {
		t.Error("a certificate was made of nothing")
	}
}

func TestAllThatIsWrongIsToldAtOnce(t *testing.T) {
	_, _, err := app.LoadConfig(
		map[string]string{"listen": "8080", "database": "postgres://u:hunter2@h/db"},
		[]string{"GATEHOUSE_MODE=prod", "GATEHOUSE_LIMIT_API=many", "GATEHOUSE_LIMIT_APIS=1/1s", "GATEHOUSE_TLS_CERT=a.pem"}, "")
	says(t, err, "listen (flag --listen)", "flag --database holds a password", "mode (variable GATEHOUSE_MODE)",
		"limit-api (variable GATEHOUSE_LIMIT_API)", `unknown variable GATEHOUSE_LIMIT_APIS; did you mean "GATEHOUSE_LIMIT_API"?`)
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error tells the password: %v", err)
	}
}

func TestFileSetsWhatFlagsDo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gatehouse.yaml")
	text := "listen: 0.0.0.0:80\nauto-migrate: false\ntrusted-proxies: [10.0.0.0/8, ::1]\ndrain-timeout: 1m\nlimit-onboarding: off\nlimit-api: 5/1s\nmode: prod\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _, err := app.LoadConfig(map[string]string{"mode": "test"}, nil, file)
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != "0.0.0.0:80" || c.AutoMigrate || len(c.TrustedProxies) != 2 || c.DrainTimeout != time.Minute || c.Mode != app.Test {
		t.Errorf("read %+v", c)
	}
	if want := map[ratelimit.Name]string{"onboarding": "off", "api": "5/1s", "auth_failure": "60/60s", "stripe_webhook": "1000/60s", "webhook_unauthentic": "60/60s", "credential_exchange": "60/60s"}; !cmp.Equal(policies(c), want) {
		t.Errorf("the limits are %v, want %v", policies(c), want)
	}
	_, _, err = app.LoadConfig(nil, nil, file)
	says(t, err, "mode (file "+file+":7:1): ", `"prod": want live, test or dev`)
}

// No variable of the contract is unknown.
func TestEveryVariableOfTheContractIsKnown(t *testing.T) {
	used := []string{
		"LISTEN=:1", "ADMIN_LISTEN=:2", "DATABASE=sqlite:a", "MODE=dev", "TRUSTED_PROXIES=::1", "LIMIT_ONBOARDING=1/1s",
		"LIMIT_API=1/1s", "LIMIT_AUTH_FAILURE=1/1s", "LOG_FORMAT=text", "LOG_LEVEL=warn", "LOAD_TEST_DOMAINS=off",
		"SMTP_URL=smtp://localhost", "MAIL_FROM=a@b.dev", "STRIPE_API_KEY=sk_test_1", "STRIPE_API_BASE=http://127.0.0.1:1",
		"MASTER_KEY=" + seal.NewKey(), "STRIPE_WEBHOOK_SECRETS=whsec_1", "LIMIT_STRIPE_WEBHOOK=1/1s", "LIMIT_WEBHOOK_UNAUTHENTIC=1/1s",
		"PUBLIC_URL=https://a.dev", "ANTHROPIC_API_KEY=k", "OPENAI_API_KEY=k", "OPENROUTER_API_KEY=k", "LIMIT_CREDENTIAL_EXCHANGE=1/1s",
		"ANTHROPIC_BASE_URL=http://a", "OPENAI_BASE_URL=http://a", "OPENROUTER_BASE_URL=http://a", "OLLAMA_BASE_URL=http://a",
	}
	var all []string
	for _, line := range used {
		all = append(all, "GATEHOUSE_"+line)
	}
	_, values, err := app.LoadConfig(nil, all, "")
	if err != nil {
		t.Fatal(err)
	}
	if n := len(slices.DeleteFunc(values, func(v settings.Value) bool { return v.Source == "default" })); n != len(used) {
		t.Errorf("%d values come from variables, want %d", n, len(used))
	}
}

func TestEachSettingSaysWhatItIsFor(t *testing.T) {
	var c app.Config
	seen := map[string]bool{}
	for _, s := range c.Settings() {
		if s.Help == "" || strings.Contains(s.Help, "\n") || s.Read == nil || seen[s.Env()] || s.Name != strings.ToLower(s.Name) {
			t.Errorf("%s has no line of help or no reader, or is there twice", s.Name)
		}
		seen[s.Env()] = true
	}
}
