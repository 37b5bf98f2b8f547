package runner

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/load"
	"gatehouse/internal/load/plan"
	"gatehouse/internal/load/report"
)

// aRecord is of requests that read and write, in a file of its own.
func aRecord(t *testing.T) (r *record, f *os.File) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "writes.csv"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	given := load.Part{Place: load.Given}
	return newRecord(f, &plan.Plan{Requests: []load.Request{
		{Method: http.MethodPost, Path: load.Literally("/make")},
		{Method: http.MethodDelete, Path: load.Template{{Text: "/things/"}, given, {Text: "/of/"}, {Place: load.Seq}}},
		{Method: http.MethodGet, Path: load.Literally("/things")},
		{Method: http.MethodHead, Path: load.Literally("/things")},
	}}), f
}

func readBack(t *testing.T, file *os.File) []report.Written {
	t.Helper()
	f, err := os.Open(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := report.ReadWrites(f)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestRecord keeps what was acknowledged or may have been done, and nothing else.
func TestRecord(t *testing.T) {
	r, file := aRecord(t)
	for _, status := range []int{0, 200, 201, 204, 301, 400, 401, 404, 409, 422, 429, 499, 500, 503, 599} {
		for request := range 4 {
			r.Ended(&load.Arrival{Request: request, ID: fmt.Sprintf("%d, %q", request, fmt.Sprint(status))}, status, nil)
		}
		r.Ended(&load.Arrival{}, status, nil) // nobody could tell what it wrote
	}
	r.wrote(&load.Arrival{ID: "asked aside"}, http.MethodPost, "/aside", http.StatusCreated)
	told, err := r.end(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var want []report.Written
	for _, status := range []int{0, 200, 201, 204, 500, 503, 599} {
		for request, path := range []string{"POST /make", "DELETE /things/{}/of/{}"} {
			want = append(want, report.Written{Request: path, ID: fmt.Sprintf("%d, %q", request, fmt.Sprint(status)), Status: status})
		}
	}
	want = append(want, report.Written{Request: "POST /aside", ID: "asked aside", Status: 201})
	if diff := cmp.Diff(want, readBack(t, file)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if told != len(want) {
		t.Errorf("%d rows are told of, want %d", told, len(want))
	}
	for _, w := range want {
		if w.Acknowledged() != (w.Status/100 == 2) {
			t.Errorf("%+v is acknowledged: %t", w, w.Acknowledged())
		}
	}
}

// TestRecordOfMany is told by many at once.
func TestRecordOfMany(t *testing.T) {
	r, file := aRecord(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for k := range 500 {
				r.Ended(&load.Arrival{ID: fmt.Sprintf("%d-%d", i, k)}, http.StatusCreated, nil)
			}
		})
	}
	all.Wait()
	if told, err := r.end(t.Context()); err != nil || told != 8*500 {
		t.Fatalf("%d rows are told of, %v; want %d", told, err, 8*500)
	}
	ids := make(map[string]bool)
	for _, w := range readBack(t, file) {
		ids[w.ID] = true
	}
	if len(ids) != 8*500 {
		t.Errorf("%d rows, want %d", len(ids), 8*500)
	}
}

// TestRecordAsItGoes: a run that is killed leaves what it was told of until then.
func TestRecordAsItGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, file := aRecord(t)
		r.Ended(&load.Arrival{ID: "an id"}, http.StatusCreated, nil)
		<-time.After(1500 * time.Millisecond)
		synctest.Wait()
		if rows := readBack(t, file); len(rows) != 1 {
			t.Errorf("%v after a second, want the row", rows)
		}
		if _, err := r.end(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestRecordThatCannotBeWritten says so at the end.
func TestRecordThatCannotBeWritten(t *testing.T) {
	f, err := os.Open(os.DevNull) // to read
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := newRecord(f, &plan.Plan{})
	r.wrote(&load.Arrival{ID: "an id"}, http.MethodPost, "/make", http.StatusCreated)
	if _, err := r.end(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "writes.csv: ") {
		t.Errorf("%v; want the file named", err)
	}
}

// TestRecordOnADiskThatHangs holds up neither those who tell it nor, once the
// run was interrupted, its end.
func TestRecordOnADiskThatHangs(t *testing.T) {
	nobody, f, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := newRecord(f, &plan.Plan{})
	for range 10_000 { // more than a pipe holds
		r.wrote(&load.Arrival{ID: "an id"}, http.MethodPost, "/make", http.StatusCreated)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if told, err := r.end(ctx); told != 10_000 || err == nil || err.Error() != "writes.csv: the disk took too long" {
		t.Errorf("%d rows, %v; want all to be told of, and what became of them", told, err)
	}
	if err := nobody.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-r.ended; err == nil {
		t.Error("what nobody read was written")
	}
}
