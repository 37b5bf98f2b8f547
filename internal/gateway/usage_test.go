package gateway_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/gateway"
)

const (
	sse    = "text/event-stream; charset=utf-8"
	ndjson = "application/x-ndjson"
	plain  = "application/json"
)

// transcript is an answer as a provider gives it, and what it comes to.
type transcript struct {
	name, provider, path, media, body string
	stream                            bool
	want                              gateway.Usage
}

const (
	anthropicStart = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5-20250929\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":100,\"cache_read_input_tokens\":300,\"cache_creation\":{\"ephemeral_5m_input_tokens\":40,\"ephemeral_1h_input_tokens\":60},\"output_tokens\":1,\"service_tier\":\"standard\"}}}\n\n"
	anthropicDelta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello, \\\"usage\\\":{\\\"output_tokens\\\":9}\"}}\n\n"
	anthropicEnd   = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":15,\"server_tool_use\":{\"web_search_requests\":2}}}\n\n"
	anthropicStop  = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
	anthropicText  = "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n"
	anthropicAll   = anthropicStart + anthropicText + anthropicDelta + anthropicDelta + anthropicEnd + anthropicStop

	chatHead  = "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"aaaaaaaaaaaa\"}\n\n"
	chatDelta = "data: {\"id\":\"c1\",\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"bbbbbbbbbbbbbbbbbbbbbbb\"}\n\n"
	chatUsage = "data: {\"id\":\"c1\",\"model\":\"gpt-4o-2024-08-06\",\"choices\":[],\"usage\":{\"prompt_tokens\":120,\"completion_tokens\":30,\"total_tokens\":150,\"prompt_tokens_details\":{\"cached_tokens\":100,\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":10}}}\n\n"
	chatDone  = "data: [DONE]\n\n"

	responsesAll = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r1\",\"model\":\"gpt-5\",\"usage\":null,\"error\":null}}\n\n" +
		"event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hello\",\"obfuscation\":\"xxxx\"}\n\n" +
		"event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"text\":\"Hello\"}\n\n"
	responsesUsage = `"usage":{"input_tokens":50,"input_tokens_details":{"cached_tokens":20,"cache_write_tokens":5},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":57}`
)

func responsesEnd(kind string) string {
	return "event: response." + kind + "\ndata: {\"type\":\"response." + kind + "\",\"response\":{\"id\":\"r1\",\"model\":\"gpt-5\",\"output\":[{\"content\":[{\"text\":\"Hello\"}]}]," + responsesUsage + ",\"user\":null}}\n\n"
}

var (
	anthropicUsage = gateway.Usage{
		Model: "claude-sonnet-4-5-20250929", InputTokens: 25, CacheReadTokens: 300, CacheWriteTokens: 40, CacheWriteHourTokens: 60, OutputTokens: 15, WebSearches: 2,
	}
	chatTotal      = gateway.Usage{Model: "gpt-4o-2024-08-06", InputTokens: 20, CacheReadTokens: 100, OutputTokens: 30}
	responsesTotal = gateway.Usage{Model: "gpt-5", InputTokens: 25, CacheReadTokens: 20, CacheWriteTokens: 5, OutputTokens: 7}
)

