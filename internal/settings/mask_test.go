package settings_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gatehouse/internal/settings"
)

// masked is how a URL is told.
func masked(t interface{ Fatal(...any) }, url string) string {
	url, told := "="+url, ""
	values, err := newReader().load(settings.Sources{Environ: []string{"GATEHOUSE_DATABASE" + url}})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range values {
		if v.Name == "database" {
			told = v.Value
		}
	}
	return told
}

// refusedAsFlag reports whether a flag with this URL is refused, and fails
// where the refusal tells it.
func refusedAsFlag(t *testing.T, url string) bool {
	t.Helper()
	_, err := newReader().load(settings.Sources{Flags: map[string]string{"database": url}})
	if err != nil && strings.Contains(err.Error(), url) {
		t.Errorf("the error tells the URL: %v", err)
	}
	return err != nil
}

func TestPasswordIsMaskedAndTheRestIsTold(t *testing.T) {
	tests := []struct{ name, url, want string }{
		{"in front of the host", "postgres://u:hunter2@h/db", "postgres://u:xxxxx@h/db"},
		{"with a port and a query", "postgres://u:hunter2@h:5432/db?sslmode=disable", "postgres://u:xxxxx@h:5432/db?sslmode=disable"},
		{"for an IPv6 host", "postgres://u:hunter2@[::1]:5432/db", "postgres://u:xxxxx@[::1]:5432/db"},
		{"without a path", "smtps://u:hunter2@h", "smtps://u:xxxxx@h"},
		{"without a user", "redis://:hunter2@h:6379", "redis://:xxxxx@h:6379"},
		{"escaped", "postgres://u:hun%40t%2Fer2@h/db", "postgres://u:xxxxx@h/db"},
		{"with a colon", "postgres://u:hun:ter2@h/db", "postgres://u:xxxxx@h/db"},
		{"that looks masked", "postgres://u:xxxxx@h/db", "postgres://u:xxxxx@h/db"},
		{"as a parameter", "postgres://h/db?password=hunter2&user=u", "postgres://h/db?password=xxxxx&user=u"},
		{"as a parameter, twice", "postgres://h/db?password=hunter1&password=hunter2", "postgres://h/db?password=xxxxx"},
		{"as a parameter in capitals", "postgres://h/db?PassWord=hunter2", "postgres://h/db?PassWord=xxxxx"},
		{"as a parameter, with an escape", "postgres://h/db?pass%77ord=hunter2", "postgres://h/db?password=xxxxx"},
		{"of a key, as a parameter", "postgres://h/db?sslpassword=hunter2", "postgres://h/db?sslpassword=xxxxx"},
		{"in both places", "postgres://u:hunter1@h/db?password=hunter2", "postgres://u:xxxxx@h/db?password=xxxxx"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := masked(t, tt.url); got != tt.want {
				t.Errorf("%q is told as %q, want %q", tt.url, got, tt.want)
			}
			if !refusedAsFlag(t, tt.url) {
				t.Errorf("a flag with %q is taken", tt.url)
			}
		})
	}
}

func TestWhatHasNoPasswordIsToldAsItIs(t *testing.T) {
	for _, url := range []string{
		"sqlite:gatehouse.db", "sqlite:/var/lib/gate house/a@b.db", `sqlite:C:\data\gatehouse.db`, "gatehouse.db",
		"postgres://h/db", "postgres://h:5432/db", "postgres://u@h/db", "postgres://u@h:5432/db?sslmode=verify-full&connect_timeout=10",
		"postgres://[::1]:5432/db", "postgres:///db?host=/run/postgresql", "postgres://h/db?passfile=/run/secrets/pgpass",
	} {
		if got := masked(t, url); got != url {
			t.Errorf("%q is told as %q", url, got)
		}
		if refusedAsFlag(t, url) {
			t.Errorf("a flag with %q is refused", url)
		}
	}
}

