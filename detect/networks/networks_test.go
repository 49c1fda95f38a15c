package networks

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func parse(t *testing.T, text string) *Table {
	t.Helper()
	table, err := Parse("nets.csv", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func TestOf(t *testing.T) {
	t.Parallel()
	table := parse(t, "prefix,asn,owner\n# documentation prefixes\n\n192.0.2.0/24,64500,Example Networks\n192.0.2.128/25, AS64501\n2001:db8::/32,64502\n")
	for _, c := range []struct{ addr, with, without string }{
		{"192.0.2.7", "AS64500", "192.0.2.0/24"},
		{"192.0.2.200", "AS64501", "192.0.2.0/24"},
		{"::ffff:192.0.2.7", "AS64500", "192.0.2.0/24"},
		{"198.51.100.9", "198.51.100.0/24", "198.51.100.0/24"},
		{"2001:db8:7:1::1", "AS64502", "2001:db8:7::/48"},
		{"2001:db9:7:1::1", "2001:db9:7::/48", "2001:db9:7::/48"},
		{"fe80::1%eth0", "fe80::/48", "fe80::/48"},
	} {
		a := netip.MustParseAddr(c.addr)
		if got := NewNamer(table).Of(a); got != c.with {
			t.Errorf("%s with the table: got %s, want %s", c.addr, got, c.with)
		}
		if got := NewNamer(nil).Of(a); got != c.without {
			t.Errorf("%s without a table: got %s, want %s", c.addr, got, c.without)
		}
	}
	if got := NewNamer(table).Of(netip.Addr{}); got != "" {
		t.Errorf("no address: got %q", got)
	}
	if got, want := table.Owner("AS64500"), "Example Networks"; got != want {
		t.Errorf("owner: got %q, want %q", got, want)
	}
	if got := table.Len(); got != 3 {
		t.Errorf("%d prefixes, want 3", got)
	}
}

func TestParseFaults(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"192.0.2.0/24\n":                              "nets.csv:1: want prefix,asn",
		"192.0.2.0,64500\n":                           "nets.csv:1: give a prefix such as 192.0.2.0/24",
		"prefix,asn\n192.0.2.9/24,64500\n":            "nets.csv:2: 192.0.2.9/24 has bits set behind its length; write 192.0.2.0/24",
		"192.0.2.0/24,my isp\n":                       `nets.csv:1: "my isp" is no number`,
		"192.0.2.0/24,-1\n":                           "no number of an autonomous system",
		"192.0.2.0/24,4294967296\n":                   "no number of an autonomous system",
		"192.0.2.0/24,64500\n#\n192.0.2.0/24,64501\n": "nets.csv:3: 192.0.2.0/24 is given to AS64500 above and to AS64501 here",
		"::ffff:192.0.2.0/120,64500\n":                "write the prefix in its IPv4 form",
		"192.0.2.0/24,64500,\"open\n":                 "nets.csv: ",
		strings.Repeat("x,1\n", 30):                   "the rest was not read",
		"192.0.2.0/33,64500\n198.51.100.0/24,sixty\n": "nets.csv:2:",
	} {
		table, err := Parse("nets.csv", strings.NewReader(text))
		if table != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want an error with %q", text, err, want)
		}
	}
	if _, err := Parse("nets.csv", strings.NewReader("192.0.2.0/24,64500\n192.0.2.0/24,AS64500\n")); err != nil {
		t.Errorf("the same line twice: %v", err)
	}
}

func TestNamesAreKept(t *testing.T) { // not parallel: it counts allocations
	n := NewNamer(nil)
	a := netip.MustParseAddr("203.0.113.9")
	n.Of(a)
	if allocs := testing.AllocsPerRun(100, func() { n.Of(a) }); allocs != 0 {
		t.Errorf("a network that is known costs %v allocations", allocs)
	}
	for i := range 3 * maxNames {
		n.Of(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		n.Of(netip.AddrFrom4([4]byte{byte(i >> 16), byte(i >> 8), byte(i), 1}))
	}
	if got := len(n.young) + len(n.old); got > 2*maxNames {
		t.Errorf("%d names are kept, want at most %d", got, 2*maxNames)
	}
}

func BenchmarkOf(b *testing.B) {
	var text strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&text, "%d.%d.%d.0/24,%d\n", 1+i>>16, i>>8&255, i&255, 64500+i%100)
	}
	table, err := Parse("b", strings.NewReader(text.String()))
	if err != nil {
		b.Fatal(err)
	}
	n := NewNamer(table)
	for _, c := range []string{"1.2.3.4", "203.0.113.9"} {
		a := netip.MustParseAddr(c)
		b.Run(c, func(b *testing.B) {
			for b.Loop() {
				n.Of(a)
			}
		})
	}
}
