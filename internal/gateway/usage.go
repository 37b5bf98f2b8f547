package gateway

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// form is how an answer is made up of JSON documents.
type form uint8

const (
	whole  form = iota // it is one
	lines              // each line is one
	events             // each server-sent event is one, in lines that begin with "data:"
)

// tee reads an answer as it passes and finds out what was used. It changes
// nothing, and holds nothing back but where it hides.
type tee struct {
	speaks dialect
	form   form
	usage  Usage // what the provider said of it so far
	told   bool  // the prompt's figures came
	sure   bool  // those of the output are final, whatever became of the prompt's
	final  bool  // all are
	failed bool  // the provider said so before it made anything
	flat   bool  // it is in the depth of no document
	blind  bool  // the answer is compressed: nothing can be read of it
	parts  int64 // documents with something generated
	text   int64 // bytes of it

	doc    []byte // the document under way, or the end of a long one
	long   bool
	line   int  // bytes of the line under way
	prefix int  // of them, how many are "data:"'s; -1: it begins otherwise
	cr     bool // the line begins with a CR

	// hides holds each event back until it is whole, and drops the one that
	// the client would not have got if we had not asked for it.
	hides, extra bool // extra: the last event is that one
	held, out    []byte
	passing      bool // the event is too long to be held
}

const (
	dataLine = "data:"
	maxDoc   = 256 << 10 // bytes of a document that are read whole, or held back
	maxEnd   = 64 << 10  // bytes at the end of a longer one, where usage stands
)

// read takes in the next piece of the answer.
func (t *tee) read(p []byte) {
	for len(p) > 0 && !t.blind {
		p = p[t.next(p):]
	}
}

// filter takes in the next piece and returns what may go to the client of it
// and of earlier ones; that lasts until the next call.
func (t *tee) filter(p []byte) []byte {
	t.out = t.out[:0]
	for len(p) > 0 {
		n := t.next(p)
		t.held = append(t.held, p[:n]...)
		p = p[n:]
		ended, passed := t.line == 0 && len(t.doc) == 0, t.passing // or it was a line that belongs to no event
		t.passing = !ended && (passed || len(t.held) > maxDoc)
		if !ended && !t.passing {
			continue
		}
		if !t.extra || passed {
			t.out = append(t.out, t.held...)
		}
		if t.held = t.held[:0]; cap(t.held) > maxEnd {
			t.held = nil
		}
	}
	return t.out
}

// next takes in the beginning of p, to the end of a line at the most.
func (t *tee) next(p []byte) (n int) {
	t.extra = false
	if t.form == whole {
		t.keep(p)
		return len(p)
	}
	n = len(p)
	line := p
	end := bytes.IndexByte(p, '\n')
	if end >= 0 {
		n, line = end+1, p[:end]
	}
	if t.line == 0 && len(line) > 0 {
		t.cr = line[0] == '\r'
	}
	t.line += len(line)
	if t.form == lines {
		t.keep(line)
	} else {
		for t.prefix >= 0 && t.prefix < len(dataLine) && len(line) > 0 {
			if line[0] != dataLine[t.prefix] {
				t.prefix = -1
				break
			}
			t.prefix++
			line = line[1:]
		}
		if t.prefix == len(dataLine) {
			t.keep(line)
		}
	}
	if end < 0 {
		return n
	}
	switch empty := t.line == 0 || t.line == 1 && t.cr; {
	case empty || t.form == lines:
		t.close()
	case t.prefix == len(dataLine):
		t.keep(p[end:n])
	}
	t.line, t.prefix = 0, 0
	return n
}

func (t *tee) keep(p []byte) {
	for len(p) > maxEnd { // so that no more is ever held than a document and an end
		t.keep(p[:maxEnd])
		p = p[maxEnd:]
	}
	if len(t.doc)+len(p) > maxDoc {
		t.long = true
		t.doc = append(t.doc[:0], t.doc[len(t.doc)-maxEnd:]...)
	}
	t.doc = append(t.doc, p...)
}

