//go:build linux

package faultrun

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/record"
)

// roomy is the size of a disk.
const roomy = "size=512m"

// fillDisk leaves no room on the disk of a node: it becomes as small as what is on it.
func (c *cluster) fillDisk(i int) error {
	for {
		var st syscall.Statfs_t
		if err := syscall.Statfs(c.disk(i), &st); err != nil {
			return err
		}
		used := max(st.Blocks-st.Bfree, 1) * uint64(st.Bsize)
		err := syscall.Mount("tmpfs", c.disk(i), "tmpfs", syscall.MS_REMOUNT, fmt.Sprint("size=", used))
		if !errors.Is(err, syscall.EINVAL) { // which is that more was written meanwhile
			return err
		}
	}
}

func (c *cluster) freeDisk(i int) error {
	return syscall.Mount("tmpfs", c.disk(i), "tmpfs", syscall.MS_REMOUNT, roomy)
}

// Kinds of damage to the log of a database.
const (
	tear = iota // what follows the last record is not zero, as if a write had been cut off: no damage at all
	cut         // the end of what was synced is missing
	flip        // some byte of what was synced is another one
)

var damageNames = [...]string{"torn tail", "cut tail", "flipped byte"}

// damage does harm to the newest log of the database of a node that is dead. It reports what it did.
func (c *cluster) damage(i, how int, rng *rand.Rand) (string, error) {
	path, number, err := newestLog(c.store(i))
	if err != nil {
		return "", err
	}
	end, err := endOfLog(path, number)
	if err != nil {
		return "", err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	what := fmt.Sprintf("%s of %s, which holds %d bytes", damageNames[how], filepath.Base(path), end)
	switch {
	case how == tear:
		junk := make([]byte, 1+rng.IntN(3000))
		for k := range junk {
			junk[k] = byte(rng.Uint32())
		}
		_, err = f.WriteAt(junk, end)
	case end == 0:
		return what + ": nothing to damage", nil
	case how == cut:
		less := 1 + rng.Int64N(min(end, 3000))
		what = fmt.Sprintf("%s, by %d", what, less)
		err = f.Truncate(end - less)
	default:
		at := rng.Int64N(end)
		what = fmt.Sprintf("%s, at %d", what, at)
		b := make([]byte, 1)
		if _, err = f.ReadAt(b, at); err == nil {
			b[0] ^= byte(1 + rng.IntN(255))
			_, err = f.WriteAt(b, at)
		}
	}
	return what, err
}

// newestLog returns the log of a database that was written last, and its number.
func newestLog(dir string) (string, uint64, error) {
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(logs) == 0 {
		return "", 0, fmt.Errorf("no log in %s: %w", dir, err)
	}
	path := slices.Max(logs) // numbers have leading zeros
	number, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), ".log"), 10, 64)
	return path, number, err
}

// endOfLog returns where the last record of a log ends. What follows are zeros, or records of an older log whose file is used again.
func endOfLog(path string, number uint64) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	in := readLog(record.NewReader, f, number)
	end := int64(0)
	for {
		r, err := in.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			return end, nil // that is how a log ends
		}
		end = in.Offset()
	}
}

// readLog makes a reader of a log. The type of the number has no name outside the database.
func readLog[N ~uint64](newReader func(io.Reader, N) *record.Reader, f io.Reader, number uint64) *record.Reader {
	return newReader(f, N(number))
}

// wipe gives a dead node an empty disk.
func (c *cluster) wipe(i int) error { return os.RemoveAll(c.store(i)) }
