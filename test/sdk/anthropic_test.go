package sdk

import (
	"errors"
	"net/http"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
)

func question1(model anthropic.Model, most int64) anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model: model, MaxTokens: most,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("hello"))},
	}
}

func TestAnthropic(t *testing.T) {
	p := newStandIn(t)
	jane := signUp(t, serve(t, p), "jane@customers.dev")
	cred := jane.exchange("anthropic", "")
	for name, auth := range map[string]option.RequestOption{"api key": option.WithAPIKey(cred.APIKey), "auth token": option.WithAuthToken(cred.APIKey)} {
		t.Run(name, func(t *testing.T) {
			client := anthropic.NewClient(option.WithBaseURL(cred.BaseURL), auth)
			whole, err := client.Messages.New(t.Context(), question1(anthropic.ModelClaudeSonnet4_5, 100))
			if err != nil || whole.Content[0].Text != "Hello, whole." || whole.Usage.OutputTokens != 34 {
				t.Errorf("Messages.New = %+v, %v", whole, err)
			}
			stream := client.Messages.NewStreaming(t.Context(), question1(anthropic.ModelClaudeSonnet4_5, 100))
			defer stream.Close()
			var parts anthropic.Message
			for pieces := 0; stream.Next(); {
				if err := parts.Accumulate(stream.Current()); err != nil {
					t.Error(err)
				}
				if stream.Current().Type == "content_block_delta" {
					if pieces++; pieces == 1 {
						p.first <- struct{}{}
					}
				}
			}
			if stream.Err() != nil || len(parts.Content) != 1 || parts.Content[0].Text != "Hello, in parts." || parts.Usage.OutputTokens != 78 || parts.StopReason != "end_turn" {
				t.Errorf("Messages.NewStreaming ends with %+v, %v", parts, stream.Err())
			}
			counted, err := client.Messages.CountTokens(t.Context(), anthropic.MessageCountTokensParams{
				Model: anthropic.ModelClaudeSonnet4_5, Messages: question1("", 0).Messages,
			})
			if err != nil || counted.InputTokens != 17 {
				t.Errorf("Messages.CountTokens = %+v, %v", counted, err)
			}
		})
	}
	jane.expectBooked("anthropic", p)
}

func TestAnthropicErrors(t *testing.T) {
	p := newStandIn(t)
	jane := signUp(t, serve(t, p), "jane@customers.dev")
	whole, poor, dead := jane.exchange("anthropic", ""), jane.exchange("anthropic", `,"max_cents":1`), jane.exchange("anthropic", "")
	jane.revoke(dead)
	tests := []struct {
		name   string
		cred   credential
		model  anthropic.Model
		status int
		kind   anthropic.ErrorType
		calls  int // that the provider gets
	}{
		{"the provider's limit, which may be tried again", whole, "claude-limited", 429, anthropic.ErrorTypeRateLimitError, 3},
		{"the provider's load, of which it says not to try", whole, "claude-overloaded", 529, anthropic.ErrorTypeOverloadedError, 1},
		{"revoked", dead, anthropic.ModelClaudeSonnet4_5, http.StatusUnauthorized, anthropic.ErrorTypeAuthenticationError, 0},
		{"budget spent", poor, anthropic.ModelClaudeSonnet4_5, http.StatusPaymentRequired, anthropic.ErrorTypeBillingError, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := anthropic.NewClient(option.WithBaseURL(tt.cred.BaseURL), option.WithAPIKey(tt.cred.APIKey))
			before := p.count()
			_, err := client.Messages.New(t.Context(), question1(tt.model, 1000))
			e, ok := errors.AsType[*anthropic.Error](err)
			if !ok || e.StatusCode != tt.status || e.Type() != tt.kind {
				t.Fatalf("Messages.New fails with %v, want %d %s", err, tt.status, tt.kind)
			}
			expectTries(t, e.Response, tt.calls)
			if got := p.count() - before; got != tt.calls {
				t.Errorf("the provider was asked %d times, want %d", got, tt.calls)
			}
			stream := client.Messages.NewStreaming(t.Context(), question1(tt.model, 1000))
			defer stream.Close()
			if e, ok := errors.AsType[*anthropic.Error](stream.Err()); stream.Next() || !ok || e.Type() != tt.kind {
				t.Errorf("Messages.NewStreaming fails with %v, want %s", stream.Err(), tt.kind)
			}
		})
	}
}

// expectTries looks how often the SDK had tried when it gave up: as often as the
// provider was asked, and once where Gatehouse refused.
func expectTries(t *testing.T, last *http.Response, calls int) {
	t.Helper()
	if got, want := last.Request.Header.Get("X-Stainless-Retry-Count"), []string{"0", "0", "1", "2"}[calls]; got != want {
		t.Errorf("the SDK gave up in try %s after the first, want %s", got, want)
	}
	if ours := last.Header.Get("X-Gatehouse-Error"); (ours != "") != (calls == 0) {
		t.Errorf("X-Gatehouse-Error is %q where the provider was asked %d times", ours, calls)
	}
}
