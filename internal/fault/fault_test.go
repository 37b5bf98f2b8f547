package fault_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/fault"
)

func TestErrorSaysCodeMessageAndCause(t *testing.T) {
	tests := []struct {
		name string
		err  *fault.Error
		want string
	}{
		{"without a cause", &fault.Error{Code: "NOT_FOUND", Message: "There is no such key."}, "NOT_FOUND: There is no such key."},
		{"with one", &fault.Error{Code: "UNAVAILABLE", Message: "Try again.", Err: io.ErrUnexpectedEOF}, "UNAVAILABLE: Try again.: unexpected EOF"},
		{"zero", &fault.Error{}, ": "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.err.Error(); got != tt.want {
				t.Errorf("Error() = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestErrorIsFoundUnderneathAndLeadsToItsCause(t *testing.T) {
	err := fmt.Errorf("open account: %w", fault.Away(io.ErrUnexpectedEOF))
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != fault.Unavailable {
		t.Errorf("found %v in %v", f, err)
	}
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the cause is not found in %v", err)
	}
	if errors.Unwrap(fault.Missing("gone")) != nil {
		t.Error("an error without a cause has one")
	}
}

func TestMakersFillInTheContractsCodes(t *testing.T) {
	details := []fault.Detail{
		{Field: "name", Reason: fault.Required, Message: "name is required"},
		{Field: "email", Reason: fault.MalformedValue, Message: "email is malformed"},
	}
	tests := []struct {
		name      string
		got, want *fault.Error
	}{
		{"Field", fault.Field("name", fault.Required, "name is required"), &fault.Error{
			Kind: fault.Invalid, Code: "VALIDATION_FAILED", Message: "name is required", Details: details[:1],
		}},
		{"Fields has the first one's message", fault.Fields(details), &fault.Error{
			Kind: fault.Invalid, Code: "VALIDATION_FAILED", Message: "name is required", Details: details,
		}},
		{"Missing", fault.Missing("There is no such key."), &fault.Error{
			Kind: fault.NotFound, Code: "NOT_FOUND", Message: "There is no such key.",
		}},
		{"Refused", fault.Refused("It is the last key."), &fault.Error{
			Kind: fault.Conflict, Code: "CONFLICT", Message: "It is the last key.",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.got); diff != "" {
				t.Errorf("differs (-want +got):\n%s", diff)
			}
		})
	}
}

// The contract promises Retry-After with every 503, and no cause in a body.
func TestAwayAlwaysSaysWhenToRetryAndHidesItsCause(t *testing.T) {
	f := fault.Away(errors.New("dial 10.0.0.5: refused"))
	if f.Kind != fault.Unavailable || f.Code != "UNAVAILABLE" {
		t.Errorf("it is %s, %s", f.Kind, f.Code)
	}
	if f.RetryAfter < time.Second {
		t.Errorf("RetryAfter is %s, want a second at least", f.RetryAfter)
	}
	if strings.Contains(f.Message, "10.0.0.5") || len(f.Details) > 0 {
		t.Errorf("a client would read the cause: %q, %v", f.Message, f.Details)
	}
	if !strings.Contains(f.Error(), "10.0.0.5") {
		t.Errorf("the log would not have the cause: %q", f.Error())
	}
}

func TestKindsAreDifferentLabels(t *testing.T) {
	seen := map[fault.Kind]bool{}
	for _, k := range []fault.Kind{
		fault.Malformed, fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.MethodNotAllowed, fault.Conflict,
		fault.TooLarge, fault.UnsupportedMedia, fault.Invalid, fault.Limited, fault.Internal, fault.Unavailable,
	} {
		if k == "" || seen[k] || strings.Trim(string(k), "abcdefghijklmnopqrstuvwxyz_") != "" {
			t.Errorf("%q is no label of its own", k)
		}
		seen[k] = true
	}
}
