package script

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/load"
)

// model is what calls ask for: no provider has it, so none can bill for it.
const model = "gatehouse-load"

const (
	chatPath   = "/gateway/" + provider + "/api/chat"
	chatBody   = `{"model": "` + model + `", "stream": false, "messages": [{"role": "user", "content": "Load."}]}`
	chatAnswer = `{"model":"` + model + `","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":"Loaded."},` +
		`"done":true,"done_reason":"stop","total_duration":1000000,"prompt_eval_count":26,"eval_count":12}`
)

// tryGateway sees that tokens work through the target's gateway, with a
// stand-in for the provider behind it. Where they don't, no token is used, and
// the checks after the run say so.
func (s *Script) tryGateway(ctx context.Context) error {
	uses := func(r role) bool { return r.gateway }
	if !s.has(uses) {
		return nil
	}
	busy := s.listen(ctx)
	first := s.customers[0]
	a := s.call(ctx, http.MethodPost, "/api/v1/credentials/exchange", header("X-Api-Key", first.key), `{"providers": ["`+provider+`"], "ttl_minutes": 5}`)
	h := s.credentials.granted(first, a.status, a.body)
	wrote := load.Arrival{ID: "of " + first.id}
	if h != nil {
		wrote.ID = h.id
	}
	s.o.Wrote(&wrote, http.MethodPost, "/api/v1/credentials/exchange", a.status)
	switch {
	case a.err != nil:
		return fmt.Errorf("an exchange for %s: %w", provider, a.err)
	case h == nil:
		return fmt.Errorf("an exchange for %s was answered %d, %s", provider, a.status, load.Clean(string(a.body), 200))
	}
	a = s.call(ctx, http.MethodPost, chatPath, header("Authorization", "Bearer "+h.token), chatBody)
	var said struct {
		Model string `json:"model"`
	}
	switch {
	case a.err != nil:
		return fmt.Errorf("a call by the gateway: %w", a.err)
	case a.status == http.StatusOK && json.Unmarshal(a.body, &said) == nil && said.Model == model:
		first.calls++
		return nil
	}
	why := fmt.Sprintf("No token was used: a call by the gateway was answered %d, %s.", a.status, load.Clean(string(a.body), 120))
	switch {
	case s.o.Provider == "":
		why += " No stand-in for a provider was asked for (--provider-listen)."
	case busy != nil:
		why += fmt.Sprintf(" No stand-in for a provider could listen (--provider-listen): %v.", busy)
	default:
		why += fmt.Sprintf(" A stand-in for a provider listens on %s: the target's GATEHOUSE_OLLAMA_BASE_URL is to be http://%s.", s.o.Provider, s.o.Provider)
	}
	s.unused = why
	s.notes = append(s.notes, why)
	s.say("%s", why)
	s.drop(uses)
	return nil
}

// listen starts the stand-in for a provider, which answers at once.
func (s *Script) listen(ctx context.Context) error {
	if s.o.Provider == "" {
		return nil
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.o.Provider)
	if err != nil {
		return err
	}
	s.provider = Provider()
	s.serving.Go(func() { _ = s.provider.Serve(l) }) // until Close
	return nil
}

// Provider is a stand-in for the provider Ollama, which answers the plans' calls
// at once and no others.
func Provider() *http.Server {
	return &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, maxAnswer))
		if err != nil || r.URL.Path != "/api/chat" || !strings.Contains(string(body), model) {
			http.Error(w, `{"error":"a stand-in of a load test: it knows POST /api/chat for the model `+model+`"}`, http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, chatAnswer)
	})}
}
