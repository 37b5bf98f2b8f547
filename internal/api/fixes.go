package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/billing"
)

func (a *API) recordFix(x *exchange) error {
	var in struct {
		ExternalID  *string `json:"external_id"`
		Repository  *string `json:"repository"`
		PullRequest *number `json:"pull_request"`
	}
	if err := x.decode(&in); err != nil {
		return err
	}
	result, err := a.Fixes.Record(x.context(), x.who.CustomerID, x.who.KeyID,
		billing.FixRequest{ExternalID: in.ExternalID, Repository: in.Repository, PullRequest: (*string)(in.PullRequest)}, keepAnswer(x, fixAnswer))
	if err != nil {
		return err
	}
	status, body := fixAnswer(result)
	return x.reply(status, body)
}

// number is a text that may come as a JSON number, and then is that as it is
// written.
type number string

// UnmarshalJSON implements json.Unmarshaler.
func (n *number) UnmarshalJSON(b []byte) error {
	switch jsontext.Value(b).Kind() {
	case '0':
		*n = number(b)
		return nil
	case '"':
		text, err := jsontext.AppendUnquote(nil, b)
		*n = number(text)
		return err
	}
	return errors.New("neither a text nor a number")
}

// fixAnswer is how an order is answered: by the first result, whenever it is
// asked for. The status is 0 while there is none.
func fixAnswer(r billing.FixResult) (status int, body any) {
	switch r.State {
	case billing.FixPending:
		return 0, nil
	case billing.FixFailed:
		return http.StatusPaymentRequired, billing.Refusal(r.Fix)
	}
	status = http.StatusCreated
	if r.Existing {
		status = http.StatusOK
	}
	type fix struct {
		ID          string    `json:"id"`
		ExternalID  string    `json:"external_id"`
		PaidBy      string    `json:"paid_by"`
		AmountCents int64     `json:"amount_cents"`
		CreatedAt   time.Time `json:"created_at"`
	}
	return status, struct {
		Fix           fix   `json:"fix"`
		CreditBalance int64 `json:"credit_balance"`
	}{fix{r.ID, r.ExternalID, r.PaidBy, r.Cents, r.CreatedAt}, r.BalanceAfter}
}
