package api

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// clientAddr is the address that limits count by: the peer's, or, behind a
// trusted proxy, the right-most address of X-Forwarded-For that is not itself
// trusted. What is left of that was written by the client and proves nothing.
// An item that is no address makes it the peer; so does a header with none.
// Where all are trusted it is the left-most.
func clientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer := peerAddr(r.RemoteAddr)
	if len(trusted) == 0 || !within(peer, trusted) {
		return peer
	}
	client := peer
	lines := r.Header["X-Forwarded-For"]
	for _, line := range slices.Backward(lines) { // several lines are one list
		for rest, more := line, true; more; {
			var item string
			if comma := strings.LastIndexByte(rest, ','); comma >= 0 {
				rest, item = rest[:comma], rest[comma+1:]
			} else {
				item, more = rest, false
			}
			addr, err := netip.ParseAddr(strings.Trim(item, " \t"))
			if err != nil {
				return peer
			}
			client = plain(addr)
			if !within(client, trusted) {
				return client
			}
		}
	}
	return client
}

// peerAddr reads net/http's RemoteAddr; on a listener without addresses it is
// the zero Addr.
func peerAddr(remote string) netip.Addr {
	ap, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return plain(ap.Addr())
}

// plain strips the zone, and takes IPv4 out of IPv6.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

func within(a netip.Addr, prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// limitKey is what limits per client address count by: an IPv4 address, or
// an IPv6 /64, which is what one subscriber gets.
func limitKey(a netip.Addr) string {
	if a.Is6() {
		p, _ := a.Prefix(64) // fails on widths over 128 alone
		return p.String()
	}
	return a.String()
}
