package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The tests' binary is the nodes as well, and a command that waits.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		os.Exit(serve(os.Args[3]))
	}
	if len(os.Args) > 1 && os.Args[1] == "wait" {
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		fmt.Println("waiting")
		<-told
		fmt.Println("told")
		os.Exit(7)
	}
	os.Exit(m.Run())
}

// asked is how a node behaves, and where it leaves a mark.
const asked, mark = "GATE_TEST_NODE", "GATE_TEST_MARK"

// serve is a node that may fail as it ends or comes back.
func serve(listen string) (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	_, err := os.Stat(os.Getenv(mark))
	back := err == nil
	switch how := os.Getenv(asked); {
	case how == "stays away" && back:
		return 1
	case how == "says that it is back" && back:
		go func() { // once somebody reads
			if f, err := os.OpenFile(os.Getenv(mark)+".back", os.O_WRONLY, 0); err == nil {
				_ = f.Close()
			}
		}()
	case how == "fails":
		code = 1
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return 1
	}
	if err := os.WriteFile(os.Getenv(mark), nil, 0o600); err != nil {
		return 1
	}
	go func() { _ = http.Serve(l, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})) }()
	<-ctx.Done()
	return code
}

// newGate is of one node of ours, which behaves in some way.
func newGate(t *testing.T, how string) (g *gate, errOut *bytes.Buffer) {
	t.Helper()
	t.Setenv(asked, how)
	t.Setenv(mark, filepath.Join(t.TempDir(), "mark"))
	errOut = new(bytes.Buffer)
	return &gate{binary: os.Args[0], killFor: time.Hour, out: io.Discard, errOut: errOut}, errOut
}

// The exit code is the command's, unless something around it went wrong.
func TestCode(t *testing.T) {
	for _, tt := range []struct {
		name, node string
		kill       time.Duration
		command    []string
		code       int
		want       string
	}{
		{"a command that succeeds", "", 0, []string{"true"}, 0, ""},
		{"a command that fails", "", 0, []string{"sh", "-c", "exit 3"}, 3, ""},
		{"no such command", "", 0, []string{"/no/such/command"}, 1, "no such file"},
		{"no command", "", 0, nil, 2, "want a command"},
		{"a node that fails as it ends", "fails", 0, []string{"true"}, 1, "a node ended with exit status 1"},
		{"nothing was killed", "", time.Hour, []string{"true"}, 1, "too little was killed"},
		{"a killed node that stays away", "stays away", time.Millisecond, []string{"sleep", "1000"}, 1, "once killed: a node ended at once"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g, _ := newGate(t, tt.node)
			g.kill = tt.kill
			code, err := g.run(t.Context(), tt.command)
			if code != tt.code || (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("code %d, %v; want %d and %q", code, err, tt.code, tt.want)
			}
		})
	}
}

func TestKills(t *testing.T) {
	g, errOut := newGate(t, "says that it is back")
	back := os.Getenv(mark) + ".back"
	if err := syscall.Mkfifo(back, 0o600); err != nil {
		t.Fatal(err)
	}
	g.kill = time.Millisecond
	code, err := g.run(t.Context(), []string{"cat", back})
	if code != 0 || err != nil || !strings.Contains(errOut.String(), "nodes were killed") {
		t.Errorf("code %d, %v, %q; want the kills told", code, err, errOut)
	}
}

// A signal reaches all that the command started.
func TestInterrupted(t *testing.T) {
	g, _ := newGate(t, "")
	said, out := io.Pipe()
	g.out = out
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var lines []string
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(said); s.Scan(); {
			lines = append(lines, s.Text())
			cancel()
		}
	}()
	code, err := g.run(ctx, []string{"sh", "-c", `trap "exit 9" TERM; "$0" wait; exit 0`, os.Args[0]})
	_ = out.Close()
	<-read
	if code != 9 || err != nil || !slices.Equal(lines, []string{"waiting", "told"}) {
		t.Errorf("code %d, %v, said %q; want the one below told", code, err, lines)
	}
}

// The command has what the nodes have, of which no two are the same.
func TestPlaces(t *testing.T) {
	g, _ := newGate(t, "")
	var out bytes.Buffer
	g.out = &out
	if code, err := g.run(t.Context(), []string{"echo", "{targets}", "{admin}", "{provider}", "{database}"}); code != 0 || err != nil {
		t.Fatalf("code %d, %v", code, err)
	}
	got := strings.Fields(out.String())
	want := []string{"http://" + g.nodes[0].listen, "http://" + g.nodes[0].admin, g.provider, "sqlite:" + filepath.Join(g.dir, "gatehouse.db")}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	free, err := freeAddresses(t.Context(), 100)
	if slices.Sort(free); err != nil || len(slices.Compact(free)) != 100 {
		t.Errorf("%d addresses, %v; want 100", len(slices.Compact(free)), err)
	}
}
