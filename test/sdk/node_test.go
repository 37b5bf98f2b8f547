package sdk

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is when a test gives up on something that hangs.
const patience = 45 * time.Second

// binary is the path of gatehouse: GATEHOUSE_BIN, or what TestMain has built.
var binary = os.Getenv("GATEHOUSE_BIN")

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	for _, v := range os.Environ() { // what the SDKs would read beside base_url and api_key
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "ANTHROPIC_") || strings.HasPrefix(name, "OPENAI_") {
			_ = os.Unsetenv(name)
		}
	}
	if binary != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "gatehouse-sdk-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "gatehouse")
	c := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "./cmd/gatehouse")
	c.Dir, c.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build gatehouse: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// serve runs a node whose providers are at a stand-in, and returns its URL.
func serve(t *testing.T, p *standIn) string {
	t.Helper()
	// base_url names the port, so it must be known: a node told to listen on 0 would say 0.
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = free.Close()
	c := exec.Command(binary, "serve", "--listen="+free.Addr().String(), "--admin-listen=127.0.0.1:0", "--drain-timeout=4s",
		"--database=sqlite:"+filepath.Join(t.TempDir(), "gatehouse.db"))
	c.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + os.TempDir()}
	for name, key := range keys {
		prefix := "GATEHOUSE_" + strings.ToUpper(name)
		c.Env = append(c.Env, prefix+"_API_KEY="+key, prefix+"_BASE_URL="+p.URL)
	}
	log, err := c.StderrPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatalf("start %v: %v", c.Args, err)
	}
	served, ended := make(chan string, 1), make(chan string, 1)
	go func() {
		var all strings.Builder
		for lines := bufio.NewScanner(log); lines.Scan(); {
			var entry struct{ Level, Msg, Listen string }
			if err := json.Unmarshal(lines.Bytes(), &entry); err != nil || entry.Level == "ERROR" {
				t.Errorf("the node wrote %s", lines.Text())
			}
			if entry.Msg == "serving" {
				served <- "http://" + entry.Listen
			}
			fmt.Fprintln(&all, lines.Text())
		}
		ended <- all.String()
	}()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		if text := <-ended; t.Failed() {
			t.Logf("log of the node:\n%s", text)
		}
		_ = c.Wait()
	})
	select {
	case url := <-served:
		return url
	case <-time.After(patience):
		t.Fatal("the node does not serve")
		return ""
	}
}

// customer is somebody who has signed up.
type customer struct {
	t        *testing.T
	url, key string
}

func signUp(t *testing.T, url, email string) *customer {
	t.Helper()
	c := &customer{t: t, url: url}
	var told struct {
		APIKey string `json:"api_key"`
	}
	c.do(http.MethodPost, "/api/v1/customers/onboard", fmt.Sprintf(`{"name":"Jane","email":%q}`, email), &told)
	c.key = told.APIKey
	return c
}

func (c *customer) do(method, path, body string, into any) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if c.key != "" {
		req.Header.Set("X-API-Key", c.key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && into != nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil || resp.StatusCode >= 300 {
		c.t.Fatalf("%s %s is answered %d %s, %v", method, path, resp.StatusCode, text, err)
	}
}

type credential struct {
	ID      string `json:"id"`
	APIKey  string `json:"api_key"`
	BaseURL string `json:"base_url"`
}

// exchange trades the key for a provider's credential. more is further JSON.
func (c *customer) exchange(provider, more string) credential {
	c.t.Helper()
	var told struct {
		Credentials map[string]credential `json:"credentials"`
	}
	c.do(http.MethodPost, "/api/v1/credentials/exchange", fmt.Sprintf(`{"providers":[%q]%s}`, provider, more), &told)
	return told.Credentials[provider]
}

func (c *customer) revoke(cred credential) {
	c.t.Helper()
	c.do(http.MethodDelete, "/api/v1/credentials/"+cred.ID, "", nil)
}

// expectBooked waits until the account has what the stand-in told, which it
// has soon after a call's end.
func (c *customer) expectBooked(provider string, p *standIn) {
	c.t.Helper()
	p.mu.Lock()
	want := p.told[provider]
	p.mu.Unlock()
	space, tired := time.NewTicker(100*time.Millisecond), time.After(patience)
	defer space.Stop()
	for {
		var told struct {
			Usage struct{ Providers map[string]usage }
		}
		c.do(http.MethodGet, "/api/v1/account", "", &told)
		if told.Usage.Providers[provider] == want {
			return
		}
		select {
		case <-space.C:
		case <-tired:
			c.t.Fatalf("the account has %+v, want %+v for %s", told.Usage.Providers, want, provider)
		}
	}
}
