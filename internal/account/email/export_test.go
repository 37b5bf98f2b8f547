package email

// DisposableList is the embedded file, for the tests of package email_test.
var DisposableList = disposableList

// The bounds of an MX, for the same.
const (
	MaxLookups = maxLookups
	MaxKnown   = maxKnown
)

// Known counts the domains that m remembers.
func (m *MX) Known() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.known)
}
