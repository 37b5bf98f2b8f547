package report

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/load"
)

// spreadSeconds are two seconds in full.
func spreadSeconds() []*load.Sample {
	const us = time.Microsecond
	return []*load.Sample{
		{Second: 0, Spreads: []load.Spread{
			{Request: "onboard", Key: "201", Bins: []load.Bin{{Low: 0, Count: 1}, {Low: 1808 * us, Count: 3}, {Low: 214 << 24 * us, Count: 1}}},
			{Request: "one, \"two\"", Key: "error:timeout", Bins: []load.Bin{{Low: 244 << 12 * us, Count: 1}}},
		}},
		{Second: 1},
		{Second: 2, Spreads: []load.Spread{{Request: "onboard", Key: "201", Bins: []load.Bin{{Low: 1808 * us, Count: 2}}}}},
	}
}

func windowsText(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWindows(&b)
	for _, s := range spreadSeconds() {
		if err := w.Add(s); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func TestWindowsAreReadAsWritten(t *testing.T) {
	text := windowsText(t)
	if want := "second,request,outcome,times\n0,onboard,201,0 1808:3 3590324224\n"; !bytes.HasPrefix(text, []byte(want)) {
		t.Errorf("%s\nwant it to begin\n%s", text, want)
	}
	got, err := ReadWindows(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var want []Window
	for _, s := range spreadSeconds() {
		for _, spread := range s.Spreads {
			want = append(want, Window{s.Second, spread})
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err := ReadWindows(strings.NewReader("second,request,outcome,times\n")); got == nil || err != nil {
		t.Errorf("of a run in which nothing ended: %v, %v", got, err)
	}
}

func TestWindowsThatAreWrong(t *testing.T) {
	const head = "second,request,outcome,times\n"
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "does not begin with second,request,outcome,times"},
		{"another table", "second,stage,rate,due\n", "does not begin with"},
		{"a column short", head + "0,a,200\n", "row 1:"},
		{"a second before", head + "1,a,200,5\n0,a,200,5\n", "row 2: its second 0 comes after a later one"},
		{"no second", head + "x,a,200,5\n", `"x" is no second`},
		{"below zero", head + "-1,a,200,5\n", "is no second"},
		{"far too late", head + "999999999,a,200,5\n", "is no second"},
		{"no times", head + "0,a,200,\n", "is no time"},
		{"times out of order", head + "0,a,200,5 4\n", `"4" is no time, or not in order`},
		{"a time twice", head + "0,a,200,5 5\n", "not in order"},
		{"none of it", head + "0,a,200,5:0\n", "is no time"},
		{"cut within", head + "0,a,200,5:\n", "is no time"},
		{"too many", head + "0,a,200,5:9999999999\n", "is no time"},
		{"within a bin", head + "0,a,200,1809\n", "begins no bin"},
		{"too long", head + "0,a,200,3600000001\n", "is no time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := ReadWindows(strings.NewReader(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, %v; want %q", got, err, tt.want)
			}
		})
	}
}

// FuzzWindows: what is read is written again as it was meant.
func FuzzWindows(f *testing.F) {
	f.Add(string(windowsText(f)))
	f.Add("second,request,outcome,times\n0,\"a\nb\",200,5 6:2\n")
	f.Fuzz(func(t *testing.T, text string) {
		windows, err := ReadWindows(strings.NewReader(text))
		if err != nil {
			return
		}
		var b bytes.Buffer
		w := NewWindows(&b)
		for _, row := range windows {
			if err := w.Add(&load.Sample{Second: row.Second, Spreads: []load.Spread{row.Spread}}); err != nil {
				t.Fatal(err)
			}
		}
		again, err := ReadWindows(&b)
		if err != nil {
			t.Fatalf("%v: %q", err, b.String())
		}
		if diff := cmp.Diff(windows, again); diff != "" {
			t.Error(diff)
		}
	})
}
