// Package redact finds secrets in text and masks them before the text is
// stored, logged, shown or posted.
//
// It knows the shapes of common credentials (JSON web tokens, access keys and
// tokens with a published prefix, private keys, passwords in URLs, values after
// a telling name such as password= or Bearer), long runs of random-looking
// characters, and the keys of the daemon's own networks, which it recognises by
// their keyed fingerprint and never holds in clear. A mask names the kind of
// what it hides: [redacted:jwt].
//
// What has neither a known shape nor much randomness passes: this is a net below
// the allow-list of fields, not a replacement for it. A Redactor is safe for
// concurrent use.
package redact

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/keysentry/keysentry/event"
)

// Kind says what a mask hides.
type Kind string

// The kinds.
const (
	OwnKey     Kind = "own_key"     // a key of one of our networks
	JWT        Kind = "jwt"         // JSON web token
	Token      Kind = "token"       // a credential with a published prefix
	AWSKey     Kind = "aws_key"     // AWS access key id or session token
	PrivateKey Kind = "private_key" // PEM
	Password   Kind = "password"    // in a URL
	Named      Kind = "named"       // after a telling name
	Random     Kind = "random"      // random-looking
)

// Hit is one secret that was found in an event.
type Hit struct {
	Field event.Field
	Kind  Kind
	KeyID string // for OwnKey: the key's fingerprint
	// Word says that an ordinary word stood where a secret would: it was masked, for
	// some passwords are words, but it is no reason to call anybody.
	Word bool
}

// Redactor masks secrets.
type Redactor struct {
	mu  sync.Mutex // serialises writers of own
	own atomic.Pointer[ownKeys]
}

// New returns a Redactor that knows no keys of its own yet.
func New() *Redactor {
	r := &Redactor{}
	r.own.Store(&ownKeys{})
	return r
}

// String masks the secrets of s. It returns s itself, and false, when there are
// none.
func (r *Redactor) String(s string) (string, bool) {
	spans := r.scan(s, modeText, nil)
	if len(spans) == 0 {
		return s, false
	}
	return mask(s, spans), true
}

// freeText are the fields that hold text of any kind; there, a random-looking
// run is a secret. In names it is a name.
var freeText = [...]event.Field{event.FieldReason, event.FieldUserAgent, event.FieldEndpoint, event.FieldActor, event.FieldCode}

// names are fields that hold identities, which may well look random.
var names = [...]event.Field{
	event.FieldUserID, event.FieldRequestID, event.FieldID, event.FieldCertCN, event.FieldHost,
	event.FieldRelease, event.FieldService, event.FieldActorRole, event.FieldBoot, event.FieldNetwork, event.FieldCertID,
	event.FieldRegion, event.FieldMethod, event.FieldTLSAlert,
}

// Event masks the secrets in the text fields of e, drops the query of its
// endpoint, sets e.Redacted when it masked something, and tells what it found:
// nil for a clean event. What the query held is searched before it is dropped.
func (r *Redactor) Event(e *event.Event) []Hit {
	var hits []Hit
	for _, f := range freeText {
		if p := Place(e, f); len(*p) >= minSecret {
			hits = r.field(hits, f, p, modeText)
		}
	}
	for _, f := range names {
		if p := Place(e, f); len(*p) >= minRun {
			hits = r.field(hits, f, p, modeName)
		}
	}
	if i := strings.IndexAny(e.Endpoint, "?#"); i >= 0 {
		e.Endpoint = cmp.Or(e.Endpoint[:i], "/") // a query alone is asked of the root
	}
	e.Redacted = e.Redacted || len(hits) > 0
	return hits
}

func (r *Redactor) field(hits []Hit, f event.Field, p *string, m mode) []Hit {
	var room [4]span
	spans := r.scan(*p, m, room[:0])
	if len(spans) == 0 {
		return hits
	}
	hits = appendHits(hits, f, *p, spans)
	*p = mask(*p, spans)
	return hits
}

func appendHits(hits []Hit, f event.Field, s string, spans []span) []Hit {
	for _, sp := range spans {
		hits = append(hits, Hit{f, sp.kind, sp.keyID, sp.kind == Named && prose(s, sp)})
	}
	return hits
}

// prose reports whether the value stands in a sentence and is of words: "invalid
// token: expired", "bearer token missing", "secret: not_found", "token: AUTH_401".
func prose(s string, sp span) bool {
	return sp.from > 0 && s[sp.from-1] == ' ' && words(s[sp.from:sp.to])
}

