// Command gatehouse is the front door of a company that sells an AI agent:
// sign-up, API keys, credits and exact rate limits, in one binary.
//
// This package holds flags, signals and exit codes, one file a command, and
// nothing else: what the commands do is in internal/app and below.
package main
