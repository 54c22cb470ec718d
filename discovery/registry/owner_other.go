//go:build !unix

package registry

import "io/fs"

// Where files have no owner and mode of this kind, the directory of temporary files is already the user's own.
func owned(fs.FileInfo) bool   { return true }
func exposed(fs.FileInfo) bool { return false }
