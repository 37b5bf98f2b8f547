package sdk

import (
	"errors"
	"net/http"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
)

var question2 = openai.ChatCompletionNewParams{
	Model: "gpt-4.1", MaxCompletionTokens: openai.Int(2000),
	Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hello")},
}

// chats asks for a chat whole and in parts, the latter with its usage and without.
func chats(t *testing.T, p *standIn, client openai.Client, toldAnyway bool) {
	t.Helper()
	whole, err := client.Chat.Completions.New(t.Context(), question2)
	if err != nil || whole.Choices[0].Message.Content != "Hello, whole." || whole.Usage.CompletionTokens != 43 {
		t.Errorf("Chat.Completions.New = %+v, %v", whole, err)
	}
	for _, asked := range []bool{false, true} {
		q := question2
		if asked {
			q.StreamOptions.IncludeUsage = openai.Bool(true)
		}
		stream := client.Chat.Completions.NewStreaming(t.Context(), q)
		defer stream.Close()
		var parts openai.ChatCompletionAccumulator
		empty := 0
		for pieces := 0; stream.Next(); pieces++ {
			if pieces == 0 {
				p.first <- struct{}{}
			}
			if len(stream.Current().Choices) == 0 {
				empty++
			}
			parts.AddChunk(stream.Current())
		}
		if stream.Err() != nil || len(parts.Choices) != 1 || parts.Choices[0].Message.Content != "Hello, in parts." {
			t.Errorf("Chat.Completions.NewStreaming ends with %+v, %v", parts.Choices, stream.Err())
		}
		if told := asked || toldAnyway; (parts.Usage.CompletionTokens == 43) != told || (empty == 1) != told {
			t.Errorf("the stream tells %d in %d chunks without choices, and the client's asking is %v", parts.Usage.CompletionTokens, empty, asked)
		}
	}
}

func TestOpenAI(t *testing.T) {
	p := newStandIn(t)
	jane := signUp(t, serve(t, p), "jane@customers.dev")
	cred := jane.exchange("openai", "")
	client := openai.NewClient(option.WithBaseURL(cred.BaseURL), option.WithAPIKey(cred.APIKey))
	chats(t, p, client, false)

	stream := client.Responses.NewStreaming(t.Context(), responses.ResponseNewParams{
		Model: "gpt-4.1", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("hello")},
	})
	defer stream.Close()
	var text string
	var last responses.ResponseStreamEventUnion
	for stream.Next() {
		last = stream.Current()
		if last.Type != "response.output_text.delta" {
			continue
		}
		if text == "" {
			p.first <- struct{}{}
		}
		text += last.Delta
	}
	if stream.Err() != nil || text != "Hello, in parts." || last.Type != "response.completed" || last.Response.Usage.OutputTokens != 53 {
		t.Errorf("Responses.NewStreaming says %q, and last %+v, %v", text, last, stream.Err())
	}

	vectors, err := client.Embeddings.New(t.Context(), openai.EmbeddingNewParams{
		Model: openai.EmbeddingModelTextEmbedding3Small, Input: openai.EmbeddingNewParamsInputUnion{OfString: openai.String("hello")},
	})
	if err != nil || len(vectors.Data) != 1 || len(vectors.Data[0].Embedding) != 2 || vectors.Data[0].Embedding[1] != -0.5 {
		t.Errorf("Embeddings.New = %+v, %v", vectors, err)
	}
	jane.expectBooked("openai", p)
}

func TestOpenRouter(t *testing.T) {
	p := newStandIn(t)
	jane := signUp(t, serve(t, p), "jane@customers.dev")
	cred := jane.exchange("openrouter", "")
	chats(t, p, openai.NewClient(option.WithBaseURL(cred.BaseURL), option.WithAPIKey(cred.APIKey)), true)
	jane.expectBooked("openrouter", p)
}

func TestOpenAIErrors(t *testing.T) {
	p := newStandIn(t)
	jane := signUp(t, serve(t, p), "jane@customers.dev")
	for _, tt := range []struct{ provider, revoked, spent string }{ // codes
		{"openai", "invalid_api_key", "insufficient_quota"},
		{"openrouter", "401", "402"},
	} {
		t.Run(tt.provider, func(t *testing.T) {
			fails := func(cred credential, status int, code string) {
				t.Helper()
				client := openai.NewClient(option.WithBaseURL(cred.BaseURL), option.WithAPIKey(cred.APIKey))
				_, err := client.Chat.Completions.New(t.Context(), question2)
				e, ok := errors.AsType[*openai.Error](err)
				if !ok || e.StatusCode != status || e.Code != code {
					t.Fatalf("Chat.Completions.New fails with %v, want %d %s", err, status, code)
				}
				expectTries(t, e.Response, 0)
				stream := client.Chat.Completions.NewStreaming(t.Context(), question2)
				defer stream.Close()
				if e, ok := errors.AsType[*openai.Error](stream.Err()); stream.Next() || !ok || e.StatusCode != status {
					t.Errorf("Chat.Completions.NewStreaming fails with %v, want %d", stream.Err(), status)
				}
			}
			dead := jane.exchange(tt.provider, "")
			jane.revoke(dead)
			fails(dead, http.StatusUnauthorized, tt.revoked)
			fails(jane.exchange(tt.provider, `,"max_cents":1`), http.StatusPaymentRequired, tt.spent)
		})
	}
	if p.count() != 0 {
		t.Errorf("the provider was asked %d times for calls that were refused", p.count())
	}
}
