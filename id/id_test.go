package id_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/mosaik-go/mosaik/id"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const digits = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// The digests were computed with the BLAKE3 authors' own implementation, and are the ids that the reference system gives
// the same texts.
func TestOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
		{"word", "mosaik", "b1950ece12beb7cb9b00e98132e4b3dc6c1b14e62218b33f2696ecde15bbe8fb"},
		{"name", "my-network", "3a15da9332ddf3c130882c97f6674a45edf90ecbe482c92f51b1822ec7dcf0d5"},
		{"not ASCII", "größe 数", "4f751acd74da1e8fa3a9d5fdadc066b96bded2be7f453d6db5390794b050c867"},
		{"63 digits", strings.Repeat("a", 63), "1a2a060cf56e4a859d80723cac9e2391d3c09a33008483e5424c57fe68629b79"},
		{"65 digits", strings.Repeat("a", 65), "f345679d9055e53939e92c04ff4f6c9d824b849810d4b598f54baa23336cde99"},
		{"64 characters that are not digits", strings.Repeat("g", 64), "f9cb6c00e96586f7774f70967ea66c2ea5eb7653844ad6ebd77d4b7d5b06af6c"},
		{"space and 63 digits", " " + digits[:63], "73034473da6ab1e417aaed15d84fb2ac9237877b187e35699c794c5930ee98d5"},
		{"sign and 63 digits", "+" + digits[:63], "b75892b32a7a97229d93e875fb042dc64c4ca8ab18ef838e4251d50a7e64bc3b"},
		{"prefix and 62 digits", "0x" + digits[:62], "3ebde149609e8ec4d9bec43a6982791524e1c0e8530c713c4606119aa9e6caca"},
		{"64 digits, lower case", digits, digits},
		{"64 digits, upper case", strings.ToUpper(digits), digits},
		{"64 digits, mixed case", digits[:32] + strings.ToUpper(digits[32:]), digits},
		{"64 zeros", strings.Repeat("0", 64), strings.Repeat("0", 64)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := id.Of(c.text).String(); got != c.want {
				t.Errorf("Of(%q) is\n%s, want\n%s", c.text, got, c.want)
			}
		})
	}
}

func TestDerive(t *testing.T) {
	t.Parallel()
	base := id.Of("mosaik")
	for _, c := range []struct {
		name  string
		parts []string
		want  string
	}{
		{"no part", nil, "d917578d309fa002d6443fcc6ce8fddc597daa295ddde2059f63bc121fbe6b0b"},
		{"an empty part", []string{""}, "42cd0a149ff4f559e0c56b9343cb91cfc228fbbd33eaf39cff260d870b61aba7"},
		{"one part", []string{"room"}, "1f63f84203837624c14a3ec85d37b2759803defb07a4a4858ff3136644a42f83"},
		{"two parts", []string{"ro", "om"}, "981fdc9fa024f5e6a214c7e723b5a79da5f32485d4ab0c5ea32e26a08078eb5e"},
	} {
		if got := base.Derive(bytesOf(c.parts)...).String(); got != c.want {
			t.Errorf("%s: got\n%s, want\n%s", c.name, got, c.want)
		}
	}
}

func bytesOf(parts []string) (out [][]byte) {
	for _, p := range parts {
		out = append(out, []byte(p))
	}
	return out
}

// Other parts, or the same bytes cut elsewhere, give another id; so does another base. And none of them is the id of a text
// made of the same bytes.
func TestDeriveIsInjective(t *testing.T) {
	t.Parallel()
	base := id.Of("mosaik")
	rapid.Check(t, func(t *rapid.T) {
		// Few letters and short parts, so that many pairs have the same bytes in all.
		some := rapid.SliceOfN(rapid.StringOfN(rapid.RuneFrom([]rune("ab\x00\x01")), 0, 3, -1), 0, 4)
		a, b := some.Draw(t, "a"), some.Draw(t, "b")
		x, y := base.Derive(bytesOf(a)...), base.Derive(bytesOf(b)...)
		if (x == y) != slices.Equal(a, b) {
			t.Fatalf("%q gives %v and %q gives %v", a, x, b, y)
		}
		if other := id.Of("other").Derive(bytesOf(a)...); other == x {
			t.Fatalf("%q gives %v from two bases", a, x)
		}
		if plain := id.Of(string(base[:]) + strings.Join(a, "")); plain == x {
			t.Fatalf("%q gives %v, which is the id of a text", a, x)
		}
	})
	// What a part's length prefix looks like when written by hand.
	if base.Derive([]byte("a"), []byte("b")) == base.Derive([]byte("a\x01\x00\x00\x00\x00\x00\x00\x00b")) {
		t.Error("a part can pose as two")
	}
}

func TestDeriveChain(t *testing.T) {
	t.Parallel()
	base := id.Of("mosaik")
	if base.Derive([]byte("a")).Derive([]byte("b")) == base.Derive([]byte("a"), []byte("b")) {
		t.Error("deriving twice is deriving once with two parts")
	}
}

func TestRandom(t *testing.T) {
	t.Parallel()
	seen := make(map[id.ID]bool)
	for range 1000 {
		seen[id.Random()] = true
	}
	if len(seen) != 1000 || seen[id.ID{}] {
		t.Errorf("1000 random ids are %d different ones", len(seen))
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	d := id.Of(digits)
	if d.String() != digits || d.Short() != digits[:10] {
		t.Errorf("prints %s, short %s", d, d.Short())
	}
	if got, err := id.Parse(strings.ToUpper(digits)); err != nil || got != d {
		t.Errorf("Parse of upper case: %v, %v", got, err)
	}
	for _, bad := range []string{"", "mosaik", digits[:63], digits + "0", "g" + digits[1:], " " + digits[1:]} {
		if got, err := id.Parse(bad); err == nil || !got.IsZero() {
			t.Errorf("Parse(%q) is %v, %v, want an error", bad, got, err)
		}
	}
	text, err := json.Marshal(map[id.ID]id.ID{d: d})
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"` + digits + `":"` + digits + `"}`; string(text) != want {
		t.Errorf("in JSON: %s, want %s", text, want)
	}
	var back map[id.ID]id.ID
	if err := json.Unmarshal(text, &back); err != nil || back[d] != d {
		t.Errorf("back from JSON: %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"mosaik":"mosaik"}`), &back); err == nil {
		t.Error("a name was taken for an id")
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	a, b := id.ID{0, 255}, id.ID{1, 0}
	if a.Compare(b) != -1 || b.Compare(a) != 1 || a.Compare(a) != 0 {
		t.Error("ids are not ordered byte by byte")
	}
	if !(id.ID{}).IsZero() || a.IsZero() {
		t.Error("IsZero is wrong")
	}
}
