package mailtest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	netmail "net/mail"
	"net/textproto"
	"slices"
	"strings"
	"sync"
)

// Fault is a way to fail. It holds for connections and commands from then on.
type Fault int

// The faults.
const (
	None    Fault = iota
	Refuse        // recipients: 550, with the address in the text
	Busy          // senders: 451
	Hang          // takes connections and says nothing
	Garbage       // greets with what is no SMTP
	Flood         // greets with a line that never ends
	Drop          // stores a message, and hangs up without an answer
)

// Message is a mail that was taken.
type Message struct {
	Helo   string   // what the client called itself
	From   string   // what followed MAIL FROM:
	To     []string // what followed each RCPT TO:
	Header netmail.Header
	Raw    []byte // header and body, lines ending in \n
}

// MessageID is the header of that name.
func (m Message) MessageID() string { return m.Header.Get("Message-ID") }

// Server is a running stand-in.
type Server struct {
	ln      net.Listener
	running sync.WaitGroup

	mu       sync.Mutex
	conns    map[net.Conn]bool // nil: closed
	fault    Fault
	answers  map[string]string
	messages []Message
	arrived  chan struct{} // closed by the next message
}

// Start starts a server on a free port of loopback, and panics if there is none.
func Start() *Server {
	s, err := Listen("127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	return s
}

// Listen starts a server on an address, such as that of one that was closed.
func Listen(addr string) (*Server, error) {
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for mail: %w", err)
	}
	s := &Server{ln: ln, conns: map[net.Conn]bool{}, answers: map[string]string{}, arrived: make(chan struct{})}
	s.running.Go(s.accept)
	return s, nil
}

// Addr is host:port, for Listen.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// URL is what mail.ParseServer wants.
func (s *Server) URL() string { return "smtp://" + s.Addr() }

// Close hangs up on everybody and returns when nothing runs any more.
func (s *Server) Close() {
	_ = s.ln.Close()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.running.Wait()
}

// Fault makes the server fail so, and in no other way.
func (s *Server) Fault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Answer sets the answer to a command, such as "AUTH", or "." for the end of a
// message, which is kept only with a 250. An empty one: none, ever.
func (s *Server) Answer(verb, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[verb] = line
}

// Messages are those taken so far, oldest first.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// Wait returns the messages as soon as there are n.
func (s *Server) Wait(ctx context.Context, n int) ([]Message, error) {
	for {
		s.mu.Lock()
		messages, arrived := slices.Clone(s.messages), s.arrived
		s.mu.Unlock()
		if len(messages) >= n {
			return messages, nil
		}
		select {
		case <-arrived:
		case <-ctx.Done():
			return messages, fmt.Errorf("wait for %d mails, %d came: %w", n, len(messages), ctx.Err())
		}
	}
}

func (s *Server) accept() {
	for {
		c, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.conns == nil {
			_ = c.Close()
		} else {
			s.conns[c] = true
			s.running.Go(func() { s.serve(c) })
		}
		s.mu.Unlock()
	}
}

// usual are the answers when all is well; to any other command it is 250.
var usual = map[string]string{
	"EHLO": "250-mailtest\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 AUTH PLAIN",
	"AUTH": "235 welcome", "DATA": "354 go on", "QUIT": "221 bye",
}

// answer returns the fault in force, and what to say to a command.
func (s *Server) answer(verb, to string) (Fault, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer, set := s.answers[verb]
	switch {
	case s.fault == Hang:
		return Hang, ""
	case set:
		return s.fault, answer
	case s.fault == Busy && verb == "MAIL":
		return s.fault, "451 too many of you"
	case s.fault == Refuse && verb == "RCPT":
		return s.fault, "550 5.1.1 " + to + ": nobody here"
	}
	return s.fault, cmp.Or(usual[verb], "250 ok")
}

func (s *Server) serve(c net.Conn) {
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		_ = c.Close()
	}()
	t := textproto.NewConn(c)
	say := func(line string) {
		if line != "" {
			_ = t.PrintfLine("%s", line)
		}
	}
	switch fault, _ := s.answer("", ""); fault {
	case Hang:
	case Garbage:
		say("\x00\x1b[2J\xff jane@acme.com \u202e")
	case Flood:
		for err := error(nil); err == nil; {
			_, err = c.Write(bytes.Repeat([]byte("220-"), 1<<14))
		}
	default:
		say("220 mailtest")
	}
	var m Message
	for {
		line, err := t.ReadLine()
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(line, " ")
		to := strings.TrimPrefix(rest, "TO:")
		_, answer := s.answer(verb, to)
		switch {
		case verb == "EHLO":
			m.Helo = rest
		case verb == "MAIL":
			m.From, m.To = strings.TrimPrefix(rest, "FROM:"), nil
		case verb == "RCPT" && strings.HasPrefix(answer, "250"):
			m.To = append(m.To, to)
		case verb == "DATA" && strings.HasPrefix(answer, "354"):
			say(answer)
			if m.Raw, err = t.ReadDotBytes(); err != nil {
				return
			}
			var fault Fault
			if fault, answer = s.answer(".", ""); strings.HasPrefix(answer, "250") {
				s.keep(m)
			}
			if fault == Drop {
				return
			}
		}
		say(answer)
	}
}

func (s *Server) keep(m Message) {
	if parsed, err := netmail.ReadMessage(bytes.NewReader(m.Raw)); err == nil {
		m.Header = parsed.Header
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = append(s.messages, m)
	close(s.arrived)
	s.arrived = make(chan struct{})
}
