// Package registry lets processes of one user on one machine find each other through files, with nothing running.
//
// Each node keeps one small file, named after its peer id, in a directory of its network:
//
//	<base>/<hash of the network id>/<peer id>
//
// Bases are the user's runtime directory and a directory of the user's among the temporary files, see [Dirs].
//
// A node writes its file before it reads those of others, so of two nodes that start at the same time at least one sees the
// other. What is in a file is a hint and no more: whoever answers at the addresses has to prove the identity to the
// transport. Files outlive crashes; a node that finds one whose process is gone removes it.
//
// The directories must belong to the user and be closed to everybody else, and files are read only if they are plain,
// small and the user's own. If that is not so, the registry refuses to work.
package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/mosaik-go/mosaik/id"
)

// Limits of what is read.
const (
	maxFile  = 16 << 10 // bytes of one file
	maxFiles = 4096     // of one network
	maxAddrs = 32
)

// tempAge is how old a temporary file must be before it counts as left over.
const tempAge = time.Minute

// orphanAge is how long a file whose process cannot be looked up must not have been touched before it may be removed.
const orphanAge = 2 * time.Minute

// tempPrefix begins the names of temporary files.
const tempPrefix = ".new-"

// Registry is a node's place in the registry of one network. Its methods are not safe for concurrent use.
type Registry struct {
	base, dir string
	self      id.PeerID
}

// Found is what a file says.
type Found struct {
	Addr    id.PeerAddr
	process process
	touched time.Time
}

// record is the content of a file.
type record struct {
	Addr    id.PeerAddr `json:"addr"`
	Process process     `json:"process"`
}

// process names the process that wrote a file.
type process struct {
	PID   int    `json:"pid"`
	Born  string `json:"born,omitempty"`  // tells apart processes that had the same number
	Space string `json:"space,omitempty"` // where the number means something
}

// Env is the environment variable that names the one directory to keep registries in, as an absolute path. Processes see
// each other only if they agree in it.
const Env = "MOSAIK_REGISTRY"

// Dirs returns the directories in which registries are kept by default: what [Env] says, or else mosaik in
// $XDG_RUNTIME_DIR, if that is set, and mosaik-<uid> in the directory of temporary files. A node uses both, because a
// service and a login session of one user often differ in the former.
func Dirs() []string {
	if dir := os.Getenv(Env); dir != "" {
		return []string{dir}
	}
	var out []string
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		out = append(out, filepath.Join(dir, "mosaik"))
	}
	return append(out, filepath.Join(os.TempDir(), fmt.Sprintf("mosaik-%d", os.Getuid())))
}

// Open makes sure that the network's directory below base exists and is the user's alone. It writes nothing into it.
func Open(base string, network id.ID, self id.PeerID) (*Registry, error) {
	if !filepath.IsAbs(base) {
		return nil, fmt.Errorf("registry: open: %q is not an absolute path", base)
	}
	name := network.Derive([]byte("same-host registry")).String()
	r := &Registry{base: base, dir: filepath.Join(base, name), self: self}
	if err := r.ready(); err != nil {
		return nil, fmt.Errorf("registry: open: %w", err)
	}
	return r, nil
}

// ready makes sure that the directories exist and are the user's alone.
func (r *Registry) ready() error {
	for _, d := range []string{r.base, r.dir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return err
		}
		if err := private(d); err != nil {
			return err
		}
	}
	return nil
}

// private says what is wrong with a directory.
func private(dir string) error {
	info, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	case !owned(info):
		return fmt.Errorf("%s belongs to another user", dir)
	case exposed(info):
		return fmt.Errorf("%s is open to other users (mode %v)", dir, info.Mode().Perm())
	}
	return nil
}

// Path returns the network's directory.
func (r *Registry) Path() string { return r.dir }

