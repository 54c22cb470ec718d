// Package leak finds goroutines that tests leave behind.
package leak

import (
	"fmt"
	"os"
	"time"

	"go.uber.org/goleak"
)

// patience is how long goroutines that are about to end may take, on a busy machine.
const patience = 30 * time.Second

// Check is called with the result of all tests of a package. It waits until no goroutine is left but the main one, and returns
// the code to exit with: 1 if all tests passed and some goroutines stay.
func Check(code int) int {
	if code != 0 {
		return code
	}
	err := goleak.Find()
	for begin := time.Now(); err != nil && time.Since(begin) < patience; {
		time.Sleep(100 * time.Millisecond)
		err = goleak.Find()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "goroutines are left behind:", err)
		return 1
	}
	return 0
}
