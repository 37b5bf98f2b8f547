package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"log"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"gatehouse/internal/store/postgres/pgtest"
)

// patience is how long a node may take to serve, or to end.
const patience = 60 * time.Second

func main() {
	log.SetFlags(0)
	log.SetPrefix("gate: ")
	var g gate
	flag.StringVar(&g.binary, "binary", "bin/gatehouse", "what the nodes run")
	flag.IntVar(&g.count, "nodes", 3, "how many nodes on PostgreSQL; 0: one on SQLite")
	flag.DurationVar(&g.kill, "kill", 0, "kill a node each so often, and the database now and then; 0: don't")
	flag.DurationVar(&g.killFor, "kill-for", time.Hour, "for how long to kill")
	flag.Parse()
	code, err := g.run(flag.Args())
	if err != nil {
		log.Print(err)
	}
	os.Exit(code)
}

// gate is nodes and what they stand on.
type gate struct {
	binary string
	count  int
	kill   time.Duration
	// killFor is for how long, so that what is judged in the end is judged in peace.
	killFor time.Duration

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

func (g *gate) run(command []string) (code int, err error) {
	if len(command) == 0 {
		return 2, errors.New("want a command: gate [flags] COMMAND ARG…")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if g.dir, err = os.MkdirTemp("", "gatehouse-gate-"); err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, g.close()) }()
	if err := g.start(ctx); err != nil {
		return 1, err
	}
	var targets []string
	for _, n := range g.nodes {
		targets = append(targets, "http://"+n.listen)
	}
	put := strings.NewReplacer("{targets}", strings.Join(targets, ","), "{admin}", "http://"+g.nodes[0].admin, "{provider}", g.provider, "{database}", g.database)
	for i := range command {
		command[i] = put.Replace(command[i])
	}
	c := exec.CommandContext(ctx, command[0], command[1:]...)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.Stdout, c.Stderr, c.Env = os.Stdout, os.Stderr, append(os.Environ(), g.env...)
	over := make(chan struct{})
	var chaos sync.WaitGroup
	if g.kill > 0 {
		chaos.Go(func() { g.chaos(ctx, over) })
	}
	err = c.Run()
	close(over)
	chaos.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

// start starts the database and all nodes, which inherit the environment.
func (g *gate) start(ctx context.Context) (err error) {
	g.provider = freeAddress()
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
		n := &node{g: g, listen: freeAddress(), admin: freeAddress()}
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

// freeAddress is one where nobody listens now.
func freeAddress() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start starts a node and waits until it serves.
func (n *node) start(ctx context.Context) error {
	n.cmd = exec.Command(n.g.binary, "serve", "--listen", n.listen, "--admin-listen", n.admin, "--drain-timeout", "4s", "--log-level", "warn")
	n.cmd.Env, n.cmd.Stderr = append(os.Environ(), n.g.env...), n.log
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
		resp, err := http.Get("http://" + n.listen + "/readyz")
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
// stops the database in the middle of it as well.
func (g *gate) chaos(ctx context.Context, over <-chan struct{}) {
	tick, calm := time.NewTicker(g.kill), time.NewTimer(g.killFor)
	defer tick.Stop()
	defer calm.Stop()
	kills, stops := 0, 0
	defer func() { log.Printf("%d nodes were killed, and the database %d times", kills, stops) }()
	for i := 1; ; i++ {
		select {
		case <-tick.C:
		case <-calm.C:
			return
		case <-over:
			return
		case <-ctx.Done():
			return
		}
		n := g.nodes[mathrand.IntN(len(g.nodes))]
		kills++
		_ = n.cmd.Process.Kill()
		<-n.exited
		if g.pg != nil && i%4 == 0 {
			stops++
			if err := errors.Join(g.pg.Kill(), g.pg.Start()); err != nil {
				log.Printf("the database: %v", err)
				return
			}
		}
		if err := n.start(ctx); err != nil {
			log.Print(err)
			return
		}
	}
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
		}
	}
	if g.pg != nil {
		err = errors.Join(err, g.pg.Close())
	}
	return errors.Join(err, os.RemoveAll(g.dir))
}
