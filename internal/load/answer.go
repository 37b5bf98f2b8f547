package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// The bounds of an answer. A target that goes beyond them is broken or hostile,
// and its answer an error; none of it is kept in memory but a few bytes.
const (
	maxHead    = 64 << 10
	maxBody    = 16 << 20
	maxInterim = 8 // 1xx answers before the real one
	exampleLen = 200
)

var (
	errTooLarge  = errors.New("the answer is larger than 16 MiB")
	errHeadLarge = errors.New("the answer's head is larger than 64 KiB")
)

// protocolError is an answer that is not HTTP/1.1.
type protocolError struct{ what string }

func (e protocolError) Error() string { return e.what }

func notHTTP(format string, args ...any) error {
	return protocolError{fmt.Sprintf(format, args...)}
}

// answer is what is kept of one.
type answer struct {
	status  int
	keep    bool   // the connection can be used again
	policy  []byte // RateLimit-Policy
	example []byte // how the body began
	more    int    // bytes of it that are kept beyond exampleLen

	length  int64 // -1: not given
	chunked bool
	old     bool // HTTP/1.0
	alive   bool // it says keep-alive
	close   bool // it says close
}

// read reads one whole answer to a request, and nothing beyond it. What
// it keeps is overwritten by the next.
func (a *answer) read(r *bufio.Reader, head bool) error {
	for range maxInterim + 1 {
		if err := a.readHead(r); err != nil {
			return err
		}
		if a.status >= 200 {
			return a.readBody(r, head)
		}
		if a.status == 101 {
			return notHTTP("it switched protocols, which nobody asked for")
		}
	}
	return notHTTP("more than %d interim answers", maxInterim)
}

// readLine returns the next line without its end; of a long one as much as the
// reader's buffer holds. left is how much of the head may still come.
func readLine(r *bufio.Reader, left *int) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	*left -= len(line)
	if errors.Is(err, bufio.ErrBufferFull) {
		line = bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) && *left >= 0 {
			var more []byte
			more, err = r.ReadSlice('\n')
			*left -= len(more)
		}
	}
	if *left < 0 {
		return nil, errHeadLarge
	}
	if err != nil {
		if len(line) > 0 {
			err = truncated(err)
		}
		return nil, err
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")), nil
}

func (a *answer) readHead(r *bufio.Reader) error {
	left := maxHead
	line, err := readLine(r, &left)
	if err != nil {
		return err
	}
	// HTTP/1.1 200 OK
	if len(line) < 12 || string(line[:7]) != "HTTP/1." || line[7] != '0' && line[7] != '1' || line[8] != ' ' ||
		len(line) > 12 && line[12] != ' ' {
		return notHTTP("it begins with %q, which is not HTTP/1.1", line[:min(len(line), 40)])
	}
	status, err := strconv.ParseUint(string(line[9:12]), 10, 16)
	if err != nil || status < 100 || status > 599 {
		return notHTTP("its status is %q", line[9:12])
	}
	*a = answer{status: int(status), policy: a.policy[:0], example: a.example[:0], more: a.more, length: -1, old: line[7] == '0'}
	for {
		line, err := readLine(r, &left)
		if err != nil {
			return truncated(err)
		}
		if len(line) == 0 {
			return nil
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || len(name) == 0 || bytes.ContainsAny(name, " \t") {
			return notHTTP("it has the header line %q", line[:min(len(line), 40)])
		}
		if err := a.header(name, bytes.Trim(value, " \t")); err != nil {
			return err
		}
	}
}

// header takes in the few header fields that matter here.
func (a *answer) header(name, value []byte) error {
	switch len(name) { // first, since it rules out nearly all of them
	case len("Content-Length"):
		if !bytes.EqualFold(name, []byte("Content-Length")) {
			return nil
		}
		n, err := strconv.ParseUint(string(value), 10, 62)
		if err != nil || len(value) > 20 || a.length >= 0 && a.length != int64(n) {
			return notHTTP("its Content-Length is %q", value[:min(len(value), 40)])
		}
		a.length = int64(n)
	case len("Transfer-Encoding"):
		if !bytes.EqualFold(name, []byte("Transfer-Encoding")) {
			return nil
		}
		if !bytes.EqualFold(value, []byte("chunked")) || a.old { // HTTP/1.0 has no chunks
			return notHTTP("its Transfer-Encoding is %q", value[:min(len(value), 40)])
		}
		a.chunked = true
	case len("Connection"):
		if !bytes.EqualFold(name, []byte("Connection")) {
			return nil
		}
		for word := range bytes.SplitSeq(value, []byte(",")) {
			word = bytes.TrimSpace(word)
			a.close = a.close || bytes.EqualFold(word, []byte("close"))
			a.alive = a.alive || bytes.EqualFold(word, []byte("keep-alive"))
		}
	case len("RateLimit-Policy"):
		if bytes.EqualFold(name, []byte("RateLimit-Policy")) {
			a.policy = append(a.policy[:0], value...)
		}
	}
	return nil
}

func (a *answer) readBody(r *bufio.Reader, head bool) error {
	a.keep = !a.close && (a.alive || !a.old)
	switch {
	case head || a.status == 204 || a.status == 304:
		return nil
	case a.chunked:
		if a.length >= 0 { // two lengths: the sender is confused, or smuggles
			a.keep = false
		}
		return a.readChunks(r)
	case a.length > maxBody:
		return errTooLarge
	case a.length >= 0:
		return a.discard(r, a.length)
	}
	a.keep = false // it ends with the connection
	for total := int64(0); ; {
		n, err := a.buffered(r, maxBody)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if total += n; total > maxBody {
			return errTooLarge
		}
	}
}

// discard reads past n bytes of body.
func (a *answer) discard(r *bufio.Reader, n int64) error {
	for n > 0 {
		got, err := a.buffered(r, n)
		if err != nil {
			return truncated(err)
		}
		n -= got
	}
	return nil
}

// buffered reads past what is there, at most n bytes, waiting for one.
func (a *answer) buffered(r *bufio.Reader, n int64) (int64, error) {
	if _, err := r.Peek(1); err != nil {
		return 0, err
	}
	size := int(min(n, int64(r.Buffered())))
	part, err := r.Peek(size)
	if err != nil {
		return 0, err
	}
	if room := exampleLen + a.more - len(a.example); room > 0 {
		a.example = append(a.example, part[:min(room, len(part))]...)
	}
	_, err = r.Discard(size)
	return int64(size), err
}

func (a *answer) readChunks(r *bufio.Reader) error {
	for total := int64(0); ; {
		left := 4 << 10
		line, err := readLine(r, &left)
		if err != nil {
			return truncated(err)
		}
		size, _, _ := bytes.Cut(line, []byte(";"))
		n, err := strconv.ParseUint(string(bytes.TrimRight(size, " \t")), 16, 62)
		if err != nil {
			return notHTTP("a chunk's size is %q", line[:min(len(line), 40)])
		}
		if n == 0 {
			break
		}
		if total += int64(n); total > maxBody || n > maxBody {
			return errTooLarge
		}
		if err := a.discard(r, int64(n)); err != nil {
			return err
		}
		if line, err = readLine(r, &left); err != nil {
			return truncated(err)
		}
		if len(line) > 0 {
			return notHTTP("a chunk is longer than it said")
		}
	}
	for left := maxHead; ; { // trailers
		line, err := readLine(r, &left)
		if err != nil {
			return truncated(err)
		}
		if len(line) == 0 {
			return nil
		}
	}
}

// truncated tells the end of a connection inside an answer from one before it.
func truncated(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