// transcripts come to exact figures.
var transcripts = []transcript{
	{"anthropic stream", "anthropic", "/v1/messages", sse, anthropicAll, true, anthropicUsage},
	{"anthropic stream with CRLF", "anthropic", "/v1/messages", sse, strings.ReplaceAll(anthropicAll, "\n", "\r\n"), true, anthropicUsage},
	{"anthropic stream without its end", "anthropic", "/v1/messages", sse, anthropicStart + anthropicDelta + strings.TrimSpace(anthropicEnd), true, anthropicUsage},
	{"anthropic figures are cumulative", "anthropic", "/v1/messages", sse, anthropicStart +
		"data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":null},\"usage\":{\"output_tokens\":9}}\n\n" +
		"data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"input_tokens\":26,\"output_tokens\":12}}\n\n", true,
		gateway.Usage{Model: "claude-sonnet-4-5-20250929", InputTokens: 26, CacheReadTokens: 300, CacheWriteTokens: 40, CacheWriteHourTokens: 60, OutputTokens: 12}},
	{"anthropic data in several lines", "anthropic", "/v1/messages", sse, strings.ReplaceAll(anthropicAll, ",\"", ",\ndata:\""), true, anthropicUsage},
	{"anthropic", "anthropic", "/v1/messages", plain, `{"id":"m","type":"message","model":"claude-3","content":[{"type":"text","text":"Hi"},{"type":"tool_use","input":{"usage":{"input_tokens":9999}}}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":4}}`, false,
		gateway.Usage{Model: "claude-3", InputTokens: 3, OutputTokens: 4}},
	{"chat stream", "openai", "/v1/chat/completions", sse, chatHead + chatDelta + chatDelta + chatUsage + chatDone, true, chatTotal},
	{"chat stream without an end", "openai", "/v1/chat/completions", sse, chatHead + chatDelta + chatUsage, true, chatTotal},
	{"chat", "openai", "/v1/chat/completions", plain, `{"id":"c","model":"gpt-4o-2024-08-06","choices":[{"message":{"content":"Hi","tool_calls":[{"function":{"arguments":"{\"usage\":{\"prompt_tokens\":7}}"}}]}}],"usage":{"prompt_tokens":120,"completion_tokens":30,"prompt_tokens_details":{"cached_tokens":100}}}`, false, chatTotal},
	{"completions", "openai", "/v1/completions", plain, `{"model":"m","choices":[{"text":"a"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}`, false, gateway.Usage{Model: "m", InputTokens: 1, OutputTokens: 2}},
	{"embeddings", "openai", "/v1/embeddings", plain, `{"object":"list","data":[{"embedding":[0.1,-2e-5]}],"model":"e","usage":{"prompt_tokens":8,"total_tokens":8}}`, false, gateway.Usage{Model: "e", InputTokens: 8}},
	{"long embeddings", "openai", "/v1/embeddings", plain, `{"object":"list","data":[{"embedding":[` + strings.Repeat("0.12345678,", 300_000) + `1]}],"model":"e","usage":{"prompt_tokens":8,"total_tokens":8}}`, false, gateway.Usage{InputTokens: 8}},
	{"long message", "anthropic", "/v1/messages", plain, `{"model":"c","content":[{"type":"text","text":"` + strings.Repeat(`\"usage\":{`, 200_000) + `"}],"stop_reason":"end_turn","usage":{"input_tokens":8,"output_tokens":9}}`, false, gateway.Usage{InputTokens: 8, OutputTokens: 9}},
	{"responses completed", "openai", "/v1/responses", sse, responsesAll + responsesEnd("completed"), true, responsesTotal},
	{"responses incomplete", "openai", "/v1/responses", sse, responsesAll + responsesEnd("incomplete"), true, responsesTotal},
	{"responses failed", "openai", "/v1/responses", sse, responsesAll + responsesEnd("failed"), true, responsesTotal},
	{"responses", "openai", "/v1/responses", plain, `{"id":"r1","error":null,"model":"gpt-5","output":[{"content":[{"type":"output_text","text":"Hi"}]}],` + responsesUsage + `,"metadata":{}}`, false, responsesTotal},
	{"openrouter stream", "openrouter", "/api/v1/chat/completions", sse, ": OPENROUTER PROCESSING\n\n" + chatDelta + ": OPENROUTER PROCESSING\n\n" +
		"data: {\"model\":\"gpt-4o-2024-08-06\",\"choices\":[{\"delta\":{\"content\":\"\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":30,\"cost\":0.07,\"cost_details\":{\"upstream_inference_cost\":null},\"prompt_tokens_details\":{\"cached_tokens\":0}}}\n\n" + chatDone, true,
		gateway.Usage{Model: "gpt-4o-2024-08-06", InputTokens: 20, OutputTokens: 30, Cost: 70_000, Priced: true}},
	{"openrouter", "openrouter", "/api/v1/chat/completions", plain, `{"model":"m","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":30,"cost":0.00000001}}`, false,
		gateway.Usage{Model: "m", InputTokens: 20, OutputTokens: 30, Cost: 1, Priced: true}},
	{"openrouter, free", "openrouter", "/api/v1/chat/completions", plain, `{"model":"m:free","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":30,"cost":0}}`, false,
		gateway.Usage{Model: "m:free", InputTokens: 20, OutputTokens: 30, Priced: true}},
	{"openrouter, cost not told", "openrouter", "/api/v1/chat/completions", plain, `{"model":"m","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":30,"cost":null}}`, false,
		gateway.Usage{Model: "m", InputTokens: 20, OutputTokens: 30}},
	{"openrouter, a cost that is none", "openrouter", "/api/v1/chat/completions", plain, `{"model":"m","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":30,"cost":-1}}`, false,
		gateway.Usage{Model: "m", InputTokens: 20, OutputTokens: 30}},
	{"openrouter, by a key of the operator's own", "openrouter", "/api/v1/chat/completions", plain, `{"model":"m","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":30,"cost":0,"is_byok":true,"cost_details":{"upstream_inference_cost":0.07}}}`, false,
		gateway.Usage{Model: "m", InputTokens: 20, OutputTokens: 30, Cost: 70_000, Priced: true}},
	{"openrouter, by a key of the operator's own, at a price that is not told", "openrouter", "/api/v1/chat/completions", plain, `{"model":"m","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":30,"cost":0,"is_byok":true}}`, false,
		gateway.Usage{Model: "m", InputTokens: 20, OutputTokens: 30}},
	{"another's cost of nothing", "openai", "/v1/chat/completions", plain, `{"model":"m","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":30,"cost":0}}`, false,
		gateway.Usage{Model: "m", InputTokens: 20, OutputTokens: 30}},
	{"openrouter messages", "openrouter", "/api/v1/messages", sse, anthropicAll, true, anthropicUsage},
	{"openrouter responses", "openrouter", "/api/v1/responses", sse, responsesAll + responsesEnd("completed"), true, responsesTotal},
	{"ollama stream", "ollama", "/api/chat", ndjson, `{"model":"llama3.2","message":{"role":"assistant","content":"The"},"done":false}` + "\n" + `{"model":"llama3.2","message":{"content":" sky"},"done":false}` + "\n" +
		`{"model":"llama3.2","message":{"content":""},"done":true,"done_reason":"stop","total_duration":5,"prompt_eval_count":26,"eval_count":298}` + "\n", true,
		gateway.Usage{Model: "llama3.2", InputTokens: 26, OutputTokens: 298}},
	{"ollama stream with CRLF, without an end", "ollama", "/api/generate", ndjson, `{"model":"l","response":"The","done":false}` + "\r\n\r\n" + `{"model":"l","response":"","done":true,"context":[1,2,3],"prompt_eval_count":2,"eval_count":3}`, true,
		gateway.Usage{Model: "l", InputTokens: 2, OutputTokens: 3}},
	{"ollama", "ollama", "/api/generate", plain, `{"model":"l","response":"The sky","done":true,"prompt_eval_count":2,"eval_count":3}`, false, gateway.Usage{Model: "l", InputTokens: 2, OutputTokens: 3}},
	{"ollama embed", "ollama", "/api/embed", plain, `{"model":"e","embeddings":[[0.1,0.2]],"prompt_eval_count":8}`, false, gateway.Usage{Model: "e", InputTokens: 8}},
	{"ollama chat", "ollama", "/v1/chat/completions", sse, chatHead + chatDelta + chatUsage + chatDone, true, chatTotal},
	{"ollama messages", "ollama", "/v1/messages", sse, anthropicAll, true, anthropicUsage},
}

