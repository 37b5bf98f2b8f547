package api

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/fault"
	"gatehouse/internal/vending"
)

func (a *API) exchangeKey(x *exchange) error {
	var in struct {
		Providers []string `json:"providers"`
		TTL       *whole   `json:"ttl_minutes"`
		MaxCents  *whole   `json:"max_cents"`
	}
	if err := x.decode(&in); err != nil {
		return err
	}
	h := x.Request.Header
	r := vending.Request{
		Providers: in.Providers, TTL: (*int64)(in.TTL), MaxCents: (*int64)(in.MaxCents),
		Job: h.Get("X-GitHub-Job"), Run: h.Get("X-GitHub-Run"),
	}
	given, err := a.Vending.Exchange(x.context(), x.who, r, keep(x, http.StatusOK, givenOf))
	if err != nil {
		return err
	}
	return x.reply(http.StatusOK, givenOf(given))
}

func (a *API) refreshCredential(x *exchange) error {
	var in struct {
		ID *string `json:"credential_id"`
	}
	if err := x.decode(&in); err != nil {
		return err
	}
	id, err := account.Text("credential_id", in.ID, true)
	if err != nil {
		return err
	}
	given, err := a.Vending.Refresh(x.context(), x.who, id, keep(x, http.StatusOK, givenOf))
	if err != nil {
		return err
	}
	return x.reply(http.StatusOK, givenOf(given))
}

// whole is a whole number. One that is beyond its type is the nearest that is
// not, so that it is out of whatever bounds there are, or beyond them as far as
// they go.
type whole int64

// UnmarshalJSON implements json.Unmarshaler.
func (n *whole) UnmarshalJSON(b []byte) error {
	if strings.Trim(string(b), "-0123456789") != "" {
		return errors.New("not a whole number")
	}
	i, err := strconv.ParseInt(string(b), 10, 64)
	*n = whole(i)
	if errors.Is(err, strconv.ErrRange) { // i is the nearest
		return nil
	}
	return err
}

// givenOf is an exchange's answer, the one that has the tokens.
func givenOf(g vending.Answer) any {
	type credential struct {
		ID          string    `json:"id"`
		Token       string    `json:"api_key"`
		BaseURL     string    `json:"base_url"`
		ExpiresAt   time.Time `json:"expires_at"`
		Enforcement string    `json:"enforcement"`
	}
	type usage struct {
		Remaining int64      `json:"remaining_fixes"`
		ResetAt   *time.Time `json:"reset_at"`
	}
	all := make(map[string]credential)
	for _, c := range g.Given {
		all[string(c.Provider)] = credential{c.ID, c.Token.Reveal(), c.BaseURL, c.ExpiresAt, string(c.Enforcement)}
	}
	return struct {
		Credentials map[string]credential `json:"credentials"`
		Usage       usage                 `json:"usage"`
	}{all, usage{g.Balance, optionalTime(g.ResetAt)}}
}

func (a *API) listCredentials(x *exchange) error {
	found, err := a.Vending.List(x.context(), x.who.CustomerID)
	if err != nil {
		return err
	}
	type credential struct {
		ID          string    `json:"id"`
		Provider    string    `json:"provider"`
		Enforcement string    `json:"enforcement"`
		CreatedAt   time.Time `json:"created_at"`
		ExpiresAt   time.Time `json:"expires_at"`
		KeyID       string    `json:"key_id"`
		Job         *string   `json:"github_job"`
		Run         *string   `json:"github_run"`
		Revocation  *string   `json:"revocation"`
	}
	all := make([]credential, 0, len(found))
	for _, c := range found {
		all = append(all, credential{
			c.ID, string(c.Provider), string(c.Enforcement), c.CreatedAt, c.ExpiresAt, c.KeyID, optional(c.Job), optional(c.Run), optional(c.Revocation()),
		})
	}
	return x.reply(http.StatusOK, struct {
		Credentials []credential `json:"credentials"`
	}{all})
}

func (a *API) deleteCredential(x *exchange) error {
	id, err := x.pathID("credential")
	if err != nil {
		return err
	}
	if err := a.Vending.Revoke(x.context(), x.who, id); err != nil {
		return err
	}
	x.WriteHeader(http.StatusNoContent)
	return nil
}

func (a *API) reportUsage(x *exchange) error {
	var in struct {
		Provider string `json:"provider"`
		Tokens   *whole `json:"tokens_used"`
		Requests *whole `json:"request_count"`
		JobID    string `json:"job_id"`
	}
	if err := x.decode(&in); err != nil {
		return err
	}
	for _, f := range []struct {
		name  string
		given *whole
	}{{"tokens_used", in.Tokens}, {"request_count", in.Requests}} {
		if f.given == nil {
			return fault.Field(f.name, fault.Required, f.name+" is required")
		}
	}
	r := vending.Report{
		CustomerID: x.who.CustomerID, Provider: vending.Provider(in.Provider), Tokens: int64(*in.Tokens), Requests: int64(*in.Requests), JobID: in.JobID,
	}
	if err := a.Vending.Report(x.context(), r, keep(x, http.StatusOK, recordedOf)); err != nil {
		return err
	}
	return x.reply(http.StatusOK, recordedOf(r))
}

func recordedOf(vending.Report) any {
	return struct {
		Status string `json:"status"`
	}{"recorded"}
}
