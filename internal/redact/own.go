package redact

import (
	"crypto/hmac"
	"maps"
	"slices"
	"strings"

	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

// ownKeys is an immutable set of keys to recognise: per HMAC key, fingerprints.
type ownKeys struct {
	rings  []ring
	shapes []shape
	least  int // length of the shortest key; minRun when one is unknown
	wide   int // length of the shortest wide key; 0: there is none
}

type ring struct {
	hmacKey string
	prints  map[string]bool
}

// shape is what is known of keys of one length without knowing them: so little that
// it does not help to guess one, and enough to try one place in sixty.
type shape struct {
	length int    // 0: unknown
	sums   uint64 // one bit per sum that a key of this length has
	wide   bool   // a key holds characters that no run has, as base64 does
}

// sum of a text is six bits of its first two bytes and its last.
func sum(s string) uint64 {
	return 1 << ((uint(s[0])*7 + uint(s[1])*13 + uint(s[len(s)-1])*29) & 63)
}

// AddKey makes a key recognised: its fingerprint, and the HMAC key the
// fingerprint was made with. length is the key's length when it is known, else
// 0; knowing it makes the search cheaper, and finds the key inside a longer text.
// AddValue is better still.
func (r *Redactor) AddKey(hmacKey secret.Value, fingerprint string, length int) {
	r.add(hmacKey, fingerprint, shape{length: length, sums: ^uint64(0)})
}

// AddValue makes a key recognised whose value is known, and returns its
// fingerprint. The value is not kept.
func (r *Redactor) AddValue(hmacKey, value secret.Value) string {
	v := value.Reveal()
	id := event.Fingerprint([]byte(hmacKey.Reveal()), v)
	if len(v) < minSecret {
		return id // too short to be told from a word
	}
	sh := shape{length: len(v), sums: sum(v)}
	for i := range len(v) {
		sh.wide = sh.wide || class[v[i]]&run == 0
	}
	sh.wide = sh.wide && strings.TrimRight(v, "=") != v[:runOnly(v)]
	r.add(hmacKey, id, sh)
	return id
}

// runOnly is the length of the run that s begins with.
func runOnly(s string) int {
	n := 0
	for n < len(s) && class[s[n]]&run != 0 {
		n++
	}
	return n
}

func (r *Redactor) add(hmacKey secret.Value, fingerprint string, sh shape) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.own.Store(r.own.Load().with(hmacKey.Reveal(), fingerprint, sh))
}

// HasKeys reports whether there are own keys to look for.
func (r *Redactor) HasKeys() bool { return len(r.own.Load().rings) > 0 }

// with is a copy of o that knows one more key.
func (o *ownKeys) with(hmacKey, fingerprint string, sh shape) *ownKeys {
	n := &ownKeys{rings: slices.Clone(o.rings), shapes: slices.Clone(o.shapes)}
	if i := slices.IndexFunc(n.shapes, func(h shape) bool { return h.length == sh.length && h.wide == sh.wide }); i >= 0 {
		n.shapes[i].sums |= sh.sums
	} else {
		n.shapes = append(n.shapes, sh)
	}
	for _, h := range n.shapes {
		if h.wide && (n.wide == 0 || h.length < n.wide) {
			n.wide = h.length
		}
	}
	n.least = minRun
	if !slices.ContainsFunc(n.shapes, func(h shape) bool { return h.length == 0 }) {
		n.least = slices.MinFunc(n.shapes, func(a, b shape) int { return a.length - b.length }).length
	}
	fingerprint = strings.Clone(fingerprint)
	for i := range n.rings {
		if hmac.Equal([]byte(n.rings[i].hmacKey), []byte(hmacKey)) {
			prints := maps.Clone(n.rings[i].prints)
			prints[fingerprint] = true
			n.rings[i].prints = prints
			return n
		}
	}
	n.rings = append(n.rings, ring{hmacKey, map[string]bool{fingerprint: true}})
	return n
}

// print is the fingerprint of the own key that s is, or "".
func (o *ownKeys) print(s string) string {
	for _, r := range o.rings {
		if id := event.Fingerprint([]byte(r.hmacKey), s); r.prints[id] {
			return id
		}
	}
	return ""
}

// find returns the fingerprint of the own key that the run s[i:j] is or holds, or
// "". Two ends are tried, with and without base64's padding.
func (o *ownKeys) find(s string, i, j int) string {
	if len(o.rings) == 0 || padded(s, j)-i < o.least {
		return ""
	}
	for k := range o.shapes {
		sh := &o.shapes[k]
		if sh.wide {
			continue
		}
		for _, end := range [...]int{j, padded(s, j)} {
			if v := s[i:end]; (sh.length == 0 || sh.length == len(v)) && sum(v)&sh.sums != 0 {
				if id := o.print(v); id != "" {
					return id
				}
			}
			if end == padded(s, j) {
				break
			}
		}
		if sh.length > 0 && sh.length < j-i {
			if id := o.inside(s[i:j], sh); id != "" {
				return id
			}
		}
	}
	return ""
}

// recognise makes a masked value a hit of an own key when it holds one: a key is
// most likely to stand behind its own name.
func (o *ownKeys) recognise(s string, sp *span) {
	for i := sp.from; i < sp.to; i++ {
		start := i
		for i < sp.to && class[s[i]]&run != 0 {
			i++
		}
		if i-start < minRun {
			continue
		}
		if id := o.find(s, start, i); id != "" {
			sp.kind, sp.keyID = OwnKey, id
			return
		}
	}
}

// maxWindows bounds how many places of one run are tried.
const maxWindows = 1024

// inside returns the fingerprint of an own key of known length somewhere in a
// longer run: behind an escape such as %22, or glued to a name.
func (o *ownKeys) inside(run string, sh *shape) string {
	for k := 0; k+sh.length <= len(run) && k < maxWindows; k++ {
		if v := run[k : k+sh.length]; sum(v)&sh.sums != 0 {
			if id := o.print(v); id != "" {
				return id
			}
		}
	}
	return ""
}

// widely appends the own keys that hold characters which no run has. They are
// looked for where a word begins and ends.
func (o *ownKeys) widely(s string, spans []span) []span {
	n := len(spans)
	for k := range o.shapes {
		sh := &o.shapes[k]
		if !sh.wide {
			continue
		}
		for i := 0; i+sh.length <= len(s); i++ {
			j := i + sh.length
			v := s[i:j]
			if sum(v)&sh.sums == 0 || i > 0 && class[s[i-1]]&run != 0 && class[s[i]]&run != 0 ||
				j < len(s) && class[s[j]]&run != 0 && class[s[j-1]]&run != 0 || strings.IndexByte(v, ' ') >= 0 {
				continue
			}
			if id := o.print(v); id != "" {
				spans = append(spans, span{from: i, to: j, kind: OwnKey, keyID: id})
				i = j - 1
			}
		}
	}
	if len(spans) == n {
		return spans
	}
	return union(s, spans)
}

func padded(s string, j int) int {
	for j < len(s) && s[j] == '=' {
		j++
	}
	return j
}
