package pgtest

import (
	"fmt"
	"os"
	"sync"
	"testing" //nolint:depguard // for tests of several packages, so not in a _test.go
)

// shared is the server of a test binary.
var shared struct {
	mu     sync.Mutex
	main   bool // Main runs, and will close it
	server *Server
	err    error // why there is none, told to each test that needs it
}

// Main runs a package's tests and closes the server that they shared:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// It returns the exit code, for those that need it; go test has it already.
func Main(m *testing.M) int {
	shared.mu.Lock()
	shared.main = true
	shared.mu.Unlock()
	code := m.Run()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server == nil {
		return code
	}
	if err := shared.server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "close the tests' PostgreSQL:", err)
	}
	return code
}

// Need returns the server that this binary's tests share, started for the first
// of them. Leave it running and configured as it is, and use databases of your
// own. Where there is no PostgreSQL the test is skipped.
func Need(t testing.TB) *Server {
	t.Helper()
	if _, err := Find(); err != nil {
		t.Skip(err)
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if !shared.main {
		t.Fatal("this package's TestMain does not call pgtest.Main, which would close the server")
	}
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = New(Options{})
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}
