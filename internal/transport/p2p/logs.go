package p2p

import (
	"log/slog"
	"os"
	"sync"

	"github.com/libp2p/go-libp2p/gologshim"
)

// routeLibraryLogs keeps libp2p and quic-go from writing to standard error. What they have to say that matters to an
// operator reaches this package as errors.
var routeLibraryLogs = sync.OnceFunc(func() {
	gologshim.SetDefaultHandler(slog.DiscardHandler)
	if os.Getenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING") == "" {
		os.Setenv("QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING", "true")
	}
})
