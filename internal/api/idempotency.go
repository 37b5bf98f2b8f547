package api

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
)

// once reads the body of a POST, then answers again what was answered before
// under the request's Idempotency-Key, or has it handled.
func (a *API) once(optional bool, handle func(*exchange) error) func(*exchange) error {
	return func(x *exchange) error {
		if err := x.readBody(optional); err != nil {
			return err
		}
		key, err := idempotencyKey(x.Request.Header)
		if err != nil {
			return err
		}
		if key == "" {
			return handle(x)
		}
		r := idempotency.NewRequest(x.scope(), x.Request.Method, x.Request.URL.Path, key, x.raw)
		again, end, err := a.Idempotency.Begin(x.context(), r)
		if errors.Is(err, idempotency.ErrSealed) {
			a.Log.ErrorContext(x.context(), "an answer kept under an Idempotency-Key can't be repeated", "request_id", x.id, "route", x.route.path, "err", err)
		}
		if err != nil {
			return err
		}
		if again != nil {
			return x.repeat(again)
		}
		defer end()
		x.once = &r
		return handle(x)
	}
}

// repeat answers with what was answered before. A refusal says its request's
// id, and so it is written anew.
func (x *exchange) repeat(r *idempotency.Replay) error {
	x.Header()["Idempotent-Replayed"] = replayed
	if r.Status != http.StatusPaymentRequired {
		x.send(r.Status, r.Body)
		return nil
	}
	var kept struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	if err := json.Unmarshal(r.Body, &kept); err != nil {
		return fmt.Errorf("read a kept refusal: %w", err)
	}
	return &fault.Error{Kind: fault.PaymentRequired, Code: kept.Error.Code, Message: kept.Error.Message}
}

var replayed = []string{"true"}

// scope is whose keys these are: nobody else's request meets one of them.
func (x *exchange) scope() string {
	if x.who.CustomerID != "" {
		return "customer " + x.who.CustomerID
	}
	return "address " + limitKey(x.client)
}

// idempotencyKey reads the header; "" is none.
func idempotencyKey(h http.Header) (string, error) {
	given := h["Idempotency-Key"]
	if len(given) == 0 {
		return "", nil
	}
	if n := len(given[0]); len(given) > 1 || n < idempotency.MinKey || n > idempotency.MaxKey || !printable(given[0]) {
		return "", fault.Field("Idempotency-Key", fault.MalformedValue, "Idempotency-Key must be one header of 16 to 255 printable ASCII characters")
	}
	return given[0], nil
}

// keep is what the store writes beside an effect: the answer that body makes of
// its result, which is also what is answered now.
func keep[T any](x *exchange, status int, body func(T) any) *idempotency.Once[T] {
	return keepAnswer(x, func(result T) (int, any) { return status, body(result) })
}

// keepAnswer is keep where the status, too, is made of the result: 0 keeps
// nothing. The body of a refusal is a *fault.Error.
func keepAnswer[T any](x *exchange, answer func(T) (status int, body any)) *idempotency.Once[T] {
	if x.once == nil {
		return nil
	}
	r, guard := *x.once, x.route.api.Idempotency // x may be gone by the time that it is written
	return &idempotency.Once[T]{Request: r, Seal: func(result T) (idempotency.Outcome, error) {
		status, body := answer(result)
		if status == 0 {
			return idempotency.Outcome{}, nil
		}
		if refusal, ok := body.(*fault.Error); ok {
			return guard.Seal(r, status, appendProblem(nil, refusal, ""))
		}
		text, err := json.Marshal(body, json.Deterministic(true)) // the very bytes that are answered now
		if err != nil {
			return idempotency.Outcome{}, err
		}
		return guard.Seal(r, status, text)
	}}
}
