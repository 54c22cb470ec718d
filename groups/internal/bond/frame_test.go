package bond

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/handshake"
	"github.com/mosaik-go/mosaik/internal/link"
)

var (
	sampleHello = helloFrame{group: id.Of("g"), channel: 300, nonce: handshake.Nonce{1, 2, 3}}
	sampleProof = proofFrame{channel: 7, answers: handshake.Nonce{4}, mac: handshake.Proof{5}, fingerprint: id.Of("f"), codec: "postcard/1"}
	sampleClose = closeFrame{group: id.Of("g"), code: link.CodeGroupInvalidProof, reason: "because"}
)

func TestFramesRoundTrip(t *testing.T) {
	t.Parallel()
	if f, err := decodeHello(sampleHello.append(nil)[1:]); err != nil || f != sampleHello {
		t.Errorf("hello: %+v, %v", f, err)
	}
	if f, err := decodeProof(sampleProof.append(nil)[1:]); err != nil || f != sampleProof {
		t.Errorf("proof: %+v, %v", f, err)
	}
	if f, err := decodeClose(sampleClose.append(nil)[1:]); err != nil || f != sampleClose {
		t.Errorf("close: %+v, %v", f, err)
	}
	if err := decodePreface(prefaceFrame{}.append(nil)[1:]); err != nil {
		t.Errorf("preface: %v", err)
	}
	if c, m, err := decodeData(append(appendDataHeader(nil, 300), "message"...)[1:]); err != nil || c != 300 || string(m) != "message" {
		t.Errorf("data: %d %q %v", c, m, err)
	}
}

func TestFramesRefuseBadInput(t *testing.T) {
	t.Parallel()
	long := sampleProof
	long.codec = strings.Repeat("x", maxCodecName+1)
	if _, err := decodeProof(long.append(nil)[1:]); err == nil {
		t.Error("a codec name beyond the limit was accepted")
	}
	for name, frame := range map[string][]byte{
		"hello": sampleHello.append(nil)[1:],
		"proof": sampleProof.append(nil)[1:],
		"close": sampleClose.append(nil)[1:],
	} {
		decode := map[string]func([]byte) error{
			"hello": func(b []byte) error { _, err := decodeHello(b); return err },
			"proof": func(b []byte) error { _, err := decodeProof(b); return err },
			"close": func(b []byte) error { _, err := decodeClose(b); return err },
		}[name]
		for n := range frame {
			if decode(frame[:n]) == nil {
				t.Errorf("%s cut at %d of %d bytes was accepted", name, n, len(frame))
			}
		}
		if decode(append(bytes.Clone(frame), 0)) == nil {
			t.Errorf("%s with a byte too many was accepted", name)
		}
	}
	if err := decodePreface([]byte{version + 1}); !errors.Is(err, &link.CloseError{Code: link.CodeIncompatibleVersion}) {
		t.Errorf("a later version: %v", err)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(sampleHello.append(nil))
	f.Add(sampleProof.append(nil))
	f.Add(sampleClose.append(nil))
	f.Add(prefaceFrame{}.append(nil))
	f.Add(append(appendDataHeader(nil, 1), 1, 2, 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 {
			return
		}
		// What decodes and is encoded again must decode to the same.
		switch body := b[1:]; kind(b[0]) {
		case kindHello:
			if v, err := decodeHello(body); err == nil {
				if w, err := decodeHello(v.append(nil)[1:]); err != nil || w != v {
					t.Errorf("%+v became %+v, %v", v, w, err)
				}
			}
		case kindProof:
			if v, err := decodeProof(body); err == nil {
				if w, err := decodeProof(v.append(nil)[1:]); err != nil || w != v {
					t.Errorf("%+v became %+v, %v", v, w, err)
				}
			}
		case kindClose:
			if v, err := decodeClose(body); err == nil {
				if w, err := decodeClose(v.append(nil)[1:]); err != nil || w != v {
					t.Errorf("%+v became %+v, %v", v, w, err)
				}
			}
		case kindData:
			decodeData(body)
		case kindPreface:
			decodePreface(body)
		}
	})
}

func TestPulseFramesRefuseBadInput(t *testing.T) {
	t.Parallel()
	tr := new(trunk)
	tr.channels.Store(new([]*Bond))
	for name, handle := range map[string]func([]byte) error{"pulses": tr.onPulses, "answers": tr.onPulsed} {
		for _, body := range [][]byte{{0x80}, {1}, {1, 0x80}, bytes.Repeat([]byte{0xff}, 30), {0xff, 0xff, 0xff, 0xff, 0x7f, 1, 1}} {
			if handle(body) == nil {
				t.Errorf("%s: %x was accepted", name, body)
			}
		}
		if err := handle(bytes.Repeat([]byte{7}, 600)); err != nil {
			t.Errorf("%s for channels that are closed: %v", name, err)
		}
	}
}
