// Package seal keeps secrets unreadable where they are stored.
//
// Some answers hold a secret and must be given again, so they are kept, and
// whoever copies the database must not be able to read them. They are sealed
// with a master key that lies elsewhere, by XChaCha20-Poly1305 from
// golang.org/x/crypto, under a name of that key, so that several can be held
// while one is rolled. What a box is about is bound to it: a box that was moved
// or changed does not open.
//
// The package knows nothing of what is sealed, nor where it is kept.
package seal
