package codec

// Raw returns the codec that leaves bytes as they are, without the length that [For] puts in front. It is for payloads
// that are encoded already.
func Raw[T ~[]byte]() Codec[T] { return rawCodec[T]{} }

type rawCodec[T ~[]byte] struct{}

// Name implements [Codec].
func (rawCodec[T]) Name() string { return "raw/1" }

// Fingerprint implements [Codec].
func (rawCodec[T]) Fingerprint() [32]byte { return [32]byte{} }

// Append implements [Codec].
func (rawCodec[T]) Append(dst []byte, v *T) ([]byte, error) { return append(dst, *v...), nil }

// Decode implements [Codec].
func (rawCodec[T]) Decode(src []byte, v *T) error {
	*v = nil
	if len(src) > 0 {
		*v = append(*v, src...)
	}
	return nil
}
