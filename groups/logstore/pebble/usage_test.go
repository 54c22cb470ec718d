package pebble_test

import (
	"io/fs"
	"path/filepath"
	"testing"
)

// usage returns the bytes of all files in a directory.
func usage(t testing.TB, dir string) (n int64) {
	t.Helper()
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
