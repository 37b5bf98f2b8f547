package app

import (
	"cmp"
	"errors"
	"net/url"
	"strings"
)

// Database is where everything is kept.
type Database struct {
	File string // the path of a SQLite database
	URL  string // of a PostgreSQL one; "": it is SQLite
}

// Driver is what kind of database it is, as /health has it.
func (d Database) Driver() string {
	if d.URL != "" {
		return "postgres"
	}
	return "sqlite"
}

// String names the database without a password: as --database takes it, where
// there is none.
func (d Database) String() string {
	if d.URL == "" {
		return "sqlite:" + d.File
	}
	u, err := url.Parse(d.URL)
	if err != nil {
		return "postgres://…"
	}
	// All of a query but the hosts may hold secrets.
	q := url.Values{}
	for _, name := range []string{"host", "port"} {
		if v := u.Query().Get(name); v != "" {
			q.Set(name, v)
		}
	}
	u.RawQuery = q.Encode()
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	return u.String()
}

// Name is the database in a sentence.
func (d Database) Name() string { return cmp.Or(d.File, d.String()) }

// KeyFile is where the master key lies that a node makes for itself, beside a
// SQLite database; "" where it makes none.
func (d Database) KeyFile() string {
	if d.File == "" {
		return ""
	}
	return d.File + ".key"
}

// ParseDatabase reads what names a database.
func ParseDatabase(s string) (Database, error) {
	const want = "want sqlite:FILE, such as sqlite:gatehouse.db, or postgres://USER@HOST/NAME"
	scheme, rest, ok := strings.Cut(s, ":")
	switch {
	case ok && scheme == "sqlite" && rest != "" && !strings.HasPrefix(rest, "//") && !strings.ContainsAny(rest, "?#"):
		return Database{File: rest}, nil
	case ok && (scheme == "postgres" || scheme == "postgresql") && strings.HasPrefix(rest, "//"):
		if _, err := url.Parse(s); err != nil {
			return Database{}, errors.New("the URL can't be read: " + want) // the error holds the URL, and that a password
		}
		return Database{URL: s}, nil
	}
	return Database{}, errors.New(want)
}
