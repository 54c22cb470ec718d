package groups

import (
	"errors"
	"testing"

	"github.com/mosaik-go/mosaik/codec"
	"github.com/mosaik-go/mosaik/id"
)

// What a log says of its commands is read as it was written, and refused if it is anything else.
func TestSchemaOfALog(t *testing.T) {
	t.Parallel()
	type command struct{ A int }
	for _, s := range []schema{
		schemaOf(codec.Must(codec.For[command]())),
		schemaOf(codec.Must(codec.CBOR[command]())),
		{codec: "own/1", fingerprint: id.Of("own")},
		{},
	} {
		stored, err := s.check(nil)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := decodeSchema(stored); err != nil || back != s {
			t.Errorf("%v came back as %v, %v", s, back, err)
		}
		if again, err := s.check(stored); err != nil || string(again) != string(stored) {
			t.Errorf("%v: %q, %v", s, again, err)
		}
		for n := 1; n < 1+id.Size+1+len(s.codec); n++ {
			if _, err := s.check(stored[:n]); !errors.Is(err, ErrSchemaMismatch) {
				t.Errorf("%d bytes: %v", n, err)
			}
		}
		stored[0]++
		if _, err := s.check(stored); !errors.Is(err, ErrSchemaMismatch) {
			t.Errorf("another form: %v", err)
		}
	}
	a, b := schema{codec: "own/1", fingerprint: id.Of("a")}, schema{codec: "own/1", fingerprint: id.Of("b")}
	if a.reads(b) || a.reads(schema{codec: "own/2", fingerprint: a.fingerprint}) || a.String() != "own/1 with schema "+a.fingerprint.Short() {
		t.Errorf("%v and %v", a, b)
	}
}

func FuzzSchemaOfALog(f *testing.F) {
	f.Add(schemaOf(codec.Must(codec.For[int]())).encode())
	f.Fuzz(func(t *testing.T, stored []byte) {
		if s, err := decodeSchema(stored); err == nil {
			if back, err := decodeSchema(s.encode()); err != nil || back != s {
				t.Fatalf("%v came back as %v, %v", s, back, err)
			}
		}
	})
}
