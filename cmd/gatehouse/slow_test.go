package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

var slowClients = flag.Int("slow.clients", 100, "how many slow clients of each kind TestSlowClients has")

// slowness is a way to hold a connection: what is sent before the client falls
// silent, and whether the node has to cut it off within its time-outs.
type slowness struct {
	name string
	send string
	cut  bool
}

const signUpHead = "POST /api/v1/customers/onboard HTTP/1.1\r\nHost: gatehouse\r\nContent-Type: application/json\r\n"

var slownesses = []slowness{
	{"says nothing", "", true},
	{"slow head", signUpHead + "X-Slow: ", true},
	{"slow body", signUpHead + "Content-Length: 100\r\n\r\n{\"name\": \"", true},
	{"slow chunk", signUpHead + "Transfer-Encoding: chunked\r\n\r\n64\r\n{\"name\": \"", true},
	{"idle after a request", "GET /livez HTTP/1.1\r\nHost: gatehouse\r\n\r\n", false},
	// More answers than buffers hold; the client reads none of them.
	{"slow reader", strings.Repeat("GET /openapi.json HTTP/1.1\r\nHost: gatehouse\r\n\r\n", 300), false},
}

// TestSlowClients holds many connections open without getting on, in all the
// ways there are: the others are served all the while, to the letter, and
// those who send nothing are cut off.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	needLinux(t)
	n := startNode(t, newDatabase(t))
	var cut []net.Conn
	var all sync.WaitGroup
	t.Cleanup(all.Wait) // after all connections are closed
	for i, s := range slownesses {
		for k := range *slowClients {
			c := n.dial(loopback(100_000 + i*10_000 + k))
			if s.cut {
				cut = append(cut, c)
			}
			// Who does not read can't send either, in the end.
			all.Go(func() { _, _ = io.WriteString(c, s.send) })
		}
	}
	known := othersAreServed(t, n)
	for _, c := range cut {
		// Cut off, with or without a last word; a deadline would be an error.
		if _, err := io.Copy(io.Discard, c); os.IsTimeout(err) {
			t.Fatal("a client who sent nothing more was not cut off")
		}
	}
	for email, who := range known {
		checkKey(t, n.client(""), n.url, who.call)
		delete(known, email)
		break
	}
}

// othersAreServed signs up customers from many addresses, and wants each to
// get its ten and no more.
func othersAreServed(t *testing.T, n *node) map[string]told {
	t.Helper()
	known := make(map[string]told)
	var calls []call
	for a := range 10 {
		client := n.client(loopback(a))
		for i := range signUpLimit + 1 {
			c := signUp(client, n.url, fmt.Sprintf("other-%d-%d@customers.dev", a, i))
			c.source = loopback(a)
			want := http.StatusCreated
			if i == signUpLimit {
				want = http.StatusTooManyRequests
			}
			if c.status != want {
				t.Fatalf("sign-up %d of an address beside slow clients: %d %s %v, want %d", i+1, c.status, c.body, c.err, want)
			}
			if c.key != "" {
				known[c.email] = told{call: c}
			}
			calls = append(calls, c)
		}
	}
	for _, wrong := range append(overAdmitted(calls, signUpLimit, signUpWindow), wronglyDenied(calls, signUpLimit, signUpWindow)...) {
		t.Error(wrong)
	}
	return known
}

func TestHeadTooLong(t *testing.T) {
	t.Parallel()
	n := startNode(t, newDatabase(t))
	tests := []struct {
		name   string
		kib    int
		status int
	}{
		{"15 KiB are read", 15, http.StatusOK},
		{"32 KiB are too long", 32, http.StatusRequestHeaderFieldsTooLarge},
		{"4 MiB are too long", 4 << 10, http.StatusRequestHeaderFieldsTooLarge},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := n.dial("")
			go func() { // the node answers before it has read all, and may close
				_, _ = io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: gatehouse\r\nConnection: close\r\nX-Long: ")
				_, _ = c.Write(bytes.Repeat([]byte("x"), test.kib<<10))
				_, _ = io.WriteString(c, "\r\n\r\n")
			}()
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != test.status {
				t.Errorf("%s, want %d", resp.Status, test.status)
			}
		})
	}
	mustSignUp(t, n.client(""), n.url, "short@customers.dev")
}

// TestNoMoreFiles takes away the right to open files, connections too, until
// clients leave: the node does not end and does not forget, who is connected
// is answered, and those who come later are served when there is room again.
func TestNoMoreFiles(t *testing.T) {
	t.Parallel()
	needLinux(t)
	n := startNode(t, newDatabase(t))
	n.faulty = true // it says that it can't accept connections
	inside := n.client(loopback(1))
	before := mustSignUp(t, inside, n.url, "before@customers.dev")

	const spare = 8
	pid := n.cmd.Process.Pid
	most := len(descriptors(t, pid)) + spare // numbers from 0 on
	restore := setLimit(t, pid, limitOpenFiles, uint64(most))
	var crowd []net.Conn
	for i := range 10 * spare { // the kernel takes them all, the node does not
		crowd = append(crowd, n.dial(loopback(1000+i)))
	}
	n.until("the node has no descriptor left", func() bool {
		below := slices.DeleteFunc(descriptors(t, pid), func(d int) bool { return d >= most }) // inherited ones
		return len(below) == most
	})
	for i := range 2 * spare { // served over the connection that there is
		c := signUp(inside, n.url, fmt.Sprintf("inside-%d@customers.dev", i))
		switch c.status {
		case http.StatusCreated, http.StatusTooManyRequests:
		default:
			wantUnavailable(t, "sign-up", c)
		}
	}
	for _, c := range crowd {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	late := n.client(loopback(2))
	mustSignUp(t, late, n.url, "late@customers.dev")
	checkKey(t, late, n.url, before)
	restore()
	if got := n.log.errors(); got != 1 {
		t.Errorf("%d log entries say that connections can't be accepted, want one a minute", got)
	}
}
