package api_test

import (
	"net/http"
	"strings"
	"testing"
)

// The address that limits count by, as a server sees it whose client is at
// 127.0.0.1. want is an address that, alone in X-Forwarded-For, must count as
// the same; "" is the peer itself.
func TestForwardedFor(t *testing.T) {
	const loopback, private, ula = "127.0.0.0/8", "10.0.0.0/8", "fd00::/8"
	plain := newServer(t, trust(loopback), limit("onboarding", "1000/60s"))
	for _, test := range []struct {
		name    string
		trusted string
		lines   []string
		want    string
	}{
		{"nobody is trusted", "", []string{"203.0.113.7"}, ""},
		{"the peer is not trusted", private, []string{"203.0.113.7"}, ""},
		{"the peer is not trusted, what it names is", private, []string{"10.0.0.1"}, ""},
		{"no header", loopback, nil, ""},
		{"empty header", loopback, []string{""}, ""},
		{"one address", loopback, []string{"203.0.113.7"}, "203.0.113.7"},
		{"the right-most", loopback, []string{"198.51.100.1, 198.51.100.2, 203.0.113.7"}, "203.0.113.7"},
		{"the right-most that is not trusted", loopback + " " + private, []string{"198.51.100.1, 203.0.113.7, 10.1.1.1, 10.2.2.2"}, "203.0.113.7"},
		{"behind a proxy that is not trusted", loopback + " " + private, []string{"10.1.1.1, 203.0.113.7, 10.2.2.2"}, "203.0.113.7"},
		{"without spaces", loopback, []string{"198.51.100.1,203.0.113.7"}, "203.0.113.7"},
		{"spaces and tabs", loopback, []string{"198.51.100.1 ,\t 203.0.113.7\t"}, "203.0.113.7"},
		{"several lines are one list", loopback, []string{"198.51.100.1", "203.0.113.7"}, "203.0.113.7"},
		{"several lines, the last all trusted", loopback + " " + private, []string{"198.51.100.1, 203.0.113.7", "10.1.1.1, 10.2.2.2"}, "203.0.113.7"},
		{"all trusted: the left-most", loopback + " " + private, []string{"10.3.3.3, 10.1.1.1, 127.0.0.9"}, "10.3.3.3"},
		{"all trusted, several lines", loopback + " " + private, []string{"10.3.3.3", "10.1.1.1"}, "10.3.3.3"},
		{"the peer's own name", loopback, []string{"127.0.0.1"}, ""},

		{"a port", loopback, []string{"203.0.113.7:443"}, ""},
		{"a port of IPv6", loopback, []string{"[2001:db8::7]:443"}, ""},
		{"IPv6 in brackets", loopback, []string{"[2001:db8::7]"}, ""},
		{"a word", loopback, []string{"unknown"}, ""},
		{"an obfuscated name", loopback, []string{"_hidden"}, ""},
		{"a name", loopback, []string{"client.company.dev"}, ""},
		{"a CIDR", loopback, []string{"203.0.113.0/24"}, ""},
		{"octal", loopback, []string{"0313.0.0161.07"}, ""},
		{"too few numbers", loopback, []string{"203.113.7"}, ""},
		{"too great a number", loopback, []string{"203.0.113.256"}, ""},
		{"in quotes", loopback, []string{`"203.0.113.7"`}, ""},
		{"garbage to the right", loopback, []string{"203.0.113.7, garbage"}, ""},
		{"a comma at the end", loopback, []string{"203.0.113.7,"}, ""},
		{"an empty item", loopback + " " + private, []string{"203.0.113.7, , 10.1.1.1"}, ""},
		{"an empty last line", loopback, []string{"203.0.113.7", ""}, ""},
		{"a port behind trusted ones", loopback + " " + private, []string{"203.0.113.7:443, 10.1.1.1"}, ""},
		{"garbage to the left is not looked at", loopback, []string{"garbage, 203.0.113.7"}, "203.0.113.7"},
		{"garbage in an earlier line is not looked at", loopback, []string{"garbage", "203.0.113.7"}, "203.0.113.7"},

		{"IPv6", loopback, []string{"2001:db8:1:2::7"}, "2001:db8:1:2::7"},
		{"IPv6, its whole /64", loopback, []string{"2001:db8:1:2:ffff:ffff:ffff:ffff"}, "2001:db8:1:2::7"},
		{"IPv6, spelled out", loopback, []string{"2001:0DB8:0001:0002:0000:0000:0000:0007"}, "2001:db8:1:2::7"},
		{"IPv6 with a zone", loopback, []string{"fe80::1%eth0"}, "fe80::1"},
		{"IPv6 with another zone", loopback, []string{"fe80::1%eth1"}, "fe80::1"},
		{"IPv4 in IPv6", loopback, []string{"::ffff:203.0.113.7"}, "203.0.113.7"},
		{"IPv4 in IPv6, in hex", loopback, []string{"::ffff:cb00:7107"}, "203.0.113.7"},
		{"IPv4 in IPv6 with a zone", loopback, []string{"::ffff:203.0.113.7%eth0"}, "203.0.113.7"},
		{"a trusted proxy as IPv4 in IPv6", loopback + " " + private, []string{"203.0.113.7, ::ffff:10.1.1.1"}, "203.0.113.7"},
		{"a trusted proxy of IPv6", loopback + " " + ula, []string{"203.0.113.7, fd00::1"}, "203.0.113.7"},
		{"a trusted proxy of IPv6 with a zone", loopback + " " + ula, []string{"203.0.113.7, fd00::1%eth0"}, "203.0.113.7"},
		{"long list", loopback + " " + private, []string{"203.0.113.7" + strings.Repeat(", 10.1.1.1", 1000)}, "203.0.113.7"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.want == "" {
				plain.send(t, "POST", onboard).want(t, http.StatusUnsupportedMediaType)
			} else {
				plain.send(t, "POST", onboard, from(test.want)).want(t, http.StatusUnsupportedMediaType)
			}
			want := plain.counted.last(t)
			s := newServer(t, trust(strings.Fields(test.trusted)...))
			s.send(t, "POST", onboard, func(r *http.Request) {
				if test.lines != nil {
					r.Header["X-Forwarded-For"] = test.lines
				}
			}).want(t, http.StatusUnsupportedMediaType)
			if got := s.counted.last(t); got != want || got == "" {
				t.Errorf("counted by %q, want %q", got, want)
			}
		})
	}
}

