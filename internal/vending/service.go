package vending

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
)

// Service grants credentials and ends them.
type Service struct {
	store     Store
	kind      apikey.Kind
	offered   []Provider // those that are configured
	makers    map[Provider]Maker
	publicURL func() string
}

// NewService returns a service that offers some providers behind publicURL, and
// keys of their own of those that have a maker too.
func NewService(store Store, kind apikey.Kind, offered []Provider, makers map[Provider]Maker, publicURL func() string) *Service {
	return &Service{store, kind, offered, makers, publicURL}
}

// Request is what a customer asks for. Nil is left out.
type Request struct {
	Providers []string
	TTL       *int64 // minutes
	MaxCents  *int64
	Job, Run  string
}

// Given is a credential with its token, which can't be read again.
type Given struct {
	Credential
	Token   apikey.Secret
	BaseURL string
}

// Answer is what an exchange gives.
type Answer struct {
	Given   []Given
	Balance int64
	ResetAt time.Time // zero: none
}

// Exchange grants credentials for all the providers that are asked for, or none.
func (s *Service) Exchange(ctx context.Context, by apikey.Principal, r Request, keep *idempotency.Once[Answer]) (Answer, error) {
	o, err := s.check(r)
	if err != nil {
		return Answer{}, err
	}
	o.By = by
	return s.grant(ctx, o, o.Issues, keep)
}

// Refresh replaces a credential that ends soon by a new one of the same life.
func (s *Service) Refresh(ctx context.Context, by apikey.Principal, id string, keep *idempotency.Once[Answer]) (Answer, error) {
	if id == "" {
		return Answer{}, fault.Field("credential_id", fault.Required, "credential_id is required")
	}
	return s.grant(ctx, Order{By: by, Replace: id}, []Issue{{}}, keep)
}

// grant makes tokens and commits them. The providers of issues may be known to
// the store alone.
func (s *Service) grant(ctx context.Context, o Order, issues []Issue, keep *idempotency.Once[Answer]) (Answer, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Answer{}, fmt.Errorf("make grant id: %w", err)
	}
	o.ID = id.String()
	tokens := make(map[string]apikey.Secret)
	o.Issues = slices.Clone(issues)
	for i := range o.Issues {
		id, err := uuid.NewV7()
		if err != nil {
			return Answer{}, fmt.Errorf("make credential id: %w", err)
		}
		secret, presented := apikey.GenerateToken(s.kind)
		o.Issues[i].ID, o.Issues[i].Presented = id.String(), presented
		tokens[id.String()] = secret
	}
	answer := func(g Granted) Answer {
		a := Answer{Balance: g.Balance, ResetAt: g.ResetAt}
		for _, c := range g.Credentials {
			base := s.publicURL() + "/gateway/" + string(c.Provider)
			if c.Enforcement != ByGateway {
				base = s.makers[c.Provider].Base()
			}
			a.Given = append(a.Given, Given{c, tokens[c.ID], base + path[c.Provider]})
		}
		return a
	}
	made, err := s.makeKeys(ctx, o)
	var granted Granted
	if err == nil {
		for i := range o.Issues {
			if m, ok := made[o.Issues[i].ID]; ok {
				o.Issues[i].Key, tokens[o.Issues[i].ID] = &m.Key, m.Secret
			}
		}
		if granted, err = s.store.Grant(ctx, o, idempotency.Map(keep, answer)); err != nil {
			s.abandon(ctx, made)
		}
	}
	if IsRefusal(err) {
		err = errors.Join(s.noteRefusal(ctx, o), err)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("grant credentials: %w", err)
	}
	return answer(granted), nil
}

// noteRefusal adds a refusal to the audit trail. Where that fails, so does the
// request: none is refused without a row.
func (s *Service) noteRefusal(ctx context.Context, o Order) error {
	rows := make([]Spending, len(o.Issues))
	for i, issue := range o.Issues {
		id, err := uuid.NewV7()
		if err != nil {
			return fmt.Errorf("make audit id: %w", err)
		}
		rows[i].Audit = Audit{
			ID: id.String(), CustomerID: o.By.CustomerID, KeyID: o.By.KeyID, CredentialID: o.Replace, Action: Refusing,
			Provider: issue.Provider, Outcome: "USAGE_LIMIT_EXCEEDED",
		}
	}
	return s.store.Settle(ctx, rows)
}

