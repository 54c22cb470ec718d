package simnet

// Conns returns how many connections have an end that is not closed.
func (f *Fabric) Conns() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.conns)
}
