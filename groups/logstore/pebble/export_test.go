package pebble

import "github.com/cockroachdb/pebble/v2/vfs"

// WithFS replaces the file system.
func WithFS(fs vfs.FS) Option { return func(c *config) { c.fs = fs } }

// WithTail sets how many bytes of each log's end are kept in memory.
func WithTail(n int) Option { return func(c *config) { c.tail = n } }
