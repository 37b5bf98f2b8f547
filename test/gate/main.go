package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"gatehouse/internal/store/postgres/pgtest"
)

const (
	// patience is how long a node may take to serve, or to end.
	patience = 60 * time.Second
	// Nodes listen on ports below those that systems give to outgoing connections:
	// one of these could take a node's while it is dead.
	firstPort, ports = 20_000, 10_000
)

func main() {
	g := gate{out: os.Stdout, errOut: os.Stderr}
	flag.StringVar(&g.binary, "binary", "bin/gatehouse", "what the nodes run")
	flag.IntVar(&g.count, "nodes", 3, "how many nodes on PostgreSQL; 0: one on SQLite")
	flag.DurationVar(&g.kill, "kill", 0, "kill a node each so often, and the database now and then; 0: don't")
	flag.DurationVar(&g.killFor, "kill-for", time.Hour, "for how long to kill")
	of := flag.String("proved", "", "only see that this folder of load verify shows the limits of the policies that the argument names")
	flag.Parse()
	if *of != "" {
		if err := proved(*of, flag.Arg(0)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := g.run(ctx, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "gate:", err)
	}
	os.Exit(code)
}

// gate is nodes and what they stand on.
type gate struct {
	binary string
	count  int
	kill   time.Duration
	// killFor is for how long, so that what is judged in the end is judged in peace.
	killFor     time.Duration
	out, errOut io.Writer // the command's

	dir      string
	database string // URL, or sqlite:FILE
	provider string // address
	env      []string
	pg       *pgtest.Server
	nodes    []*node
}

// node is one that is started again on the same ports.
type node struct {
	g             *gate
	listen, admin string
	log           *os.File

	cmd    *exec.Cmd
	exited chan struct{}
	err    error // once it exited
}

// run gives the command's exit code, or 1 where all around it went wrong.
func (g *gate) run(ctx context.Context, command []string) (code int, err error) {
	if len(command) == 0 {
		return 2, errors.New("want a command: gate [flags] COMMAND ARG…")
	}
	defer func() {
		if err != nil && code == 0 {
			code = 1
		}
	}()
	if g.dir, err = os.MkdirTemp("", "gatehouse-gate-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := g.start(ctx); err != nil {
		return 1, err
	}
	var targets, admins []string
	for _, n := range g.nodes {
		targets, admins = append(targets, "http://"+n.listen), append(admins, "http://"+n.admin)
	}
	put := strings.NewReplacer("{targets}", strings.Join(targets, ","), "{admin}", strings.Join(admins, ","), "{provider}", g.provider, "{database}", g.database)
	args := make([]string, len(command))
	for i, arg := range command {
		args[i] = put.Replace(arg)
	}

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	over, broken := make(chan struct{}), error(nil)
	var chaos sync.WaitGroup
	if g.kill > 0 {
		chaos.Go(func() {
			if broken = g.chaos(ctx, over); broken != nil {
				cancel() // what is measured now is worth nothing
			}
		})
	}
	code, err = g.command(ctx, args)
	close(over)
	chaos.Wait()
	return code, errors.Join(err, broken)
}

// command runs a command and all that it starts, in a group of their own: a
// terminal's Ctrl-C is for us, and we tell the whole group, once.
func (g *gate) command(ctx context.Context, args []string) (code int, err error) {
	c := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // what it is for
	c.Stdout, c.Stderr, c.Env = g.out, g.errOut, append(os.Environ(), g.env...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGTERM) }
	c.WaitDelay = patience
	err = c.Run()
	if c.Process != nil {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // what it left behind, mostly nothing
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, fmt.Errorf("%s: %w", args[0], err)
	}
	return 0, nil
}

