package api_test

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

const maxBody = 64 << 10

// padded fills the document of a body up to so many bytes.
func padded(text string, size int) string {
	text = strings.Replace(text, "{", `{"pad": "", `, 1)
	return strings.Replace(text, `""`, `"`+strings.Repeat("x", size-len(text))+`"`, 1)
}

// 64 KiB pass and a byte more does not, whether its length is said or not.
func TestBodySize(t *testing.T) {
	s := newServer(t, unlimited)
	isJSON := header("Content-Type", "application/json")
	for endpoint, post := range posts(t, s) {
		t.Run(endpoint, func(t *testing.T) {
			fits, over := padded(post.body(), maxBody), padded(post.body(), maxBody+1)
			if len(fits) != maxBody || len(over) != maxBody+1 {
				t.Fatalf("the bodies have %d and %d bytes", len(fits), len(over))
			}
			s.send(t, "POST", post.path, post.auth, document(fits)).done(t)
			s.send(t, "POST", post.path, post.auth, document(over)).refused(t, http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
			fits, over = padded(post.body(), maxBody), padded(post.body(), maxBody+1)
			s.send(t, "POST", post.path, post.auth, isJSON, chunked(strings.NewReader(fits))).done(t)
			s.send(t, "POST", post.path, post.auth, isJSON, chunked(strings.NewReader(over))).refused(t, http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
			// Spaces are part of the body.
			s.send(t, "POST", post.path, post.auth, document(post.body()+strings.Repeat(" ", maxBody))).refused(t, http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
		})
	}
}

// endless is a body without an end, which counts what is taken of it.
type endless struct{ taken int }

func (e *endless) Read(b []byte) (int, error) {
	e.taken += len(b)
	return copy(b, bytes.Repeat([]byte(" "), len(b))), nil
}

// A body without an end is given up after its bound.
func TestEndlessBody(t *testing.T) {
	s := newServer(t)
	got := s.send(t, "POST", onboard, header("Content-Type", "application/json"), chunked(new(endless)))
	got.refused(t, http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
}

// The same, where a length is said that nobody would read.
func TestHugeContentLength(t *testing.T) {
	s := newServer(t)
	for _, length := range []string{strconv.Itoa(maxBody + 1), "10000000000", "9223372036854775807"} {
		got := s.raw(t, "POST", onboard, "POST "+onboard+" HTTP/1.1\r\nHost: gatehouse\r\nContent-Type: application/json\r\nContent-Length: "+length+"\r\n\r\n{")
		got.refused(t, http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
		if !got.close {
			t.Errorf("%s bytes would be read to keep the connection", length)
		}
	}
}

// A length that is not the body's is no 500, and nothing half-read is taken.
func TestLyingContentLength(t *testing.T) {
	s := newServer(t)
	whole := `{"name": "Ada", "email": "` + someone() + `"}`
	head := "POST " + onboard + " HTTP/1.1\r\nHost: gatehouse\r\nContent-Type: application/json\r\n"
	for _, test := range []struct{ name, text string }{
		{"the client leaves before the end", head + "Content-Length: 1000\r\n\r\n" + whole},
		{"the client sends more than it said", head + "Content-Length: 10\r\n\r\n" + whole},
		{"a chunk is cut", head + "Transfer-Encoding: chunked\r\n\r\n" + strconv.FormatInt(int64(len(whole)+10), 16) + "\r\n" + whole},
		{"the last chunk is missing", head + "Transfer-Encoding: chunked\r\n\r\n" + strconv.FormatInt(int64(len(whole)), 16) + "\r\n" + whole + "\r\n"},
		{"a chunk's length is no number", head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n" + whole + "\r\n0\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.raw(t, "POST", onboard, test.text).refused(t, http.StatusBadRequest, "INVALID_JSON")
		})
	}
	if n := len(s.customers(t)); n != 0 {
		t.Errorf("%d customers were made", n)
	}
}
