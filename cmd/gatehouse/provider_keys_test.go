package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// keyOffice is a stand-in for OpenAI's administration of keys.
type keyOffice struct {
	*httptest.Server
	mu     sync.Mutex
	keys   map[string]string // names, by id
	made   int
	closed bool   // it deletes nothing
	onMake func() // called once a key is made, before that is said
}

func newKeyOffice(t testing.TB) *keyOffice {
	o := &keyOffice{keys: make(map[string]string), onMake: func() {}}
	o.Server = httptest.NewServer(o)
	t.Cleanup(func() { o.CloseClientConnections(); o.Close() })
	return o
}

func (o *keyOffice) env() []string {
	return []string{
		"GATEHOUSE_OPENAI_BASE_URL=" + o.URL, "GATEHOUSE_OPENAI_API_KEY=sk-real", "GATEHOUSE_OPENAI_ADMIN_API_KEY=sk-admin",
		"GATEHOUSE_OPENAI_PROJECT=proj_1", "GATEHOUSE_OPENAI_SERVICE_ACCOUNT=svc_1",
	}
}

func (o *keyOffice) left() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.keys)
}

func (o *keyOffice) set(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
}

func (o *keyOffice) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	const keys = "/v1/organization/projects/proj_1/api_keys"
	switch {
	case r.Header.Get("Authorization") != "Bearer sk-admin":
		w.WriteHeader(http.StatusUnauthorized)
	case r.Method == http.MethodPost && r.URL.Path == "/v1/organization/projects/proj_1/service_accounts/svc_1/api_keys":
		var in struct {
			Name string `json:"name"`
		}
		_ = json.NewDecoder(r.Body).Decode(&in)
		o.made++
		id := fmt.Sprintf("key_%d", o.made)
		o.keys[id] = in.Name
		o.onMake()
		fmt.Fprintf(w, `{"id": %q, "value": "sk-svcacct-%d"}`, id, o.made)
	case r.Method == http.MethodGet && r.URL.Path == keys:
		type key struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		}
		all := []key{}
		for id, name := range o.keys {
			all = append(all, key{id, name})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": all})
	case r.Method == http.MethodDelete && o.closed:
		w.WriteHeader(http.StatusInternalServerError)
	case r.Method == http.MethodDelete:
		delete(o.keys, strings.TrimPrefix(r.URL.Path, keys+"/"))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// revocationOf is what a customer's list says of a credential.
func revocationOf(t testing.TB, n *node, key, id string) (revocation, enforcement string) {
	t.Helper()
	var told struct {
		Credentials []struct {
			ID          string `json:"id"`
			Enforcement string `json:"enforcement"`
			Revocation  string `json:"revocation"`
		} `json:"credentials"`
	}
	if err := do(n.client(""), http.MethodGet, n.url+"/api/v1/credentials", key, "").decode(&told); err != nil {
		t.Fatal(err)
	}
	for _, c := range told.Credentials {
		if c.ID == id {
			return c.Revocation, c.Enforcement
		}
	}
	return "not listed", ""
}

func exchangeOpenAI(n *node, key string) call {
	return do(n.client(""), http.MethodPost, n.url+"/api/v1/credentials/exchange", key, `{"providers": ["openai"]}`)
}

// TestProvidersOwnKeys lives the lives of keys that a provider makes: given,
// revoked, revoked while the provider fails, and made just before the node died.
func TestProvidersOwnKeys(t *testing.T) {
	needLinux(t)
	for name, newDB := range map[string]func(testing.TB) string{"sqlite": newDatabase, "postgres": newPostgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			office, database := newKeyOffice(t), newDB(t)
			n := startNodeWith(t, office.env(), database)
			key := mustSignUp(t, n.client(""), n.url, "ada@customers.dev").key
			var told struct {
				Credentials map[string]struct {
					ID          string `json:"id"`
					APIKey      string `json:"api_key"`
					BaseURL     string `json:"base_url"`
					Enforcement string `json:"enforcement"`
				} `json:"credentials"`
			}
			exchange := func() (id string) {
				t.Helper()
				if c := exchangeOpenAI(n, key); c.decode(&told) != nil || c.status != http.StatusOK {
					t.Fatalf("exchange: %d %s", c.status, c.body)
				}
				return told.Credentials["openai"].ID
			}
			revoke := func(id string) {
				t.Helper()
				if c := do(n.client(""), http.MethodDelete, n.url+"/api/v1/credentials/"+id, key, ""); c.status != http.StatusNoContent {
					t.Fatalf("revoke: %d %s", c.status, c.body)
				}
			}
			id := exchange()
			if c := told.Credentials["openai"]; c.APIKey != "sk-svcacct-1" || c.BaseURL != office.URL+"/v1" || c.Enforcement != "provider_delete" || office.left() != 1 {
				t.Fatalf("given %+v, %d keys", c, office.left())
			}
			gone := func(id string) func() bool {
				return func() bool {
					revocation, _ := revocationOf(t, n, key, id)
					return revocation == "done" && office.left() == 0
				}
			}
			revoke(id)
			n.until("a revoked key is gone at the provider", gone(id))

			office.set(func() { office.closed = true })
			id = exchange()
			revoke(id)
			n.awaitLog("job failed and will be tried again")
			if revocation, enforcement := revocationOf(t, n, key, id); revocation != "pending" || enforcement != "provider_delete" || office.left() != 1 {
				t.Errorf("while the provider fails its revocation is %q, %d keys", revocation, office.left())
			}
			office.set(func() { office.closed = false })
			n.until("it is deleted once the provider works", gone(id))

			office.set(func() { office.onMake = func() { n.signal(syscall.SIGKILL) } })
			if c := exchangeOpenAI(n, key); c.answered() {
				t.Fatalf("the node that was killed answered %d %s", c.status, c.body)
			}
			<-n.exited
			if office.left() != 1 {
				t.Fatalf("the provider has %d keys", office.left())
			}
			office.set(func() { office.onMake = func() {} })
			db := openSQL(t, database) // time passes
			if r, err := db.Exec("UPDATE provider_keys SET sweep_at = 1 WHERE key_id = ''"); err != nil {
				t.Fatal(err)
			} else if rows, _ := r.RowsAffected(); rows != 1 {
				t.Fatalf("%d intents were left", rows)
			}
			n = startNodeWith(t, office.env(), database)
			n.until("a key that nobody was given is deleted", func() bool { return office.left() == 0 })
			if c := exchangeOpenAI(n, key); c.status != http.StatusOK {
				t.Errorf("the next exchange: %d %s", c.status, c.body)
			}
		})
	}
}