// close reads the document that has ended, or broken off.
func (t *tee) close() {
	b := t.doc
	if t.long { // text on the way can't have this with its quotes, and what else has comes before
		b = append([]byte("{"), b[max(0, bytes.LastIndex(b, []byte(`"usage":`)), bytes.LastIndex(b, []byte(`"prompt_eval_count":`))):]...)
	}
	if len(bytes.TrimSpace(b)) > 0 {
		d := document{
			in:    jsontext.NewDecoder(bytes.NewBuffer(b), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)),
			again: t.speaks == responses && t.form == events, flat: t.flat, stopped: t.long,
		}
		_ = d.walk("", "", 0) // of what is not JSON, or broke off, the beginning counts
		t.take(&d)
	}
	if t.doc, t.long = t.doc[:0], false; cap(t.doc) > maxEnd {
		t.doc = nil
	}
}

// take adds what a document tells. Anthropic's figures come twice, and
// cumulative: a later one replaces an earlier one.
func (t *tee) take(d *document) {
	f, u := &d.figures, &t.usage
	if d.text > 0 {
		t.parts++
		t.text += d.text
		t.final = false // figures before the end are not the last
	}
	if 0 < len(d.model) && len(d.model) <= maxModel && string(d.model) != u.Model {
		u.Model = string(d.model)
	}
	switch {
	case t.speaks == ollama: // zero is left out, and so is a cached prompt: absent is unknown
		if d.done || f.Prompt > 0 {
			u.InputTokens, u.OutputTokens = f.Prompt.tokens(), f.Completion.tokens()
			t.told, t.sure = f.Prompt > 0, f.Completion > 0
			t.final = t.told && (t.sure || t.text == 0)
		}
	case !d.usage:
	case t.speaks == anthropic:
		set := func(to *int64, n number) {
			if n > 0 {
				*to = n.tokens()
			}
		}
		set(&u.InputTokens, f.Input)
		set(&u.OutputTokens, f.Output)
		set(&u.CacheReadTokens, f.CacheRead)
		if f.CacheWrite > 0 {
			u.CacheWriteHourTokens = min(f.Written.Hour, f.CacheWrite).tokens()
			u.CacheWriteTokens = f.CacheWrite.tokens() - u.CacheWriteHourTokens
		}
		set(&u.WebSearches, f.Tools.WebSearches)
		t.told = u.prompt() > 0
		t.final = t.told && d.stopped
	default:
		input, output, part := f.Prompt, f.Completion, f.PromptPart
		if f.Input > 0 { // of Responses
			input, output, part = f.Input, f.Output, f.InputPart
		}
		u.CacheReadTokens = min(part.Cached, input).tokens()
		u.CacheWriteTokens = min(part.Written, input-min(part.Cached, input)).tokens()
		u.InputTokens = input.tokens() - u.CacheReadTokens - u.CacheWriteTokens
		u.OutputTokens = output.tokens()
		t.told, t.final, t.extra = input > 0, input > 0, d.empty
	}
	if price := f.price(); price.told { // by binary fractions 0.07 would come to 70,001
		u.Cost, u.Priced = int64(math.Ceil(price.amount*1e6-1e-6)), true
	}
	t.failed = t.failed || d.failed && !t.told && t.parts == 0
}

