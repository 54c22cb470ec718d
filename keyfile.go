package mosaik

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mosaik-go/mosaik/internal/node"
)

// keyBlock is the type of the PEM block in a key file, as other programs write and read it too.
const keyBlock = "PRIVATE KEY"

// WithKeyFile gives the node the identity that is kept in the file: an Ed25519 private key in PKCS #8, PEM encoded. If
// there is no such file it is made, with a fresh key that only its owner may read, so that the node has the same
// identity whenever it starts. A node with durable storage needs that, see [WithStorage]. Like every identity the
// file belongs to one running node at a time. Only one of WithKeyFile, [WithPrivateKey] and [WithSeed] can be given, once.
func WithKeyFile(path string) Option {
	return func(c *node.Config) error {
		key, err := readKey(path)
		if errors.Is(err, fs.ErrNotExist) {
			if err = makeKey(path); err == nil {
				key, err = readKey(path)
			}
		}
		if err != nil {
			return fmt.Errorf("WithKeyFile: %w", err)
		}
		return setIdentity(c, "WithKeyFile", key)
	}
}

func readKey(path string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyBlock {
		return nil, fmt.Errorf("%s holds no PEM block of type %s", path, keyBlock)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, want an Ed25519 private key", path, parsed)
	}
	return key, nil
}

// makeKey writes a fresh key, whole or not at all. If another process is faster its key stays.
func makeKey(path string) error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // readable by the owner alone
	if err != nil {
		return notMade(path, err)
	}
	defer os.Remove(f.Name())
	err = pem.Encode(f, &pem.Block{Type: keyBlock, Bytes: der})
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return notMade(path, err)
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return notMade(path, err)
	}
	return nil
}

// notMade says why a key file was not made. The name of the temporary file, which nobody knows, is left out.
func notMade(path string, err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		err = e.Err
	}
	return fmt.Errorf("make %s: %w", path, err)
}
