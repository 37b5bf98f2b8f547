package cluster

import (
	"context"
	"time"
)

const (
	// Beat is how often a node says that it lives.
	Beat = 2 * time.Second
	// Gone is for how long a node that is not there any more counts as there:
	// three beats. With one beat to notice, its end is seen within 8 s.
	Gone = 3 * Beat
)

// Node is what a node tells of itself.
type Node struct {
	ID      string // of the process: a restarted node is another one
	Name    string // for people
	Version string
	Limits  map[string]string // policy to "10/60s" or "off"
}

// View is what a beat brings back.
type View struct {
	Now   time.Time // the database's clock
	Nodes []Node    // those alive, with the one that asked, by name and then id
}

// Store keeps the nodes' rows. Times are the database's.
type Store interface {
	// Beat notes that the node lives, and returns all that were heard of within Gone.
	Beat(ctx context.Context, n Node) (View, error)
	// Leave removes the node's row: it is gone at once.
	Leave(ctx context.Context, id string) error
}
