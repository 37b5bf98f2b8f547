package load

import (
	"bufio"
	"bytes"
	"cmp"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
)

// read reads one answer with the buffer that a worker has, and returns what it
// left unread.
func read(from io.Reader, head bool) (a answer, left int, err error) {
	r := bufio.NewReader(from)
	if err = a.read(r, head); err == nil {
		rest, _ := io.ReadAll(r)
		left = len(rest)
	}
	return a, left, err
}

const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

// good has whole answers. body is as much of it as is kept.
var good = []struct {
	name, text string
	head       bool
	status     int
	keep       bool
	body       string
}{
	{"with a length", "HTTP/1.1 201 Created\r\nContent-Length: 5\r\n\r\nhello", false, 201, true, "hello"},
	{"names in any case, blanks around values", "HTTP/1.1 200 OK\r\ncontent-LENGTH:\t 2 \r\n\r\nok", false, 200, true, "ok"},
	{"bare line feeds, no reason", "HTTP/1.1 200\nContent-Length: 2\n\nok", false, 200, true, "ok"},
	{"an empty body", "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n", false, 429, true, ""},
	{"the same length twice", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", false, 200, true, "ok"},
	{"204 has no body", "HTTP/1.1 204 No Content\r\n\r\n", false, 204, true, ""},
	{"304 has none, whatever its length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, 304, true, ""},
	{"nor what answers HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, 200, true, ""},
	{"nor in chunks", chunkedHead, true, 200, true, ""},
	{"100 and 103 go before it", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false, 200, true, "ok"},
	{"eight go before it", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 8) + "HTTP/1.1 204 No Content\r\n\r\n", false, 204, true, ""},
	{"chunks", chunkedHead + "3\r\nabc\r\n0a\r\n0123456789\r\n0\r\n\r\n", false, 200, true, "abc0123456789"},
	{"chunks with extensions and trailers", chunkedHead + "3;q=\"x\"\r\nabc\r\n0 ;last\r\nDigest: x\r\nMore: y\r\n\r\n", false, 200, true, "abc"},
	{"chunks rule over a length", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", false, 200, false, "ok"},
	{"it says close", "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok", false, 200, false, "ok"},
	{"close rules over keep-alive", "HTTP/1.1 200 OK\r\nConnection: close\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", false, 200, false, "ok"},
	{"HTTP/1.0 closes", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false, 200, false, "ok"},
	{"HTTP/1.0 that keeps alive", "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok", false, 200, true, "ok"},
	{"an empty header value", "HTTP/1.1 200 OK\r\nX:\r\nContent-Length: 0\r\n\r\n", false, 200, true, ""},
	{"a line longer than the buffer", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 5000) + "\r\nContent-Length: 2\r\n\r\nok", false, 200, true, "ok"},
	{"a head just below the bound", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 65_000) + "\r\nContent-Length: 2\r\n\r\nok", false, 200, true, "ok"},
	{"a body longer than is kept", "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + strings.Repeat("b", 9000), false, 200, true, strings.Repeat("b", exampleLen)},
}

func TestAnswer(t *testing.T) {
	readers := map[string]func(io.Reader) io.Reader{
		"at once":           func(r io.Reader) io.Reader { return r },
		"byte by byte":      iotest.OneByteReader,
		"in halves":         iotest.HalfReader,
		"data with the end": iotest.DataErrReader,
	}
	for _, tt := range good {
		for how, wrap := range readers {
			t.Run(tt.name+", "+how, func(t *testing.T) {
				a, left, err := read(wrap(strings.NewReader(tt.text+"HTTP")), tt.head)
				if err != nil {
					t.Fatal(err)
				}
				if a.status != tt.status || a.keep != tt.keep || string(a.example) != tt.body || left != len("HTTP") {
					t.Errorf("status %d, keep %v, body %q, %d bytes left; want %d, %v, %q, 4", a.status, a.keep, a.example, left, tt.status, tt.keep, tt.body)
				}
			})
		}
	}
}

func TestAnswerThatEndsWithTheConnection(t *testing.T) {
	for _, head := range []string{"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"} {
		a, left, err := read(strings.NewReader(head+strings.Repeat("x", 5000)), false)
		if err != nil || a.status != 200 || a.keep || len(a.example) != exampleLen || left != 0 {
			t.Errorf("status %d, keep %v, %d bytes kept, %d left, %v", a.status, a.keep, len(a.example), left, err)
		}
	}
}

func TestHalfAnswers(t *testing.T) {
	for _, tt := range good {
		if len(tt.text) > 10_000 {
			continue
		}
		ends := map[int]bool{0: true} // after an interim answer the real one has not begun
		for i := 0; ; {
			n := strings.Index(tt.text[i:], "\r\n\r\nHTTP/1.1")
			if n < 0 {
				break
			}
			i += n + 4
			ends[i] = true
		}
		for n := range len(tt.text) {
			_, _, err := read(strings.NewReader(tt.text[:n]), tt.head)
			want := errorTruncated
			if ends[n] {
				want = errorClosed
			}
			if err == nil || errorKind(err, false) != want {
				t.Errorf("%s: the first %d bytes are %v, want %s", tt.name, n, err, want)
			}
		}
	}
}

func TestAnswersRefused(t *testing.T) {
	endless := func(head, text string) io.Reader {
		return io.MultiReader(strings.NewReader(head), &repeat{text: strings.Repeat(text, 4096/len(text)+1)})
	}
	const head = "HTTP/1.1 200 OK\r\n"
	tests := []struct {
		name string
		from io.Reader
		kind string
	}{
		{"SSH", strings.NewReader("SSH-2.0-OpenSSH_9.9\r\n"), errorProtocol},
		{"HTTP/2", strings.NewReader("HTTP/2.0 200 OK\r\n\r\n"), errorProtocol},
		{"a short line", strings.NewReader("HTTP/1.1 20\r\n\r\n"), errorProtocol},
		{"a long status", strings.NewReader("HTTP/1.1 2000 OK\r\n\r\n"), errorProtocol},
		{"a status of letters", strings.NewReader("HTTP/1.1 abc OK\r\n\r\n"), errorProtocol},
		{"a status too low", strings.NewReader("HTTP/1.1 099 OK\r\n\r\n"), errorProtocol},
		{"a status too high", strings.NewReader("HTTP/1.1 600 OK\r\n\r\n"), errorProtocol},
		{"it switches protocols", strings.NewReader("HTTP/1.1 101 Switching Protocols\r\n\r\n"), errorProtocol},
		{"interim answers without end", endless("", "HTTP/1.1 100 Continue\r\n\r\n"), errorProtocol},
		{"a header without a colon", strings.NewReader(head + "garbage\r\n\r\n"), errorProtocol},
		{"a header without a name", strings.NewReader(head + ": x\r\n\r\n"), errorProtocol},
		{"a folded header", strings.NewReader(head + "X: a\r\n b: c\r\n\r\n"), errorProtocol},
		{"a blank before the colon", strings.NewReader(head + "Content-Length : 2\r\n\r\nok"), errorProtocol},
		{"two lengths", strings.NewReader(head + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok."), errorProtocol},
		{"a negative length", strings.NewReader(head + "Content-Length: -1\r\n\r\n"), errorProtocol},
		{"a length with a sign", strings.NewReader(head + "Content-Length: +2\r\n\r\nok"), errorProtocol},
		{"a length beyond the buffer", strings.NewReader(head + "Content-Length: " + strings.Repeat("0", 5000) + "2\r\n\r\nok"), errorProtocol},
		{"a length beyond 64 bits", strings.NewReader(head + "Content-Length: 99999999999999999999\r\n\r\n"), errorProtocol},
		{"another coding", strings.NewReader(head + "Transfer-Encoding: gzip, chunked\r\n\r\n"), errorProtocol},
		{"chunks in HTTP/1.0", strings.NewReader("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), errorProtocol},
		{"a chunk of no size", strings.NewReader(chunkedHead + "\r\n\r\n"), errorProtocol},
		{"a chunk of a negative size", strings.NewReader(chunkedHead + "-1\r\n\r\n"), errorProtocol},
		{"a chunk longer than it said", strings.NewReader(chunkedHead + "1\r\nabc\r\n"), errorProtocol},
		{"1 GB", endless(head+"Content-Length: 1000000000\r\n\r\n", "x"), errorTooLarge},
		{"a chunk of 1 GB", endless(chunkedHead+"3b9aca00\r\n", "x"), errorTooLarge},
		{"chunks without end", endless(chunkedHead, "1000\r\n"+strings.Repeat("x", 4096)+"\r\n"), errorTooLarge},
		{"trailers without end", endless(chunkedHead+"0\r\n", "X: y\r\n"), errorTooLarge},
		{"a chunk's extension without end", endless(chunkedHead+"1;", "x"), errorTooLarge},
		{"a body without end", endless(head+"\r\n", "x"), errorTooLarge},
		{"a head without end", endless(head, "X: y\r\n"), errorTooLarge},
		{"a first line without end", endless("", "HTTP/1.1 200 OK"), errorTooLarge},
		{"a header line without end", endless(head, "x"), errorTooLarge},
		{"a reset within the body", io.MultiReader(strings.NewReader(head+"Content-Length: 5\r\n\r\nab"), iotest.ErrReader(syscall.ECONNRESET)), errorReset},
		{"a time-out within the head", io.MultiReader(strings.NewReader(head), iotest.ErrReader(os.ErrDeadlineExceeded)), errorTimeout},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, _, err := read(tt.from, false)
			if err == nil || errorKind(err, false) != tt.kind {
				t.Errorf("status %d, error %v; want %s", a.status, err, tt.kind)
			}
			if len(a.example) > exampleLen {
				t.Errorf("%d bytes of it were kept", len(a.example))
			}
		})
	}
}

// repeat is a text over and over.
type repeat struct {
	text string
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	for n := 0; n < len(p); r.at %= len(r.text) {
		did := copy(p[n:], r.text[r.at:])
		n, r.at = n+did, r.at+did
	}
	return len(p), nil
}

func TestOneAnswerLeavesNothingToTheNext(t *testing.T) {
	r := bufio.NewReader(strings.NewReader(
		"HTTP/1.0 500 Oops\r\nConnection: close, keep-alive\r\nRateLimit-Policy: \"onboarding\";q=10;w=60\r\nContent-Length: 4\r\n\r\nlong" +
			"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"))
	var a answer
	if err := a.read(r, false); err != nil || string(a.policy) != `"onboarding";q=10;w=60` {
		t.Fatalf("policy %q, %v", a.policy, err)
	}
	if err := a.read(r, false); err != nil || len(a.policy) > 0 || string(a.example) != "x" || !a.keep || a.status != 200 {
		t.Fatalf("the second has policy %q, body %q, keep %v, status %d, %v", a.policy, a.example, a.keep, a.status, err)
	}
}

// FuzzAnswer holds the parser against net/http's: it may refuse more, but what
// both take they take alike.
func FuzzAnswer(f *testing.F) {
	for _, tt := range good {
		if len(tt.text) < 10_000 {
			f.Add([]byte(tt.text), tt.head)
		}
	}
	for _, text := range []string{
		"", "\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nuntil the end", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n c: d\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		chunkedHead + "fffffffffffffffff\r\n", chunkedHead + "1\nx\n0\n\n", chunkedHead + "0\r\nbad trailer\r\n\r\n",
	} {
		f.Add([]byte(text), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, head bool) {
		ours, left, err := read(bytes.NewReader(text), head)
		slow, slowLeft, slowErr := read(iotest.OneByteReader(bytes.NewReader(text)), head)
		if (err == nil) != (slowErr == nil) || err == nil && (slow.status != ours.status || slowLeft != left || !bytes.Equal(slow.example, ours.example)) {
			t.Fatalf("byte by byte: %+v, %v; at once: %+v, %v", slow, slowErr, ours, err)
		}
		if err != nil {
			if errorKind(err, false) == errorReset {
				t.Fatalf("an error of no kind: %v", err)
			}
			return
		}
		status, body, rest, theirs := readLikeNetHTTP(text, head)
		if theirs != nil {
			return
		}
		if status != ours.status || rest != left || string(ours.example) != string(body[:min(len(body), exampleLen)]) {
			t.Fatalf("net/http: %d %q, %d left; here: %d %q, %d left", status, body, rest, ours.status, ours.example, left)
		}
	})
}

func readLikeNetHTTP(text []byte, head bool) (status int, body []byte, left int, err error) {
	r := bufio.NewReader(bytes.NewReader(text))
	req := &http.Request{Method: map[bool]string{true: http.MethodHead, false: http.MethodGet}[head]}
	for {
		res, err := http.ReadResponse(r, req)
		if err != nil {
			return 0, nil, 0, err
		}
		body, err := io.ReadAll(res.Body)
		if err = cmp.Or(err, res.Body.Close()); err != nil {
			return 0, nil, 0, err
		}
		if res.StatusCode >= 200 {
			rest, err := io.ReadAll(r)
			return res.StatusCode, body, len(rest), err
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	text := "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRateLimit-Policy: \"onboarding\";q=10;w=60\r\nContent-Length: 46\r\n\r\n" + strings.Repeat("x", 46)
	from := &repeat{text: text}
	r, a := bufio.NewReader(from), answer{}
	b.ReportAllocs()
	for b.Loop() {
		if err := a.read(r, false); err != nil || a.status != 429 {
			b.Fatal(strconv.Itoa(a.status), err)
		}
	}
}
