package stripe_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/stripe"
)

// Put together here, so that no scanner takes them for real ones.
const (
	oldSecret = "wh" + "sec_old0123456789abcdefghijklmnop"
	newSecret = "wh" + "sec_new0123456789abcdefghijklmnop"
	signedAt  = 1790003601
)

var (
	signedTime = time.Unix(signedAt, 0)
	signedBody = []byte(`{"id":"evt_T1","object":"event","type":"invoice.paid"}`)
)

// sign is what the documentation says of a signature.
func sign(secret, stamp string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	fmt.Fprintf(mac, "%s.%s", stamp, body)
	return hex.EncodeToString(mac.Sum(nil))
}

func mustSecrets(t testing.TB, s string) stripe.Secrets {
	t.Helper()
	secrets, err := stripe.ParseSecrets(s)
	if err != nil {
		t.Fatal(err)
	}
	return secrets
}

func TestSecretsAreListed(t *testing.T) {
	for given, want := range map[string]int{
		"": 0, " ": 0, ",": 0, " , ,\n": 0, oldSecret: 1, oldSecret + "\n": 1, oldSecret + "," + newSecret: 2, " " + oldSecret + " ,, " + newSecret + ",": 2,
		oldSecret + "," + oldSecret: 1, "x": 1, strings.Repeat("x", 255): 1,
		strings.Repeat("x", 256): -1, oldSecret + ",whsec a": -1, oldSecret + ",whsec_ü": -1, oldSecret + ",a\x00b": -1, oldSecret + " " + newSecret: -1,
	} {
		secrets, err := stripe.ParseSecrets(given)
		if (err != nil) != (want < 0) || secrets.Any() != (want > 0) {
			t.Errorf("%q: any %v, %v; want %d", given, secrets.Any(), err, want)
		}
		if err != nil && (strings.Contains(err.Error(), oldSecret) || strings.Contains(err.Error(), "whsec ") || strings.Contains(err.Error(), "xxx")) {
			t.Errorf("the error repeats what was given: %v", err)
		}
		if want == 2 {
			for i, secret := range []string{oldSecret, newSecret} {
				signed, err := secrets.Verify([]string{"t=1790003601,v1=" + sign(secret, "1790003601", signedBody)}, signedBody, signedTime)
				if err != nil || signed.Secret != i+1 || !signed.At.Equal(signedTime) {
					t.Errorf("%q: %+v, %v; want secret %d", given, signed, err, i+1)
				}
			}
		}
	}
}

func TestSecretsDoNotShowThemselves(t *testing.T) {
	secrets := mustSecrets(t, oldSecret+","+newSecret)
	var log bytes.Buffer
	text, asJSON := slog.New(slog.NewTextHandler(&log, nil)), slog.New(slog.NewJSONHandler(&log, nil))
	for _, v := range []any{secrets, &secrets, []stripe.Secrets{secrets}, struct{ S stripe.Secrets }{secrets}, struct{ s *stripe.Secrets }{&secrets}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&log, verb+"\n", v)
		}
		text.Info("started", "value", v)
		asJSON.Info("started", "value", v)
		if out, err := json.Marshal(v); err == nil {
			log.Write(out)
		}
	}
	for _, part := range []string{"0123456789", "30313233343536373839"} {
		if strings.Contains(log.String(), part) {
			t.Errorf("they show:\n%s", log.String())
		}
	}
}

// right is a good signature, and at is a header of it at another time.
var right = sign(oldSecret, "1790003601", signedBody)

func at(stamp string) []string {
	return []string{"t=" + stamp + ",v1=" + sign(oldSecret, stamp, signedBody)}
}

