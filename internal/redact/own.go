package redact

import (
	"crypto/hmac"
	"maps"
	"slices"
	"strings"

	"github.com/keysentry/keysentry/event"
)

// ownKeys is an immutable set of keys to recognise: per HMAC key, fingerprints.
type ownKeys struct {
	rings   []ring
	lengths map[int]bool // empty set entry 0: any length
}

type ring struct {
	hmacKey string
	prints  map[string]bool
}

// with is a copy of o that knows one more key.
func (o *ownKeys) with(hmacKey, fingerprint string, length int) *ownKeys {
	n := &ownKeys{rings: slices.Clone(o.rings), lengths: maps.Clone(o.lengths)}
	if n.lengths == nil {
		n.lengths = map[int]bool{}
	}
	n.lengths[length] = true
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

// find returns the fingerprint of the own key that the run s[i:j] is, or "".
// Two ends are tried, with and without base64's padding.
func (o *ownKeys) find(s string, i, j int) string {
	if len(o.rings) == 0 {
		return ""
	}
	for _, end := range [...]int{j, padded(s, j)} {
		if !o.lengths[0] && !o.lengths[end-i] {
			continue
		}
		for _, r := range o.rings {
			if id := event.Fingerprint([]byte(r.hmacKey), s[i:end]); r.prints[id] {
				return id
			}
		}
		if end == padded(s, j) {
			break
		}
	}
	return o.inside(s[i:j])
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

// maxWindows bounds how many places of one run are tried; each costs an HMAC.
const maxWindows = 256

// inside returns the fingerprint of an own key of known length somewhere in a
// longer run: behind an escape such as %22, or glued to a name.
func (o *ownKeys) inside(run string) string {
	for length := range o.lengths {
		if length == 0 {
			continue
		}
		for k := 0; k+length <= len(run) && k < maxWindows; k++ {
			for _, r := range o.rings {
				if id := event.Fingerprint([]byte(r.hmacKey), run[k:k+length]); r.prints[id] {
					return id
				}
			}
		}
	}
	return ""
}

func padded(s string, j int) int {
	for j < len(s) && s[j] == '=' {
		j++
	}
	return j
}

// HasKeys reports whether there are own keys to look for.
func (r *Redactor) HasKeys() bool { return len(r.own.Load().rings) > 0 }
