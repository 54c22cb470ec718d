package codec_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mosaik-go/mosaik/codec"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// marshals has no AppendBinary, like types older than that.
type marshals struct{ text string }

func (m *marshals) MarshalBinary() ([]byte, error) {
	if m.text == "bad" {
		return nil, errors.New("is bad")
	}
	return []byte(m.text), nil
}

func (m *marshals) UnmarshalBinary(b []byte) error {
	if string(b) == "bad" {
		return errors.New("is bad")
	}
	m.text = string(b)
	return nil
}

func TestBinaryMethods(t *testing.T) {
	t.Parallel()
	if raw := roundTrip(t, marshals{"hello"}); string(raw) != "hello" {
		t.Errorf("at the top: %q", raw)
	}
	roundTrip(t, marshals{strings.Repeat("x", 300)})
	c := codec.Must(codec.For[[]marshals]())
	if raw, err := c.Append(nil, &[]marshals{{"a"}, {"bc"}}); err != nil || string(raw) != "\x02\x01a\x02bc" {
		t.Errorf("in a slice: %q, %v", raw, err)
	}
	noEncoding(t, marshals{"bad"}, "is bad")
	noEncoding(t, []marshals{{"bad"}}, "is bad")
	malformed[[]marshals](t, "0103"+hex.EncodeToString([]byte("bad")), "is bad")
	malformed[marshals](t, hex.EncodeToString([]byte("bad")), "is bad")

	top := codec.Must(codec.For[netip.Addr]())
	if top.Name() != "binary/1" || top.Fingerprint() == ([32]byte{}) ||
		top.Fingerprint() == codec.Must(codec.For[netip.AddrPort]()).Fingerprint() {
		t.Errorf("codec %v has name %q and fingerprint %x", top, top.Name(), top.Fingerprint())
	}
}

// The input of UnmarshalBinary ends where the value does, also for append.
func TestBinaryInputIsClipped(t *testing.T) {
	t.Parallel()
	c := codec.Must(codec.For[[]appends]())
	var v []appends
	if err := c.Decode([]byte("\x02\x01a\x01b"), &v); err != nil || v[0].text != "a!" || v[1].text != "b!" {
		t.Errorf("%v, %v", v, err)
	}
}

type appends struct{ text string }

func (a appends) AppendBinary(b []byte) ([]byte, error) { return append(b, a.text...), nil }
func (a *appends) UnmarshalBinary(b []byte) error       { a.text = string(append(b, '!')); return nil }

func TestRaw(t *testing.T) {
	t.Parallel()
	c := codec.Raw[[]byte]()
	src := []byte("bytes")
	raw, err := c.Append([]byte("head"), &src)
	if err != nil || string(raw) != "headbytes" {
		t.Fatalf("%q, %v", raw, err)
	}
	var back []byte
	if err := c.Decode(src, &back); err != nil || string(back) != "bytes" {
		t.Fatalf("%q, %v", back, err)
	}
	if src[0] = 'X'; back[0] != 'b' {
		t.Error("Decode keeps the input")
	}
	if err := c.Decode(nil, &back); err != nil || back != nil {
		t.Errorf("empty: %q, %v", back, err)
	}
}

// Decode keeps nothing of its input.
func TestDecodeCopies(t *testing.T) {
	t.Parallel()
	type record struct {
		A string
		B []byte
		C [2]byte
		D map[string][]byte
		E appends
	}
	c := codec.Must(codec.For[record]())
	raw, err := c.Append(nil, &record{"text", []byte("bytes"), [2]byte{1, 2}, map[string][]byte{"k": {3}}, appends{"own"}})
	if err != nil {
		t.Fatal(err)
	}
	var v record
	if err := c.Decode(raw, &v); err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		raw[i] = 0xff
	}
	want := record{"text", []byte("bytes"), [2]byte{1, 2}, map[string][]byte{"k": {3}}, appends{"own!"}}
	if !same(v, want) {
		t.Errorf("the value changed with the input: %+v", v)
	}
}