func TestUsageByEachProvidersRules(t *testing.T) {
	for _, tt := range transcripts {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, replies(tt.media, tt.body))
			body := fmt.Sprintf(`{"stream":%t,"stream_options":{"include_usage":true}}`, tt.stream)
			resp, got := r.post("/gateway/"+tt.provider+tt.path, body)
			if got != tt.body || resp.Header.Get("Content-Type") != tt.media {
				t.Errorf("the answer differs: %s", cmp.Diff(tt.body, got))
			}
			tt.want.Status, tt.want.Outcome = http.StatusOK, gateway.Done
			s := r.meter.next(t)
			if diff := cmp.Diff(tt.want, figures(s.usage)); diff != "" {
				t.Errorf("usage (-want +got):\n%s", diff)
			}
			r.meter.none(t)
		})
	}
}

// A cost of nothing at a stream's begin is none of what it comes to.
func TestACostOfNothingCountsAtTheEndAlone(t *testing.T) {
	begin := "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"usage\":{\"input_tokens\":20,\"output_tokens\":1,\"cost\":0}}}\n\n"
	got, _ := gateway.Measure("openrouter", "/api/v1/messages", "text/event-stream", false, true, gateway.Call{Provider: "openrouter", Stream: true}, []byte(begin))
	if got.Priced || !got.Estimated || got.InputTokens != 20 {
		t.Errorf("%+v; want it estimated, and its price the table's", got)
	}
}

