package id_test

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/mosaik-go/mosaik/id"
)

// The first two test vectors of RFC 8032, section 7.1: secret key and public key.
func TestPeerIDOf(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
			"d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"},
		{"4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
			"3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"},
	} {
		seed, err := hex.DecodeString(c[0])
		if err != nil {
			t.Fatal(err)
		}
		key := ed25519.NewKeyFromSeed(seed)
		p := id.PeerIDOf(key)
		if p.String() != c[1] || p.Short() != c[1][:10] {
			t.Errorf("got %s, short %s, want %s", p, p.Short(), c[1])
		}
		message := []byte("message")
		if !ed25519.Verify(p.PublicKey(), message, ed25519.Sign(key, message)) {
			t.Error("PublicKey does not verify what the private key signed")
		}
		p.PublicKey()[0]++
		if p.String() != c[1] {
			t.Error("PublicKey is not a copy")
		}
	}
}

func TestParsePeerID(t *testing.T) {
	t.Parallel()
	p, err := id.ParsePeerID(strings.ToUpper(digits))
	if err != nil || p.String() != digits {
		t.Errorf("upper case: %v, %v", p, err)
	}
	for _, bad := range []string{"", "bootstrap", digits[:62], digits + "00", "g" + digits[1:]} {
		if p, err := id.ParsePeerID(bad); err == nil || !p.IsZero() {
			t.Errorf("ParsePeerID(%q) is %v, %v, want an error: text is never hashed into an identity", bad, p, err)
		}
	}
	text, err := json.Marshal(p)
	if err != nil || string(text) != `"`+digits+`"` {
		t.Errorf("in JSON: %s, %v", text, err)
	}
	var back id.PeerID
	if err := json.Unmarshal(text, &back); err != nil || back != p {
		t.Errorf("back from JSON: %v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`"me"`), &back); err == nil || back != p {
		t.Errorf("bad JSON: %v, %v", back, err)
	}
}

func TestPeerOrder(t *testing.T) {
	t.Parallel()
	a, b := id.PeerID{0, 255}, id.PeerID{1, 0}
	if a.Compare(b) != -1 || b.Compare(a) != 1 || a.Compare(a) != 0 {
		t.Error("peer ids are not ordered byte by byte")
	}
}

func TestPeerAddrText(t *testing.T) {
	t.Parallel()
	p, err := id.ParsePeerID(digits)
	if err != nil {
		t.Fatal(err)
	}
	tcp, quic := "/ip4/127.0.0.1/tcp/4001", "/ip6/::1/udp/4001/quic-v1"
	for _, c := range []struct {
		addrs []string
		text  string
	}{
		{nil, digits},
		{[]string{tcp}, digits + "@" + tcp},
		{[]string{tcp, quic}, digits + "@" + tcp + "," + quic},
	} {
		a := id.PeerAddr{ID: p, Addrs: c.addrs}
		if a.String() != c.text {
			t.Errorf("prints %q, want %q", a, c.text)
		}
		back, err := id.ParsePeerAddr(c.text)
		if err != nil || back.ID != p || !slices.Equal(back.Addrs, c.addrs) {
			t.Errorf("%q reads back as %v, %v", c.text, back, err)
		}
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var decoded id.PeerAddr
		if err := json.Unmarshal(text, &decoded); err != nil || decoded.String() != c.text {
			t.Errorf("%s in JSON reads back as %v, %v", text, decoded, err)
		}
	}
	for _, bad := range []string{"", "@", "@" + tcp, digits + "@", digits + "@127.0.0.1:4001", digits + "@" + tcp + ",", digits[1:] + "@" + tcp} {
		if got, err := id.ParsePeerAddr(bad); err == nil {
			t.Errorf("ParsePeerAddr(%q) is %v, want an error", bad, got)
		}
	}
}

// FuzzParsePeerAddr: what is accepted prints as text that means the same.
func FuzzParsePeerAddr(f *testing.F) {
	f.Add(digits)
	f.Add(digits + "@/ip4/127.0.0.1/tcp/4001,/ip4/127.0.0.1/udp/4001/quic-v1")
	f.Add(digits + "@@/,/")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := id.ParsePeerAddr(text)
		if err != nil {
			return
		}
		b, err := id.ParsePeerAddr(a.String())
		if err != nil || b.ID != a.ID || !slices.Equal(b.Addrs, a.Addrs) {
			t.Errorf("%q is %v, which reads back as %v, %v", text, a, b, err)
		}
	})
}
