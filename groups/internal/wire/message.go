package wire

// Message is one message between two members' engines. The concrete types and their encoding are in this package.
type Message interface {
	// kind is the first byte of the encoded message.
	kind() byte
}
