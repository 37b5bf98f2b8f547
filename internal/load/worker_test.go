package load

import (
	"strings"
	"testing"
)

// A plan's own User-Agent is the only one.
func TestRenderNamesItselfOnce(t *testing.T) {
	to := &endpoint{host: "h"}
	r := Request{Method: "GET", Path: Literally("/")}
	for _, want := range []string{"gatehouse-load", "other/1"} {
		text := string(r.render(nil, to, &client{}, &filler{}))
		if strings.Count(text, "ser-") != 1 || !strings.Contains(text, "ser-agent: "+want) && !strings.Contains(text, "ser-Agent: "+want) {
			t.Errorf("%q; want one User-Agent, %s", text, want)
		}
		r.Headers = []Header{{"user-agent", Literally("other/1")}}
	}
}
