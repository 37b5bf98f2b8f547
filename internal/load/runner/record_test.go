package runner

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/load"
	"gatehouse/internal/load/plan"
	"gatehouse/internal/load/report"
)

// aRecord is of requests that read and write, in a file of its own.
func aRecord(t *testing.T) (r *record, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "writes.csv")
	f, err := os.Create(file)
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
	}}), file
}

func readBack(t *testing.T, file string) []report.Written {
	t.Helper()
	f, err := os.Open(file)
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
	if err := r.end(); err != nil {
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
	if err := r.end(); err != nil {
		t.Fatal(err)
	}
	ids := make(map[string]bool)
	for _, w := range readBack(t, file) {
		ids[w.ID] = true
	}
	if len(ids) != 8*500 {
		t.Errorf("%d rows, want %d", len(ids), 8*500)
	}
}

// TestRecordThatCannotBeWritten says so at the end, and holds nobody up.
func TestRecordThatCannotBeWritten(t *testing.T) {
	r, _ := aRecord(t)
	if err := r.file.Close(); err != nil {
		t.Fatal(err)
	}
	for range 10_000 { // more than its buffer
		r.Ended(&load.Arrival{ID: "an id"}, http.StatusCreated, nil)
	}
	if err := r.end(); err == nil || !strings.HasPrefix(err.Error(), "writes.csv: ") {
		t.Errorf("%v; want the file named", err)
	}
}
