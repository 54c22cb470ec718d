package host

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/mosaik-go/mosaik/groups/internal/snap"
	"github.com/mosaik-go/mosaik/internal/link"
)

// Answers are checked before anything is allocated for them.
func TestReadAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		bytes []byte
		reply snap.Reply
		want  string
		err   error // nil: any, if fails
		fails bool
	}{
		{name: "a chunk", bytes: []byte{0, 0, 0, 4, 0, 'a', 'b', 'c'}, want: "abc"},
		{name: "an empty one", bytes: []byte{0, 0, 0, 1, 0}},
		{name: "a refusal", bytes: []byte{0, 0, 0, 1, 3}, reply: snap.Refused},
		{name: "nothing", fails: true, err: io.EOF},
		{name: "half a header", bytes: []byte{0, 0, 0}, fails: true, err: io.ErrUnexpectedEOF},
		{name: "half a chunk", bytes: []byte{0, 0, 0, 4, 0, 'a'}, fails: true, err: io.ErrUnexpectedEOF},
		{name: "too long", bytes: []byte{255, 255, 255, 255, 0}, fails: true, err: &link.CloseError{Code: link.CodeFrameTooLarge}},
		{name: "without a reply", bytes: []byte{0, 0, 0, 0, 0}, fails: true, err: errAnswer},
		{name: "an unknown reply", bytes: []byte{0, 0, 0, 1, 4}, fails: true, err: errAnswer},
		{name: "a refusal with bytes", bytes: []byte{0, 0, 0, 2, 3, 1}, fails: true, err: errAnswer},
	} {
		reply, got, err := new(fetch).readAnswer(bytes.NewReader(c.bytes))
		if c.fails {
			if !errors.Is(err, c.err) {
				t.Errorf("%s: %v", c.name, err)
			}
		} else if err != nil || reply != c.reply || string(got) != c.want {
			t.Errorf("%s: %v %q %v", c.name, reply, got, err)
		}
	}
}

// A buffer that comes back is used again.
func TestReadAnswerReusesBuffers(t *testing.T) {
	f := new(fetch)
	frame := append([]byte{0, 16, 0, 1, 0}, make([]byte, 1<<20)...)
	allocs := testing.AllocsPerRun(20, func() {
		_, b, err := f.readAnswer(bytes.NewReader(frame))
		if err != nil {
			t.Fatal(err)
		}
		f.free.Put(&b)
	})
	if allocs > 5 {
		t.Errorf("%v allocations for a chunk", allocs)
	}
}
