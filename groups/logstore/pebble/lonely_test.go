package pebble_test

import (
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/mosaik-go/mosaik/id"
)

// lonely marks a process that runs one test by itself, and may leave goroutines behind.
const lonely = "MOSAIK_TEST_LONELY"

var otherGroup = id.Of("an idle group")

func isLonely() bool { return os.Getenv(lonely) != "" }

// runLonely runs the test in a process of its own: after some failures the database stands still, and cannot be closed.
func runLonely(t *testing.T) {
	t.Helper()
	me, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), me, "-test.run=^"+t.Name()+"$", "-test.v", "-test.short="+strconv.FormatBool(testing.Short()))
	cmd.Env = append(os.Environ(), lonely+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
