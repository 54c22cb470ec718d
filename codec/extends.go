package codec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Description returns the text that the fingerprint of a codec is the digest of: what the codec agrees on with another
// one, readable. It is empty if there is none, as for tolerant codecs and those of other packages.
func Description[T any](c Codec[T]) string {
	if s, ok := c.(fmt.Stringer); ok {
		if text := s.String(); fingerprint(text) == c.Fingerprint() {
			return text
		}
	}
	return ""
}

// Extends reports whether a type reads all that was written as another one, given the descriptions of both: they are the
// same, but for unions that have more members now. Descriptions that it cannot read extend nothing but themselves.
func Extends(now, before string) bool {
	if now == before {
		return true
	}
	a, errA := readDescription(now)
	b, errB := readDescription(before)
	return errA == nil && errB == nil && a.extends(b, map[[2]*described]bool{})
}

// described is a part of a description.
type described struct {
	kind  string   // as in the text, without parts
	names []string // of fields, tags of members
	parts []*described
}

// extends compares two graphs. What was taken for right on the way is in assumed: graphs have cycles.
func (a *described) extends(b *described, assumed map[[2]*described]bool) bool {
	pair := [2]*described{a, b}
	if assumed[pair] {
		return true
	}
	assumed[pair] = true
	if a.kind != b.kind || a.kind != "<>" && !slices.Equal(a.names, b.names) || len(a.names) == 0 && len(a.parts) != len(b.parts) {
		return false
	}
	for i, p := range b.parts {
		at := i
		if len(b.names) > 0 {
			at = slices.Index(a.names, b.names[i])
		}
		if at < 0 || !a.parts[at].extends(p, assumed) {
			return false
		}
	}
	return true
}

// descriptionReader reads what classes.write wrote. The text may come from a disk.
type descriptionReader struct {
	rest   string
	opened []*described // composites, in the order in which they opened
	depth  int
}

const maxDescribedDepth = 1000

func readDescription(text string) (*described, error) {
	r := descriptionReader{rest: text}
	d, err := r.read()
	if err == nil && r.rest != "" {
		err = fmt.Errorf("more at %q", r.rest)
	}
	return d, err
}

// take skips a token, if it comes next.
func (r *descriptionReader) take(token string) (ok bool) {
	r.rest, ok = strings.CutPrefix(r.rest, token)
	return ok
}

// until returns what comes before a token, and skips both.
func (r *descriptionReader) until(token string) (string, error) {
	s, rest, ok := strings.Cut(r.rest, token)
	if !ok || s == "" {
		return "", fmt.Errorf("no %q in %q", token, r.rest)
	}
	r.rest = rest
	return s, nil
}

func (r *descriptionReader) open(kind string) *described {
	d := &described{kind: kind}
	r.opened = append(r.opened, d)
	return d
}

func (r *descriptionReader) part(d *described) (*described, error) {
	p, err := r.read()
	d.parts = append(d.parts, p)
	return d, err
}

func (r *descriptionReader) read() (*described, error) {
	if r.depth++; r.depth > maxDescribedDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDescribedDepth)
	}
	defer func() { r.depth-- }()
	switch {
	case r.take("#"):
		return r.reference()
	case r.take("?"):
		return r.part(r.open("?"))
	case r.take("map["):
		d, err := r.part(r.open("map"))
		if err == nil && !r.take("]") {
			err = fmt.Errorf("a key without an end at %q", r.rest)
		}
		if err != nil {
			return nil, err
		}
		return r.part(d)
	case r.take("[]"):
		return r.part(r.open("[]"))
	case r.take("["):
		n, err := r.until("]")
		if err != nil {
			return nil, err
		}
		return r.part(r.open("[" + n + "]"))
	case r.take("{"):
		return r.list(r.open("{}"), "}")
	case r.take("<"):
		return r.list(r.open("<>"), ">")
	}
	return r.leaf()
}

func (r *descriptionReader) reference() (*described, error) {
	n := len(r.rest) - len(strings.TrimLeft(r.rest, "0123456789"))
	i, err := strconv.Atoi(r.rest[:n])
	if err != nil || i >= len(r.opened) {
		return nil, fmt.Errorf("no part %q", r.rest[:n])
	}
	r.rest = r.rest[n:]
	return r.opened[i], nil
}

// list reads the fields of a struct, or the members of a union.
func (r *descriptionReader) list(d *described, end string) (*described, error) {
	if r.take(end) {
		return d, nil
	}
	for {
		name, err := r.until(" ")
		if err != nil {
			return nil, err
		}
		d.names = append(d.names, name)
		if _, err := r.part(d); err != nil {
			return nil, err
		}
		if r.take(end) {
			return d, nil
		}
		if !r.take(", ") {
			return nil, fmt.Errorf("neither a further part nor the end at %q", r.rest)
		}
	}
}

// leaf reads a kind without parts. The names of types in it may have brackets.
func (r *descriptionReader) leaf() (*described, error) {
	for _, k := range []string{kindNames[kBinary], kindNames[kProto]} {
		if !strings.HasPrefix(r.rest, k+"(") {
			continue
		}
		depth := 0
		for i, c := range r.rest {
			switch c {
			case '(':
				depth++
			case ')':
				if depth--; depth == 0 {
					d := &described{kind: r.rest[:i+1]}
					r.rest = r.rest[i+1:]
					return d, nil
				}
			}
		}
		return nil, fmt.Errorf("no end of %q", r.rest)
	}
	n := strings.IndexAny(r.rest, ",}>]")
	if n < 0 {
		n = len(r.rest)
	}
	kind := r.rest[:n]
	if kind != kindNames[kTime] && !slices.Contains(kindNames[:kBytes], kind) {
		return nil, fmt.Errorf("no kind %q", kind)
	}
	r.rest = r.rest[n:]
	return &described{kind: kind}, nil
}
