package bond

import "github.com/mosaik-go/mosaik/groups/internal/wire"

// note and noteOf make a message that carries a text, and read it.
func note(text string) wire.Message { return wire.Text(text) }
func noteOf(m wire.Message) string  { return wire.TextOf(m) }
