// Package cluster knows which nodes of a cluster are alive.
//
// A node is a row with a heartbeat, stamped by the database's clock; one that
// has been silent for three beats is gone. There is no leader, no gossip and no
// other channel: who can't reach the database serves nothing anyway. Each beat
// also brings the database's time, so that a node whose own clock is wrong
// still tells the right one, and the others' settings, so that a difference in
// limits is seen.
//
// Nothing is decided by who is alive: limits, keys and jobs are exact whatever
// this package believes.
package cluster
