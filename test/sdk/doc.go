// Package sdk holds tests alone: the vendors' own Go SDKs drive stand-in
// providers through a served gatehouse, with nothing but the base_url and
// api_key of an exchange. It is a module of its own, so that the SDKs are no
// dependencies of ours, and it imports nothing of ours. What is in an answer
// byte by byte is for the tests of internal/gateway.
package sdk
