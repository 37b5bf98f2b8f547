package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/api"
)

// description is openapi.yaml, read as kin-openapi understands it.
var description = sync.OnceValues(func() (*openapi3.T, error) {
	data, err := api.OpenAPI()
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(context.Background())
})

// formats are those that kin-openapi leaves to its users.
var formats = map[string]openapi3.StringFormatValidator{
	// Ids are UUIDv7: they sort by the time they were made.
	"uuid":      openapi3.NewRegexpFormatValidator(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`),
	"idn-email": openapi3.NewRegexpFormatValidator(`^[^@\s]+@[^@\s]+\.[^@\s]+$`),
	"date-time": openapi3.NewCallbackValidator(func(s string) error {
		_, err := time.Parse(time.RFC3339, s)
		return err
	}),
}

// answer is what came back for a request, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
	close  bool // the server ends the connection
}

// hopHeaders are net/http's own, or go out with whatever we answer.
var hopHeaders = map[string]bool{
	"Date": true, "Content-Length": true, "Content-Type": true, "Connection": true, "X-Content-Type-Options": true,
}

var secretText = regexp.MustCompile(`g[kt]_(live|test)_[0-9A-Za-z]{12}_[0-9A-Za-z]+`)

// checkAnswer holds an answer to openapi.yaml, and to what the contract says
// of all answers. off are the policies that send no headers.
func checkAnswer(req *http.Request, got answer, off map[string]bool) error {
	doc, err := description()
	if err != nil {
		return err
	}
	route, response, err := documented(doc, req, got.status)
	if err != nil {
		return err
	}
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: &http.Request{Method: route.Method, URL: req.URL, Header: req.Header}, Route: route},
		Status:                 got.status, Header: got.header, Body: io.NopCloser(bytes.NewReader(got.body)),
		Options: &openapi3filter.Options{
			IncludeResponseStatus: true, ExcludeResponseBody: req.Method == http.MethodHead,
			SchemaValidationOptions: []openapi3.SchemaValidationOption{openapi3.WithStringFormatValidators(formats)},
		},
	})
	return errors.Join(err, checkHeaders(response, got), checkLimits(route, got, response, off), checkBody(req, got, response))
}

// documented finds what openapi.yaml says of an answer. What it does not know
// must be refused as the components NotFound and MethodNotAllowed say.
func documented(doc *openapi3.T, req *http.Request, status int) (*routers.Route, *openapi3.Response, error) {
	route := &routers.Route{Spec: doc, Method: req.Method, Path: "none", PathItem: &openapi3.PathItem{}}
	if route.Method == http.MethodHead { // answered like GET
		route.Method = http.MethodGet
	}
	for template, item := range doc.Paths.Map() {
		if matches(template, req.URL.EscapedPath()) && route.Path != req.URL.EscapedPath() { // what is spelled out beats {id}
			route.Path, route.PathItem, route.Operation = template, item, item.GetOperation(route.Method)
		}
	}
	refusal, want := "NotFound", http.StatusNotFound
	if route.Path != "none" {
		refusal, want = "MethodNotAllowed", http.StatusMethodNotAllowed
	}
	if route.Operation == nil {
		if status != want {
			return nil, nil, fmt.Errorf("%s %s is answered with %d, and openapi.yaml does not have it", req.Method, req.URL.EscapedPath(), status)
		}
		route.Operation = &openapi3.Operation{Responses: openapi3.NewResponses(openapi3.WithStatus(want, doc.Components.Responses[refusal]))}
	}
	ref := route.Operation.Responses.Status(status)
	if ref == nil {
		return nil, nil, fmt.Errorf("%s %s is answered with %d, which openapi.yaml does not have", req.Method, route.Path, status)
	}
	return route, ref.Value, nil
}

func matches(template, path string) bool {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i] == got[i] {
			continue
		}
		value, err := url.PathUnescape(got[i])
		if err != nil || !strings.HasPrefix(want[i], "{") || value == "" || value == "." || value == ".." {
			return false
		}
	}
	return true
}

// checkHeaders refuses headers that are not documented, and double ones.
func checkHeaders(response *openapi3.Response, got answer) (err error) {
	known := make(map[string]bool)
	for name := range response.Headers {
		known[http.CanonicalHeaderKey(name)] = true
	}
	for name, lines := range got.header {
		if !known[name] && !hopHeaders[name] {
			err = errors.Join(err, fmt.Errorf("header %s is not documented for %d", name, got.status))
		}
		if len(lines) != 1 {
			err = errors.Join(err, fmt.Errorf("header %s has %d lines", name, len(lines)))
		}
	}
	return err
}

func checkBody(req *http.Request, got answer, response *openapi3.Response) error {
	if req.Method == http.MethodHead || len(response.Content) == 0 {
		if len(got.body) > 0 {
			return fmt.Errorf("there is a body where there should be none: %q", got.body)
		}
		return nil
	}
	if got.header.Get("Content-Type") != "application/json" {
		return fmt.Errorf("Content-Type is %q", got.header.Get("Content-Type"))
	}
	if !jsontext.Value(got.body).IsValid() { // strictly: no key twice, good UTF-8
		return fmt.Errorf("the body is not strict JSON: %q", got.body)
	}
	if secretText.Match(got.body) && req.URL.Path != "/openapi.json" && got.header.Get("Cache-Control") != "no-store" {
		return errors.New("there is a secret in the body, and no Cache-Control: no-store")
	}
	if got.status < 400 {
		return nil
	}
	var p problem
	if err := json.Unmarshal(got.body, &p, json.MatchCaseInsensitiveNames(true)); err != nil || p.Error.Code == "" {
		return err // a report on the node's health is no error's form
	}
	if id := got.header.Get("X-Request-Id"); p.RequestID != id {
		return fmt.Errorf("request_id is %q, X-Request-Id %q", p.RequestID, id)
	}
	for _, leak := range []string{"goroutine ", ".go:", "panic", "runtime error", "SELECT ", "INSERT ", "sqlite", "SQLITE"} {
		if bytes.Contains(got.body, []byte(leak)) {
			return fmt.Errorf("the body lets out %q: %s", leak, got.body)
		}
	}
	return nil
}

func TestDescriptionIsTheSameInYAMLAndJSON(t *testing.T) {
	fromJSON, err := description()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	fromYAML, err := openapi3.NewLoader().LoadFromData(text) // by another YAML parser than ours
	if err != nil {
		t.Fatal(err)
	}
	plain := func(doc *openapi3.T) (v any) {
		data, err := doc.MarshalJSON()
		if err == nil {
			err = json.Unmarshal(data, &v)
		}
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	if diff := cmp.Diff(plain(fromYAML), plain(fromJSON)); diff != "" {
		t.Errorf("openapi.yaml reads differently as JSON (- YAML, + JSON):\n%s", diff)
	}
}

func TestDescriptionHasNothingUnused(t *testing.T) {
	data, err := api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := description()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range doc.Components.Schemas {
		names = append(names, "schemas/"+name)
	}
	for name := range doc.Components.Responses {
		names = append(names, "responses/"+name)
	}
	for name := range doc.Components.Headers {
		names = append(names, "headers/"+name)
	}
	for name := range doc.Components.Parameters {
		names = append(names, "parameters/"+name)
	}
	for _, name := range names {
		// What any path may answer is no operation's.
		if name != "responses/MethodNotAllowed" && !bytes.Contains(data, []byte(`"#/components/`+name+`"`)) {
			t.Errorf("components/%s is used by nothing", name)
		}
	}
}

func mustURL(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
