package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gatehouse/internal/seal"
)

// masterKeys are those that are set, and after them the one beside a SQLite
// database. A file that can't be read is an error, and the others are returned
// with it.
func (c Config) masterKeys() (*seal.Ring, error) {
	if c.Database.KeyFile() == "" {
		return c.MasterKeys, nil
	}
	text, err := os.ReadFile(c.Database.KeyFile())
	if errors.Is(err, os.ErrNotExist) {
		return c.MasterKeys.With(nil), nil
	}
	var beside *seal.Ring
	if err == nil {
		beside, err = seal.Parse(strings.TrimSpace(string(text)))
	}
	if err == nil && !beside.Ready() {
		err = errors.New("it is empty")
	}
	if err != nil {
		err = fmt.Errorf("master key in %s: %w", c.Database.KeyFile(), err)
	}
	return c.MasterKeys.With(beside), err
}

// MissingKeys names the master keys that kept answers are sealed with and that
// are not here.
func MissingKeys(ctx context.Context, c Config, store Store) ([]string, error) {
	ring, err := c.masterKeys()
	if err != nil {
		return nil, err
	}
	sealedWith, err := store.SealedWith(ctx)
	return slices.DeleteFunc(sealedWith, ring.Holds), err
}

// openRing returns the master keys. Where there is none it makes one beside the
// database, unless something is sealed already: then the key that sealed it is
// missing, and a new one would hide that. A node starts without: only what
// needs a key is refused.
func openRing(ctx context.Context, c Config, store Store, log *slog.Logger) (*seal.Ring, error) {
	ring, damaged := c.masterKeys()
	sealedWith, err := store.SealedWith(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for what is sealed: %w", err)
	}
	if damaged != nil {
		log.ErrorContext(ctx, "a master key can't be used", "err", damaged)
	} else if !ring.Ready() && len(sealedWith) == 0 && c.Database.KeyFile() != "" {
		text := seal.NewKey()
		if err := writeKey(c.Database.KeyFile(), text); err != nil {
			return nil, fmt.Errorf("master key: %w (or set GATEHOUSE_MASTER_KEY)", err)
		}
		log.InfoContext(ctx, "made a master key: keep a copy of it apart from the database's", "file", c.Database.KeyFile())
		if ring, err = seal.Parse(text); err != nil {
			return nil, err
		}
	}
	if !ring.Ready() {
		log.ErrorContext(ctx, "there is no master key: requests with an Idempotency-Key are refused", "file", c.Database.KeyFile())
	}
	for _, id := range sealedWith {
		if !ring.Holds(id) {
			log.ErrorContext(ctx, "answers kept under Idempotency-Keys can't be repeated: the master key they are sealed with is not here; add it to GATEHOUSE_MASTER_KEY, or put its file back", "key_id", id, "file", c.Database.KeyFile())
		}
	}
	return ring, nil
}

// writeKey makes a file that only its owner reads, whole or not at all; it is
// on the disk before anything is sealed with it.
func writeKey(path, text string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.WriteString(text + "\n")
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
