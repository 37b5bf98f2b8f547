package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/load/report"
	"gatehouse/internal/load/suite"
)

// Whatever differs from what a run was told of is found, and nothing else is.
func TestLoadReconcile(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	n := startNode(t, database)
	l := newLoad(t, n.url, strings.Replace(loadPlan, "count: 100", "count: 40", 1))
	if o := finish(t, l.cmd); o.code != exitOK {
		t.Fatalf("exit code %d:\n%s%s", o.code, o.stdout, o.stderr)
	}
	n.drain()
	reconciled := func(dir, database string) outcome {
		return finish(t, gatehouse(t, "load", "reconcile", dir, "--database=sqlite:"+database))
	}
	if o := reconciled(l.out, database); o.code != exitOK || !strings.Contains(strings.Join(strings.Fields(o.stdout), " "), "sign-ups 300 0 300 0 0 0 0") {
		t.Fatalf("exit code %d, want 0 and 300 sign-ups:\n%s%s", o.code, o.stdout, o.stderr)
	}

	changed := func(statements ...string) string {
		copied := copyOf(t, database)
		db := openSQL(t, copied)
		for _, s := range statements {
			if _, err := db.Exec(s); err != nil {
				t.Fatal(err)
			}
		}
		return copied
	}
	const first = "(SELECT id FROM customers ORDER BY id LIMIT 1)"
	for name, tt := range map[string]struct{ database, want string }{
		"one was lost":       {changed("UPDATE customers SET email = 'somebody@else.dev' WHERE id = " + first), "sign-ups, lost: "},
		"all are gone":       {changed("UPDATE customers SET email = id || '@else.dev'"), "is it the target's, and was it not purged since?"},
		"one is there twice": {changed("UPDATE customers SET email = (SELECT email FROM customers ORDER BY id DESC LIMIT 1) WHERE id = " + first), "sign-ups, twice: "},
		"a balance is wrong": {changed("UPDATE customers SET credit_balance = 7 WHERE id = " + first), "their ledgers, otherwise wrong: "},
	} {
		if o := reconciled(l.out, tt.database); o.code != exitFailed || !strings.Contains(o.stdout+o.stderr, tt.want) {
			t.Errorf("%s: exit code %d, want 1 and %q:\n%s%s", name, o.code, tt.want, o.stdout, o.stderr)
		}
	}

	file := filepath.Join(l.out, "writes.csv")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	less := strings.Join(append(lines[:50:50], lines[51:]...), "")
	const atOnce = "UPDATE customers SET created_at = 60000000"
	early := changed(atOnce, "UPDATE customers SET created_at = 57000000 WHERE email LIKE '%"+uuidIn.FindString(lines[50])+"%'")
	// Who has the last row need not have the last id: what lies before others' is
	// unclear, or surplus.
	var newest string
	if err := openSQL(t, database).QueryRow("SELECT email FROM customers ORDER BY id DESC LIMIT 1").Scan(&newest); err != nil {
		t.Fatal(err)
	}
	isNewest := func(line string) bool { return strings.Contains(line, uuidIn.FindString(newest)) }
	last := lines[slices.IndexFunc(lines, isNewest)]
	torn := strings.Join(slices.DeleteFunc(slices.Clone(lines), isNewest), "") + last[:len(last)-3]
	for name, tt := range map[string]struct {
		dir, database, want string
		code                int
	}{
		"a run was not told of one":     {runIn(t, less), database, "sign-ups, surplus: ", exitFailed},
		"another run wrote meanwhile":   {runIn(t, less), database, "and more: where another run wrote", exitFailed},
		"a killed one, as it ended":     {writesIn(t, less), changed(atOnce), "sign-ups, unclear, for want of rows: ", exitUnknown},
		"a killed one, before that":     {writesIn(t, less), early, "sign-ups, surplus: ", exitFailed},
		"one had no answer":             {writesIn(t, strings.Replace(string(text), ",201", ",0", 1)), database, "sign-ups", exitOK},
		"one had none and is not there": {writesIn(t, string(text)+"POST /api/v1/customers/onboard,01234567-89ab-4def-8123-456789abcdef,0\n"), database, "sign-ups", exitOK},
		"the file was cut in a row":     {runIn(t, string(text[:len(text)-3])), database, "row 300", exitUsage},
		"a run was killed in a row":     {writesIn(t, torn), database, "ends within a row, which is left out", exitOK},
	} {
		if o := reconciled(tt.dir, tt.database); o.code != tt.code || !strings.Contains(o.stdout+o.stderr, tt.want) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s%s", name, o.code, tt.code, tt.want, o.stdout, o.stderr)
		}
	}

	// Beside the run's summary each row counts.
	if err := os.WriteFile(file, []byte(strings.Join(lines[:len(lines)-2], "")), 0o600); err != nil {
		t.Fatal(err)
	}
	if o := reconciled(l.out, database); o.code != exitUsage || !strings.Contains(o.stderr, "summary.json says 300") {
		t.Errorf("the file was cut at a row's end: exit code %d, want 2:\n%s%s", o.code, o.stdout, o.stderr)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if o := reconciled(filepath.Dir(l.out), database); o.code != exitUsage || !strings.Contains(o.stderr, "has no writes.csv") {
		t.Errorf("the file was removed: exit code %d, want 2:\n%s%s", o.code, o.stdout, o.stderr)
	}
	if o := reconciled(t.TempDir(), database); o.code != exitUsage || !strings.Contains(o.stderr, "writes.csv") {
		t.Errorf("an empty folder: exit code %d, want 2: %s", o.code, o.stderr)
	}
}

