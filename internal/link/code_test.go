package link_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/mosaik-go/mosaik/internal/link"
)

func TestCodeNames(t *testing.T) {
	t.Parallel()
	seen := make(map[string]link.Code)
	for code, name := range link.CodeNames() {
		if other, ok := seen[name]; ok {
			t.Errorf("codes %d and %d are both %q", code, other, name)
		}
		seen[name] = code
		if code.String() != name {
			t.Errorf("code %d prints %q, want %q", code, code, name)
		}
		system := code > 0 && code < 1000
		streams := code >= 10000 && code < 20000 && strings.HasPrefix(name, "stream: ")
		groups := code >= 30000 && code < 40000 && strings.HasPrefix(name, "group: ")
		if !system && !streams && !groups {
			t.Errorf("code %d (%s) is outside its range", code, name)
		}
	}
	if got := link.Code(7).String(); got != "code 7" {
		t.Errorf("a code without a name prints %q", got)
	}
	if got := link.CodeBanned.Label(); got != link.CodeBanned.String() {
		t.Errorf("the label of a code is %q", got)
	}
	if a, b := link.Code(7).Label(), link.Code(8).Label(); a != b {
		t.Errorf("codes without a name have the labels %q and %q", a, b)
	}
}

// The table in the documentation has every code.
func TestCodesAreDocumented(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/transport.md")
	if err != nil {
		t.Fatal(err)
	}
	for code, name := range link.CodeNames() {
		if row := "| " + strconv.Itoa(int(code)) + " | " + name + " |"; !strings.Contains(string(text), row) {
			t.Errorf("docs/transport.md has no row %q", row)
		}
	}
}

func TestCodeOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want link.Code
	}{
		{&link.CloseError{Code: link.CodeBanned}, link.CodeBanned},
		{fmt.Errorf("open: %w", &link.CloseError{Code: link.CodeBanned, Remote: true}), link.CodeBanned},
		{fmt.Errorf("read: %w", os.ErrDeadlineExceeded), link.CodeTimeout},
		{io.EOF, link.CodeUnexpectedClose},
		{nil, link.CodeUnexpectedClose},
	} {
		if got := link.CodeOf(c.err); got != c.want {
			t.Errorf("CodeOf(%v) is %v, want %v", c.err, got, c.want)
		}
	}
}

func TestCloseError(t *testing.T) {
	t.Parallel()
	here, there := &link.CloseError{Code: link.CodeTimeout}, &link.CloseError{Code: link.CodeTimeout, Remote: true}
	if !errors.Is(here, there) || errors.Is(here, &link.CloseError{Code: link.CodeShutdown}) {
		t.Error("close errors must match by code alone")
	}
	if here.Error() != "closed: timeout" || there.Error() != "closed by peer: timeout" {
		t.Errorf("they print %q and %q", here, there)
	}
}