func TestHeaderIsHeldToItsForm(t *testing.T) {
	secrets := mustSecrets(t, oldSecret+","+newSecret)
	wrong, raw := strings.Repeat("0", 64), mustHex(right)
	for name, tt := range map[string]struct {
		values []string
		want   string // in the error; "" means that it passes
	}{
		"as Stripe's":               {at("1790003601"), ""},
		"by the other secret":       {[]string{"t=1790003601,v1=" + sign(newSecret, "1790003601", signedBody)}, ""},
		"the second is right":       {[]string{"t=1790003601,v1=" + wrong + ",v1=" + right}, ""},
		"with v0":                   {[]string{"t=1790003601,v1=" + right + ",v0=" + wrong}, ""},
		"with a scheme to come":     {[]string{"v2=Zm9v+/==,t=1790003601,v1=" + right + ",tt=1"}, ""},
		"the signature is first":    {[]string{"v1=" + right + ",t=1790003601"}, ""},
		"a hundred":                 {[]string{"t=1790003601" + strings.Repeat(",v1="+wrong, 99) + ",v1=" + right}, ""},
		"none":                      {nil, "has no"},
		"empty":                     {[]string{""}, "has no"},
		"two lines":                 {append(at("1790003601"), at("1790003601")...), "more than one"},
		"an empty line and another": {append([]string{""}, at("1790003601")...), "more than one"},
		"a thousand":                {[]string{"t=1790003601" + strings.Repeat(",v1="+wrong, 999) + ",v1=" + right}, "longer"},
		"another's":                 {[]string{"t=1790003601,v1=" + sign("whsec_x", "1790003601", signedBody)}, "no signature"},
		"with no secret":            {[]string{"t=1790003601,v1=" + sign("", "1790003601", signedBody)}, "no signature"},
		"of another time":           {[]string{"t=1790003602,v1=" + right}, "no signature"},
		"t only":                    {[]string{"t=1790003601"}, "malformed"},
		"just t":                    {[]string{"t"}, "malformed"},
		"no t":                      {[]string{"v1=" + right}, "malformed"},
		"an empty t":                {[]string{"t=,v1=" + right}, "malformed"},
		"two t":                     {[]string{"t=1790003601,t=1790003601,v1=" + right}, "malformed"},
		"two t, one of them 0":      {[]string{"t=0,t=1790003601,v1=" + right}, "malformed"},
		"t below zero":              {at("-1"), "malformed"},
		"t with a sign":             {at("+1790003601"), "malformed"},
		"t with a zero before":      {at("01790003601"), "malformed"},
		"t with a point":            {at("1790003601.0"), "malformed"},
		"t in hex":                  {at("0x6ab13c11"), "malformed"},
		"t is 0":                    {at("0"), "malformed"},
		"t is 2^63":                 {at("9223372036854775808"), "malformed"},
		"t is 2^63 - 1":             {at("9223372036854775807"), "signed at"},
		"t in milliseconds":         {at("1790003601000"), "signed at"},
		"v0 only":                   {[]string{"t=1790003601,v0=" + right}, "malformed"},
		"V1":                        {[]string{"t=1790003601,V1=" + right}, "malformed"},
		"an empty v1":               {[]string{"t=1790003601,v1="}, "malformed"},
		"upper hex":                 {[]string{"t=1790003601,v1=" + strings.ToUpper(right)}, "malformed"},
		"upper hex and right":       {[]string{"t=1790003601,v1=" + strings.ToUpper(right) + ",v1=" + right}, "malformed"},
		"base64":                    {[]string{"t=1790003601,v1=" + base64.StdEncoding.EncodeToString(raw)}, "malformed"},
		"a digit less":              {[]string{"t=1790003601,v1=" + right[1:]}, "malformed"},
		"a digit more":              {[]string{"t=1790003601,v1=" + right + "0"}, "malformed"},
		"no digit":                  {[]string{"t=1790003601,v1=" + right[:63] + "g"}, "malformed"},
		"a space after the comma":   {[]string{"t=1790003601, v1=" + right}, "malformed"},
		"a space before":            {[]string{" t=1790003601,v1=" + right}, "malformed"},
		"a space in the time":       {[]string{"t= 1790003601,v1=" + right}, "malformed"},
		"a line end":                {[]string{"t=1790003601,v1=" + right + "\n"}, "malformed"},
		"a comma after":             {[]string{"t=1790003601,v1=" + right + ","}, "malformed"},
		"a comma alone":             {[]string{","}, "malformed"},
		"semicolons":                {[]string{"t=1790003601;v1=" + right}, "malformed"},
		"quoted":                    {[]string{`t="1790003601",v1="` + right + `"`}, "malformed"},
	} {
		signed, err := secrets.Verify(tt.values, signedBody, signedTime)
		switch {
		case tt.want == "" && (err != nil || !signed.At.Equal(signedTime)):
			t.Errorf("%s: %+v, %v", name, signed, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || signed != stripe.Signed{}):
			t.Errorf("%s: %+v, %v; want an error with %q", name, signed, err, tt.want)
		case err != nil && (strings.Contains(err.Error(), right[:8]) || strings.Contains(err.Error(), wrong[:8])):
			t.Errorf("%s: the error repeats it: %v", name, err)
		}
	}
	for _, none := range []stripe.Secrets{{}, mustSecrets(t, ""), mustSecrets(t, " , ")} {
		if _, err := none.Verify([]string{"t=1790003601,v1=" + sign("", "1790003601", signedBody)}, signedBody, signedTime); err == nil {
			t.Error("without a secret something passes")
		}
	}
}

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func TestSignatureIsOfNow(t *testing.T) {
	secrets := mustSecrets(t, oldSecret)
	for age, want := range map[time.Duration]bool{
		0: true, 299 * time.Second: true, 300 * time.Second: true, 300*time.Second + 1: false, 301 * time.Second: false, 24 * time.Hour: false,
		-59 * time.Second: true, -60 * time.Second: true, -60*time.Second - 1: false, -61 * time.Second: false, -240 * time.Hour: false,
	} {
		if _, err := secrets.Verify(at("1790003601"), signedBody, signedTime.Add(age)); (err == nil) != want {
			t.Errorf("%s old: %v, want %v", age, err, want)
		}
	}
}

