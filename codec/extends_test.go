package codec

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

// The languages of two versions of a program, which need each other's unions.
type (
	term  interface{ isTerm() }
	order interface{ isOrder() }

	literal int64
	both    struct{ Left, Right term }
	group   struct{ Orders []order }
	note    struct{ Text string }
	assign  struct {
		Name  string
		Value term
	}
)

func (literal) isTerm() {}
func (both) isTerm()    {}
func (group) isTerm()   {}
func (note) isTerm()    {}
func (assign) isOrder() {}
func (note) isOrder()   {}

func terms(cases ...Case[term]) Option    { return WithUnion(cases...) }
func orders(cases ...Case[order]) Option  { return WithUnion(cases...) }
func textOf[T any](opts ...Option) string { return Description(Must(For[T](opts...))) }

func TestExtends(t *testing.T) {
	t.Parallel()
	plain := terms(Member[term, literal](0), Member[term, both](1))
	first := []Option{terms(Member[term, literal](0), Member[term, both](1), Member[term, group](7)), orders(Member[order, assign](0))}
	second := []Option{
		terms(Member[term, note](3), Member[term, literal](0), Member[term, both](1), Member[term, group](7)),
		orders(Member[order, assign](0), Member[order, note](1)),
	}
	type record struct{ A int }
	type longer struct{ A, B int }
	type renamed struct{ B int }
	type wrapped struct{ A term }
	for _, c := range []struct {
		name        string
		now, before string
		want        bool
	}{
		{"the same", textOf[record](), textOf[record](), true},
		{"a field more", textOf[longer](), textOf[record](), false},
		{"a field less", textOf[record](), textOf[longer](), false},
		{"another name", textOf[renamed](), textOf[record](), false},
		{"another type", textOf[struct{ A uint }](), textOf[record](), false},
		{"a scalar", textOf[int](), textOf[string](), false},
		{"longer arrays", textOf[[3]int](), textOf[[2]int](), false},
		{"a list for an array", textOf[[]int](), textOf[[2]int](), false},
		{"other keys", textOf[map[string]int](), textOf[map[int]int](), false},
		{"other binary methods", textOf[netip.Addr](), textOf[netip.Prefix](), false},
		{"a member more", textOf[term](terms(Member[term, literal](0), Member[term, both](1), Member[term, note](2))), textOf[term](plain), true},
		{"a member less", textOf[term](plain), textOf[term](terms(Member[term, literal](0), Member[term, both](1), Member[term, note](2))), false},
		{"another tag", textOf[term](terms(Member[term, literal](2), Member[term, both](1))), textOf[term](plain), false},
		{"another payload", textOf[term](terms(Member[term, note](0), Member[term, both](1))), textOf[term](plain), false},
		{"a member between", textOf[term](second...), textOf[term](first...), true},
		{"and back", textOf[term](first...), textOf[term](second...), false},
		{"within a map of lists", textOf[map[netip.Addr][]*[2]order](second...), textOf[map[netip.Addr][]*[2]order](first...), true},
		{"within a struct", textOf[wrapped](second...), textOf[wrapped](first...), true},
		{"within a struct, and back", textOf[wrapped](first...), textOf[wrapped](second...), false},
		{"one of two unions", textOf[order](second...), textOf[order](first...), true},
		{"a union of another kind", textOf[order](second...), textOf[term](first...), false},
		{"nothing", textOf[record](), "", false},
		{"no description", "a text", "another text", false},
	} {
		if c.now == "" || Extends(c.now, c.before) != c.want {
			t.Errorf("%s: %q extends %q: %v", c.name, c.now, c.before, !c.want)
		}
	}
}

// What has no fingerprint of its own text has no description.
func TestDescription(t *testing.T) {
	t.Parallel()
	type record struct{ A int }
	if got := Description(Must(For[record]())); got != "{A i64}" {
		t.Errorf("described as %q", got)
	}
	if got := Description(Must(For[netip.Addr]())); got != "binary(netip.Addr)" {
		t.Errorf("described as %q", got)
	}
	if got := Description(Must(CBOR[record]())) + Description(Raw[[]byte]()) + Description[struct{ A int }](foreign{}); got != "" {
		t.Errorf("described as %q", got)
	}
}

type foreign struct{ Codec[struct{ A int }] }

func (foreign) Fingerprint() [32]byte { return [32]byte{1} }
func (foreign) String() string        { return "{A i64}" }

// The description of any type is read, and is that of this type only.
func TestAnyDescriptionIsRead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, q := drawProgram(t), drawProgram(t)
		a, err := readDescription(p.description)
		if err != nil {
			t.Fatalf("%s: %v", p.description, err)
		}
		b, err := readDescription(p.description)
		if err != nil || !a.extends(b, map[[2]*described]bool{}) {
			t.Fatalf("%s does not extend itself", p.description)
		}
		if Extends(p.description, q.description) != (p.description == q.description) {
			t.Fatalf("%s extends %s", p.description, q.description)
		}
	})
}

// Descriptions come from disks.
func FuzzExtends(f *testing.F) {
	f.Add("<0 {}, 1 f64, 2 {Side u32, Name string}, 3 {From {X i32, Y i32}, To #4}, 4 []#0>", "<0 {}, 4 []#0>")
	f.Add("{Name string, Children []#0, Index map[string]#0, Parent ?#0}", "?#0")
	f.Add("[2][]map[time]binary(a.B[func()])", "{a #99999999999999999999}")
	f.Add("[[[[[[", "map[")
	f.Fuzz(func(t *testing.T, now, before string) {
		if Extends(now, before) && Extends(before, now) && now != before {
			a, errA := readDescription(now)
			b, errB := readDescription(before)
			if errA != nil || errB != nil || a.kind != b.kind {
				t.Fatalf("%q and %q extend each other", now, before)
			}
		}
	})
}