// start starts the database and all nodes, which inherit the environment.
func (g *gate) start(ctx context.Context) (err error) {
	free, err := freeAddresses(ctx, 1+2*max(g.count, 1))
	if err != nil {
		return err
	}
	g.provider = free[0]
	var key [32]byte
	_, _ = rand.Read(key[:])
	g.env = []string{"GATEHOUSE_OLLAMA_BASE_URL=http://" + g.provider, "GATEHOUSE_MASTER_KEY=" + base64.StdEncoding.EncodeToString(key[:])}
	g.database = "sqlite:" + filepath.Join(g.dir, "gatehouse.db")
	if g.count > 0 {
		if g.pg, err = pgtest.New(pgtest.Options{}); err != nil {
			return err
		}
		if g.database, err = g.pg.CreateDatabase(ctx); err != nil {
			return err
		}
	}
	g.env = append(g.env, "GATEHOUSE_DATABASE="+g.database)
	for i := range max(g.count, 1) {
		n := &node{g: g, listen: free[1+2*i], admin: free[2+2*i]}
		if n.log, err = os.Create(filepath.Join(g.dir, fmt.Sprintf("node%d.log", i))); err != nil {
			return err
		}
		g.nodes = append(g.nodes, n)
		if err := n.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// freeAddresses are so many on loopback where nobody listens now.
func freeAddresses(ctx context.Context, n int) (free []string, err error) {
	for range ports {
		port, err := rand.Int(rand.Reader, big.NewInt(ports))
		if err != nil {
			return nil, err
		}
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.FormatInt(firstPort+port.Int64(), 10)))
		if err != nil {
			continue
		}
		defer l.Close() //nolint:gocritic // held until there are all, so that none is given twice
		if free = append(free, l.Addr().String()); len(free) == n {
			return free, nil
		}
	}
	return nil, fmt.Errorf("of the ports %d to %d too few are free", firstPort, firstPort+ports-1)
}

// start starts a node and waits until it serves.
func (n *node) start(ctx context.Context) error {
	n.cmd = exec.CommandContext(context.WithoutCancel(ctx), //nolint:gosec // what it is for
		n.g.binary, "serve", "--listen", n.listen, "--admin-listen", n.admin, "--drain-timeout", "4s", "--log-level", "warn")
	n.cmd.Env, n.cmd.Stderr = append(os.Environ(), n.g.env...), n.log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is not for it
	if err := n.cmd.Start(); err != nil {
		return err
	}
	n.exited = make(chan struct{})
	go func() {
		n.err = n.cmd.Wait()
		close(n.exited)
	}()
	tired := time.NewTimer(patience)
	defer tired.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		select {
		case <-again.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-n.exited:
			return fmt.Errorf("a node ended at once: %w\n%s", n.err, n.said())
		case <-tired.C:
			return fmt.Errorf("a node does not serve:\n%s", n.said())
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.listen+"/readyz", http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			continue
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return nil
		}
	}
}

func (n *node) said() string {
	text, err := os.ReadFile(n.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-4000):])
}

// chaos kills a node each so often and starts it again, and every fourth time
// stops the database in the middle of it as well. One that does not come back is
// an error, and so is a command that ended before anything was killed: it has
// shown nothing.
func (g *gate) chaos(ctx context.Context, over <-chan struct{}) error {
	tick, calm := time.NewTicker(g.kill), time.NewTimer(g.killFor)
	defer tick.Stop()
	defer calm.Stop()
	kills, stops := 0, 0
	for going := true; going; {
		select {
		case <-tick.C:
		case <-over:
			going = false
			continue
		case <-calm.C:
			tick.Stop()
			continue
		case <-ctx.Done():
			return nil
		}
		at, err := rand.Int(rand.Reader, big.NewInt(int64(len(g.nodes))))
		if err != nil {
			return err
		}
		n := g.nodes[at.Int64()]
		if err := n.cmd.Process.Kill(); err != nil {
			return fmt.Errorf("a node had ended by itself: %w\n%s", err, n.said())
		}
		<-n.exited
		kills++
		if g.pg != nil && kills%4 == 0 {
			if err := errors.Join(g.pg.Kill(), g.pg.Start()); err != nil {
				return fmt.Errorf("the database, once killed: %w", err)
			}
			stops++
		}
		if err := n.start(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("once killed: %w", err)
		}
	}
	fmt.Fprintf(g.errOut, "gate: %d nodes were killed, and the database %d times\n", kills, stops)
	if kills == 0 || g.pg != nil && stops == 0 {
		return errors.New("too little was killed to prove anything: the command was over too soon, or -kill is too long")
	}
	return nil
}

// close ends what start started: nodes as an operator would.
func (g *gate) close() (err error) {
	for _, n := range g.nodes {
		if n.cmd == nil || n.cmd.Process == nil {
			continue
		}
		_ = n.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-n.exited:
			if n.err != nil {
				err = errors.Join(err, fmt.Errorf("a node ended with %w:\n%s", n.err, n.said()))
			}
		case <-time.After(patience):
			err = errors.Join(err, errors.New("a node does not end"), n.cmd.Process.Kill())
			<-n.exited
		}
	}
	if g.pg != nil {
		err = errors.Join(err, g.pg.Close())
	}
	return errors.Join(err, os.RemoveAll(g.dir))
}
