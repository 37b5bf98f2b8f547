package api

import (
	"net/http"

	"gatehouse/internal/health"
)

func (a *API) health(x *exchange) error {
	report := a.Health.Report()
	status := http.StatusOK
	if report.Status == health.Unavailable {
		status = http.StatusServiceUnavailable
		x.Header()["Retry-After"] = []string{"2"}
	}
	return x.reply(status, report)
}

// alive is the answer of /livez and /readyz.
type alive struct {
	Status string `json:"status"`
}

// livez answers for the process alone.
func (a *API) livez(x *exchange) error { return x.reply(http.StatusOK, alive{"ok"}) }

// readyz says whether balancers should send requests here.
func (a *API) readyz(x *exchange) error {
	switch {
	case a.Health.Ready():
		return x.reply(http.StatusOK, alive{"ok"})
	case a.Health.IsDraining():
		x.Header()["Retry-After"] = []string{"2"}
		return x.reply(http.StatusServiceUnavailable, alive{"draining"})
	}
	x.Header()["Retry-After"] = []string{"2"}
	return x.reply(http.StatusServiceUnavailable, alive{"unavailable"})
}
