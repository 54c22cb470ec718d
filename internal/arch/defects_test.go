package arch

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What docs/defects.md names exists: every test, in the file that it says. And it names something for each fault.
func TestDefectsAreTested(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(root, "docs", "defects.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`([\w/]+) (Test\w+)(?:/(\w+\.txt))?`)
	row := regexp.MustCompile(`(?m)^\| (\d+) \| [ABC] \|(.*)$`)
	next := 1
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		if m[1] != fmt.Sprint(next) {
			t.Errorf("fault %s stands where %d should", m[1], next)
		}
		next++
		tests := named.FindAllStringSubmatch(m[2], -1)
		if len(tests) == 0 && !strings.Contains(m[2], "| with ") && !strings.Contains(m[2], "*Design:*") {
			t.Errorf("fault %s: no test and no reason", m[1])
		}
		for _, n := range tests {
			file := filepath.Join(root, n[1]+"_test.go")
			src, err := os.ReadFile(file)
			if err != nil {
				t.Errorf("fault %s: %v", m[1], err)
				continue
			}
			if !strings.Contains(string(src), "func "+n[2]+"(") {
				t.Errorf("fault %s: no %s in %s", m[1], n[2], file)
			}
			if n[3] != "" {
				if _, err := os.Stat(filepath.Join(filepath.Dir(file), "testdata", n[3])); err != nil {
					t.Errorf("fault %s: %v", m[1], err)
				}
			}
		}
	}
	if next != 95 {
		t.Errorf("the last fault is %d, want 94", next-1)
	}
}

// The engine and the rules that it consists of have no clock and no goroutines: they are told the time, and what
// is decided from the log depends on nothing else.
func TestEngineHasNoClock(t *testing.T) {
	t.Parallel()
	impure := regexp.MustCompile(`\btime\.(Now|Since|Until|Sleep|After|AfterFunc|NewTimer|NewTicker|Tick)\(|(?m)^\s*go [\w.]+\(|(?m)^\s*go func`)
	checked := 0
	for _, dir := range []string{"core", "genesis", "member", "wire"} {
		files, err := filepath.Glob(filepath.Join(root, "groups", "internal", dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			src, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			checked++
			if m := impure.Find(src); m != nil {
				t.Errorf("%s has %q", f, strings.TrimSpace(string(m)))
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d files were found", checked)
	}
}
