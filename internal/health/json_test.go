package health_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/health"
)

// The contract's example, with this version's parts.
const contract = `{
	"status": "ok", "version": "v1", "mode": "test", "node": "a", "uptime_seconds": 0,
	"clustering": {"enabled": false, "status": "healthy", "node_count": 1, "current_node": "a", "connected_nodes": []},
	"database": {"status": "ok", "driver": "sqlite", "latency_ms": 0},
	"rate_limiter": {"status": "ok", "running": true, "backend": "sqlite", "off": [], "differing": []},
	"jobs": {"status": "ok", "queued": 0, "oldest_seconds": 0}
}`

func TestReportIsTheContractsJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := health.New(health.Facts{Version: "v1", Mode: "test", Node: "a", Driver: "sqlite"}, (&store{}).Ping)
		want := jsontext.Value(contract)
		if err := want.Compact(); err != nil {
			t.Fatal(err)
		}
		for library, marshal := range map[string]func(any) ([]byte, error){
			"encoding/json": json.Marshal,
			"json v2":       func(v any) ([]byte, error) { return jsonv2.Marshal(v) },
		} {
			if got, err := marshal(c.Report()); err != nil || string(got) != string(want) {
				t.Errorf("%s makes of it, %v,\n%s\nwant\n%s", library, err, got, want)
			}
		}
	})
}
