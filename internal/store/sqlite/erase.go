package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/store/records"
)

// Export implements account.Registry.
func (s *Store) Export(ctx context.Context, id string) (d account.Data, err error) {
	err = s.query("export_customer", func() error {
		t, err := s.read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true}) // one moment
		if err != nil {
			return err
		}
		defer func() { _ = t.Rollback() }() // it only read
		d, err = records.Export(reader{ctx, s, t}, id)
		return err
	})
	return d, err
}

// Erase implements account.Registry. What SQLite overwrites as it deletes is
// the row; copies that it left behind when it moved rows between pages are
// wiped after that, and the log is emptied last.
func (s *Store) Erase(ctx context.Context, id string, at time.Time) (account.Erased, error) {
	done, err := records.Erase(ctx, runner{s}, id, at)
	if err != nil {
		return done.Erased, err
	}
	if err = s.wipe(ctx, done.Was); err == nil { // of who was erased already too: it may have ended before this
		done.Logged, err = s.emptyLog(ctx)
	}
	if err != nil {
		return done.Erased, fmt.Errorf("%s is erased, but the files may hold traces: run it again: %w", id, err)
	}
	return done.Erased, nil
}

const (
	// tellingLength is that of a text, in bytes, by which traces of a customer
	// are looked for; shorter ones are everywhere, and beside longer ones.
	tellingLength = 8
	// wipeSome is how many pages one transaction wipes: a few ms.
	wipeSome = 250
)

// wipe clears the unused space of all pages that hold a text of the customer's,
// and of those that hold events, whose texts may be any.
func (s *Store) wipe(ctx context.Context, of account.Data) error {
	var texts [][]byte
	for _, text := range []string{of.ID, of.Email, of.CanonicalEmail, of.Name, of.Company} {
		if len(text) >= tellingLength {
			texts = append(texts, []byte(text))
		}
	}
	holds := func(page []byte) bool {
		return slices.ContainsFunc(texts, func(text []byte) bool { return bytes.Contains(page, text) })
	}
	var found []int64
	var page sql.RawBytes
	err := s.each(ctx, "find_traces", "SELECT pgno, data FROM sqlite_dbpage", nil, func(scan func(...any) error) error {
		var number int64
		err := scan(&number, &page)
		if holds(page) {
			found = append(found, number)
		}
		return err
	})
	if err == nil {
		err = s.each(ctx, "find_traces", "SELECT pageno FROM dbstat WHERE name = 'stripe_events' AND pagetype <> 'overflow'", nil, func(scan func(...any) error) error {
			var number int64
			err := scan(&number)
			found = append(found, number)
			return err
		})
	}
	if err != nil {
		return err
	}
	for some := range slices.Chunk(found, wipeSome) {
		err := s.change(ctx, "wipe_traces", func(t *tx) error {
			free, err := freePages(t)
			if err != nil {
				return err
			}
			for _, number := range some {
				var page []byte
				if err := t.row("SELECT data FROM sqlite_dbpage WHERE pgno = ?", []any{number}, &page); err != nil {
					return err
				}
				before := slices.Clone(page)
				if from, ok := free[number]; ok {
					clear(page[from:])
				} else {
					clearUnused(page, number)
				}
				if bytes.Equal(page, before) {
					continue
				}
				if err := t.exec("UPDATE sqlite_dbpage SET data = ? WHERE pgno = ?", page, number); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// freePages are the pages of SQLite's list of free pages, and from which byte on
// each means nothing. See https://sqlite.org/fileformat2.html#the_freelist.
func freePages(t *tx) (map[int64]int, error) {
	free := make(map[int64]int)
	var page []byte
	read := func(number uint32) error {
		return t.row("SELECT data FROM sqlite_dbpage WHERE pgno = ?", []any{int64(number)}, &page)
	}
	if err := read(1); err != nil {
		return nil, err
	}
	for trunk := binary.BigEndian.Uint32(page[32:]); trunk != 0; trunk = binary.BigEndian.Uint32(page) {
		if err := read(trunk); err != nil {
			return nil, err
		}
		leaves := binary.BigEndian.Uint32(page[4:])
		free[int64(trunk)] = int(8 + 4*leaves)
		for i := range leaves {
			free[int64(binary.BigEndian.Uint32(page[8+4*i:]))] = 0
		}
	}
	return free, nil
}

// clearUnused zeroes what no row uses in a page of a table or an index: between
// its head and its rows, and in its free blocks; other pages stay as they are.
// See https://sqlite.org/fileformat2.html#b_tree_pages.
func clearUnused(page []byte, number int64) {
	head := page
	if number == 1 { // it begins with the file's head
		head = page[100:]
	}
	start := len(page) - len(head)
	switch head[0] {
	case 2, 5:
		start += 12
	case 10, 13:
		start += 8
	default:
		return
	}
	at := func(i int) int { return int(binary.BigEndian.Uint16(page[i:])) }
	block, rows, content := int(binary.BigEndian.Uint16(head[1:])), int(binary.BigEndian.Uint16(head[3:])), int(binary.BigEndian.Uint16(head[5:]))
	if start += 2 * rows; start > content { // 0 stands for 65536, the size of no page of ours
		return
	}
	clear(page[start:content])
	for before := 0; block > before && block+4 <= len(page); before, block = block, at(block) { // ever up, or it is broken
		clear(page[block+4 : max(block+4, min(block+at(block+2), len(page)))])
	}
}

// emptyLog moves all that is in the log to the database and leaves none of it.
// It says whether others kept it from that: a backup does, for its length. It
// waits for them in short turns, since the node's writer waits meanwhile.
func (s *Store) emptyLog(ctx context.Context) (left bool, err error) {
	db, err := openPool(s.path, 1)
	if err != nil {
		return true, err
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "PRAGMA busy_timeout = 100"); err != nil {
		return true, err
	}
	for range 10 {
		var log, moved int
		if err := db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)").Scan(&left, &log, &moved); err != nil || !left {
			return err != nil, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return true, ctx.Err()
		}
	}
	return left, nil
}