// However a stream is cut into reads, its usage is the same; and so is what is
// hidden from a client that did not ask.
func TestUsageOfEveryCutIntoTwo(t *testing.T) {
	for _, tt := range transcripts {
		if len(tt.body) > 5000 {
			continue
		}
		c := gateway.Call{Provider: tt.provider, Stream: tt.stream}
		_, hidden := gateway.Measure(tt.provider, tt.path, tt.media, true, false, c, []byte(tt.body))
		for i := range tt.body {
			for _, hides := range []bool{false, true} {
				got, out := gateway.Measure(tt.provider, tt.path, tt.media, hides, false, c, []byte(tt.body[:i]), []byte(tt.body[i:]))
				if got != tt.want {
					t.Fatalf("%s cut at %d: %+v, want %+v", tt.name, i, got, tt.want)
				}
				if want := map[bool]string{false: tt.body, true: string(hidden)}[hides]; string(out) != want {
					t.Fatalf("%s cut at %d, hiding %t: %s", tt.name, i, hides, cmp.Diff(want, string(out)))
				}
			}
		}
	}
}

// What is unknown is estimated and marked; it is never nothing, and never less
// than what was seen.
func TestUnknownUsageIsEstimated(t *testing.T) {
	asked := gateway.Call{InputTokens: 40, MaxOutputTokens: 1000}
	stream := asked
	stream.Stream = true
	for _, tt := range []struct {
		name, provider, path, media, body string
		call                              gateway.Call
		broken                            bool
		want                              gateway.Usage
	}{
		{"anthropic cut after its start: the placeholder is no price", "anthropic", "/v1/messages", sse, anthropicStart + strings.Repeat(anthropicDelta, 10), stream, true,
			gateway.Usage{Model: "claude-sonnet-4-5-20250929", InputTokens: 25, CacheReadTokens: 300, CacheWriteTokens: 40, CacheWriteHourTokens: 60, OutputTokens: 127}},
		{"anthropic that ends without figures", "anthropic", "/v1/messages", sse, anthropicStart + anthropicDelta, stream, false,
			gateway.Usage{Model: "claude-sonnet-4-5-20250929", InputTokens: 25, CacheReadTokens: 300, CacheWriteTokens: 40, CacheWriteHourTokens: 60, OutputTokens: 13}},
		{"anthropic cut amid its figures", "anthropic", "/v1/messages", sse, anthropicStart + anthropicDelta + anthropicEnd[:len(anthropicEnd)-60], stream, true,
			gateway.Usage{Model: "claude-sonnet-4-5-20250929", InputTokens: 25, CacheReadTokens: 300, CacheWriteTokens: 40, CacheWriteHourTokens: 60, OutputTokens: 13}},
		{"anthropic error amid the stream", "anthropic", "/v1/messages", sse, anthropicStart + anthropicDelta + "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n", stream, false,
			gateway.Usage{Model: "claude-sonnet-4-5-20250929", InputTokens: 25, CacheReadTokens: 300, CacheWriteTokens: 40, CacheWriteHourTokens: 60, OutputTokens: 13}},
		{"chat cut: parts are tokens, whatever the padding", "openai", "/v1/chat/completions", sse, chatHead + strings.Repeat(chatDelta, 50), stream, true,
			gateway.Usage{Model: "gpt-4o-2024-08-06", InputTokens: 40, OutputTokens: 50}},
		{"responses cut: what is told twice counts once", "openai", "/v1/responses", sse, responsesAll, stream, true, gateway.Usage{Model: "gpt-5", InputTokens: 40, OutputTokens: 2}},
		{"ollama without the prompt's count", "ollama", "/api/chat", ndjson, `{"message":{"content":"a"},"done":false}` + "\n" + `{"done":true,"eval_count":298}` + "\n", stream, false,
			gateway.Usage{InputTokens: 40, OutputTokens: 298}},
		{"ollama without counts", "ollama", "/api/chat", ndjson, strings.Repeat(`{"message":{"content":"abc"},"done":false}`+"\n", 5) + `{"done":true}` + "\n", stream, false, gateway.Usage{InputTokens: 40, OutputTokens: 5}},
		{"ollama error amid the stream", "ollama", "/api/chat", ndjson, `{"message":{"content":"abc"},"done":false}` + "\n" + `{"error":"out of memory"}` + "\n", stream, false, gateway.Usage{InputTokens: 40, OutputTokens: 1}},
		{"a stream of nothing", "openai", "/v1/chat/completions", sse, "", stream, true, gateway.Usage{InputTokens: 40, OutputTokens: 1}},
		{"garbage for a stream", "openai", "/v1/chat/completions", sse, "data: {\"usage\":\n\ndata: }{\n\n\x00\xff", stream, false, gateway.Usage{InputTokens: 40, OutputTokens: 1}},
		{"no figures in a whole answer", "openai", "/v1/chat/completions", plain, `{"choices":[{"message":{"content":"Hello, world"}}]}`, asked, false, gateway.Usage{InputTokens: 40, OutputTokens: 4}},
		{"a whole answer cut: all of it was made", "anthropic", "/v1/messages", plain, `{"model":"c","content":[{"type":"text","text":"Hello`, asked, true, gateway.Usage{Model: "c", InputTokens: 40, OutputTokens: 1000}},
		{"garbage for a whole answer", "anthropic", "/v1/messages", plain, `<html>`, asked, false, gateway.Usage{InputTokens: 40, OutputTokens: 1000}},
		{"nothing at all, without a bound", "anthropic", "/v1/messages", plain, ``, gateway.Call{}, true, gateway.Usage{InputTokens: 1, OutputTokens: 4096}},
		{"figures of the wrong kind", "openai", "/v1/chat/completions", plain, `{"usage":{"prompt_tokens":"9","completion_tokens":-4}}`, asked, false, gateway.Usage{InputTokens: 40, OutputTokens: 1000}},
		{"figures beyond belief", "openai", "/v1/chat/completions", plain, `{"usage":{"prompt_tokens":9e30,"completion_tokens":9223372036854775807}}`, asked, false, gateway.Usage{InputTokens: 40, OutputTokens: 1000}},
		{"figures that contradict each other", "openai", "/v1/chat/completions", sse, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1}}\n\n" + strings.Repeat(chatDelta, 9), stream, false,
			gateway.Usage{Model: "gpt-4o-2024-08-06", InputTokens: 5, OutputTokens: 9}},
		{"embeddings without figures", "openai", "/v1/embeddings", plain, `{"data":[{"embedding":[1]}]}`, asked, false, gateway.Usage{InputTokens: 40}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := gateway.Measure(tt.provider, tt.path, tt.media, false, tt.broken, tt.call, []byte(tt.body))
			tt.want.Estimated = true
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("usage (-want +got):\n%s", diff)
			}
		})
	}
}

