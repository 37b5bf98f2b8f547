package api_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// issued is a key as the answer that makes it shows it.
type issued struct {
	ID, Prefix string
	Name       *string
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
	ExpiresAt  *time.Time `json:"expires_at"`
	Key        string     `json:"api_key"`
}

// newKey makes a further key with the document of a body, or "".
func (c *client) newKey(t testing.TB, apiKey, text string) issued {
	t.Helper()
	details := []detail{key(apiKey)}
	if text != "" {
		details = append(details, document(text))
	}
	return decode[issued](t, c.send(t, "POST", "/api/v1/keys", details...).want(t, http.StatusCreated))
}

// keys lists a customer's keys by id, and says in what order they come.
func (c *client) keys(t testing.TB, apiKey string) (byID map[string]issued, order []string) {
	t.Helper()
	got := c.send(t, "GET", "/api/v1/keys", key(apiKey)).want(t, http.StatusOK)
	byID = make(map[string]issued)
	for _, k := range decode[struct{ Keys []issued }](t, got).Keys {
		byID[k.ID] = k
		order = append(order, k.ID)
	}
	return byID, order
}

func (c *client) works(t testing.TB, apiKey string) bool {
	t.Helper()
	got := c.send(t, "GET", "/api/v1/account", key(apiKey))
	if got.status != http.StatusOK {
		got.refused(t, http.StatusUnauthorized, "INVALID_API_KEY")
	}
	return got.status == http.StatusOK
}

func TestKeysAreListed(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now))
	_, mine := s.signUp(t)
	s.signUp(t) // another customer's key is not in the list
	ci := s.newKey(t, mine, `{"name": " ci "}`)
	expires := now.now().Add(time.Hour)
	guest := s.newKey(t, mine, `{"expires_at": "`+expires.Format(time.RFC3339)+`"}`)
	prefix, _ := checkKey(t, ci.Key, "live")
	if ci.Prefix != prefix || ci.Name == nil || *ci.Name != "ci" || ci.ExpiresAt != nil || ci.LastUsedAt != nil {
		t.Errorf("made %+v, want the name ci, the prefix %s, no expiry and no use", ci, prefix)
	}
	if guest.Name != nil || guest.ExpiresAt == nil || !guest.ExpiresAt.Equal(expires) {
		t.Errorf("made %+v, want no name and the expiry %v", guest, expires)
	}
	byID, order := s.keys(t, mine)
	if len(order) != 3 || order[1] != ci.ID || order[2] != guest.ID {
		t.Fatalf("listed %v, want the first, then %s and %s", order, ci.ID, guest.ID)
	}
	for _, want := range []issued{ci, guest} {
		want.Key = ""
		if diff := cmp.Diff(want, byID[want.ID]); diff != "" {
			t.Errorf("listed otherwise than made (- made, + listed):\n%s", diff)
		}
	}
	if first := byID[order[0]]; first.LastUsedAt == nil || !first.LastUsedAt.Equal(now.now()) {
		t.Errorf("the key in use was last used at %v, want %v", first.LastUsedAt, now.now())
	}
	if !s.works(t, ci.Key) || !s.works(t, guest.Key) {
		t.Error("a new key does not work")
	}
	if byID, _ = s.keys(t, mine); byID[ci.ID].LastUsedAt == nil {
		t.Error("a key that was used is listed as never used")
	}
}

func TestExpiry(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now), unlimited)
	_, mine := s.signUp(t)
	in := func(d time.Duration) string { return now.now().Add(d).Format(time.RFC3339Nano) }
	for _, test := range []struct{ name, value, reason string }{
		{"past", in(-time.Second), "not_allowed"},
		{"long past", "1999-01-01T00:00:00Z", "not_allowed"},
		{"now", in(0), "not_allowed"},
		{"now, by another zone", now.now().In(time.FixedZone("", 7200)).Format(time.RFC3339), "not_allowed"},
		{"empty", "", "malformed"},
		{"a word", "tomorrow", "malformed"},
		{"a date", "2040-01-01", "malformed"},
		{"no zone", "2040-01-01T00:00:00", "malformed"},
		{"a space for the T", "2040-01-01 00:00:00Z", "malformed"},
		{"Unix seconds", "2208988800", "malformed"},
		{"no such month", "2040-13-01T00:00:00Z", "malformed"},
		{"no such day", "2041-02-29T00:00:00Z", "malformed"},
		{"no such hour", "2040-01-01T24:00:00Z", "malformed"},
		{"text after it", "2040-01-01T00:00:00Z.", "malformed"},
		{"one digit of hour", "2040-01-01T1:00:00Z", "malformed"}, // time.Parse takes these three
		{"a comma for the point", "2040-01-01T00:00:00,5Z", "malformed"},
		{"no such zone", "2040-01-01T00:00:00+23:60", "malformed"},
		{"five digits of year", "20400-01-01T00:00:00Z", "malformed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.send(t, "POST", "/api/v1/keys", key(mine), document(`{"expires_at": "`+test.value+`"}`)).invalid(t, "expires_at", test.reason)
		})
	}
	if _, order := s.keys(t, mine); len(order) != 1 {
		t.Errorf("%d keys are there, want one", len(order))
	}
	soon := s.newKey(t, mine, `{"expires_at": "`+in(time.Microsecond)+`"}`)
	zoned := s.newKey(t, mine, `{"expires_at": "2040-06-01T12:00:00.5+02:00"}`)
	if want := time.Date(2040, 6, 1, 10, 0, 0, 500_000_000, time.UTC); !zoned.ExpiresAt.Equal(want) {
		t.Errorf("expires at %v, want %v", zoned.ExpiresAt, want)
	}
	if !s.works(t, soon.Key) {
		t.Error("a key does not work before its expiry")
	}
	now.advance(time.Microsecond)
	if s.works(t, soon.Key) {
		t.Error("a key works at its expiry")
	}
	now.set(*zoned.ExpiresAt)
	if s.works(t, zoned.Key) || !s.works(t, mine) {
		t.Error("a key works at its expiry, or takes another along")
	}
}