// Publish writes this node's file, in one step for readers. If the directory is gone, it is made again.
func (r *Registry) Publish(addr id.PeerAddr) error {
	if addr.ID != r.self {
		return fmt.Errorf("registry: publish: %s is not this node", addr.ID.Short())
	}
	data, err := json.Marshal(record{addr, thisProcess()})
	if err != nil {
		return fmt.Errorf("registry: publish: %w", err)
	}
	if err := r.ready(); err != nil {
		return fmt.Errorf("registry: publish: %w", err)
	}
	f, err := os.CreateTemp(r.dir, tempPrefix+"*")
	if err != nil {
		return fmt.Errorf("registry: publish: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), r.file(r.self))
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("registry: publish: %w", err)
	}
	return nil
}

// Touch says that this node's file is still valid. It reports false if the file is gone.
func (r *Registry) Touch() bool {
	now := time.Now()
	return os.Chtimes(r.file(r.self), now, now) == nil
}

// Withdraw removes this node's file, unless another process has written it since, and the network's directory with the last
// file of it.
func (r *Registry) Withdraw() error {
	if f, err := r.read(r.self.String()); err == nil && f.process != thisProcess() {
		return nil
	}
	if err := os.Remove(r.file(r.self)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("registry: withdraw: %w", err)
	}
	if found, err := r.List(); err == nil && len(found) == 0 {
		os.Remove(r.dir) // fails if there is a file that List does not know, or a new one
	}
	return nil
}

func (r *Registry) file(p id.PeerID) string { return filepath.Join(r.dir, p.String()) }

// List returns what the files of other nodes say, in the order of peer ids. It removes files whose processes are known to
// be gone, and what crashed writers left behind. Files that make no sense are skipped.
func (r *Registry) List() ([]Found, error) {
	d, err := os.Open(r.dir)
	if err != nil {
		return nil, fmt.Errorf("registry: list: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(maxFiles)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("registry: list: %w", err)
	}
	slices.Sort(names)
	var out []Found
	for _, name := range names {
		if strings.HasPrefix(name, tempPrefix) {
			r.sweep(name)
			continue
		}
		if name == r.self.String() {
			continue
		}
		f, err := r.read(name)
		switch {
		case err != nil:
		case f.process.gone():
			os.Remove(r.file(f.Addr.ID))
		default:
			out = append(out, f)
		}
	}
	return out, nil
}

// read reads one file.
func (r *Registry) read(name string) (Found, error) {
	peer, err := id.ParsePeerID(name)
	if err != nil {
		return Found{}, err
	}
	path := filepath.Join(r.dir, name)
	before, err := os.Lstat(path)
	if err != nil {
		return Found{}, err
	}
	if !before.Mode().IsRegular() || !owned(before) || before.Size() > maxFile {
		return Found{}, fmt.Errorf("%s is not a registry file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return Found{}, err
	}
	defer f.Close()
	if after, err := f.Stat(); err != nil || !os.SameFile(before, after) {
		return Found{}, fmt.Errorf("%s changed while it was opened", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Found{}, err
	}
	found := Found{touched: before.ModTime()}
	var rec record
	if err := json.Unmarshal(data, &rec); err != nil {
		return Found{}, err
	}
	if rec.Addr.ID != peer || len(rec.Addr.Addrs) > maxAddrs || len(data) > maxFile {
		return Found{}, fmt.Errorf("%s does not describe its peer", path)
	}
	found.Addr, found.process = rec.Addr, rec.Process
	return found, nil
}

// Unreachable says that nobody answered at what a file said. The file is removed if nobody has touched it for long.
func (r *Registry) Unreachable(p id.PeerID) {
	f, err := r.read(p.String())
	if err == nil && time.Since(f.touched) > orphanAge {
		os.Remove(r.file(p))
	}
}

// sweep removes a temporary file that a crashed writer left behind.
func (r *Registry) sweep(name string) {
	path := filepath.Join(r.dir, name)
	if info, err := os.Lstat(path); err == nil && time.Since(info.ModTime()) > tempAge {
		os.Remove(path)
	}
}
