// Package email decides which e-mail addresses may open an account, and which
// two spellings are one mailbox.
//
// It exists because an address is an account's identity: a spelling that slips
// through twice is a second trial, and two mailboxes taken for one lock a
// person out. So everything that is decided about an address is decided here:
// its form (Parse), its one spelling (Address.Canonical), the providers that
// are refused (Rules) and whether its domain takes mail at all (MX).
//
// It does not send mail, prove that a mailbox exists or belongs to anyone,
// correct typing errors, or look at how letters look: domains that differ by a
// Cyrillic letter are different domains. Parse and Rules do no I/O; MX asks
// the resolver it is given. Nothing here writes an address to a log, and no
// error of Parse, Rules.Check or MX quotes one.
//
// Sources: RFC 5321 and 5322 (addresses), RFC 5890 to 5893 (IDNA2008) over
// UTS 46 (mapping), RFC 7505 (null MX). The disposable domains are those of
// the npm package disposable-email-domains-js 1.26.0 (CC0-1.0, 8,883 domains),
// vendored in disposable.txt by `go generate`; to update, see gen.
package email

//go:generate go run ./gen
