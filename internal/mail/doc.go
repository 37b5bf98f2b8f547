// Package mail writes the mail that Gatehouse sends and hands it to an SMTP
// server.
//
// There is one message, the welcome after a sign-up. It goes out as a job: a
// try is one SMTP session, and what it fails with says whether another try can
// mend it. A message keeps its Message-ID over all tries, so that a mailbox can
// tell the second copy from a second message when a server took one and the
// answer was lost.
//
// Everybody can sign up with anybody's address, so next to nothing of what a
// customer wrote gets into a mail; see greeting. And what a server says ends
// up in the database and the log, so errors hold no address and no password.
//
// The package queues nothing and tries nothing twice (that is jobs'), finds no
// mail server by MX, and signs nothing: the server does that.
package mail
