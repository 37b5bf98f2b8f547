// Package plans holds the load plans that come with Gatehouse, inside the
// binary, so that `gatehouse load run onboarding` needs no file beside it.
//
// It exists because go:embed reads no folder above a package's own. It only
// hands the files out: what is in them is for internal/load/plan to read.
package plans