func TestRotateAtOnce(t *testing.T) {
	for name, text := range map[string][]detail{"no body": nil, "{}": {document("{}")}, "zero": {document(`{"grace_minutes": 0}`)}} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t)
			_, mine := s.signUp(t)
			old := s.newKey(t, mine, `{"name": "ci", "expires_at": "2999-01-01T00:00:00Z"}`)
			got := s.send(t, "POST", "/api/v1/keys/"+old.ID+"/rotate", append(text, key(mine))...).want(t, http.StatusCreated)
			fresh := decode[issued](t, got)
			checkKey(t, fresh.Key, "live")
			if fresh.ID == old.ID || fresh.Key == old.Key || fresh.Prefix == old.Prefix {
				t.Errorf("the new key is the old one in part: %+v", fresh)
			}
			if *fresh.Name != "ci" || fresh.ExpiresAt == nil || !fresh.ExpiresAt.Equal(*old.ExpiresAt) {
				t.Errorf("made %+v, want the old key's name and expiry", fresh)
			}
			if s.works(t, old.Key) || !s.works(t, fresh.Key) {
				t.Error("the old key works, or the new one does not")
			}
			byID, order := s.keys(t, mine)
			if _, there := byID[old.ID]; there || len(order) != 2 {
				t.Errorf("listed: %v", order)
			}
			s.send(t, "POST", "/api/v1/keys/"+old.ID+"/rotate", key(mine)).refused(t, http.StatusConflict, "CONFLICT")
		})
	}
}

// A key may rotate itself.
func TestRotateItself(t *testing.T) {
	s := newServer(t)
	_, mine := s.signUp(t)
	_, order := s.keys(t, mine)
	fresh := decode[issued](t, s.send(t, "POST", "/api/v1/keys/"+order[0]+"/rotate", key(mine)).want(t, http.StatusCreated))
	if s.works(t, mine) || !s.works(t, fresh.Key) {
		t.Error("the old key works, or the new one does not")
	}
}

func TestRotateWithGrace(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now), unlimited)
	_, mine := s.signUp(t)
	for _, minutes := range []int{1, 15, 1440} {
		t.Run(strconv.Itoa(minutes), func(t *testing.T) {
			old := s.newKey(t, mine, "")
			start, grace := now.now(), time.Duration(minutes)*time.Minute
			fresh := decode[issued](t, s.send(t, "POST", "/api/v1/keys/"+old.ID+"/rotate", key(mine), document(`{"grace_minutes": `+strconv.Itoa(minutes)+`}`)).want(t, http.StatusCreated))
			if fresh.ExpiresAt != nil {
				t.Errorf("the new key expires at %v", fresh.ExpiresAt)
			}
			byID, _ := s.keys(t, mine)
			if end := byID[old.ID].ExpiresAt; end == nil || !end.Equal(start.Add(grace)) {
				t.Errorf("the old key is listed until %v, want %v", end, start.Add(grace))
			}
			now.set(start.Add(grace - time.Microsecond))
			if !s.works(t, old.Key) || !s.works(t, fresh.Key) {
				t.Error("a key does not work within the grace")
			}
			now.set(start.Add(grace))
			if s.works(t, old.Key) || !s.works(t, fresh.Key) {
				t.Error("the old key works after the grace, or the new one does not")
			}
			s.send(t, "POST", "/api/v1/keys/"+old.ID+"/rotate", key(mine)).refused(t, http.StatusConflict, "CONFLICT")
		})
	}
}

// The grace does not make a key live longer than it would have.
func TestGraceEndsWithTheKey(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now))
	_, mine := s.signUp(t)
	old := s.newKey(t, mine, `{"expires_at": "`+now.now().Add(time.Minute).Format(time.RFC3339)+`"}`)
	s.send(t, "POST", "/api/v1/keys/"+old.ID+"/rotate", key(mine), document(`{"grace_minutes": 60}`)).want(t, http.StatusCreated)
	now.advance(time.Minute)
	if s.works(t, old.Key) {
		t.Error("a grace made a key live longer")
	}
}

func TestGraceBounds(t *testing.T) {
	s := newServer(t)
	_, mine := s.signUp(t)
	_, order := s.keys(t, mine)
	for _, minutes := range []string{"-1", "1441", "100000", "-9223372036854775808", "9223372036854775807"} {
		s.send(t, "POST", "/api/v1/keys/"+order[0]+"/rotate", key(mine), document(`{"grace_minutes": `+minutes+`}`)).invalid(t, "grace_minutes", "not_allowed")
	}
	if !s.works(t, mine) {
		t.Error("a refused rotation ended the key")
	}
}
