package id

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/zeebo/blake3"
)

// Size is the length of an [ID] and of a [PeerID] in bytes.
const Size = 32

// shortDigits is the number of hexadecimal digits in the Short form.
const shortDigits = 10

// ID is a 32-byte identifier, usually a BLAKE3 digest. The zero value is all zero bytes and names nothing.
type ID [Size]byte

// Of returns the ID that a text stands for. Text of exactly 64 hexadecimal digits (either case) is decoded;
// any other text, the empty one included, is hashed with BLAKE3-256. It never fails.
func Of(name string) ID {
	var d ID
	if len(name) == 2*Size {
		if _, err := hex.Decode(d[:], []byte(name)); err == nil {
			return d
		}
	}
	return ID(blake3.Sum256([]byte(name)))
}

// Random returns an ID of 32 bytes from the operating system's random source.
func Random() ID {
	var d ID
	rand.Read(d[:]) // never fails, by its contract
	return d
}

// Parse reads the text form of an ID: exactly 64 hexadecimal digits. Unlike [Of] it refuses any other text.
func Parse(text string) (ID, error) {
	var d ID
	if err := decodeHex(d[:], text); err != nil {
		return ID{}, fmt.Errorf("id: parse %q: %w", text, err)
	}
	return d, nil
}

// deriveDomain keeps derived ids apart from every other use of BLAKE3 in this module.
const deriveDomain = "mosaik-go 2026 id.Derive v1"

// Derive returns a new ID that depends on d and on every part. Each part is preceded by its length, so
// different splits of the same bytes give different ids, and the result is domain-separated (BLAKE3 derive-key
// mode) from [Of] and from plain hashes.
func (d ID) Derive(parts ...[]byte) ID {
	h := blake3.NewDeriveKey(deriveDomain)
	h.Write(d[:])
	var n [8]byte
	for _, p := range parts {
		binary.LittleEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	var out ID
	h.Sum(out[:0])
	return out
}

// IsZero reports whether d is the zero value.
func (d ID) IsZero() bool { return d == ID{} }

// Compare orders ids byte by byte: -1, 0 or +1.
func (d ID) Compare(other ID) int { return bytes.Compare(d[:], other[:]) }

// String returns the 64-digit lower-case form.
func (d ID) String() string { return hex.EncodeToString(d[:]) }

// Short returns the first ten digits, for logs and metric labels. It is not unique enough to look things up by.
func (d ID) Short() string { return hex.EncodeToString(d[:shortDigits/2]) }

// MarshalText returns the 64-digit form.
func (d ID) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads exactly 64 hexadecimal digits.
func (d *ID) UnmarshalText(text []byte) error {
	v, err := Parse(string(text))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

func decodeHex(dst []byte, text string) error {
	if len(text) != 2*len(dst) {
		return fmt.Errorf("want %d hexadecimal digits, got %d characters", 2*len(dst), len(text))
	}
	_, err := hex.Decode(dst, []byte(text))
	return err
}
