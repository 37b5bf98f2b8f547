package api

import (
	"net/http"
	"regexp"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
)

// key is an API key on the wire, without its secret.
type key struct {
	ID         string     `json:"id"`
	Name       *string    `json:"name"`
	Prefix     string     `json:"prefix"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
	ExpiresAt  *time.Time `json:"expires_at"`
}

// issuedOf is a key on the one answer that has its secret.
func issuedOf(k apikey.Issued) any {
	return struct {
		key
		APIKey string `json:"api_key"`
	}{keyOf(k.Record), k.Secret.Reveal()}
}

func keyOf(r apikey.Record) key {
	return key{r.ID, optional(r.Name), r.Prefix, r.CreatedAt, optionalTime(r.LastUsedAt), optionalTime(r.ExpiresAt)}
}

func optionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func (a *API) listKeys(x *exchange) error {
	records, err := a.Keys.List(x.context(), x.who.CustomerID)
	if err != nil {
		return err
	}
	keys := make([]key, 0, len(records))
	for _, r := range records {
		keys = append(keys, keyOf(r))
	}
	return x.reply(http.StatusOK, struct {
		Keys []key `json:"keys"`
	}{keys})
}

func (a *API) createKey(x *exchange) error {
	var in struct {
		Name      *string `json:"name"`
		ExpiresAt *string `json:"expires_at"`
	}
	if err := x.decode(&in); err != nil {
		return err
	}
	name, err := account.Text("name", in.Name, false)
	if err != nil {
		return err
	}
	expires, err := parseTime("expires_at", in.ExpiresAt)
	if err != nil {
		return err
	}
	issued, err := a.Keys.Create(x.context(), x.who, name, expires, keep(x, http.StatusCreated, issuedOf))
	if err != nil {
		return err
	}
	return x.reply(http.StatusCreated, issuedOf(issued))
}

// maxGrace bounds for how long a rotated key goes on working, in minutes.
const maxGrace = 1440

func (a *API) rotateKey(x *exchange) error {
	var in struct {
		Grace *int64 `json:"grace_minutes"`
	}
	if err := x.decode(&in); err != nil {
		return err
	}
	id, err := x.pathID("key")
	if err != nil {
		return err
	}
	var grace time.Duration
	if in.Grace != nil {
		if *in.Grace < 0 || *in.Grace > maxGrace {
			return fault.Field("grace_minutes", fault.NotAllowed, "grace_minutes must be from 0 to 1440")
		}
		grace = time.Duration(*in.Grace) * time.Minute
	}
	issued, err := a.Keys.Rotate(x.context(), x.who, id, grace, keep(x, http.StatusCreated, issuedOf))
	if err != nil {
		return err
	}
	return x.reply(http.StatusCreated, issuedOf(issued))
}

func (a *API) deleteKey(x *exchange) error {
	id, err := x.pathID("key")
	if err != nil {
		return err
	}
	if err := a.Keys.Delete(x.context(), x.who, id); err != nil {
		return err
	}
	x.WriteHeader(http.StatusNoContent)
	return nil
}

// rfc3339 is the form alone; time.Parse takes one digit for two, a comma for
// a point, and zones that there are not.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// parseTime reads an optional RFC 3339 time.
func parseTime(field string, given *string) (time.Time, error) {
	if given == nil {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, *given)
	if err != nil || !rfc3339.MatchString(*given) || t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, fault.Field(field, fault.MalformedValue, field+" must be an RFC 3339 time, such as 2030-01-31T12:00:00Z")
	}
	return t.UTC().Truncate(time.Microsecond), nil
}