// words reports whether v is words and short numbers that are joined by - _ or a
// point: a word has letters of one case, but for a first capital, and may end in a
// number. It names something; what was drawn by chance hardly ever looks so.
func words(v string) bool {
	const maxWords, maxWord, maxNumber = 40, 16, 4
	if len(v) > maxWords {
		return false
	}
	letters, digits := 0, 0
	for i := range len(v) {
		c := v[i]
		switch k := class[c]; {
		case k&digit != 0:
			if digits++; digits > maxNumber || letters > 5 {
				return false
			}
		case k&(upper|lower) != 0:
			if letters++; digits > 0 || letters > maxWord || letters > 2 && k != class[v[i-1]] {
				return false
			}
		case (c == '-' || c == '_' || c == '.') && letters+digits > 0:
			letters, digits = 0, 0
		default:
			return false
		}
	}
	return letters+digits > 0
}

// maxLong bounds what is searched of a text that will be cut.
const maxLong = 8 << 10

// Long masks the secrets in a text that is too long for the field f, so that it can
// be cut: half a secret is not recognised as one. Only its first 8 KiB are searched,
// and returned.
func (r *Redactor) Long(f event.Field, s string) (string, []Hit) {
	s = event.Cut(s, maxLong)
	m := modeName
	if slices.Contains(freeText[:], f) {
		m = modeText
	}
	spans := r.scan(s, m, nil)
	return mask(s, spans), appendHits(nil, f, s, spans)
}

// OwnKeys returns the fingerprints of the own keys in b, each once. It looks at the
// first 256 KiB.
func (r *Redactor) OwnKeys(b []byte) []string {
	own := r.own.Load()
	if len(own.rings) == 0 || len(b) < minRun {
		return nil
	}
	s := string(b[:min(len(b), maxRaw)])
	var out []string
	for _, sp := range r.scan(s, modeName, nil) {
		if sp.kind == OwnKey && !slices.Contains(out, sp.keyID) {
			out = append(out, sp.keyID)
		}
	}
	return out
}

// maxRaw bounds the search of a whole record.
const maxRaw = 256 << 10

// Place is where e holds the text field f, for the fields that are searched.
func Place(e *event.Event, f event.Field) *string {
	switch f {
	case event.FieldReason:
		return &e.Reason
	case event.FieldUserAgent:
		return &e.UserAgent
	case event.FieldEndpoint:
		return &e.Endpoint
	case event.FieldActor:
		return &e.Actor
	case event.FieldCode:
		return &e.Code
	case event.FieldUserID:
		return &e.UserID
	case event.FieldRequestID:
		return &e.RequestID
	case event.FieldID:
		return &e.ID
	case event.FieldCertCN:
		return &e.CertCN
	case event.FieldHost:
		return &e.Host
	case event.FieldRelease:
		return &e.Release
	case event.FieldService:
		return &e.Service
	case event.FieldActorRole:
		return &e.ActorRole
	case event.FieldBoot:
		return &e.Boot
	case event.FieldNetwork:
		return &e.Network
	case event.FieldRegion:
		return &e.Region
	case event.FieldMethod:
		return &e.Method
	case event.FieldTLSAlert:
		return &e.TLSAlert
	}
	return &e.CertID
}

// Excerpt is the masked head of a record that could not be decoded, printable
// and at most limit bytes long. Values of fields that should hold fingerprints
// are masked unless they have that form. The hits have no field.
func (r *Redactor) Excerpt(b []byte, limit int) (string, []Hit) {
	head := b[:min(len(b), 8*limit)]
	s := printable(head)
	if len(head) < len(b) { // the last run may be half a secret
		s = strings.TrimRightFunc(s, func(c rune) bool { return c < utf8.RuneSelf && class[byte(c)]&run != 0 })
	}
	spans := r.scan(s, modeExcerpt, nil)
	hits := appendHits(nil, 0, s, spans)
	s = mask(s, spans)
	if len(s) > limit {
		for limit > 0 && !utf8.RuneStart(s[limit]) {
			limit--
		}
		s = s[:limit]
	}
	return s, hits
}

// printable replaces what is not printable text.
func printable(b []byte) string {
	var out strings.Builder
	out.Grow(len(b))
	for len(b) > 0 {
		c, n := utf8.DecodeRune(b)
		switch {
		case c == utf8.RuneError && n == 1:
			c = '.'
		case c < 0x20 || c >= 0x7f && c < 0xa0 || c == '\u2028' || c == '\u2029':
			c = ' '
		}
		out.WriteRune(c)
		b = b[n:]
	}
	return out.String()
}

// mask replaces the spans, which are in order and do not overlap.
func mask(s string, spans []span) string {
	if len(spans) == 0 {
		return s
	}
	var out strings.Builder
	at := 0
	for _, sp := range spans {
		out.WriteString(s[at:sp.from])
		out.WriteString("[redacted:")
		out.WriteString(string(sp.kind))
		out.WriteByte(']')
		at = sp.to
	}
	out.WriteString(s[at:])
	return out.String()
}