// below is where the folders of writesIn have their run.
const below = "all [of it/a run"

// writesIn is a folder with that of a run that was killed in it, deep below.
func writesIn(t *testing.T, text string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, below), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, below, "writes.csv"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// runIn is the same of a run that ended.
func runIn(t *testing.T, text string) (dir string) {
	t.Helper()
	dir = writesIn(t, text)
	rows := strings.Count(text, "\n") - 1
	summary, err := json.Marshal(report.Summary{Schema: report.Schema, Outcomes: map[string]report.Outcome{}, Writes: &rows})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, below, "summary.json"), summary, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A suite's plans that ran are all there, or it is said which is not.
func TestLoadReconcileSuite(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	n := startNode(t, database)
	const uuid = "01234567-89ab-4def-8123-456789abcdef"
	signUp(n.client(""), n.url, "load-"+uuid+"@"+loopbackDomain)
	n.drain()
	dir := runIn(t, "request,id,status\nPOST /api/v1/customers/onboard,"+uuid+",201\n")
	of := filepath.Join(dir, "suite")
	if err := os.CopyFS(of, os.DirFS("../../baselines/gate")); err != nil {
		t.Fatal(err)
	}
	for _, plan := range suite.Names()[1:] {
		s, _, err := report.ReadFolder(filepath.Join(of, plan))
		if err != nil {
			t.Fatal(err)
		}
		text := "request,id,status\n" + strings.Repeat("POST /things,1,201\n", *s.Writes)
		if err := os.WriteFile(filepath.Join(of, plan, "writes.csv"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	reconciled := func() outcome {
		return finish(t, gatehouse(t, "load", "reconcile", dir, "--database=sqlite:"+database))
	}
	if o := reconciled(); o.code != exitOK {
		t.Fatalf("exit code %d, want 0:\n%s%s", o.code, o.stdout, o.stderr)
	}
	if err := errors.Join(os.Remove(filepath.Join(of, "mixed", "writes.csv")), os.Remove(filepath.Join(of, "mixed", "summary.json"))); err != nil {
		t.Fatal(err)
	}
	if o := reconciled(); o.code != exitUsage || !strings.Contains(o.stderr, filepath.Join(of, "mixed")) {
		t.Errorf("a part was removed: exit code %d, want 2 and its name:\n%s%s", o.code, o.stdout, o.stderr)
	}
}

// Each credential and each end of one is found that no run was told of, by its
// customer.
func TestLoadReconcileCredentials(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	n := startNode(t, database)
	client := n.client("")
	const uuid, otherUUID = "01234567-89ab-4def-8123-456789abcdef", "11234567-89ab-4def-8123-456789abcdef"
	us, other := signUp(client, n.url, "load-"+uuid+"@"+loopbackDomain), signUp(client, n.url, "load-"+otherUUID+"@"+loopbackDomain)
	credential := func(path, body string) string {
		c := do(client, http.MethodPost, n.url+path, us.key, body)
		var in struct {
			Credentials map[string]struct{ ID string }
		}
		if err := c.decode(&in); err != nil || in.Credentials["ollama"].ID == "" {
			t.Fatalf("%s: %d %s %v", path, c.status, c.body, err)
		}
		return in.Credentials["ollama"].ID
	}
	const exchange, refresh = "/api/v1/credentials/exchange", "/api/v1/credentials/refresh"
	revoked := credential(exchange, `{"providers": ["ollama"]}`)
	brief := credential(exchange, `{"providers": ["ollama"], "ttl_minutes": 5}`)
	fresh := credential(refresh, `{"credential_id": "`+brief+`"}`)
	if c := do(client, http.MethodDelete, n.url+"/api/v1/credentials/"+revoked, us.key, ""); c.status != http.StatusNoContent {
		t.Fatalf("%d %s", c.status, c.body)
	}
	last := credential(exchange, `{"providers": ["ollama"]}`)
	n.drain()
	twice := copyOf(t, database)
	if _, err := openSQL(t, twice).Exec(`CREATE TEMP TABLE again AS SELECT * FROM audit WHERE outcome = 'deleted';
		UPDATE again SET id = 'f' || id; INSERT INTO audit SELECT * FROM again`); err != nil {
		t.Fatal(err)
	}

	row := func(request, id, status string) string { return request + "," + id + "," + status + "\n" }
	signUps := row("POST /api/v1/customers/onboard", uuid, "201") + row("POST /api/v1/customers/onboard", otherUUID, "201")
	granted := func(id string) string { return row("POST "+exchange, id, "200") }
	ended := func(status string) string { return row("DELETE /api/v1/credentials/{}", revoked, status) }
	refreshed := row("POST "+refresh, fresh, "200")
	all := signUps + granted(revoked) + granted(brief) + refreshed + ended("204") + granted(last)
	without := func(rows ...string) string {
		text := all
		for _, r := range rows {
			text = strings.Replace(text, r, "", 1)
		}
		return text
	}
	unclear := func(of string) string { return row("POST "+exchange, "of "+of, "503") }
	for name, tt := range map[string]struct{ text, want string }{
		"all is there":                              {all, ""},
		"an exchange nobody was told of":            {without(granted(last)), "credentials, surplus: " + last},
		"it had no clear answer":                    {without(granted(last)) + unclear(us.customerID), ""},
		"another customer's had none":               {without(granted(last)) + unclear(other.customerID), "credentials, surplus: " + last},
		"a credential that is not there":            {all + granted("0"), "credentials, lost: 0"},
		"a revocation nobody was told of":           {without(ended("204")), "revocations, surplus: " + revoked},
		"it had no clear answer either":             {without(ended("204")) + ended("0"), ""},
		"a revocation that is not there":            {all + row("DELETE /api/v1/credentials/{}", last, "204"), "revocations, lost: " + last},
		"a refresh nobody was told of":              {without(refreshed), "revocations, surplus: " + brief},
		"a refresh without a clear answer":          {without(refreshed) + row("POST "+refresh, "of "+us.customerID, "0"), ""},
		"of one who had a key, what is between":     {without(signUps, granted(brief)), "credentials, surplus: " + brief},
		"of one who had a key, what came after all": {without(signUps, granted(last)), ""},
		"a request that nobody can compare":         {all + row("POST /things", "1", "201"), ""},
	} {
		o := finish(t, gatehouse(t, "load", "reconcile", runIn(t, "request,id,status\n"+tt.text), "--database=sqlite:"+database))
		code := exitOK
		if tt.want != "" {
			code = exitFailed
		}
		if o.code != code || !strings.Contains(o.stdout, tt.want) || strings.Contains(o.stdout, "not compared: POST /things") != strings.Contains(tt.text, "/things") {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s%s", name, o.code, code, tt.want, o.stdout, o.stderr)
		}
	}
	// Of a run that was killed, what came about with the last that it has a row of
	// may have been acknowledged; what came about before, or long after, was not.
	at := func(seconds int, ids ...string) string {
		copied := copyOf(t, database)
		db := openSQL(t, copied)
		for _, statement := range []string{
			"DROP TRIGGER audit_never_changes", "UPDATE customers SET created_at = 60000000", "UPDATE audit SET at = 60000000",
			fmt.Sprintf("UPDATE audit SET at = %d000000 WHERE credential_id IN ('%s')", seconds, strings.Join(ids, "', '")),
		} {
			if _, err := db.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
		return copied
	}
	for name, tt := range map[string]struct {
		text, database, want string
		code                 int
	}{
		"an exchange":            {without(granted(last)), at(60), "credentials, unclear, for want of rows: " + last, exitUnknown},
		"a little earlier":       {without(granted(last)), at(59, last), "credentials, unclear, for want of rows: " + last, exitUnknown},
		"too early":              {without(granted(last)), at(57, last), "credentials, surplus: " + last, exitFailed},
		"too late":               {without(granted(last)), at(120, last), "credentials, surplus: " + last, exitFailed},
		"a revocation":           {without(ended("204")), at(60), "revocations, unclear, for want of rows: " + revoked, exitUnknown},
		"too early a revocation": {without(ended("204")), at(57, revoked), "revocations, surplus: " + revoked, exitFailed},
		"a refresh":              {without(refreshed), at(60), "revocations, unclear, for want of rows: " + brief, exitUnknown},
		"one lost beside it":     {without(granted(last)) + granted("0"), at(60), "credentials, lost: 0", exitFailed},
		"nothing":                {all, at(60), "", exitOK},
	} {
		o := finish(t, gatehouse(t, "load", "reconcile", writesIn(t, "request,id,status\n"+tt.text), "--database=sqlite:"+tt.database))
		if o.code != tt.code || !strings.Contains(o.stdout, tt.want) {
			t.Errorf("killed, %s: exit code %d, want %d and %q:\n%s%s", name, o.code, tt.code, tt.want, o.stdout, o.stderr)
		}
	}
	o := finish(t, gatehouse(t, "load", "reconcile", writesIn(t, "request,id,status\n"+all), "--database=sqlite:"+twice))
	if o.code != exitFailed || !strings.Contains(o.stdout, "revocations, twice: "+revoked) {
		t.Errorf("a revocation twice: exit code %d, want 1:\n%s%s", o.code, o.stdout, o.stderr)
	}
}

// A run's name ends where the name of what was sent begins: a forged event that
// was taken is surplus to its run.
func TestEventOf(t *testing.T) {
	t.Parallel()
	const run = "evt_loadabcdefgh27"
	for _, id := range []string{run, run + "_3_14", run + "xforged12"} {
		if got := eventOf.FindString(id); got != run {
			t.Errorf("%s is of %q, want %s", id, got, run)
		}
	}
}