func TestBodyIsRaw(t *testing.T) {
	secrets := mustSecrets(t, oldSecret)
	body := []byte("{\"a\": 1}\n")
	values := []string{"t=1790003601,v1=" + sign(oldSecret, "1790003601", body)}
	if _, err := secrets.Verify(values, body, signedTime); err != nil {
		t.Error(err)
	}
	for _, other := range []string{`{"a": 1}`, "{\"a\":1}\n", "{\"a\": 1}\n\n", "\ufeff{\"a\": 1}\n", ""} {
		if _, err := secrets.Verify(values, []byte(other), signedTime); err == nil {
			t.Errorf("%q passes", other)
		}
	}
	if _, err := secrets.Verify([]string{"t=1790003601,v1=" + sign(oldSecret, "1790003601", nil)}, nil, signedTime); err != nil {
		t.Errorf("an empty body: %v", err)
	}
}

var headerForm = regexp.MustCompile(`^([!-+\--<>-~]+=[!-+\--~]+)(,[!-+\--<>-~]+=[!-+\--~]+)*$`)

// plainly is the same policy, written down without a thought of its cost.
func plainly(header string, body []byte, now time.Time, secrets ...string) bool {
	if len(header) > 8192 || !headerForm.MatchString(header) {
		return false
	}
	fields := map[string][]string{}
	for item := range strings.SplitSeq(header, ",") {
		pair := strings.SplitN(item, "=", 2)
		fields[pair[0]] = append(fields[pair[0]], pair[1])
	}
	if len(fields["t"]) != 1 || !regexp.MustCompile(`^[1-9][0-9]{0,18}$`).MatchString(fields["t"][0]) {
		return false
	}
	stamp, err := strconv.ParseInt(fields["t"][0], 10, 64)
	if err != nil || stamp > 1e12 || now.Sub(time.Unix(stamp, 0)) > 300*time.Second || time.Unix(stamp, 0).Sub(now) > 60*time.Second {
		return false
	}
	passes := false
	for _, v1 := range fields["v1"] {
		if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(v1) {
			return false
		}
		for _, secret := range secrets {
			passes = passes || v1 == sign(secret, fields["t"][0], body)
		}
	}
	return passes
}

// FuzzVerify holds the signature policy to its plain form. In a header T stands
// for the time, and A and B for signatures of it by the two secrets.
func FuzzVerify(f *testing.F) {
	for _, header := range []string{
		"", "t", "t=", "t=T", "t=T,v0=A", "t=T,v1=A", "t=T,v1=B", "v1=A,t=T", "t=T,v1=A,v1=B", "t=T,t=T,v1=A", "t=-1,v1=A", "t=9223372036854775808,v1=A", "t=0T,v1=A", "t=+T,v1=A",
		"t=T, v1=A", "t=T,v1=A ", "t=T,v1=A,", ",t=T,v1=A", "t=T,v1=A,v0=x", "t=T,v1=A,v1=x", "t=T,v1==A", "t=T,v1=A,=", "t=T,v1=0A", "t=T;v1=A", "t=T,v1=A,v1=" + strings.Repeat("F", 64), "t=T,v2=A=,v1=B",
	} {
		f.Add(header, []byte(`{"id":"evt_1"}`), int64(0))
		f.Add(header, []byte{}, int64(300e9))
		f.Add(header, []byte("\x00"), int64(-60e9-1))
	}
	secrets := mustSecrets(f, oldSecret+","+newSecret)
	f.Fuzz(func(t *testing.T, header string, body []byte, age int64) {
		header = strings.NewReplacer("T", "1790003601", "A", sign(oldSecret, "1790003601", body), "B", sign(newSecret, "1790003601", body)).Replace(header)
		now := signedTime.Add(time.Duration(age))
		_, err := secrets.Verify([]string{header}, body, now)
		if want := plainly(header, body, now, oldSecret, newSecret); (err == nil) != want {
			t.Errorf("%q at %s: %v, want %v", header, now, err, want)
		}
	})
}

// BenchmarkVerify compares a forgery with the one HMAC that it takes at least.
func BenchmarkVerify(b *testing.B) {
	body := bytes.Repeat([]byte("x"), 3<<10)
	header := []string{"t=1790003601,v1=" + strings.Repeat("0", 64)}
	secrets := mustSecrets(b, oldSecret)
	b.Run("forged", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := secrets.Verify(header, body, signedTime); err == nil {
				b.Fatal("it passes")
			}
		}
	})
	b.Run("bare HMAC", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			mac := hmac.New(sha256.New, []byte(oldSecret))
			mac.Write(body)
			if hmac.Equal(mac.Sum(nil), signedBody) {
				b.Fatal("it passes")
			}
		}
	})
	b.Run("stale", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := secrets.Verify(header, body, signedTime.Add(time.Hour)); err == nil {
				b.Fatal("it passes")
			}
		}
	})
}