// dollars are a price that OpenRouter tells: 0 of what is free, which is not the
// same as none.
type dollars struct {
	amount float64
	told   bool
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (d *dollars) UnmarshalJSONFrom(in *jsontext.Decoder) error {
	v, err := in.ReadValue()
	if f, parsed := strconv.ParseFloat(string(v), 64); parsed == nil && v.Kind() == '0' && f >= 0 && f <= maxTokens {
		*d = dollars{f, true}
	}
	return err
}

// figures are all providers' usage blocks; each fills its own part.
type figures struct {
	Input      number `json:"input_tokens"`
	Output     number `json:"output_tokens"`
	CacheRead  number `json:"cache_read_input_tokens"`     // beside input
	CacheWrite number `json:"cache_creation_input_tokens"` // likewise
	Written    struct {
		Hour number `json:"ephemeral_1h_input_tokens"`
	} `json:"cache_creation"`
	Tools struct {
		WebSearches number `json:"web_search_requests"`
	} `json:"server_tool_use"`
	Prompt     number  `json:"prompt_tokens"`
	Completion number  `json:"completion_tokens"`
	PromptPart part    `json:"prompt_tokens_details"`
	InputPart  part    `json:"input_tokens_details"`
	Cost       dollars `json:"cost"`
	// Where a call was made with the operator's own key at a provider of
	// OpenRouter's, the cost is OpenRouter's fee alone.
	OwnKey jsontext.Value `json:"is_byok"`
	Costs  struct {
		Upstream dollars `json:"upstream_inference_cost"`
	} `json:"cost_details"`
}

// price is what OpenRouter says that a call costs.
func (f *figures) price() dollars {
	if f.OwnKey.Kind() != 't' {
		return f.Cost
	}
	upstream := f.Costs.Upstream
	return dollars{f.Cost.amount + upstream.amount, f.Cost.told && upstream.told}
}

// part is within the prompt.
type part struct {
	Cached  number `json:"cached_tokens"`
	Written number `json:"cache_write_tokens"`
}

func (u *Usage) prompt() int64 {
	return u.InputTokens + u.CacheReadTokens + u.CacheWriteTokens + u.CacheWriteHourTokens
}

// document is one JSON document of an answer.
type document struct {
	in    *jsontext.Decoder
	again bool // it may say again in full what deltas said
	flat  bool // nothing in its depth counts

	figures figures
	usage   bool // there were some
	stopped bool // there is a reason why generating ended
	done    bool
	failed  bool
	empty   bool // it has no choices
	model   []byte
	text    int64 // bytes of what was generated
}

// generated are the members that hold what a model said.
var generated = []string{"text", "content", "thinking", "partial_json", "arguments", "reasoning", "reasoning_content", "refusal", "response", "delta"}

// walk reads the next value, the member name of what is itself the member
// inside, depth objects and arrays down.
func (d *document) walk(inside, name string, depth int) error {
	counts := depth == 1 || depth == 2 && (inside == "message" || inside == "delta" || inside == "response")
	kind := d.in.PeekKind()
	d.failed = d.failed || counts && name == "error" && kind != 'n'
	switch {
	case counts && name == "usage" && kind == '{':
		v, err := d.in.ReadValue()
		d.usage = err == nil && json.Unmarshal(v, &d.figures) == nil
		return err
	case kind == '{' && (depth == 0 || !d.flat), kind == '[' && !d.flat:
		_, err := d.in.ReadToken()
		d.empty = d.empty || depth == 1 && name == "choices" && d.in.PeekKind() == ']'
		for err == nil && d.in.PeekKind() != kind+2 { // the bracket that closes
			member := ""
			if kind == '{' {
				var t jsontext.Token
				t, err = d.in.ReadToken()
				member = t.String()
			}
			if err == nil {
				err = d.walk(name, member, depth+1)
			}
		}
		if err == nil {
			_, err = d.in.ReadToken()
		}
		return err
	case kind != '"' && !counts:
		return d.in.SkipValue()
	}
	v, err := d.in.ReadValue()
	if err != nil {
		return err
	}
	if kind == '"' && d.again == (name == "delta") && slices.Contains(generated, name) {
		d.text += int64(len(v) - 2)
	}
	if !counts {
		return nil
	}
	switch name {
	case "model":
		d.model, _ = jsontext.AppendUnquote(nil, v)
	case "stop_reason":
		d.stopped = d.stopped || kind == '"'
	case "done":
		d.done = kind == 't'
	case "prompt_eval_count":
		d.figures.Prompt = member{Value: v}.number()
	case "eval_count":
		d.figures.Completion = member{Value: v}.number()
	case "type":
		d.failed = d.failed || string(v) == `"error"`
	}
	return nil
}

// defaultOutput stands for what a call made that set no bound, and whose answer
// nobody could read: tokens.
const defaultOutput = 4096

// total is what a call came to. broken says that the answer did not come to its
// own end.
func (t *tee) total(c *Call, broken bool) Usage {
	t.close()
	u := t.usage
	if u.Cost == 0 && (!t.final || c.Provider != "openrouter") { // who else says so did not mean that it is free
		u.Priced = false
	}
	if t.final || t.failed && !broken {
		return u
	}
	u.Estimated = true
	if u.prompt() == 0 {
		u.InputTokens = max(c.InputTokens, 1)
	}
	if c.NoOutput || t.sure {
		return u
	}
	// A part is a token or more, and one is rarely less than three bytes.
	u.OutputTokens = max(u.OutputTokens, t.parts, (t.text+2)/3, 1)
	if t.blind || !c.Stream && (t.text == 0 || broken) { // it may have been anything
		u.OutputTokens = max(u.OutputTokens, cmp.Or(c.MaxOutputTokens, defaultOutput))
	}
	return u
}
