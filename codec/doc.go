// Package codec turns Go values into bytes and back, the same bytes on every machine.
//
// [For] is the default and fits most types: the postcard format, which Rust programs with serde and postcard read and
// write too. It is compact, and canonical: a value has one encoding, and Decode accepts no other. Both ends must have
// the same type; the [Codec] fingerprint tells whether they do. [CBOR] is for types that change while programs of
// different age talk to each other, [Proto] for protobuf messages, [Raw] for bytes that are encoded already.
//
// # Types
//
//	Go                              bytes                                     Rust
//	bool                            0 or 1                                    bool
//	uint8, int8                     the byte                                  u8, i8
//	uint16, uint32, uint64          varint (LEB128)                           u16, u32, u64
//	int16, int32, int64             varint of the zigzag number               i16, i32, i64
//	uint, int                       as uint64, int64                          u64, i64
//	float32, float64                4 or 8 bytes, little-endian               f32, f64
//	string                          length as varint, UTF-8                   String
//	[]T                             length as varint, elements                Vec<T>
//	[3]T                            elements                                  [T; 3]
//	struct                          fields in order                           struct, tuple
//	*T                              0, or 1 and the value                     Option<T>
//	map[K]V                         length as varint, keys and values by turn map
//	interface with [WithUnion]      tag as varint, the member's value         enum
//	time.Time                       seconds and nanoseconds since 1970, UTC   (i64, u32)
//	time.Duration                   nanoseconds, as int64                     i64
//	own binary methods              length as varint, what they return        Vec<u8>
//	protobuf message                length as varint, the message             Vec<u8>
//
// All fields of a struct must be exported. The tag `mosaik:"-"` leaves a field out, and it is zero on the other side;
// `mosaik:"name"` gives it another name in the fingerprint, so that the Go field can be renamed. Fields called _ are
// left out.
//
// [For] refuses types whose values would not survive the way: channels, functions, complex numbers, uintptr,
// interfaces without [WithUnion], unexported fields, and structs that have their binary methods from an embedded field
// only, because these would lose the other fields. Types may refer to themselves through pointers, slices and maps.
//
// # One value, one encoding
//
// Entries of maps are sorted by the bytes of their keys. Varints have no more bytes than needed. Nil and empty slices
// and maps are the same, and decode to nil. Strings must be UTF-8. A time has no time zone and no monotonic clock. In
// map keys, floats that are NaN are refused and -0 is +0; pointers, interfaces and times are not map keys. What Decode
// accepts, Append turns into the same bytes again; only types with binary methods of their own and protobuf messages
// may be laxer.
//
// # Hostile input
//
// Decode takes no more memory than a constant, which depends on the type, times the length of the input. Nesting ends
// at [MaxDepth]. Nothing panics, unless methods of a type do.
package codec
