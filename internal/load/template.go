package load

import (
	"math/rand/v2"
	"strconv"
	"time"
)

// Template is text with places that are filled anew for each arrival. The zero
// value is empty text.
type Template []Part

// Part is text, or a place.
type Part struct {
	Place Place
	Text  string   // of Literal
	Picks []string // of Pick
	Given int      // number of a Given one
}

// Place is what fills a part.
type Place int

// The places that a template can have.
const (
	Literal Place = iota
	Seq           // the arrival's number, from 1
	UUID          // a random one, new in every run whatever the seed
	Pick          // one of Picks, by the seed
	Now           // when it is sent, RFC 3339 in UTC
	Given         // what the job's script gives for its number
)

// Literally is a template without places.
func Literally(text string) Template { return Template{{Text: text}} }

// filler is what templates are filled from. One goroutine uses it.
type filler struct {
	seq    uint64
	picks  *rand.Rand // by the seed
	unique *rand.ChaCha8
	now    time.Time
	body   []byte // room for a body
	given  []string
	id     []byte // the last UUID
}

func (t Template) fill(dst []byte, f *filler) []byte {
	for i := range t {
		switch p := &t[i]; p.Place {
		case Literal:
			dst = append(dst, p.Text...)
		case Seq:
			dst = strconv.AppendUint(dst, f.seq, 10)
		case UUID:
			dst = appendUUID(dst, f.unique.Uint64(), f.unique.Uint64())
			f.id = append(f.id[:0], dst[len(dst)-36:]...)
		case Pick:
			dst = append(dst, p.Picks[f.picks.IntN(len(p.Picks))]...)
		case Now:
			dst = f.now.UTC().AppendFormat(dst, time.RFC3339Nano)
		case Given:
			dst = append(dst, f.given[p.Given]...)
		}
	}
	return dst
}

// appendUUID writes a version 4 UUID of 122 of the bits given.
func appendUUID(dst []byte, a, b uint64) []byte {
	const hex = "0123456789abcdef"
	a = a&^0xf000 | 0x4000
	b = b&^(3<<62) | 1<<63
	for i := range 32 {
		switch i {
		case 8, 12, 16, 20:
			dst = append(dst, '-')
		}
		word := a
		if i >= 16 {
			word = b
		}
		dst = append(dst, hex[word>>(60-4*(i%16))&15])
	}
	return dst
}
