package api

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

var proxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}

// Whatever is in the headers, an untrusted peer is itself, and nobody is
// counted by an address that nobody has.
func FuzzClientAddr(f *testing.F) {
	for _, seed := range [][2]string{
		{"203.0.113.1:1234", "198.51.100.1"},
		{"10.0.0.1:1234", "198.51.100.1, 10.0.0.2"},
		{"10.0.0.1:1234", "198.51.100.1\n10.0.0.2"},
		{"[fd00::1%eth0]:1234", "2001:db8::1, ::ffff:10.0.0.1"},
		{"10.0.0.1:1234", "10.0.0.3,,\t "},
		{"10.0.0.1:1234", "198.51.100.1:80, garbage"},
		{"@", "198.51.100.1"},
		{"", ""},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, remote, lines string) {
		r := &http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": strings.Split(lines, "\n")}}
		for _, name := range []string{"Forwarded", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip"} {
			r.Header[name] = r.Header["X-Forwarded-For"]
		}
		peer := clientAddr(&http.Request{RemoteAddr: remote}, proxies)
		if got := clientAddr(r, nil); got != peer {
			t.Errorf("with nobody trusted %q is %v, want the peer %v", lines, got, peer)
		}
		got := clientAddr(r, proxies)
		if !within(peer, proxies) && got != peer {
			t.Errorf("%q behind the untrusted %v is %v", lines, peer, got)
		}
		if got.Zone() != "" || got.Is4In6() {
			t.Errorf("%v still has a zone, or IPv4 inside", got)
		}
		if got != peer && !strings.Contains(lines, ".") && !strings.Contains(lines, ":") {
			t.Errorf("%v comes from nowhere", got)
		}
		if key := limitKey(got); got.IsValid() && (key == "" || strings.ContainsAny(key, "% ,\n")) {
			t.Errorf("%v is counted by %q", got, key)
		}
	})
}

// A presented key is a value that one of the headers has, and the only one
// that they have.
func FuzzPresentedKey(f *testing.F) {
	for _, seed := range [][2]string{
		{"k", ""}, {"", "Bearer k"}, {"k", "bearer k"}, {"k", "Bearer x"}, {"k\nk", ""}, {"k\nx", ""}, {"", "Bearer k\nBEARER k"},
		{"", "Bearer"}, {"", "Basic k"}, {"\n", "Bearer  \n"}, {"k", "Basic x"}, {"k ", "Bearer k "},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, keys, authorization string) {
		h := http.Header{"X-Api-Key": strings.Split(keys, "\n"), "Authorization": strings.Split(authorization, "\n")}
		got, err := presentedKey(h)
		if err != nil {
			if got != "" {
				t.Errorf("%q with the error %v", got, err)
			}
			return
		}
		if got == "" {
			t.Error("an empty key is presented")
		}
		found := false
		for _, line := range h["X-Api-Key"] {
			found = found || line == got
			if line != "" && line != got {
				t.Errorf("%q is presented, and so is %q", got, line)
			}
		}
		for _, line := range h["Authorization"] {
			scheme, token, _ := strings.Cut(line, " ")
			if token = strings.Trim(token, " "); strings.EqualFold(scheme, "Bearer") && token != "" {
				found = found || token == got
				if token != got {
					t.Errorf("%q is presented, and so is %q", got, token)
				}
			}
		}
		if !found {
			t.Errorf("%q comes from nowhere", got)
		}
	})
}
