package mosaik_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mosaik-go/mosaik"
)

// The identity in a key file is made once, whoever asks first, and is the same ever after.
func TestKeyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "node.key")
	ids := make([]mosaik.PeerID, 4)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			net, err := mosaik.New(t.Context(), "key files", mosaik.WithKeyFile(path), mosaik.WithoutRegistry(), mosaik.WithListen("127.0.0.1:0"))
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = net.ID()
			net.Close()
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || id.IsZero() {
			t.Errorf("identities %v", ids)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	others, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*"))
	if len(others) > 0 {
		t.Errorf("left over: %v", others)
	}
	for _, text := range []string{"", "no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if net, err := mosaik.New(t.Context(), "key files", mosaik.WithKeyFile(path)); err == nil {
			net.Close()
			t.Errorf("a key was read from %q", text)
		}
	}
	if _, err := mosaik.New(t.Context(), "key files", mosaik.WithKeyFile(filepath.Join(path, "below a file"))); err == nil {
		t.Error("a key was made where none can be")
	}
}

// Who names a file that cannot be made reads the name that he gave.
func TestKeyFileThatCannotBeMade(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "nowhere", "node.key")
	_, err := mosaik.New(t.Context(), "key files", mosaik.WithKeyFile(path), mosaik.WithoutRegistry())
	if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), ".key-") {
		t.Errorf("got %v", err)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v does not wrap its cause", err)
	}
}
