package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/fault"
)

// body is a request's body, held in memory until the provider answers: it is
// looked into, and may have to be sent twice.
type body struct {
	g        *Gateway
	customer string
	data     []byte
	held     int64 // bytes taken from g.bodies, and of the customer's share

	// What is sent in place of data[at:end]. All around it stays as the client
	// wrote it.
	instead string
	at, end int
}

// firstPiece is taken for a body before any of it has come, in bytes: most fit,
// and who sends nothing holds nothing worth having.
const firstPiece = 64 << 10

// read takes the body in, growing with what has really come.
func (b *body) read(w http.ResponseWriter, r *http.Request) error {
	if len(r.Header["Content-Encoding"]) > 0 {
		return &fault.Error{Kind: fault.UnsupportedMedia, Code: "UNSUPPORTED_MEDIA_TYPE", Message: "The body must come without a Content-Encoding."}
	}
	most := b.g.config.Bounds.Body
	tooLarge := &fault.Error{Kind: fault.TooLarge, Code: "PAYLOAD_TOO_LARGE", Message: fmt.Sprintf("The body must be at most %d MiB.", most>>20)}
	if r.ContentLength > most {
		w.Header().Set("Connection", "close") // rather than read it
		return tooLarge
	}
	in := http.MaxBytesReader(w, r.Body, most)
	last := r.ContentLength
	if last < 0 {
		last = most
	}
	for size := min(last, firstPiece); ; size = min(last, 2*size) {
		if err := b.grow(size); err != nil {
			w.Header().Set("Connection", "close")
			return err
		}
		// A byte more: only a read shows the end, and lets net/http see the client leave.
		b.data = append(make([]byte, 0, size+1), b.data...)
		for int64(len(b.data)) <= size {
			n, err := in.Read(b.data[len(b.data):cap(b.data)])
			b.data = b.data[:len(b.data)+n]
			if err == io.EOF { // never wrapped: a wrapped one would be no end
				return nil
			}
			if err != nil {
				w.Header().Set("Connection", "close") // what follows is not a request
				if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
					return tooLarge
				}
				return unreadable("was cut off, or did not arrive in time")
			}
		}
	}
}

// grow takes what a body of so many bytes needs.
func (b *body) grow(size int64) error {
	more := size - b.held
	if !b.g.shares.take(b.customer, more) {
		return &fault.Error{
			Kind: fault.Limited, Code: "RATE_LIMITED", RetryAfter: time.Second,
			Message: fmt.Sprintf("Your calls that wait for an answer hold %d MiB of requests, the most that one customer's may at once. Try again shortly.", b.g.shares.most>>20),
		}
	}
	if !b.g.bodies.take(more) {
		b.g.shares.take(b.customer, -more)
		return &fault.Error{
			Kind: fault.Unavailable, Code: "UNAVAILABLE", Message: "Gatehouse holds too many requests just now. Try again shortly.",
			RetryAfter: time.Second,
		}
	}
	b.held = size
	return nil
}

func unreadable(how string) error {
	return &fault.Error{Kind: fault.Malformed, Code: "INVALID_JSON", Message: "The body " + how + "."}
}

// release says that the body is needed no more.
func (b *body) release() {
	b.g.bodies.taken.Add(-b.held)
	b.g.shares.take(b.customer, -b.held)
	b.data, b.held = nil, 0
}

// length is how long the body is as it is sent.
func (b *body) length() int64 { return int64(len(b.data) - (b.end - b.at) + len(b.instead)) }

// sent reads a body as it is sent. The transport closes it when it reads no
// more; then nothing is kept of it, since the answer's reader leads here.
type sent struct {
	mu   sync.Mutex
	rest [][]byte
}

func (b *body) sent() *sent {
	return &sent{rest: [][]byte{b.data[:b.at], []byte(b.instead), b.data[b.end:]}}
}

// Read implements io.Reader.
func (s *sent) Read(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.rest) > 0 && n < len(p) {
		m := copy(p[n:], s.rest[0])
		n += m
		if s.rest[0] = s.rest[0][m:]; len(s.rest[0]) == 0 {
			s.rest = s.rest[1:]
		}
	}
	if len(s.rest) == 0 {
		err = io.EOF
	}
	return n, err
}

// Close implements io.Closer.
func (s *sent) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest = nil
	return nil
}

// inspect reads the few fields that the gateway goes by; all else is the
// provider's to understand. What a provider could read otherwise is not passed
// on: a body that is not one JSON object, or has one of these names twice, or in
// another case, as Ollama reads them.
func (c *call) inspect(b *body) error {
	in, err := members(b.data, "model", "stream", "background", "max_tokens", "max_completion_tokens", "max_output_tokens", "options", "n", "best_of", "stream_options", "service_tier", "web_search_options", "tools")
	if err != nil {
		return err
	}
	if k := in["background"].Kind(); k != 0 && k != 'f' && k != 'n' && c.is(background) {
		return &fault.Error{Kind: fault.Invalid, Code: "VALIDATION_FAILED", Message: "Gatehouse passes on no background: true, since it could not end such a call."}
	}
	if err := c.unpriced(in); err != nil {
		return err
	}
	most := max(in["max_tokens"].number(), in["max_completion_tokens"].number(), in["max_output_tokens"].number())
	if in["options"].Kind() == '{' {
		options, err := members(in["options"].Value, "num_predict")
		if err != nil {
			return err
		}
		most = max(most, options["num_predict"].number())
	}
	most *= max(in["n"].number(), in["best_of"].number(), 1)
	if name, err := jsontext.AppendUnquote(nil, in["model"].Value); err == nil && len(name) <= maxModel {
		c.Model = string(name)
	}
	c.Stream = in["stream"].Kind() == 't' || in["stream"].Kind() != 'f' && c.is(inParts)
	c.MaxOutputTokens = min(most, maxTokens).tokens()
	c.InputTokens = min((int64(len(b.data))+2)/3, maxInput)
	if c.Stream && c.is(tellsAsked) {
		c.hides, err = b.askUsage(in["stream_options"])
	}
	return err
}

