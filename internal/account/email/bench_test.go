package email_test

import (
	"strings"
	"testing"

	"gatehouse/internal/account/email"
)

func BenchmarkParse(b *testing.B) {
	for name, given := range map[string]string{
		"ascii":   "jane.doe+ci@gmail.com",
		"idn":     "jane@bücher.de",
		"a-label": "jane@xn--bcher-kva.de",
		"hostile": strings.Repeat("a", 64) + "@" + strings.Repeat("ü\u0323\u0301.", 60) + "de",
		"1 MB":    strings.Repeat("\xff", 1<<20),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = email.Parse(given)
			}
		})
	}
}

func BenchmarkNewRules(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := email.NewRules(nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	r := rules(b, []string{"acme.com"}, []string{"other.com"})
	for _, domain := range []string{"gmail.com", "sub.mailinator.com", strings.Repeat("a.", 126) + "b"} {
		b.Run(domain[:min(len(domain), 20)], func(b *testing.B) {
			a := email.Address{Domain: domain}
			b.ReportAllocs()
			for b.Loop() {
				_ = r.Check(a)
			}
		})
	}
}
