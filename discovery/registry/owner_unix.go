//go:build unix

package registry

import (
	"io/fs"
	"os"
	"syscall"
)

// owned reports whether a file belongs to the user.
func owned(info fs.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(s.Uid) == os.Getuid()
}

// exposed reports whether others may look into a directory or write to it.
func exposed(info fs.FileInfo) bool { return info.Mode().Perm()&0o077 != 0 }
