package report

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const writesText = "request,id,status\n" +
	"POST /api/v1/customers/onboard,0b8e,201\n" +
	"DELETE /api/v1/credentials/{},\"one, \"\"two\"\"\",0\n" +
	"POST /api/webhooks/stripe,evt_1,503\n"

func TestReadWrites(t *testing.T) {
	got, err := ReadWrites(strings.NewReader(writesText))
	if err != nil {
		t.Fatal(err)
	}
	want := []Written{
		{"POST /api/v1/customers/onboard", "0b8e", 201}, {"DELETE /api/v1/credentials/{}", `one, "two"`, 0}, {"POST /api/webhooks/stripe", "evt_1", 503},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if none, err := ReadWrites(strings.NewReader("request,id,status\n")); err != nil || len(none) > 0 {
		t.Errorf("a run that wrote nothing: %v, %v", none, err)
	}
}

// TestReadWritesCutOff: a file that was cut anywhere is read up to a row's end,
// or refused; no row is made up.
func TestReadWritesCutOff(t *testing.T) {
	whole, err := ReadWrites(strings.NewReader(writesText))
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for at := range writesText {
		part, err := ReadWrites(strings.NewReader(writesText[:at]))
		if err != nil {
			refused++
		} else if rows := strings.Count(writesText[:at+1], "\n") - 1; !cmp.Equal(whole[:rows], append([]Written{}, part...)) {
			t.Errorf("cut off at %d it reads as %v", at, part)
		}
	}
	if refused < len(writesText)*9/10 {
		t.Errorf("only %d of %d cuts were seen", refused, len(writesText))
	}
}

func TestReadWritesRefuses(t *testing.T) {
	const head = "request,id,status\n"
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "does not begin with request,id,status"},
		{"another file", "second,stage,rate\n", "does not begin with request,id,status"},
		{"no status", head + "POST /,a,\n", "row 1"},
		{"a word", head + "POST /,a,200\nPOST /,a,ok\n", `row 2: "ok" is no status`},
		{"no HTTP status", head + "POST /,a,99\n", "row 1"},
		{"beyond them", head + "POST /,a,600\n", "row 1"},
		{"below them", head + "POST /,a,-1\n", "row 1"},
		{"no id", head + "POST /,,200\n", "row 1"},
		{"a column more", head + "POST /,a,200,b\n", "wrong number of fields"},
		{"a column less", head + "POST /,a\n", "wrong number of fields"},
		{"a quote", head + "POST /,a\"b,200\n", `bare "`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if all, err := ReadWrites(strings.NewReader(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, %v; want %q", all, err, tt.want)
			}
		})
	}
}

// TestOpenWrites holds the file against the summary beside it.
func TestOpenWrites(t *testing.T) {
	const whole, cut = writesText, "request,id,status\nPOST /api/v1/customers/onboard,0b8e,201\n"
	run := func(writes *int) string {
		r := fixture()
		r.Writes = writes
		data, err := Summarize(r).JSON()
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	three, none := 3, 0
	torn := writesText[:len(writesText)-2]
	for _, tt := range []struct{ name, writes, summary, want string }{
		{"whole", whole, run(&three), ""},
		{"cut in a row", torn, run(&three), "row 3"},
		{"cut in a row in the midst, of a run that was killed", strings.Replace(whole, ",0\n", "\n", 1), "", "row 2"},
		{"of another form", "request;id;status\na;b;200", "", "does not begin with"},
		{"of an earlier version", whole, run(nil), ""},
		{"of a run that was killed", whole, "", ""},
		{"beside another command's summary", whole, `{"schema": "gatehouse.verify/1"}`, ""},
		{"cut at a row's end", cut, run(&three), "has 1 rows, and summary.json says 3"},
		{"of another run", cut, run(&none), "has 1 rows, and summary.json says 0"},
		{"removed", "", run(&three), "has no writes.csv: it was removed"},
		{"removed, of a run that wrote nothing", "", run(&none), "has no writes.csv"},
		{"beside half a summary", whole, run(&three)[:200], "read the summary"},
		{"no run's", "", `{"schema": "gatehouse.suite/1"}`, "no such file"},
		{"nothing's", "", "", "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{WritesFile: tt.writes, summaryFile: tt.summary} {
				if text == "" {
					continue
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			w, err := OpenWrites(dir)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, fs.ErrNotExist) != (tt.want == "no such file") {
					t.Fatalf("%v, want %q", err, tt.want)
				}
				return
			}
			if known := strings.Contains(tt.summary, Schema); err != nil || len(w.Rows) != 3 || w.Began.IsZero() == known || w.Killed == known || w.Torn {
				t.Errorf("%+v, %v; want three rows", w, err)
			}
		})
	}
}

// TestOpenWritesOfAKilledRun: what was written when it ended is left out, and
// nothing else.
func TestOpenWritesOfAKilledRun(t *testing.T) {
	for at := range len(writesText) + 1 {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, WritesFile), []byte(writesText[:at]), 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := OpenWrites(dir)
		rows, torn := max(strings.Count(writesText[:at], "\n")-1, 0), at == 0 || writesText[at-1] != '\n'
		if err != nil || len(w.Rows) != rows || w.Torn != torn || !w.Killed {
			t.Errorf("cut off at %d: %+v, %v; want %d rows, torn %t", at, w, err, rows, torn)
		}
	}
}

// FuzzWrites: what is read is written again as it was meant.
func FuzzWrites(f *testing.F) {
	f.Add(writesText)
	f.Add("request,id,status\r\n\"a\r\nb\",\" c\",0\r\n\n,d,599")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := ReadWrites(strings.NewReader(text))
		if err != nil {
			return
		}
		var b bytes.Buffer
		w := csv.NewWriter(&b)
		rows := [][]string{WritesHead()}
		for _, row := range all {
			if row.ID == "" || row.Status != 0 && (row.Status < 200 || row.Status > 599) {
				t.Fatalf("%+v was read", row)
			}
			rows = append(rows, []string{row.Request, row.ID, strconv.Itoa(row.Status)})
		}
		if err := w.WriteAll(rows); err != nil {
			t.Fatal(err)
		}
		again, err := ReadWrites(&b)
		if diff := cmp.Diff(all, again); err != nil || diff != "" {
			t.Errorf("%v: %s", err, diff)
		}
	})
}
