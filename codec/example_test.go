package codec_test

import (
	"errors"
	"fmt"

	"github.com/mosaik-go/mosaik/codec"
)

type reading struct {
	Sensor  string
	Celsius float64
	Alarm   *string
	Tags    map[string]uint16
}

func ExampleFor() {
	c, err := codec.For[reading]()
	if err != nil {
		fmt.Println(err)
		return
	}
	raw, err := c.Append(nil, &reading{Sensor: "hall", Celsius: 21.5, Tags: map[string]uint16{"floor": 300}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%x\n", raw)

	var back reading
	err = c.Decode(raw, &back)
	fmt.Println(back.Sensor, back.Celsius, back.Alarm == nil, back.Tags, err)
	// Output:
	// 0468616c6c0000000000803540000105666c6f6f72ac02
	// hall 21.5 true map[floor:300] <nil>
}

// Types that would lose something on the way are refused before the first value is sent.
func ExampleFor_refused() {
	type job struct {
		Name string
		Done chan struct{}
	}
	_, err := codec.For[job]()
	fmt.Println(err)
	fmt.Println(errors.Is(err, codec.ErrType))

	type fixed struct {
		Name string
		Done chan struct{} `mosaik:"-"` // stays here
	}
	c, err := codec.For[fixed]()
	fmt.Println(c, err)
	// Output:
	// codec: unsuitable type codec_test.job: Done: chan struct {} has no encoding
	// true
	// {Name string} <nil>
}

// Event is one of several types: what Rust calls an enum.
type Event interface{ event() }

type (
	Opened struct{ Account string }
	Moved  struct {
		From, To string
		Amount   uint64
	}
	Closed struct{ Account string }
)

func (Opened) event() {}
func (Moved) event()  {}
func (Closed) event() {}

func ExampleUnion() {
	c, err := codec.Union(
		codec.Member[Event, Opened](0),
		codec.Member[Event, Moved](1),
		codec.Member[Event, Closed](2),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	var e Event = Moved{From: "a", To: "b", Amount: 300}
	raw, err := c.Append(nil, &e)
	fmt.Printf("%x %v\n", raw, err)

	err = c.Decode(raw, &e)
	fmt.Printf("%#v %v\n", e, err)
	// Output:
	// 0101610162ac02 <nil>
	// codec_test.Moved{From:"a", To:"b", Amount:0x12c} <nil>
}

func ExampleWithUnion() {
	type journal struct {
		Owner  string
		Events []Event
	}
	c, err := codec.For[journal](codec.WithUnion(codec.Member[Event, Opened](0), codec.Member[Event, Moved](1)))
	fmt.Println(c, err)
	// Output:
	// {Owner string, Events []<0 {Account string}, 1 {From string, To string, Amount u64}>} <nil>
}

// Programs of different age understand each other as far as they can.
func ExampleCBOR() {
	type old struct{ Name string }
	type current struct {
		Name  string
		Email string
	}
	oldCodec, currentCodec := codec.Must(codec.CBOR[old]()), codec.Must(codec.CBOR[current]())

	raw, err := currentCodec.Append(nil, &current{"ann", "ann@example.org"})
	if err != nil {
		fmt.Println(err)
		return
	}
	var o old
	err = oldCodec.Decode(raw, &o)
	fmt.Println(o.Name, err)
	// Output: ann <nil>
}

// Two ends can see beforehand whether they mean the same type.
func ExampleCodec() {
	type here struct{ Amount, Account uint64 }
	type there struct{ Account, Amount uint64 }
	a, b := codec.Must(codec.For[here]()), codec.Must(codec.For[there]())
	fmt.Println(a.Name() == b.Name(), a.Fingerprint() == b.Fingerprint())
	fmt.Println(a)
	fmt.Println(b)
	// Output:
	// true false
	// {Amount u64, Account u64}
	// {Account u64, Amount u64}
}
