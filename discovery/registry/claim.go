package registry

import (
	"os"
	"sync"
)

// claims are the files that nodes of this process write: the process alone does not tell two of its nodes apart.
var claims struct {
	mu sync.Mutex
	by map[string]*Registry
}

// Claim takes this node's place in the registry for r, until Release. If another node has it that is known to live, in this
// process or another, it returns the number of the process and false. It is to be called before Publish.
func (r *Registry) Claim() (holder int, ok bool) {
	claims.mu.Lock()
	defer claims.mu.Unlock()
	path := r.file(r.self)
	if o := claims.by[path]; o != nil && o != r {
		return os.Getpid(), false
	}
	if f, err := r.read(r.self.String()); err == nil && f.process != thisProcess() && f.process.lives() {
		return f.process.PID, false
	}
	if claims.by == nil {
		claims.by = make(map[string]*Registry)
	}
	claims.by[path] = r
	return 0, true
}

// Release gives up what Claim took, and does nothing if that is not r's. The file stays: it goes with Withdraw.
func (r *Registry) Release() {
	claims.mu.Lock()
	defer claims.mu.Unlock()
	if path := r.file(r.self); claims.by[path] == r {
		delete(claims.by, path)
	}
}