// What is no clear URL may be refused elsewhere; its password is still one.
// How much else is masked with it does not matter.
func TestPasswordInUnclearURLIsMasked(t *testing.T) {
	for name, url := range map[string]string{
		"an @ in it":                     "postgres://u:hunter1@hunter2@h/db",
		"two @ and a slash in it":        "postgres://u:hunter1@hunter2/hunter3@hunter4@h/db",
		"a slash in it":                  "postgres://u:hunter1/hunter2@h/db",
		"a slash after digits":           "postgres://u:5432/hunter2@h/db",
		"a question mark in it":          "postgres://u:hunter1?hunter2@h/db",
		"a question mark after digits":   "postgres://u:5432?hunter2@h/db",
		"a hash in it":                   "postgres://u:hunter1#hunter2@h/db",
		"a hash after digits":            "postgres://u:5432#hunter2@h/db",
		"a space in it":                  "postgres://u:hunter1 hunter2@h/db",
		"a line end in it":               "postgres://u:hunter1\nhunter2@h/db",
		"a percent sign in it":           "postgres://u:hunter1%zzhunter2@h/db",
		"a scheme in it":                 "postgres://u:hunter1://hunter2@h/db",
		"several hosts":                  "postgres://u:hunter2@a:1,b:2/db",
		"no host":                        "postgres://u:hunter2@",
		"no host but a path":             "postgres://u:hunter2@/db?host=/run",
		"a parameter of no host":         "postgres:///db?password=hunter2",
		"a parameter with an @":          "postgres://h/db?password=hunter1@hunter2",
		"with an @, after a port":        "postgres://h:5432/db?password=hunter1@hunter2",
		"with an @, after another":       "postgres://u:hunter1@h/db?password=hunter2@hunter3",
		"a parameter with a semicolon":   "postgres://h/db?password=hunter1;hunter2",
		"a parameter with bad escapes":   "postgres://h/db?password=hunter1%zzhunter2",
		"another parameter with an @":    "postgres://u:hunter2@h:5432/db?user=a@b:c",
		"one slash":                      "postgres:/u:hunter2@h/db",
		"no slashes":                     "postgres:u:hunter2@h/db",
		"no colon":                       "postgres//u:hunter2@h/db",
		"no scheme":                      "//u:hunter2@h/db",
		"nothing before the user":        "u:hunter2@h/db",
		"a port that is none":            "postgres://u:hunter2@h:port/db",
		"an escape that is none":         "postgres://u:hunter2@h/%zz",
		"a space before":                 " postgres://u:hunter2@h/db",
		"a space in the user":            "postgres://a u:hunter2@h/db",
		"quotes around":                  `"postgres://u:hunter2@h/db"`,
		"an IPv6 address, open":          "postgres://u:hunter2@[::1/db",
		"libpq's other form":             "host=h user=u password=hunter2 dbname=d",
		"libpq's form, password first":   "password=hunter2 host=h",
		"libpq's form, in capitals":      "PASSWORD=hunter2 host=h",
		"libpq's form, with spaces":      "host=h password = hunter2",
		"libpq's form, quoted":           "host=h password='hunter1 hunter2'",
		"libpq's form, after a line end": "host=h\npassword=hunter2",
		"a NUL in it":                    "postgres://u:hunter1\x00hunter2@h/db",
	} {
		t.Run(name, func(t *testing.T) {
			if got := masked(t, url); strings.Contains(got, "hunter") {
				t.Errorf("%q is told as %q", url, got)
			}
			if !refusedAsFlag(t, url) {
				t.Errorf("a flag with %q is taken", url)
			}
		})
	}
}

// password is one that has a separator's every character, and between each
// two a word that is found wherever a part of it is told.
func password(separators string) string {
	var b strings.Builder
	b.WriteString("hunter")
	for _, r := range separators {
		b.WriteRune(r)
		b.WriteString("hunter")
	}
	return b.String()
}

func TestNoPartOfAPasswordIsTold(t *testing.T) {
	separators := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.SampledFrom([]rune("@:/?#&=%; \n[]'\"\\0"))))
	rapid.Check(t, func(t *rapid.T) {
		url := rapid.SampledFrom([]string{"postgres://", "smtp+tls://", "://", " x://", "postgres:/", "postgres:", "//", ""}).Draw(t, "scheme") +
			rapid.StringMatching(`[a-z%@/ ]{0,8}`).Draw(t, "user") + ":" + password(separators.Draw(t, "password")) + "@" +
			rapid.SampledFrom([]string{"", "h", "h:5432", "[::1]:5432", "a:1,b:2"}).Draw(t, "host") +
			rapid.SampledFrom([]string{"", "/", "/db", "/a/b@c", "db"}).Draw(t, "path") +
			rapid.SampledFrom([]string{"", "?", "?sslmode=disable", "?user=a@b:c", "#x", "?password=hunter"}).Draw(t, "query")
		if told := masked(t, url); strings.Contains(told, "hunter") {
			t.Fatalf("%q is told as %q", url, told)
		}
	})
}

// The same for whatever the fuzzer thinks of. The password is in front of the
// host or, with query, a parameter.
func FuzzMask(f *testing.F) {
	f.Add("u", "@/", "h:5432", "/db?sslmode=disable", false)
	f.Add("u", "@", "h:5432", "sslmode=disable", true)
	f.Fuzz(func(t *testing.T, user, separators, host, rest string, query bool) {
		url := "postgres://" + user + ":" + password(separators) + "@" + host + rest
		if query {
			url = "postgres://" + user + host + "/db?password=" + password(separators) + "&" + rest
		}
		switch {
		case strings.Contains(user+host+rest, "hunter"):
			return // would be told, and rightly
		case query && (strings.ContainsAny(separators, "&#") || strings.ContainsAny(user+host, "?#")):
			return // would not be the parameter
		}
		if told := masked(t, url); strings.Contains(told, "hunter") {
			t.Errorf("%q is told as %q", url, told)
		}
		if !refusedAsFlag(t, url) {
			t.Errorf("a flag with %q is taken", url)
		}
	})
}