// unpriced refuses what a provider bills beside the tokens that it tells of, or
// at another price: nobody could say what such a call comes to.
func (c *call) unpriced(in map[string]member) error {
	refuse := func(what string) error {
		return &fault.Error{Kind: fault.Invalid, Code: "VALIDATION_FAILED", Message: "Gatehouse does not pass on " + what + ": what it costs can't be told from the answer."}
	}
	if tier, err := jsontext.AppendUnquote(nil, in["service_tier"].Value); err == nil && !slices.Contains([]string{"auto", "default", "flex", "standard_only"}, string(tier)) {
		return refuse("this service_tier")
	}
	if c.Provider != "openai" && c.Provider != "openrouter" {
		return nil
	}
	if k := in["web_search_options"].Kind(); k != 0 && k != 'n' {
		return refuse("web_search_options")
	}
	if in["tools"].Kind() != '[' {
		return nil
	}
	var tools []jsontext.Value
	if err := json.Unmarshal(in["tools"].Value, &tools); err != nil {
		return unreadable("has tools that can't be read")
	}
	for _, tool := range tools {
		if tool.Kind() != '{' {
			continue // the provider refuses it
		}
		its, err := members(tool, "type")
		if err != nil {
			return err
		}
		kind, err := jsontext.AppendUnquote(nil, its["type"].Value)
		if err == nil && string(kind) != "function" && string(kind) != "custom" {
			return refuse("tools that the provider runs itself")
		}
	}
	return nil
}

const (
	maxTokens = 1_000_000_000 // no count beyond it is believed
	maxInput  = 1_000_000     // the longest prompt that providers take: pictures make bodies of any length
)

// member is an object's, and lies at an offset of it.
type member struct {
	jsontext.Value
	at int
}

// members returns those of an object's that have one of some names.
func members(object []byte, names ...string) (map[string]member, error) {
	in := jsontext.NewDecoder(bytes.NewBuffer(object), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if in.PeekKind() != '{' {
		return nil, unreadable("is not a JSON object")
	}
	found := make(map[string]member)
	_, err := in.ReadToken()
	for err == nil && in.PeekKind() != '}' {
		var name jsontext.Token
		if name, err = in.ReadToken(); err != nil {
			break
		}
		i := slices.IndexFunc(names, func(n string) bool { return strings.EqualFold(n, name.String()) })
		if i >= 0 && (names[i] != name.String() || found[names[i]].Value != nil) {
			return nil, unreadable("has " + names[i] + " twice, or in another case")
		}
		var v jsontext.Value
		if v, err = in.ReadValue(); err == nil && i >= 0 {
			found[names[i]] = member{v.Clone(), int(in.InputOffset()) - len(v)}
		}
	}
	if err == nil {
		_, err = in.ReadToken()
	}
	if err == nil {
		_, err = in.ReadToken()
	}
	if err != io.EOF { //nolint:errorlint // a wrapped one is not the end
		return nil, unreadable("is not valid JSON")
	}
	return found, nil
}

// askUsage makes a stream tell its usage, and says whether the client did not
// ask for that. Options that are none are the provider's to refuse.
func (b *body) askUsage(options member) (hides bool, err error) {
	const ask = `"include_usage":true`
	switch options.Kind() {
	case 0:
		b.at = bytes.IndexByte(b.data, '{') + 1
		b.end, b.instead = b.at, `"stream_options":{`+ask+`},` // "stream" follows
	case 'n':
		b.at, b.end, b.instead = options.at, options.at+len(options.Value), "{"+ask+"}"
	case '{':
		in, err := members(options.Value, "include_usage")
		if err != nil {
			return false, err
		}
		switch asked := in["include_usage"]; {
		case asked.Kind() == 't':
			return false, nil
		case asked.Kind() != 0:
			b.at = options.at + asked.at
			b.end, b.instead = b.at+len(asked.Value), "true"
		default:
			b.at = options.at + 1
			b.end, b.instead = b.at, ask
			if len(bytes.TrimSpace(options.Value[1:])) > 1 {
				b.instead += ","
			}
		}
	default:
		return false, nil
	}
	return true, nil
}

// number is a number of something, which others wrote: what is none, or is
// negative, or not to be believed, is 0.
type number float64

func (m member) number() (n number) {
	if f, err := strconv.ParseFloat(string(m.Value), 64); err == nil && f > 0 && f <= maxTokens && m.Kind() == '0' {
		n = number(f)
	}
	return n
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (n *number) UnmarshalJSONFrom(in *jsontext.Decoder) error {
	v, err := in.ReadValue()
	*n = member{Value: v}.number()
	return err
}

func (n number) tokens() int64 { return int64(math.Ceil(float64(n))) }
