package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// Options of a server. The zero value works.
type Options struct {
	// Settings are lines of postgresql.conf, and win over those of settings.
	Settings map[string]string
	// Env is added to the environment of the server: NAME=value.
	Env []string
}

// settings are what a server for tests has if its Options don't say otherwise.
func settings() map[string]string {
	return map[string]string{
		"listen_addresses":        loopback,
		"unix_socket_directories": "",
		"max_connections":         "200", // several nodes, each with a pool
		"shared_buffers":          "64MB",
		"min_wal_size":            "32MB",
		"max_wal_size":            "256MB",
		// In its folder, which Close removes, also after a kill; /dev/shm may be
		// tiny in a container, and keeps what a killed server had.
		"dynamic_shared_memory_type": "mmap",
	}
}

// role is the superuser of a server; it has no password.
const role = "gatehouse"

// Server is a PostgreSQL server. It is for one goroutine at a time, but for URL,
// Addr, CreateDatabase and CreateFrom.
type Server struct {
	options Options
	bin     string // where PostgreSQL's programs are
	owner   *owner
	dir     string // ours, with the data in it
	port    string
	process *process // nil: not running
}

// New makes a server with empty data and starts it.
func New(o Options) (*Server, error) {
	s, err := prepare(o)
	if err != nil {
		return nil, err
	}
	if err := s.create(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepare makes a server that has a folder and a port, and nothing in them.
func prepare(o Options) (*Server, error) {
	s := &Server{options: o}
	var err error
	if s.bin, err = Find(); err != nil {
		return nil, err
	}
	if s.owner, err = findOwner(); err != nil {
		return nil, err
	}
	if s.port, err = freePort(context.Background()); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "pgtest-"); err != nil {
		return nil, fmt.Errorf("make a folder for PostgreSQL: %w", err)
	}
	if err := s.owner.own(s.dir); err != nil {
		return nil, errors.Join(fmt.Errorf("give PostgreSQL its folder: %w", err), s.Close())
	}
	return s, nil
}

func (s *Server) create() error {
	// What is made here needs to survive no power cut.
	err := s.run(context.Background(), "initdb", "-D", s.data(), "-U", role, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	if err != nil {
		return err
	}
	all := settings()
	maps.Copy(all, s.options.Settings)
	if err := s.configure(all); err != nil {
		return err
	}
	return s.Start()
}

// configure adds to the server's file of settings, where later lines win. They
// are not arguments, since those would win over ALTER SYSTEM too.
func (s *Server) configure(settings map[string]string) error {
	var lines strings.Builder
	for name, value := range settings {
		fmt.Fprintf(&lines, "%s = '%s'\n", name, strings.ReplaceAll(value, "'", "''"))
	}
	f, err := os.OpenFile(filepath.Join(s.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("configure PostgreSQL: %w", err)
	}
	_, err = f.WriteString(lines.String())
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("configure PostgreSQL: %w", err)
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// command prepares one of PostgreSQL's programs.
func (s *Server) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, filepath.Join(s.bin, program), args...) //nolint:gosec // its own programs
	c.Dir = s.dir                                                         // ours may be closed to its user
	s.owner.run(c)
	return c
}

// run runs one of PostgreSQL's programs that ends by itself.
func (s *Server) run(ctx context.Context, program string, args ...string) error {
	if said, err := s.command(ctx, program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w; it said:\n%s", program, err, said)
	}
	return nil
}

// Start starts a server that was stopped or killed, on the address that it had,
// and returns when it answers.
func (s *Server) Start() error {
	if s.process != nil {
		return errors.New("start PostgreSQL: it runs")
	}
	// The port is no setting, since a standby copies those.
	c := s.command(context.Background(), "postgres", "-D", s.data(), "-p", s.port)
	c.Env = append(os.Environ(), s.options.Env...)
	p, err := start(c)
	if err != nil {
		return err
	}
	s.process = p
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = p.until(ctx, func(ctx context.Context) error { return s.holds(ctx, "SELECT true") })
	if err != nil {
		return errors.Join(fmt.Errorf("start PostgreSQL: %w", err), s.Kill())
	}
	return nil
}

// Stop ends the server in one of PostgreSQL's modes: "fast" hangs up and leaves
// nothing to recover, "immediate" is a crash in good order.
func (s *Server) Stop(mode string) error {
	signal, ok := map[string]os.Signal{"fast": syscall.SIGINT, "immediate": syscall.SIGQUIT}[mode]
	if !ok {
		return fmt.Errorf("stop PostgreSQL: mode %q is not fast or immediate", mode)
	}
	return s.end(signal)
}

// Kill ends the server without a chance to say or save anything.
func (s *Server) Kill() error { return s.end(os.Kill) }

func (s *Server) end(signal os.Signal) error {
	if s.process == nil {
		return nil
	}
	if err := s.process.end(signal); err != nil {
		return err
	}
	s.process = nil
	return nil
}

// Close ends the server and removes its data.
func (s *Server) Close() error {
	return errors.Join(s.end(syscall.SIGQUIT), os.RemoveAll(s.dir))
}

// Addr is the server's address, host:port. It stays the same over restarts.
func (s *Server) Addr() string { return net.JoinHostPort(loopback, s.port) }

// URL is where a client finds a database of the server, as its superuser.
func (s *Server) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Host: s.Addr(), Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// CreateDatabase makes an empty database and returns its URL.
func (s *Server) CreateDatabase(ctx context.Context) (string, error) {
	return s.CreateFrom(ctx, s.URL("template0"))
}

// CreateFrom makes a copy of a database of this server and returns its URL.
// The template is one's URL, and nobody may be connected to it.
func (s *Server) CreateFrom(ctx context.Context, template string) (string, error) {
	from, err := pgx.ParseConfig(template)
	if err != nil {
		return "", fmt.Errorf("create a database: its template is no URL: %w", err)
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return "", fmt.Errorf("create a database: %w", err)
	}
	name := "test_" + strings.ToLower(rand.Text())
	_, err = conn.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE "+pgx.Identifier{from.Database}.Sanitize())
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return "", fmt.Errorf("create a database: %w", err)
	}
	return s.URL(name), nil
}

// Standby makes a standby of this server and returns when it streams. It calls
// itself "standby", for synchronous_standby_names, and has the Options of this
// server, but waits for no standby of its own.
func (s *Server) Standby(ctx context.Context) (*Server, error) {
	standby, err := prepare(s.options)
	if err != nil {
		return nil, err
	}
	if err := standby.follow(ctx, s); err != nil {
		return nil, errors.Join(fmt.Errorf("make a standby: %w", err), standby.Close())
	}
	return standby, nil
}

func (s *Server) follow(ctx context.Context, primary *Server) error {
	slot := "standby_" + s.port // so that the primary keeps what the standby has yet to get
	err := s.run(ctx, "pg_basebackup", "-D", s.data(), "-R", "-C", "-S", slot, "-c", "fast", "--no-sync",
		"-d", primary.URL("")+"&application_name=standby")
	if err != nil {
		return err
	}
	// Promoted, it would wait for itself.
	if err := s.configure(map[string]string{"synchronous_standby_names": ""}); err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	return s.process.until(ctx, func(ctx context.Context) error {
		return primary.holds(ctx, `SELECT EXISTS (SELECT FROM pg_stat_replication JOIN pg_replication_slots ON pid = active_pid
			WHERE slot_name = $1 AND state = 'streaming')`, slot)
	})
}

// Promote makes a standby a primary, and returns when it takes writes.
func (s *Server) Promote() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.holds(ctx, "SELECT pg_promote()"); err != nil {
		return fmt.Errorf("promote a standby: %w", err)
	}
	return nil
}

// holds asks the server a yes-or-no question, and fails on a no.
func (s *Server) holds(ctx context.Context, question string, args ...any) error {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	var yes bool
	err = conn.QueryRow(ctx, question, args...).Scan(&yes)
	if err == nil && !yes {
		err = fmt.Errorf("no: %s", question)
	}
	return errors.Join(err, conn.Close(ctx))
}

// connect connects as the superuser, and not to wait for a standby at a commit,
// since it may be missing. One that is there gets what was written here before
// anything that a test waits for.
func (s *Server) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(s.URL("postgres"))
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["synchronous_commit"] = "local"
	return pgx.ConnectConfig(ctx, config)
}
