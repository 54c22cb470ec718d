package host

import (
	"log/slog"

	"github.com/mosaik-go/mosaik/groups/internal/core"
	"github.com/mosaik-go/mosaik/groups/logstore"
)

// OpenOffline reads what the log of a stopped member holds. Images that cannot be used stay where they are.
func OpenOffline(log logstore.Log) (*core.Offline, error) {
	images, saved, err := openSaved(keptImages{log.Images()}, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	defer closeImages(images)
	return core.OpenOffline(log, saved, random())
}

// keptImages are images that are only read.
type keptImages struct{ logstore.Images }

func (keptImages) Drop(uint64) error { return nil }
