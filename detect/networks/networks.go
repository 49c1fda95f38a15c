// Package networks names the network that an address belongs to: an autonomous
// system, where a table of prefixes knows it, else its /24 or /48. It reads no
// files and keeps a bounded number of names.
package networks

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/gaissmai/bart"
)

// Table maps prefixes to autonomous systems. A nil *Table knows none. It is safe
// for concurrent use once it is parsed.
type Table struct {
	prefixes bart.Table[string] // to "AS64500"
	owners   map[string]string  // AS64500 to the name that was given with it
}

// maxPrefixes bounds a table: about three times what the public routing table has.
const maxPrefixes = 4_000_000

// Parse reads lines of prefix, number of the autonomous system (64500 or AS64500)
// and, if wanted, its owner, with commas between:
//
//	192.0.2.0/24,64500,Example Networks
//
// A first line that begins with "prefix", empty lines and lines that begin with #
// are passed over. The longest prefix decides; of two equal ones the second is
// refused, unless it says the same. name is what errors call the file. All faults
// are reported, up to maxFaults.
func Parse(name string, r io.Reader) (*Table, error) {
	t := &Table{owners: map[string]string{}}
	in := csv.NewReader(r)
	in.Comment, in.FieldsPerRecord, in.ReuseRecord, in.TrimLeadingSpace = '#', -1, true, true
	var faults []error
	systems := map[string]string{} // one text per number
	for n := 0; ; n++ {
		rec, err := in.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.Join(append(faults, fmt.Errorf("%s: %w", name, err))...)
		}
		if n == 0 && strings.EqualFold(strings.TrimSpace(rec[0]), "prefix") {
			continue
		}
		if n >= maxPrefixes {
			return nil, fmt.Errorf("%s: more than %d prefixes; merge neighbours that belong to one system", name, maxPrefixes)
		}
		if err := t.add(rec, systems); err != nil {
			line, _ := in.FieldPos(0)
			if faults = append(faults, fmt.Errorf("%s:%d: %w", name, line, err)); len(faults) == maxFaults {
				return nil, errors.Join(append(faults, fmt.Errorf("%s: the rest was not read", name))...)
			}
		}
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return t, nil
}

// maxFaults is how many faults are reported at once.
const maxFaults = 20

func (t *Table) add(rec []string, systems map[string]string) error {
	if len(rec) < 2 {
		return errors.New("want prefix,asn or prefix,asn,owner, as 192.0.2.0/24,64500")
	}
	p, err := netip.ParsePrefix(strings.TrimSpace(rec[0]))
	if err != nil {
		return fmt.Errorf("give a prefix such as 192.0.2.0/24: %w", err)
	}
	if p.Addr().Is4In6() {
		return fmt.Errorf("%s: write the prefix in its IPv4 form", p)
	}
	if p != p.Masked() {
		return fmt.Errorf("%s has bits set behind its length; write %s", p, p.Masked())
	}
	number := strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(rec[1])), "AS")
	asn, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return fmt.Errorf("%q is no number of an autonomous system, as 64500 or AS64500", rec[1])
	}
	as := "AS" + strconv.FormatUint(asn, 10)
	if known, ok := systems[as]; ok {
		as = known
	} else {
		systems[as] = as
	}
	if was, ok := t.prefixes.Get(p); ok && was != as {
		return fmt.Errorf("%s is given to %s above and to %s here", p, was, as)
	}
	t.prefixes.Insert(p, as)
	if len(rec) > 2 && t.owners[as] == "" {
		if owner := strings.TrimSpace(rec[2]); owner != "" {
			t.owners[as] = strings.Clone(owner[:min(len(owner), maxOwner)])
		}
	}
	return nil
}

// maxOwner bounds the name of an owner, in bytes.
const maxOwner = 128

// Len is how many prefixes the table has.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	return t.prefixes.Size()
}

// Owner is the name that the table gives an autonomous system; empty without one.
func (t *Table) Owner(network string) string {
	if t == nil {
		return ""
	}
	return strings.ToValidUTF8(t.owners[network], "")
}

// Namer names networks by a table, and remembers the texts that it made. It is not
// safe for concurrent use.
type Namer struct {
	table      *Table
	young, old map[netip.Prefix]string
}

// maxNames bounds one generation of names; there are two.
const maxNames = 65_536

// NewNamer makes a namer; table may be nil.
func NewNamer(table *Table) *Namer { return &Namer{table: table, young: map[netip.Prefix]string{}} }

// Of is the name of the network of an address: AS64500, or 192.0.2.0/24, or
// 2001:db8:1::/48; empty for an address that is none. It allocates only for a
// network that was not asked for lately.
func (n *Namer) Of(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	a = a.Unmap()
	if n.table != nil {
		if as, ok := n.table.prefixes.Lookup(a); ok {
			return as
		}
	}
	bits := 24
	if a.Is6() {
		bits = 48
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return ""
	}
	s, ok := n.young[p]
	if ok {
		return s
	}
	if s, ok = n.old[p]; !ok {
		s = p.String()
	}
	if len(n.young) >= maxNames {
		n.young, n.old = map[netip.Prefix]string{}, n.young
	}
	n.young[p] = s
	return s
}
