package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
)

// Dial makes the gateway reach all providers through a function.
func (g *Gateway) Dial(dial func(ctx context.Context, network, addr string) (net.Conn, error)) {
	g.transport.DialContext = dial
}

// Sent is a body as it is sent to a provider, and whether an answer's usage is
// hidden then.
func Sent(name, path string, data []byte) (sent []byte, hides bool, err error) {
	c := &call{Call: Call{Provider: name}}
	for i := range providers[name].routes {
		if providers[name].routes[i].path == path && providers[name].routes[i].method == http.MethodPost {
			c.route = &providers[name].routes[i]
		}
	}
	b := &body{data: bytes.Clone(data)}
	if err := c.inspect(b); err != nil {
		return nil, false, err
	}
	sent, err = io.ReadAll(b.sent())
	return sent, c.hides, err
}

// Measure reads an answer in pieces, as it would pass for a route, and says what
// of it goes to the client.
func Measure(name, path, media string, hides, broken bool, c Call, pieces ...[]byte) (Usage, []byte) {
	call := &call{Call: c, hides: hides, answer: &http.Response{StatusCode: http.StatusOK, ContentLength: -1, Header: http.Header{"Content-Type": {media}}}}
	for i := range providers[name].routes {
		if rt := &providers[name].routes[i]; rt.path == path && rt.method == http.MethodPost {
			call.route, call.NoOutput = rt, rt.is(noOutput)
		}
	}
	call.prepare(make(http.Header))
	var out []byte
	for _, p := range pieces {
		p = bytes.Clone(p) // whose memory does not outlive the call
		if call.tee.hides {
			out = append(out, call.tee.filter(p)...)
		} else {
			call.tee.read(p)
			out = append(out, p...)
		}
		for i := range p {
			p[i] = '!'
		}
	}
	out = append(out, call.tee.held...)
	return call.tee.total(&call.Call, broken), out
}

// Table is what is passed on, as the documents have it: free calls in bold.
func Table() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(providers)) {
		var paths []string
		for i := range providers[name].routes {
			r := &providers[name].routes[i]
			path := "`" + r.method + " " + r.path + "`"
			if r.is(free) {
				path = "**" + path + "**"
			}
			paths = append(paths, path)
		}
		fmt.Fprintf(&b, "| %s | %s |\n", name, strings.Join(paths, ", "))
	}
	return b.String()
}
