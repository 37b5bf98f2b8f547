package api_test

import (
	"bytes"
	"database/sql"
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/seal"
)

// ringOf holds master keys, the first of which seals.
func ringOf(t testing.TB, keys ...string) *seal.Ring {
	t.Helper()
	ring, err := seal.Parse(strings.Join(keys, ","))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// shut fails the test unless the answer is a 503 that lets nothing out.
func (a answer) shut(t testing.TB) {
	t.Helper()
	a.refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
	a.unlimited(t)
	if a.header.Get("Retry-After") != "60" {
		t.Errorf("Retry-After is %q, want 60", a.header.Get("Retry-After"))
	}
	if secretText.Match(a.body) || a.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("answered: %v %s", a.header, a.body)
	}
}

// told fails the test unless the node's log has an error that names the
// master key, and no secret of any node's.
func (s *server) told(t testing.TB, id, keyID string, secrets []string) {
	t.Helper()
	found := false
	for _, line := range s.logs.lines() {
		var record struct{ Level, Err, RequestID string }
		if err := json.Unmarshal([]byte(line), &record, json.MatchCaseInsensitiveNames(true)); err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(secrets, func(secret string) bool { return strings.Contains(line, secret) }) {
			t.Errorf("a secret is logged: %s", line)
		}
		found = found || record.Level == "ERROR" && strings.Contains(line, `"request_id":"`+id+`"`) && strings.Contains(record.Err, keyID)
	}
	if !found {
		t.Errorf("no error names the key %s:\n%s", keyID, strings.Join(s.logs.lines(), "\n"))
	}
}

// What was sealed with a master key that a node does not have is a 503 there,
// and never a second customer or another key.
func TestNodeWithoutTheMasterKey(t *testing.T) {
	master := seal.NewKey()
	right := newServer(t, unlimited, sealedBy(ringOf(t, master)))
	wrong := newServer(t, unlimited, beside(right), sealedBy(newRing(t)))
	none := newServer(t, unlimited, beside(right), sealedBy(ringOf(t)))
	for endpoint, post := range posts(t, right) {
		t.Run(endpoint, func(t *testing.T) {
			text := post.body()
			send := func(s *server, text string, details ...detail) answer {
				return s.send(t, "POST", post.path, append(details, post.auth, document(text))...)
			}
			first := send(right, text, under(onceKey)).fresh(t)
			secrets := []string{master}
			if apiKey := secretText.FindString(string(first.body)); apiKey != "" { // a fix has none
				secrets = append(secrets, apiKey, apiKey[strings.LastIndexByte(apiKey, '_')+1:])
			}
			ids, err := right.database.SealedWith(t.Context())
			if err != nil || len(ids) != 1 || len(ids[0]) < 8 {
				t.Fatalf("sealed with %q (%v), want one key", ids, err)
			}
			before := right.effects(t)
			for _, node := range []*server{wrong, none} {
				id := "its id at " + endpoint
				for range 2 {
					send(node, text, under(onceKey), header("X-Request-Id", id)).shut(t)
				}
				node.told(t, id, ids[0], secrets)
				send(node, text+" ", under(onceKey)).refused(t, http.StatusUnprocessableEntity, "IDEMPOTENCY_MISMATCH")
			}
			send(none, post.body(), under("a key that is new")).shut(t)
			if made := right.effects(t).than(before); made != (effects{}) {
				t.Errorf("made without the master key: %+v", made)
			}
			send(right, text, under(onceKey)).repeats(t, first)
			// What is new is done by the key that there is, or without one.
			text = post.body()
			other := send(wrong, text, under("a key that is newer")).fresh(t)
			send(wrong, text, under("a key that is newer")).repeats(t, other)
			send(right, text, under("a key that is newer")).shut(t)
			send(none, post.body()).fresh(t)
			if err := wrong.forget(t); err != nil { // so that the next endpoint's are the only ones
				t.Fatal(err)
			}
		})
	}
}

// forget removes all that is kept.
func (s *server) forget(t testing.TB) error {
	t.Helper()
	_, err := s.sql(t).ExecContext(t.Context(), "DELETE FROM outcomes")
	return err
}