func TestProto(t *testing.T) {
	t.Parallel()
	c := codec.Must(codec.Proto[*timestamppb.Timestamp]())
	if c.Name() != "proto/1" || c.Fingerprint() == codec.Must(codec.Proto[*structpb.Value]()).Fingerprint() {
		t.Errorf("codec %v has name %q and fingerprint %x", c, c.Name(), c.Fingerprint())
	}
	v := timestamppb.New(time.Unix(5, 6))
	raw, err := c.Append([]byte("head"), &v)
	if want, _ := proto.Marshal(v); err != nil || string(raw) != "head"+string(want) {
		t.Fatalf("%x, %v", raw, err)
	}
	var back *timestamppb.Timestamp
	if err := c.Decode(raw[4:], &back); err != nil || !proto.Equal(back, v) {
		t.Fatalf("%v, %v", back, err)
	}
	var none *timestamppb.Timestamp
	if out, err := c.Append([]byte("head"), &none); !errors.Is(err, codec.ErrValue) || string(out) != "head" {
		t.Errorf("nil message: %q, %v", out, err)
	}
	if err := c.Decode([]byte{0xff}, &back); !errors.Is(err, codec.ErrMalformed) {
		t.Errorf("bad message: %v", err)
	}
	if same, err := codec.For[*timestamppb.Timestamp](); err != nil || same.Fingerprint() != c.Fingerprint() {
		t.Errorf("For: %v, %v", same, err)
	}
	if c, err := codec.Proto[proto.Message](); !errors.Is(err, codec.ErrType) {
		t.Errorf("interface: %v, %v", c, err)
	}
	if c, err := codec.Proto[embedsMessage](); !errors.Is(err, codec.ErrType) {
		t.Errorf("struct with an embedded message: %v, %v", c, err)
	}

	// Messages nested in each other have a limit too.
	deep := structpb.NewNullValue()
	for range 100 {
		deep = structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{deep}})
	}
	deepRaw, _ := proto.Marshal(deep)
	if err := codec.Must(codec.Proto[*structpb.Value]()).Decode(deepRaw, new(*structpb.Value)); !errors.Is(err, codec.ErrMalformed) {
		t.Errorf("deep message: %v", err)
	}
}

func TestProtoWithin(t *testing.T) {
	t.Parallel()
	type event struct {
		Name string
		When *timestamppb.Timestamp
		More []*timestamppb.Timestamp
	}
	c := codec.Must(codec.For[event]())
	v := event{"e", nil, []*timestamppb.Timestamp{{Seconds: 7}, nil, {}}}
	raw, err := c.Append(nil, &v)
	if want := "\x01e" + "\x00" + "\x03" + "\x01\x02\x08\x07" + "\x00" + "\x01\x00"; err != nil || string(raw) != want {
		t.Fatalf("%x, %v", raw, err)
	}
	var back event
	if err := c.Decode(raw, &back); err != nil || back.Name != "e" || back.When != nil || len(back.More) != 3 ||
		!proto.Equal(back.More[0], v.More[0]) || back.More[1] != nil || !proto.Equal(back.More[2], v.More[2]) {
		t.Errorf("%v, %v", back, err)
	}
	malformed[event](t, "000101ff00", "proto")
	type wrong struct{ V *structpb.Value }
	bad := &structpb.Value{Kind: &structpb.Value_StringValue{StringValue: "\xff"}}
	noEncoding(t, wrong{bad}, "UTF-8")
	if _, err := codec.Must(codec.Proto[*structpb.Value]()).Append(nil, &bad); !errors.Is(err, codec.ErrValue) {
		t.Errorf("bad text in a message: %v", err)
	}
}

// All codecs give the buffer back as it was, or with the value behind it.
func TestAppendKeepsTheBuffer(t *testing.T) {
	t.Parallel()
	buf := append(make([]byte, 0, 1024), "head"...)
	v := mixedValue()
	c := codec.Must(codec.For[mixed](codec.WithUnion(shapes()...)))
	alone, err1 := c.Append(nil, &v)
	behind, err2 := c.Append(buf, &v)
	if err1 != nil || err2 != nil || !bytes.Equal(behind, append([]byte("head"), alone...)) {
		t.Errorf("%x, %v and %x, %v", alone, err1, behind, err2)
	}
}