// check reads a request; what is wrong is said of all fields at once.
func (s *Service) check(r Request) (o Order, err error) {
	var wrong []fault.Detail
	refuse := func(field, reason, message string) {
		wrong = append(wrong, fault.Detail{Field: field, Reason: reason, Message: message})
	}
	switch n := len(r.Providers); {
	case n == 0:
		refuse("providers", fault.Required, "providers is required: some of "+names(s.offered))
	case n > MaxProviders:
		refuse("providers", fault.TooLong, fmt.Sprintf("providers must be at most %d", MaxProviders))
		r.Providers = nil // there may be ten thousand: not a word on each
	}
	for i, name := range r.Providers {
		switch p := Provider(name); {
		case slices.Contains(r.Providers[:i], name):
			refuse("providers", fault.NotAllowed, "providers must be distinct")
		case !slices.Contains(Providers(), p):
			refuse("providers", fault.NotAllowed, "providers must be some of "+names(s.offered))
		case !slices.Contains(s.offered, p):
			refuse("providers", fault.NotAllowed, name+" is not configured here")
		default:
			o.Issues = append(o.Issues, Issue{Provider: p})
		}
	}
	o.TTL = DefaultTTL
	if r.TTL != nil {
		if *r.TTL < 1 {
			refuse("ttl_minutes", fault.MalformedValue, "ttl_minutes must be a whole number of at least 1")
		}
		o.TTL = time.Duration(min(*r.TTL, int64(MaxTTL/time.Minute))) * time.Minute
	}
	if r.MaxCents != nil {
		if *r.MaxCents < 1 {
			refuse("max_cents", fault.MalformedValue, "max_cents must be a whole number of at least 1")
		}
		o.Cap = min(*r.MaxCents, MaxCents) * MicroPerCent
	}
	o.Job, o.Run = strings.TrimSpace(r.Job), strings.TrimSpace(r.Run)
	for _, h := range []struct{ name, value string }{{"X-GitHub-Job", o.Job}, {"X-GitHub-Run", o.Run}} {
		switch {
		case utf8.RuneCountInString(h.value) > maxHeader:
			refuse(h.name, fault.TooLong, fmt.Sprintf("%s must be at most %d characters", h.name, maxHeader))
		case !utf8.ValidString(h.value) || strings.ContainsFunc(h.value, unicode.IsControl):
			refuse(h.name, fault.MalformedValue, h.name+" must be plain text")
		}
	}
	if len(wrong) > 0 {
		return o, fault.Fields(wrong)
	}
	return o, nil
}

func names(all []Provider) string {
	var words []string
	for _, p := range all {
		words = append(words, string(p))
	}
	return strings.Join(words, ", ")
}

// List lists a customer's credentials that have not ended.
func (s *Service) List(ctx context.Context, customerID string) ([]Credential, error) {
	found, err := s.store.Credentials(ctx, customerID)
	if err != nil {
		return nil, fmt.Errorf("list credentials: %w", err)
	}
	return found, nil
}

// Revoke ends a credential; again it does nothing.
func (s *Service) Revoke(ctx context.Context, by apikey.Principal, id string) error {
	if err := s.store.Revoke(ctx, by, id); err != nil {
		return fmt.Errorf("revoke credential: %w", err)
	}
	return nil
}

// What a client may say that it used; more is absurd.
const (
	maxTokensUsed = 1_000_000_000_000
	maxRequests   = 1_000_000_000
	maxJobID      = 255
)

// Report keeps what a client says that it used, apart from what was measured.
func (s *Service) Report(ctx context.Context, r Report, keep *idempotency.Once[Report]) error {
	var wrong []fault.Detail
	refuse := func(field, reason, message string) {
		wrong = append(wrong, fault.Detail{Field: field, Reason: reason, Message: message})
	}
	if !slices.Contains(Providers(), r.Provider) {
		refuse("provider", fault.NotAllowed, "provider must be one of "+names(Providers()))
	}
	if r.Tokens < 0 || r.Tokens > maxTokensUsed {
		refuse("tokens_used", fault.MalformedValue, fmt.Sprintf("tokens_used must be from 0 to %d", int64(maxTokensUsed)))
	}
	if r.Requests < 0 || r.Requests > maxRequests {
		refuse("request_count", fault.MalformedValue, fmt.Sprintf("request_count must be from 0 to %d", int64(maxRequests)))
	}
	switch r.JobID = strings.TrimSpace(r.JobID); {
	case r.JobID == "":
		refuse("job_id", fault.Required, "job_id is required")
	case utf8.RuneCountInString(r.JobID) > maxJobID:
		refuse("job_id", fault.TooLong, fmt.Sprintf("job_id must be at most %d characters", maxJobID))
	case strings.ContainsFunc(r.JobID, unicode.IsControl):
		refuse("job_id", fault.MalformedValue, "job_id must not contain control characters")
	}
	if len(wrong) > 0 {
		return fault.Fields(wrong)
	}
	if err := s.store.Report(ctx, r, keep); err != nil {
		return fmt.Errorf("keep report: %w", err)
	}
	return nil
}

// IsRefusal says whether err refuses a customer for what it may spend.
func IsRefusal(err error) bool {
	f, ok := errors.AsType[*fault.Error](err)
	return ok && f.Kind == fault.Forbidden && f.Code == "USAGE_LIMIT_EXCEEDED"
}
