package discovery

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mosaik-go/mosaik/id"
)

// However many strangers there are, few are remembered, and fewer logged. They are forgotten when they are gone.
func TestStrangersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Discovery{estranged: newStrangers()}
		if d.Note() != "" {
			t.Errorf("note without strangers: %q", d.Note())
		}
		warned := 0
		stranger := func(n int) {
			if d.estranged.refused(id.PeerIDOf(numberedKey(n)), time.Now()) {
				warned++
			}
		}
		stranger(0)
		stranger(0)
		if want := "1 peer of this network is refused: another network secret"; !strings.HasPrefix(d.Note(), want) || warned != 1 {
			t.Errorf("note %q, want %q; warned %d times, want once", d.Note(), want, warned)
		}
		for n := range 1000 {
			stranger(n)
		}
		if n, full := d.estranged.count(time.Now()); n != strangersMost || !full || len(d.estranged.status(time.Now())) != strangersMost {
			t.Errorf("%d strangers, full %v", n, full)
		}
		if !strings.HasPrefix(d.Note(), "64 peers of this network or more are refused") {
			t.Errorf("note of many: %q", d.Note())
		}
		if warned != strangersBurst {
			t.Errorf("warned %d times at once, want %d", warned, strangersBurst)
		}
		for range 600 {
			time.Sleep(time.Second)
			for n := range 20 {
				stranger(n)
			}
		}
		if warned > strangersBurst+11 {
			t.Errorf("warned %d times after ten minutes", warned)
		}
		d.estranged.forget(id.PeerIDOf(numberedKey(0)))
		if n := len(d.estranged.status(time.Now())); n != 19 {
			t.Errorf("%d strangers are left, want 19", n)
		}
		time.Sleep(strangerStays + time.Second)
		if d.Note() != "" {
			t.Errorf("note of strangers that are gone: %q", d.Note())
		}
	})
}
