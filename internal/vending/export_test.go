package vending

// Remember bounds how many leases a door has in memory.
func (d *Door) Remember(most int) { d.most = most }

// Remembered is how many it has.
func (d *Door) Remembered() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.leases)
}
