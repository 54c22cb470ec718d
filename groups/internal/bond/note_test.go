package bond

import "github.com/mosaik-go/mosaik/groups/internal/wire"

// note and noteOf make a message that carries a text, and read it.
func note(text string) wire.Message {
	return &wire.Forward{Items: []wire.Item{{Count: 1, Payload: []byte(text)}}}
}

func noteOf(m wire.Message) string { return string(m.(*wire.Forward).Items[0].Payload) }