// sql opens the node's database beside it.
func (s *server) sql(t testing.TB) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: s.database.path, RawQuery: "_pragma=busy_timeout(10000)"}).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// A master key is rolled by putting a new one in front of it: what the old one
// sealed is repeated, and what comes now needs the new one alone.
func TestMasterKeyIsRolled(t *testing.T) {
	older, newer := seal.NewKey(), seal.NewKey()
	before := newServer(t, unlimited, sealedBy(ringOf(t, older)))
	during := newServer(t, unlimited, beside(before), sealedBy(ringOf(t, newer, older)))
	after := newServer(t, unlimited, beside(before), sealedBy(ringOf(t, newer)))
	for endpoint, post := range posts(t, before) {
		t.Run(endpoint, func(t *testing.T) {
			text, count := post.body(), before.effects(t)
			send := func(s *server, text, k string) answer {
				return s.send(t, "POST", post.path, post.auth, document(text), under(k))
			}
			first := send(before, text, onceKey).fresh(t)
			send(during, text, onceKey).repeats(t, first)
			send(after, text, onceKey).shut(t)
			text2 := post.body()
			second := send(during, text2, "a key that is new").fresh(t)
			send(after, text2, "a key that is new").repeats(t, second)
			send(before, text2, "a key that is new").shut(t)
			send(during, text, onceKey).repeats(t, first)
			one := each[endpoint]
			if made := before.effects(t).than(count); made != (effects{2 * one.customers, 2 * one.keys, 2 * one.entries, 2 * one.audits}) {
				t.Errorf("made: %+v, want twice %+v", made, one)
			}
		})
	}
}

// What is kept can be read by nobody who has the database alone, nor be passed
// off as the answer to another request.
func TestKeptAnswersAreSealed(t *testing.T) {
	s := newServer(t, unlimited)
	// Words that nothing else has.
	const name, company, address, ci, k = "Ada Quetzalcoatl", "Xylophone Works", "ada.quetzal@company.dev", "ci-of-quetzal", "key-of-quetzalcoatl"
	got := s.send(t, "POST", onboard, under(k), document(`{"name": "`+name+`", "company": "`+company+`", "email": "`+address+`"}`)).fresh(t)
	secrets := []string{decode[issued](t, got).Key}
	create := func(apiKey string) answer {
		return s.send(t, "POST", "/api/v1/keys", key(apiKey), under(k), document(`{"name": "`+ci+`"}`))
	}
	made := decode[issued](t, create(secrets[0]).fresh(t))
	rotated := decode[issued](t, s.send(t, "POST", "/api/v1/keys/"+made.ID+"/rotate", key(secrets[0]), under(k)).fresh(t))
	_, stranger := s.signUp(t)
	theirs := decode[issued](t, create(stranger).fresh(t))
	secrets = append(secrets, made.Key, rotated.Key, theirs.Key)
	token := decode[granted](t, s.send(t, "POST", exchange, key(secrets[0]), under(k), document(`{"providers": ["openai"]}`)).fresh(t)).Credentials["openai"].Token
	secrets = append(secrets, token)

	var files []byte
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		b, err := os.ReadFile(s.database.path + suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		files = append(files, b...)
	}
	if !bytes.Contains(files, []byte(address)) {
		t.Fatal("the files do not have the customer, so they show nothing")
	}
	open := []string{k}
	for _, secret := range secrets {
		open = append(open, secret, secret[strings.LastIndexByte(secret, '_')+1:])
	}
	for _, word := range open {
		if bytes.Contains(files, []byte(word)) {
			t.Errorf("the files have %q", word)
		}
	}

	db := s.sql(t)
	rows, err := db.QueryContext(t.Context(), "SELECT request, body, customer_id, created_at, status, key_id, sealed FROM outcomes")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var kept [][]byte
	for rows.Next() {
		columns := make([]sql.RawBytes, 7)
		into := make([]any, len(columns))
		for i := range columns {
			into[i] = &columns[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		var row []byte
		for _, c := range columns {
			row = append(row, c...)
		}
		kept = append(kept, row)
	}
	if err := rows.Err(); err != nil || len(kept) != 5 {
		t.Fatalf("%d answers are kept (%v), want 5", len(kept), err)
	}
	for _, word := range append(open, name, company, address, ci, "127.0.0.1", `"api_key"`, `"name"`, made.Prefix) {
		if slices.ContainsFunc(kept, func(row []byte) bool { return bytes.Contains(row, []byte(word)) }) {
			t.Errorf("what is kept has %q", word)
		}
	}

	// One customer's box in another's place.
	if _, err := db.ExecContext(t.Context(), "UPDATE outcomes SET sealed = (SELECT sealed FROM outcomes WHERE number = 2) WHERE number = 4"); err != nil {
		t.Fatal(err)
	}
	before := s.effects(t)
	create(stranger).shut(t)
	if made := s.effects(t).than(before); made != (effects{}) {
		t.Errorf("made: %+v, want nothing", made)
	}
}
