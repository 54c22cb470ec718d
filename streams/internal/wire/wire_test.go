package wire

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/id"
	"github.com/mosaik-go/mosaik/internal/link"
)

// frame is a frame that can be written and read.
type frame interface {
	Append(dst []byte) []byte
}

func roundTrip(t *testing.T, kind Kind, f frame, decode func([]byte) (any, error)) {
	t.Helper()
	b := f.Append(nil)
	if Kind(b[0]) != kind {
		t.Errorf("%T begins with %d, want %d", f, b[0], kind)
	}
	got, err := decode(b[1:])
	if err != nil || !reflect.DeepEqual(got, f) {
		t.Errorf("%+v came back as %+v, %v", f, got, err)
	}
	for n := range b[1:] {
		if _, err := decode(b[1 : n+1]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%T cut to %d bytes: %v", f, n, err)
		}
	}
	if _, err := decode(append(b[1:], 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("%T with a byte too many: %v", f, err)
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	roundTrip(t, KindSubscribe, &Subscribe{
		Channel: 300, Stream: id.Of("s"), Fingerprint: id.Of("f"), Codec: "postcard/1", Window: Window{10, 20},
		Resume: true, Epoch: 1 << 63, Position: 77, Keys: []string{"a", "b"},
	}, func(b []byte) (any, error) { f := new(Subscribe); return f, f.Decode(b) })
	roundTrip(t, KindCredit, Credit{1, 2, 1 << 60}, func(b []byte) (any, error) { var f Credit; err := f.Decode(b); return f, err })
	roundTrip(t, KindCancel, Cancel{1, link.CodeSuccess}, func(b []byte) (any, error) { var f Cancel; err := f.Decode(b); return f, err })
	roundTrip(t, KindAccept, Accept{9, 1, 2, 3, true, Window{1, 1}}, func(b []byte) (any, error) { var f Accept; err := f.Decode(b); return f, err })
	roundTrip(t, KindRefuse, Refuse{9, link.CodeStreamNotFound, "why"}, func(b []byte) (any, error) { var f Refuse; err := f.Decode(b); return f, err })
	roundTrip(t, KindEnd, End{9, link.CodeShutdown, 1, 2, "why"}, func(b []byte) (any, error) { var f End; err := f.Decode(b); return f, err })
	b := AppendRetry(nil, id.Of("s"))
	if got, err := DecodeRetry(b[1:]); err != nil || got != id.Of("s") || Kind(b[0]) != KindRetry {
		t.Errorf("retry came back as %v, %v", got, err)
	}
	var d Data
	if err := d.Decode(append(Data{Channel: 3, Last: 4, Lost: 5}.AppendHeader(nil)[1:], "items"...)); err != nil ||
		d.Channel != 3 || d.Last != 4 || d.Lost != 5 || string(d.Items) != "items" {
		t.Errorf("data came back as %+v, %v", d, err)
	}
}

func TestPreface(t *testing.T) {
	t.Parallel()
	good := AppendPreface(nil, id.Of("net"))
	if err := DecodePreface(good, id.Of("net")); err != nil {
		t.Error(err)
	}
	newer := bytes.Clone(good)
	newer[1]++
	for _, c := range []struct {
		body []byte
		code link.Code
	}{
		{nil, link.CodeProtocolViolation},
		{[]byte{byte(KindPing)}, link.CodeProtocolViolation},
		{good[:20], link.CodeProtocolViolation},
		{newer, link.CodeIncompatibleVersion},
		{AppendPreface(nil, id.Of("other")), link.CodeDifferentNetwork},
	} {
		if err := DecodePreface(c.body, id.Of("net")); err == nil || link.CodeOf(err) != c.code {
			t.Errorf("preface %x: %v, want %v", c.body, err, c.code)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	many := Subscribe{Window: Window{1, 1}}
	for range MaxKeys {
		many.Keys = append(many.Keys, strings.Repeat("k", MaxKey))
	}
	many.Codec = strings.Repeat("c", MaxCodec)
	many.Resume, many.Epoch, many.Position, many.Channel = true, 1<<63, 1<<63, 1<<31
	body := many.Append(nil)
	if len(body) > MaxControl {
		t.Errorf("the longest subscription has %d bytes, more than %d", len(body), MaxControl)
	}
	if err := new(Subscribe).Decode(body[1:]); err != nil {
		t.Error(err)
	}
	for what, f := range map[string]Subscribe{
		"too many keys": {Window: Window{1, 1}, Keys: make([]string, MaxKeys+1)},
		"a long key":    {Window: Window{1, 1}, Keys: []string{strings.Repeat("k", MaxKey+1)}},
		"a long codec":  {Window: Window{1, 1}, Codec: strings.Repeat("c", MaxCodec+1)},
		"no window":     {},
		"a wide window": {Window: Window{MaxWindow + 1, 1}},
	} {
		if err := new(Subscribe).Decode(f.Append(nil)[1:]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if f := (Refuse{Detail: strings.Repeat("d", 1000)}); len(f.Append(nil)) > 2*MaxDetail {
		t.Error("a long detail is not shortened")
	}
}

// Nothing that arrives makes a decoder panic, and what it accepts it writes the same way.
func FuzzDecode(f *testing.F) {
	f.Add(byte(KindSubscribe), (&Subscribe{Window: Window{1, 1}, Keys: []string{"a"}}).Append(nil)[1:])
	f.Add(byte(KindAccept), Accept{Window: Window{1, 1}}.Append(nil)[1:])
	f.Add(byte(KindEnd), End{Detail: "x"}.Append(nil)[1:])
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		check := func(err error, again []byte) {
			if err == nil && len(again)-1 > len(body) {
				t.Fatalf("kind %d: %x was accepted and written as %x", kind, body, again)
			}
		}
		switch Kind(kind) {
		case KindSubscribe:
			var f Subscribe
			check(f.Decode(body), f.Append(nil))
		case KindCredit:
			var f Credit
			check(f.Decode(body), f.Append(nil))
		case KindCancel:
			var f Cancel
			check(f.Decode(body), f.Append(nil))
		case KindAccept:
			var f Accept
			check(f.Decode(body), f.Append(nil))
		case KindRefuse:
			var f Refuse
			check(f.Decode(body), f.Append(nil))
		case KindEnd:
			var f End
			check(f.Decode(body), f.Append(nil))
		case KindData:
			var f Data
			check(f.Decode(body), append(f.AppendHeader(nil), f.Items...))
		case KindRetry:
			DecodeRetry(body)
		default:
			DecodePreface(body, id.ID{})
		}
	})
}

func TestStringsRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := Refuse{Channel: rapid.Uint32().Draw(t, "channel"), Detail: rapid.StringN(0, -1, MaxDetail).Draw(t, "detail")}
		var got Refuse
		if err := got.Decode(f.Append(nil)[1:]); err != nil || got != f {
			t.Fatalf("%+v, %v, want %+v", got, err, f)
		}
	})
}