// Whatever header a client rotates, it stays in its window.
func TestRotatingHeadersBuysNothing(t *testing.T) {
	names := []string{
		"X-Forwarded-For", "X-Real-Ip", "Forwarded", "Cf-Connecting-Ip", "True-Client-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "Fastly-Client-Ip",
		"X-Original-Forwarded-For", "X-Forwarded", "Client-Ip", "Via", "X-Forwarded-Host", "User-Agent", "X-Api-Key", "X-Request-Id",
	}
	for what, s := range map[string]*server{
		"no proxy is trusted":           newServer(t, at(newClock())),
		"another proxy is trusted":      newServer(t, at(newClock()), trust("10.0.0.0/8", "fd00::/8")),
		"behind a trusted proxy's name": newServer(t, at(newClock()), trust("127.0.0.0/8")),
	} {
		for i := range 12 {
			var details []detail
			for _, name := range names {
				value := "203.0.113." + string(rune('0'+i%10))
				switch {
				case name == "Forwarded":
					value = "for=" + value
				case name == "X-Forwarded-For" && what == "behind a trusted proxy's name":
					value += ", 198.51.100.1" // which the proxy added
				}
				details = append(details, header(name, value))
			}
			got := s.send(t, "POST", onboard, details...)
			if i < 10 {
				got.want(t, http.StatusUnsupportedMediaType)
			} else if got.status != http.StatusTooManyRequests {
				t.Errorf("%s: request %d is let in", what, i+1)
			}
		}
	}
}

// An IPv6 client has a /64: eleven addresses of one are one client, of eleven
// neighbours eleven.
func TestIPv6Clients(t *testing.T) {
	s := newServer(t, at(newClock()), trust("127.0.0.0/8"))
	for i := range 11 {
		got := s.send(t, "POST", onboard, from("2001:db8:0:1::"+string(rune('a'+i%6))+string(rune('0'+i%10))))
		if i < 10 {
			got.want(t, http.StatusUnsupportedMediaType)
		} else {
			got.refusedBy(t, "onboarding", signUpsPerMinute)
		}
	}
	for i := range 11 {
		got := s.send(t, "POST", onboard, from("2001:db8:0:"+string(rune('a'+i%6))+string(rune('0'+i%10))+"::1"))
		if l := got.want(t, http.StatusUnsupportedMediaType).limits(t, "onboarding"); l.remaining != 9 {
			t.Errorf("a neighbour has %d places left, want 9", l.remaining)
		}
	}
}
