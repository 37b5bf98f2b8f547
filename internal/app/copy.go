package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"gatehouse/internal/store"
	"gatehouse/internal/store/postgres"
	"gatehouse/internal/store/sqlite"
)

// Copied is what a copy brought over, and what it did not.
type Copied struct {
	To     string // without user and password
	Tables []store.Copied
	// KeyFile is the file of a master key beside the source; "": there is none.
	KeyFile string
	// MissingKeys are those that kept answers are sealed with and that are not
	// set: a node on PostgreSQL reads none from a file.
	MissingKeys []string
}

// CopyToPostgres moves all that is in c's database, a file that no node serves,
// to the empty PostgreSQL database at url. No node serves the file after that.
func CopyToPostgres(ctx context.Context, c Config, url string, progress func(table string, done, all int64)) (did Copied, err error) {
	if did.To, err = postgres.Name(url); err != nil {
		return did, err
	}
	if did.MissingKeys, err = unsetKeys(ctx, c); err != nil {
		return did, err
	}
	if _, err := os.Stat(c.Database.KeyFile()); err == nil {
		did.KeyFile = c.Database.KeyFile()
	} else if !errors.Is(err, os.ErrNotExist) {
		return did, err
	}
	if err := postgres.Up(ctx, url); err != nil {
		return did, err
	}
	err = sqlite.Move(ctx, c.Database.File, did.To, func(from store.Source) (err error) {
		did.Tables, err = postgres.Fill(ctx, url, from, progress)
		return err
	})
	if err != nil {
		return did, fmt.Errorf("copy to %s: %w", did.To, err)
	}
	return did, nil
}

func unsetKeys(ctx context.Context, c Config) (ids []string, err error) {
	s, err := OpenStore(ctx, c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	ids, err = s.SealedWith(ctx)
	return slices.DeleteFunc(ids, c.MasterKeys.Holds), err
}