// teamclaude#391: 200, and an error as the first event. Nothing was made.
func TestAFailureInA200CostsNothing(t *testing.T) {
	for _, tt := range []struct{ path, media, body string }{
		{"anthropic/v1/messages", sse, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n"},
		{"openai/v1/responses", sse, "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"x\"}\n\n"},
		{"openai/v1/chat/completions", sse, "data: {\"error\":{\"message\":\"x\",\"type\":\"server_error\"}}\n\n"},
		{"openrouter/api/v1/chat/completions", plain, `{"error":{"code":502,"message":"x"}}`},
		{"ollama/api/chat", ndjson, `{"error":"model not found"}` + "\n"},
	} {
		r := newRig(t, replies(tt.media, tt.body))
		if _, got := r.post("/gateway/"+tt.path, `{"stream":true}`); got != tt.body {
			t.Errorf("%s: %q", tt.path, got)
		}
		if got, want := figures(r.meter.next(t).usage), (gateway.Usage{Status: 200, Outcome: gateway.Failed}); got != want {
			t.Errorf("%s: %+v", tt.path, got)
		}
	}
}

// A client that did not ask for usage does not get the chunk, and gets all else
// to the byte; one that asked does.
func TestTheUsageChunkIsHidden(t *testing.T) {
	for _, tt := range []struct{ name, body, want string }{
		{"as ever", chatHead + chatDelta + chatUsage + chatDone, chatHead + chatDelta + chatDone},
		{"CRLF", strings.ReplaceAll(chatDelta+chatUsage+chatDone, "\n", "\r\n"), strings.ReplaceAll(chatDelta+chatDone, "\n", "\r\n")},
		{"comments", ": a\n\n" + chatUsage + ": b\n\n" + chatDone, ": a\n\n: b\n\n" + chatDone},
		{"choices beside it", strings.Replace(chatUsage, "[]", `[{"delta":{}}]`, 1), strings.Replace(chatUsage, "[]", `[{"delta":{}}]`, 1)},
		{"no choices, no usage", "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n" + chatDone, "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n" + chatDone},
		{"an error", "data: {\"error\":{}}\n\n", "data: {\"error\":{}}\n\n"},
		{"a part at the end", chatDelta + "data: {\"cho", chatDelta + "data: {\"cho"},
		{"a long event", "data: {\"choices\":[\"" + strings.Repeat("a", 3<<20) + "\"]}\n\n" + chatUsage + chatDone, "data: {\"choices\":[\"" + strings.Repeat("a", 3<<20) + "\"]}\n\n" + chatDone},
		{"not a stream", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, asks := range []bool{false, true} {
				r := newRig(t, replies(sse, tt.body))
				body, want := `{"stream":true}`, tt.want
				if asks {
					body, want = `{"stream":true,"stream_options":{"include_usage":true}}`, tt.body
				}
				if _, got := r.post("/gateway/openai/v1/chat/completions", body); got != want {
					t.Errorf("asked %t: %.300q, want %.300q", asks, got, want)
				}
				if u := r.meter.next(t).usage; strings.Contains(tt.body, "prompt_tokens") && (u.Estimated || u.InputTokens != 20) {
					t.Errorf("asked %t: %+v", asks, u)
				}
			}
		})
	}
}

