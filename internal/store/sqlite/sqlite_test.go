package sqlite_test

import (
	"path/filepath"
	"testing"

	"gatehouse/internal/store"
	"gatehouse/internal/store/sqlite"
	"gatehouse/internal/store/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(tb testing.TB) storetest.Backend {
		clock := storetest.NewClock()
		path := filepath.Join(tb.TempDir(), "test.db")
		var open *sqlite.Store
		reopen := func(tb testing.TB) store.Store {
			tb.Helper()
			if open != nil {
				if err := open.Close(); err != nil {
					tb.Fatal(err)
				}
			}
			s, err := sqlite.Open(tb.Context(), sqlite.Options{Path: path, Serve: true, Migrate: true, Clock: clock.Now})
			if err != nil {
				tb.Fatal(err)
			}
			open = s
			return s
		}
		tb.Cleanup(func() {
			if err := open.Close(); err != nil {
				tb.Error(err)
			}
		})
		return storetest.Backend{Store: reopen(tb), Clock: clock, Reopen: reopen}
	})
}
