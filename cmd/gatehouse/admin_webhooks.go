package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/internal/billing"
	"gatehouse/internal/nearest"
)

func webhooksCommand() *cobra.Command {
	return group("webhooks", "Show Stripe's events, explain what became of them, and have them applied again",
		listEvents(),
		adminCommandOn(&cobra.Command{
			Use: "show EVENT", Short: "Print an event as it came",
			Long: "Prints the bytes that Stripe sent, and nothing else; of an erased customer's events\nnothing is left.",
		}, showEvent, []string{"EVENT"}),
		adminCommandOn(&cobra.Command{
			Use: "explain EVENT", Short: "Say what became of an event, step by step",
			Long: "Says when an event came, how it was verified, what was decided and why, by which\njob, and what it waits for.",
		}, explainEvent, []string{"EVENT"}),
		replayEvents(),
	)
}

// The states as a command names them: a stored one, or that the job of a
// received one was given up.
const stateDead = "dead"

var eventStates = []string{string(billing.Received), string(billing.Done), string(billing.Ignored), string(billing.Parked), stateDead}

func eventState(e billing.StoredEvent) string {
	if e.State == billing.Received && e.Dead {
		return stateDead
	}
	return string(e.State)
}

// stateFilter reads a state as a command names it.
func stateFilter(state string) (billing.EventFilter, error) {
	switch {
	case state == stateDead:
		return billing.EventFilter{Dead: true}, nil
	case state == "" || slices.Contains(eventStates, state):
		return billing.EventFilter{State: billing.EventState(state)}, nil
	}
	return billing.EventFilter{}, usageError{fmt.Errorf("unknown state %q (there are %s)%s", state, strings.Join(eventStates, ", "), nearest.DidYouMean(state, eventStates))}
}

// eventJSON is an event as --json prints it.
type eventJSON struct {
	ID         string     `json:"id"`
	Type       string     `json:"type"`
	State      string     `json:"state"`
	Reason     *string    `json:"reason"`
	WaitsFor   *string    `json:"waits_for"`
	CustomerID *string    `json:"customer_id"`
	ReceivedAt time.Time  `json:"received_at"`
	DecidedAt  *time.Time `json:"decided_at"`
	History    []string   `json:"history"`
}

func eventOut(e billing.StoredEvent) eventJSON {
	return eventJSON{e.ID, e.Type, eventState(e), optionalText(e.Reason), optionalText(e.WaitsFor), optionalText(e.CustomerID), e.ReceivedAt, optional(e.DecidedAt), e.History}
}

func listEvents() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List events, the newest first"}
	state := c.Flags().String("state", "", "only those that are "+strings.Join(eventStates, ", "))
	kind := c.Flags().String("type", "", "only those of a type, such as invoice.paid")
	limit := c.Flags().Int("limit", 100, "at most so many, 1 to 10000")
	before := c.Flags().String("before", "", "only those older than this EVENT, for the next page")
	var f billing.EventFilter
	c.PreRunE = func(*cobra.Command, []string) (err error) {
		if *limit < 1 || *limit > 10_000 {
			return usageError{fmt.Errorf("--limit %d: want 1 to 10000", *limit)}
		}
		f, err = stateFilter(*state)
		f.Type = *kind
		return err
	}
	return adminCommandOn(c, func(ctx context.Context, c *cobra.Command, a adminCall) error {
		found, err := a.store.Events(ctx, f, *before, *limit)
		if err != nil {
			return err
		}
		all := make([]eventJSON, 0, len(found))
		t := table{header: []string{"EVENT", "TYPE", "STATE", "RECEIVED", "CUSTOMER", "REASON"}}
		for _, e := range found {
			all = append(all, eventOut(e))
			t.add(e.ID, e.Type, eventState(e), when(e.ReceivedAt), e.CustomerID, e.Reason)
		}
		t.json = all
		if len(found) == *limit {
			say(c, "there may be more: add --before %s", found[len(found)-1].ID)
		}
		return t.print(c.OutOrStdout(), a.json)
	}, nil)
}

func showEvent(ctx context.Context, c *cobra.Command, a adminCall) error {
	e, err := a.store.Event(ctx, a.args[0])
	if err != nil {
		return err
	}
	if len(e.Payload) == 0 {
		return errors.New("the event's content was erased with its customer")
	}
	_, err = c.OutOrStdout().Write(e.Payload)
	return err
}

func explainEvent(ctx context.Context, c *cobra.Command, a adminCall) error {
	e, err := a.store.Event(ctx, a.args[0])
	if err != nil {
		return err
	}
	t := table{json: eventOut(e)}
	t.add("event", e.ID)
	t.add("type", e.Type)
	t.add("state", eventState(e))
	if e.CustomerID != "" {
		t.add("customer", e.CustomerID)
	}
	if e.WaitsFor != "" {
		t.add("waits for", e.WaitsFor)
	}
	for _, line := range e.History {
		at, what, _ := strings.Cut(line, " ")
		t.add(at, what)
	}
	if e.State == billing.Received {
		what := "a job will apply it: gatehouse admin jobs list --kind stripe_event"
		switch {
		case e.Dead:
			what = fmt.Sprintf("its job was given up after %d tries: %s; mend it, then gatehouse admin webhooks replay %s", e.Tries, e.Reason, e.ID)
		case e.Tries > 0:
			what = fmt.Sprintf("its job was tried %d times and will be again: %s", e.Tries, e.Reason)
		}
		t.add("now", what)
	}
	return t.print(c.OutOrStdout(), a.json)
}

func replayEvents() *cobra.Command {
	c := &cobra.Command{
		Use: "replay (EVENT | --state STATE)", Short: "Have events applied again, such as parked or dead ones",
		Long: `Queues one event, or all of a state, to be applied again. What an event did once
it does not do again, so replaying is safe.`,
	}
	state := c.Flags().String("state", "", "all that are parked, dead, ignored or done")
	var f billing.EventFilter
	c = adminCommandOn(c, func(ctx context.Context, c *cobra.Command, a adminCall) error {
		n, err := a.store.Replay(ctx, f)
		if err == nil && n == 0 && f.ID != "" {
			err = fmt.Errorf("there is no event %s, or its content was erased with its customer", f.ID)
		}
		if err != nil {
			return err
		}
		t := table{json: map[string]int{"queued": n}}
		t.add("queued", strconv.Itoa(n))
		return t.print(c.OutOrStdout(), a.json)
	}, nil)
	c.Args = func(_ *cobra.Command, args []string) (err error) {
		if len(args) > 1 || (len(args) == 1) == (*state != "") {
			return usageError{errors.New("say which events, in one way: EVENT, or --state STATE")}
		}
		f, err = stateFilter(*state)
		if len(args) == 1 {
			f.ID = args[0]
		}
		return err
	}
	return c
}
