package api

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"reflect"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/fault"
)

// maxBody is the longest body of a public request, in bytes.
const maxBody = 64 << 10

// readBody reads the body, which must be JSON. Where every field is optional an
// empty one will do, whatever its type.
func (x *exchange) readBody(optional bool) error {
	typed := isJSON(x.Request.Header)
	if !typed && (!optional || x.Request.ContentLength > 0) {
		return unsupported()
	}
	var body bytes.Buffer
	if err := x.read(&body, maxBody); err != nil {
		return err
	}
	x.raw = body.Bytes()
	if len(x.raw) == 0 && optional {
		return nil
	}
	if !typed {
		return unsupported()
	}
	// All of it must be JSON, without a key twice, before any of it counts.
	if !jsontext.Value(x.raw).IsValid() {
		return &fault.Error{Kind: fault.Malformed, Code: "INVALID_JSON", Message: "The body is not valid JSON."}
	}
	return nil
}

// decode reads the body, an object, into v; an empty one leaves v as it is.
func (x *exchange) decode(v any) error {
	if len(x.raw) == 0 {
		return nil
	}
	if jsontext.Value(x.raw).Kind() != '{' {
		return &fault.Error{Kind: fault.Invalid, Code: "VALIDATION_FAILED", Message: "The body must be a JSON object."}
	}
	if err := json.Unmarshal(x.raw, v); err != nil {
		return wrongType(err)
	}
	return nil
}

func unsupported() error {
	return &fault.Error{
		Kind: fault.UnsupportedMedia, Code: "UNSUPPORTED_MEDIA_TYPE",
		Message: "The body must be application/json in UTF-8, without a Content-Encoding.",
	}
}

// isJSON says whether the body is declared to be plain JSON.
func isJSON(h http.Header) bool {
	if _, encoded := h["Content-Encoding"]; encoded {
		return false
	}
	declared := h["Content-Type"]
	if len(declared) != 1 {
		return false
	}
	if declared[0] == "application/json" {
		return true
	}
	media, params, err := mime.ParseMediaType(declared[0])
	if err != nil || media != "application/json" {
		return false
	}
	charset, ok := params["charset"]
	return !ok || strings.EqualFold(charset, "utf-8")
}

// read reads the whole body into a buffer, and nothing beyond a bound in bytes.
func (x *exchange) read(into *bytes.Buffer, most int64) error {
	if x.Request.ContentLength > most {
		x.Header().Set("Connection", "close") // rather than read it
		return tooLarge(most)
	}
	_, err := into.ReadFrom(http.MaxBytesReader(x.ResponseWriter, x.Request.Body, most))
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(most)
	}
	x.Header().Set("Connection", "close") // what follows is not a request
	return &fault.Error{Kind: fault.Malformed, Code: "INVALID_JSON", Message: "The body was cut off, or did not arrive in time.", Err: err}
}

func tooLarge(most int64) error {
	return &fault.Error{Kind: fault.TooLarge, Code: "PAYLOAD_TOO_LARGE", Message: fmt.Sprintf("The body must be at most %d KiB.", most>>10)}
}

// wrongType names the field whose value has another type than is wanted.
func wrongType(err error) error {
	e, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return err
	}
	field := strings.TrimPrefix(string(e.JSONPointer), "/")
	if field == "" {
		return &fault.Error{Kind: fault.Invalid, Code: "VALIDATION_FAILED", Message: "The body does not have the form that is wanted.", Err: err}
	}
	want := "of another type"
	if e.GoType != nil {
		want = cmp.Or(typeNames[e.GoType.Kind()], want)
	}
	return fault.Field(field, fault.MalformedValue, field+" must be "+want)
}

// typeNames are what clients know the types of fields as.
var typeNames = map[reflect.Kind]string{reflect.String: "text", reflect.Int64: "a whole number", reflect.Slice: "a list"}