// FuzzUsage… : for any bytes and any cuts, a stream in pieces comes to the same
// as the whole, passes through unchanged, and makes no sum below zero.
func fuzzUsage(f *testing.F, provider, path, media string) {
	for _, tt := range transcripts {
		if tt.media == media && len(tt.body) < 5000 {
			f.Add([]byte(tt.body), uint64(7), false)
			f.Add([]byte(tt.body[:len(tt.body)/2]), uint64(1<<40+3), true)
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, cuts uint64, hides bool) {
		c := gateway.Call{Stream: media != plain, InputTokens: 10}
		whole, out := gateway.Measure(provider, path, media, hides, false, c, body)
		var pieces [][]byte
		rest := body
		for seed := cuts | 1; len(rest) > 0; seed = seed*6364136223846793005 + 1442695040888963407 {
			n := min(len(rest), 1+int(seed>>33)%(1+int(cuts%97)))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		cut, again := gateway.Measure(provider, path, media, hides, false, c, pieces...)
		if cut != whole {
			t.Fatalf("in pieces %+v, whole %+v", cut, whole)
		}
		if !bytes.Equal(out, again) || !hides && !bytes.Equal(out, body) {
			t.Fatalf("in pieces %q, whole %q", again, out)
		}
		for _, n := range []int64{whole.InputTokens, whole.OutputTokens, whole.CacheReadTokens, whole.CacheWriteTokens, whole.CacheWriteHourTokens, whole.Cost, whole.WebSearches} {
			if n < 0 || n > 1e15 {
				t.Fatalf("%+v", whole)
			}
		}
		if whole.InputTokens+whole.CacheReadTokens+whole.CacheWriteTokens+whole.CacheWriteHourTokens == 0 && !bytes.Contains(body, []byte("error")) {
			t.Fatalf("used nothing: %+v", whole)
		}
	})
}

func FuzzUsageAnthropic(f *testing.F) { fuzzUsage(f, "anthropic", "/v1/messages", sse) }
func FuzzUsageChat(f *testing.F)      { fuzzUsage(f, "openai", "/v1/chat/completions", sse) }
func FuzzUsageResponses(f *testing.F) { fuzzUsage(f, "openai", "/v1/responses", sse) }
func FuzzUsageOllama(f *testing.F)    { fuzzUsage(f, "ollama", "/api/chat", ndjson) }
func FuzzUsageWhole(f *testing.F)     { fuzzUsage(f, "anthropic", "/v1/messages", plain) }
