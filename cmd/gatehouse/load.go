package main

import (
	"github.com/spf13/cobra"
)

func loadCommand() *cobra.Command {
	c := group("load", "Drive an API at a planned rate, and say what it is worth", loadRunCommand(), loadVerifyCommand(), loadCompareCommand(), loadReconcileCommand(), loadSuiteCommand(), loadReportCommand(), loadCapacityCommand(), loadProviderCommand())
	c.Long = `Drives an HTTP API at a planned rate, whether or not it keeps up, and returns a
verdict that has three values: pass, fail, and inconclusive where the run did
not measure what it set out to.`
	return c
}
