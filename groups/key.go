package groups

import (
	"sync"

	"golang.org/x/crypto/argon2"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/tickets"
)

// Key is the secret that the members of a group share. Who has it can join; who has not can neither join nor learn what
// the members say to each other. The zero value is not a key. Equal keys compare equal with ==.
//
// Members prove to each other that they know the key without showing it. A group's id is derived from its key by a
// one-way function and is public.
type Key struct{ secret id.ID }

// RandomKey returns a key that nobody else has.
func RandomKey() Key { return Key{id.Random()} }

// Parameters of Argon2id (RFC 9106): 19 MiB and two passes, about 30 ms.
const (
	argonTime    = 2
	argonMemory  = 19 << 10 // KiB
	argonThreads = 1
	argonSalt    = "mosaik-go 2026 groups.KeyFrom v1"
)

// keys remembers what [KeyFrom] worked out, since it is slow on purpose. Keyed by the hash of the secret so that the
// text itself is not kept. Bounded: it is emptied when it has grown to keysMax.
var keys struct {
	sync.Mutex
	of map[id.ID]Key
}

const keysMax = 1024

// KeyFrom returns the key that a text stands for: the same text gives the same key everywhere. Group ids are public,
// so anybody can test guesses of the text against them; the derivation is slow (Argon2id, tens of milliseconds, once per
// text and process) to make that expensive, but a text that is easy to guess is still not a secret.
//
// The empty text stands for no key: the zero value, which Join refuses.
func KeyFrom(secret string) Key {
	if secret == "" {
		return Key{}
	}
	// The text is hashed with a fresh domain: id.Of would decode 64 hexadecimal digits.
	hashed := id.ID{}.Derive([]byte("groups.KeyFrom"), []byte(secret))
	keys.Lock()
	k, known := keys.of[hashed]
	keys.Unlock()
	if known {
		return k
	}
	k = Key{id.ID(argon2.IDKey(hashed[:], []byte(argonSalt), argonTime, argonMemory, argonThreads, id.Size))}
	keys.Lock()
	defer keys.Unlock()
	if keys.of == nil || len(keys.of) >= keysMax {
		keys.of = make(map[id.ID]Key)
	}
	keys.of[hashed] = k
	return k
}

// KeyOf returns the key of a group that is open to every peer whose ticket the validator accepts: it is derived from
// the validator's signature and therefore no secret if that is not. Use it with [RequireTicket] of the same validator.
func KeyOf(v tickets.Validator) Key {
	signature := v.Signature()
	return Key{id.ID{}.Derive([]byte("groups.KeyOf"), signature[:])}
}

// IsZero reports whether k is the zero value, which is not a key.
func (k Key) IsZero() bool { return k.secret.IsZero() }

// String returns a short public fingerprint, never the secret.
func (k Key) String() string {
	if k.IsZero() {
		return "no key"
	}
	return "key " + k.secret.Derive([]byte("groups.Key fingerprint")).Short()
}

// GoString keeps the secret out of %#v too.
func (k Key) GoString() string { return "groups.Key(" + k.String() + ")" }

// proofSecret is what members prove to know.
func (k Key) proofSecret() id.ID { return k.secret.Derive([]byte("groups proof of key v1")) }
