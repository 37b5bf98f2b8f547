package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/internal/load/script"
)

func loadProviderCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "provider",
		Short: "Stand in for the provider Ollama, for load tests of targets elsewhere",
		Long: `Answers as the provider Ollama, at once, what the plans credentials and mixed ask
through a target's gateway, and nothing else, until SIGTERM or SIGINT. On this
machine load run does so by itself; where the target is elsewhere run it beside
that, with GATEHOUSE_OLLAMA_BASE_URL of the target set to it, so that load tests
cost nothing.`,
		Args: exactly(),
	}
	listen := c.Flags().String("listen", "127.0.0.1:11434", "where to listen")
	c.RunE = func(c *cobra.Command, _ []string) error {
		l, err := (&net.ListenConfig{}).Listen(c.Context(), "tcp", *listen)
		if err != nil {
			return usageError{fmt.Errorf("--listen: %w", err)}
		}
		server := script.Provider()
		stopped := make(chan struct{})
		context.AfterFunc(c.Context(), func() {
			defer close(stopped)
			soon, cancel := context.WithTimeout(context.WithoutCancel(c.Context()), time.Second)
			defer cancel()
			_ = server.Shutdown(soon)
		})
		say(c, "a stand-in for Ollama listens on http://%s", l.Addr())
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		<-stopped // answers that are under way
		return nil
	}
	return c
}
