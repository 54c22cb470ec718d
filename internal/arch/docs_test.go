package arch

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// root is the module's directory.
const root = "../.."

func readPage(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The architecture page has every package, or the tree that it is in, and no package that is not there.
func TestArchitecturePageIsComplete(t *testing.T) {
	t.Parallel()
	named := make(map[string]bool)
	for line := range strings.Lines(readPage(t, "docs/architecture.md")) {
		cells := strings.Split(line, "|")
		if len(cells) != 5 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		for _, name := range strings.Split(cells[1], ",") {
			named[strings.Trim(name, " `")] = false
		}
	}
	for _, p := range list(t) {
		rel, _ := inModule(p.Path)
		if rel == "." {
			rel = "mosaik"
		}
		for _, name := range []string{rel, filepath.Dir(rel) + "/*"} {
			if _, ok := named[name]; ok {
				named[name], rel = true, ""
			}
		}
		if rel != "" {
			t.Errorf("docs/architecture.md has no row for %s", rel)
		}
	}
	for name, found := range named {
		if !found {
			t.Errorf("docs/architecture.md has a row for %s, which is no package", name)
		}
	}
}

// The page of dependencies has the modules that go.mod requires for the module's own sake, with their reasons, and no others.
func TestDependenciesAreExplained(t *testing.T) {
	t.Parallel()
	page := readPage(t, "docs/dependencies.md")
	var direct []string
	for line := range strings.Lines(readPage(t, "go.mod")) {
		words := strings.Fields(line)
		switch {
		case len(words) == 2 && words[0] == "tool":
			direct = append(direct, strings.SplitN(words[1], "/cmd/", 2)[0])
		case strings.HasPrefix(line, "\t") && len(words) == 2:
			direct = append(direct, words[0])
		}
	}
	if len(direct) < 10 {
		t.Fatalf("only %d requirements in go.mod", len(direct))
	}
	for _, module := range direct {
		if !strings.Contains(page, "\n| "+module+" |") {
			t.Errorf("docs/dependencies.md does not say what %s is for", module)
		}
	}
	if rows := strings.Count(page, "\n| ") - 1; rows != len(direct) {
		t.Errorf("docs/dependencies.md has %d modules, go.mod %d", rows, len(direct))
	}
}

// Tests that the documentation names are there.
func TestNamedTestsExist(t *testing.T) {
	t.Parallel()
	tests := make(map[string]bool)
	walk(t, "_test.go", func(_, text string) {
		for _, m := range testFunc.FindAllStringSubmatch(text, -1) {
			tests[m[1]] = true
		}
	})
	named := 0
	walk(t, ".md", func(path, text string) {
		for _, name := range testName.FindAllString(fenced.ReplaceAllString(text, ""), -1) {
			if named++; !tests[name] {
				t.Errorf("%s names %s, which does not exist", path, name)
			}
		}
	})
	if named == 0 {
		t.Error("no name of a test was found")
	}
}

// walk calls fn for each file of the module whose name ends so.
func walk(t *testing.T, end string, fn func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, end) {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil {
			fn(path, string(text))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

var (
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz|Example)\w+)\(`)
	testName = regexp.MustCompile(`\b(?:Test|Benchmark|Fuzz)[A-Z]\w*`)

	link    = regexp.MustCompile(`\]\(([^)]+)\)`)
	fenced  = regexp.MustCompile("(?s)\n *```.*?\n *```")
	inline  = regexp.MustCompile("`[^`\n]*`")
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	noWord  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// Whoever starts at the README finds every page. The page of what is still owed comes and goes.
func TestPagesAreReachable(t *testing.T) {
	t.Parallel()
	reached := map[string]bool{filepath.Join(root, "docs/status.md"): true}
	for next := []string{filepath.Join(root, "README.md")}; len(next) > 0; {
		page := next[0]
		next = next[1:]
		if reached[page] || filepath.Ext(page) != ".md" {
			continue
		}
		reached[page] = true
		for _, target := range links(page, readPage(t, strings.TrimPrefix(page, root+"/"))) {
			file, _, _ := strings.Cut(target, "#")
			next = append(next, file)
		}
	}
	walk(t, ".md", func(path, _ string) {
		if !reached[path] {
			t.Errorf("no link leads from the README to %s", path)
		}
	})
}

// Links within the documentation lead somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	checked := 0
	walk(t, ".md", func(path, page string) {
		for _, l := range links(path, page) {
			checked++
			target, anchor, _ := strings.Cut(l, "#")
			text, err := os.ReadFile(target)
			if err != nil {
				t.Errorf("%s: %v", path, err)
			} else if anchor != "" && !anchors(string(text))[anchor] {
				t.Errorf("%s: %s has no heading #%s", path, target, anchor)
			}
		}
	})
	if checked < 20 {
		t.Errorf("only %d links were found", checked)
	}
}

// links returns where the links of a page lead, as paths with anchors, without those into the world.
func links(path, page string) (out []string) {
	prose := inline.ReplaceAllString(fenced.ReplaceAllString(page, ""), "")
	for _, m := range link.FindAllStringSubmatch(prose, -1) {
		switch {
		case strings.Contains(m[1], "://"):
		case strings.HasPrefix(m[1], "#"):
			out = append(out, path+m[1])
		default:
			out = append(out, filepath.Join(filepath.Dir(path), m[1]))
		}
	}
	return out
}

// anchors returns what the headings of a page can be reached by.
func anchors(page string) map[string]bool {
	out := make(map[string]bool)
	for _, m := range heading.FindAllStringSubmatch(page, -1) {
		out[strings.ReplaceAll(noWord.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	return out
}
