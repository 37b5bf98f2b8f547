package app

import (
	"net/http"
	"runtime"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/machine"
	"gatehouse/internal/store"
)

// environment is what the admin listener tells of a node: what figures that
// are measured on it hold for. It has no secret and no path.
type environment struct {
	Node       string `json:"node"`
	Version    string `json:"version"`
	Mode       Mode   `json:"mode"`
	Go         string `json:"go"`
	GOMAXPROCS int    `json:"gomaxprocs"`
	machine.Facts
	StartedAt time.Time         `json:"started_at"`
	Database  store.About       `json:"database"`
	Nodes     int               `json:"nodes"`
	Limits    map[string]string `json:"limits"` // policy to "10/60s" or "off"
}

// environment answers GET /environment; 503 while the database does not say
// how it is set.
func (a *App) environment(node, version string) http.HandlerFunc {
	started := time.Now().UTC()
	return func(w http.ResponseWriter, r *http.Request) {
		about, err := a.store.About(r.Context())
		if err != nil {
			a.log.WarnContext(r.Context(), "the database does not say how it is set", "err", err)
			http.Error(w, "the database does not say how it is set", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		err = json.MarshalWrite(w, environment{
			Node: node, Version: version, Mode: a.config.Mode, Go: runtime.Version(), GOMAXPROCS: runtime.GOMAXPROCS(0),
			Facts: machine.Read(), StartedAt: started, Database: about,
			Nodes: a.members.State().Nodes(), Limits: a.limits,
		}, jsontext.WithIndent("  "), json.Deterministic(true))
		if err != nil { // the client has left
			a.log.DebugContext(r.Context(), "the environment could not be told", "err", err)
		}
	}
}
