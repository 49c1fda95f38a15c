package redact

import (
	"encoding/base64"
	"math"
	"strings"

	"github.com/keysentry/keysentry/event"
)

// mode says how far a search goes.
type mode uint8

const (
	modeText    mode = iota
	modeName         // no search for randomness
	modeExcerpt      // also the values of fields that should be fingerprints
)

const (
	minSecret = 8  // no shorter text is searched
	minRun    = 16 // no shorter run is a credential
	minRandom = 24 // no shorter run is called random
)

// span is one find in a text.
type span struct {
	from, to int
	kind     Kind
	keyID    string
}

// Classes of bytes.
const (
	run   = 1 << iota // may be part of a credential
	digit             // 0 to 9
	upper             //
	lower             //
	mark              // what ends a telling name, or begins a password
	joint             // joins the parts of a name: _ - +
)

var class = func() (t [256]uint8) {
	for c := '0'; c <= '9'; c++ {
		t[c] = run | digit
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c] = run | upper
		t[c+'a'-'A'] = run | lower
	}
	t['_'], t['-'], t['+'] = run|joint, run|joint, run|joint
	t['='], t[':'], t[' '] = mark, mark, mark
	return t
}()

// scan finds secrets, in order, without overlap, appended to spans, which has none.
func (r *Redactor) scan(s string, m mode, spans []span) []span {
	own := r.own.Load()
	// Most texts are clean, and it shows at a glance.
	if longRun(s) || marked(s, m) || own.wide > 0 && len(s) >= own.wide {
		spans = own.plain(s, m, spans)
	}
	if escapes(s) {
		spans = own.unescaped(s, m, spans)
	}
	return spans
}

// plain is scan for a text as it stands.
func (own *ownKeys) plain(s string, m mode, spans []span) []span {
	first := len(spans)
	for i := 0; i < len(s); {
		c := class[s[i]]
		if c&run == 0 {
			if c&mark != 0 && (m != modeName || plainly(s, i)) {
				if sp := named(s, i, m); sp.to > i {
					own.recognise(s, &sp)
					spans = append(spans, sp)
					i = sp.to
					continue
				}
			}
			i++
			continue
		}
		start := i
		var seen uint8
		for i < len(s) {
			c := class[s[i]]
			if c&run == 0 {
				break
			}
			seen |= c
			i++
		}
		if i-start < minRun && (i == len(s) || s[i] != '.') && s[start] != '-' {
			continue
		}
		if sp, ok := examine(s, start, i, m, own, seen); ok {
			own.recognise(s, &sp)
			if n := len(spans); n > first && sp.from < spans[n-1].to { // an end without a beginning
				sp.from = spans[n-1].to
			}
			spans = append(spans, sp)
			i = sp.to
		}
	}
	if own.wide == 0 {
		return spans
	}
	return append(spans[:first], own.widely(s, spans[first:])...)
}

// longRun reports whether s has minRun credential characters in a row, which
// everything but a named value has. It looks at the last of the next minRun bytes
// first, so that it skips most of an ordinary text.
func longRun(s string) bool {
	for end := minRun - 1; end < len(s); {
		i := end
		for i > end-minRun && class[s[i]]&run != 0 {
			i--
		}
		if i == end-minRun {
			return true
		}
		end = i + minRun
	}
	return false
}

// marked reports whether s has a mark that a named value could follow. A scheme in
// capitals is found only in a text that has another mark.
func marked(s string, m mode) bool {
	if strings.IndexByte(s, '=') >= 0 || strings.IndexByte(s, ':') >= 0 {
		return true
	}
	return m != modeName && (strings.Contains(s, "earer ") || strings.Contains(s, "asic "))
}

// plainly reports whether the mark at s[i] is one in a name, where a colon may join
// two parts: only after a quote or before slashes it is more.
func plainly(s string, i int) bool {
	return s[i] != ':' || i > 0 && (s[i-1] == '"' || s[i-1] == '\\') || i+1 < len(s) && s[i+1] == '/'
}

// examine decides about the run s[i:j].
func examine(s string, i, j int, m mode, own *ownKeys, seen uint8) (span, bool) {
	if from, end, kind := shaped(s, i, j, seen); end > 0 {
		return span{from: from, to: end, kind: kind}, true
	}
	if j-i < minRun {
		return span{}, false
	}
	if kind := inPath(s, i, j); kind != "" && m != modeName {
		return span{from: i, to: j, kind: kind}, true
	}
	if id := own.find(s, i, j); id != "" {
		return span{from: i, to: j, kind: OwnKey, keyID: id}, true
	}
	if m != modeName && j-i >= minRandom && random(s[i:j], seen) && !fingerprintAt(s, i, j) {
		for j < len(s) && s[j] == '=' {
			j++
		}
		return span{from: i, to: j, kind: Random}, true
	}
	if m != modeName && strings.IndexByte(s[i:j], '+') >= 0 {
		return formPart(s, i, j)
	}
	return span{}, false
}

// formPart is the random-looking part of a run whose plus signs stand for blanks, as
// in the text of a form.
func formPart(s string, i, j int) (span, bool) {
	for i < j {
		to := i
		for to < j && s[to] != '+' {
			to++
		}
		if to-i >= minRandom && random(s[i:to], digit) && !fingerprintAt(s, i, to) {
			return span{from: i, to: to, kind: Random}, true
		}
		i = to + 1
	}
	return span{}, false
}

// fingerprintAt reports whether the run is the digits of a keyed fingerprint.
func fingerprintAt(s string, i, j int) bool {
	for k := 3; k <= 5; k++ {
		if i >= k && event.IsFingerprint(s[i-k:j]) {
			return true
		}
	}
	return false
}

// shaped recognises the credentials that have a form. It returns where one begins
// and ends, or an end of 0.
func shaped(s string, i, j int, seen uint8) (from, end int, kind Kind) {
	switch {
	case s[i] == 'e' && strings.HasPrefix(s[i:], "eyJ"):
		if end := jwt(s, i, j); end > 0 {
			return i, end, JWT
		}
	case s[i] == '-' && strings.HasPrefix(s[i:], "-----"):
		return pem(s, i)
	case j < len(s) && s[j] == '.':
		if from, end := withPoints(s, i, j); end > 0 {
			return from, end, Token
		}
	}
	if j-i < minRun {
		return 0, 0, ""
	}
	if k, p := prefixed(s, i, j, seen); p != nil {
		return k, base64End(s, j), p.kind
	}
	if s[i] == 'e' || j >= len(s) || s[j] != '.' {
		return 0, 0, ""
	}
	// A token glued to what stands before it.
	if k := strings.Index(s[i:j], "eyJ"); k > 0 {
		if end := jwt(s, i+k, j); end > 0 {
			return i + k, end, JWT
		}
	}
	return 0, 0, ""
}

// withPoints recognises the credentials whose parts are joined by points: a known
// word first, Doppler's dp.TYPE., the atlasv1 of Terraform Cloud, and the three parts
// of a Discord bot's token. The run s[i:j] is the first part.
func withPoints(s string, i, j int) (from, end int) {
	word := s[max(i, j-6):j]
	if k := strings.LastIndexAny(word, "_-+"); k >= 0 {
		word = word[k+1:]
	}
	if !dotted(word) && word != "dp" && j-i != 14 && (j-i < 23 || j-i > 28) {
		return 0, 0 // before anything is looked at twice
	}
	// The shape of the first parts decides before the end is looked for: it may be
	// far, and what is no credential is looked at again behind its next point.
	first := runOnly(s[j+1 : min(len(s), j+1+7)])
	from, least := i, 0
	switch {
	case dotted(word):
		from, least = j-len(word), minRun
	case word == "dp" && first <= 5:
		from, least = j-len(word), 2*minRun
	case j-i == 14 && strings.HasPrefix(s[j:], ".atlasv1."):
		least = 60
	case j-i >= 23 && j-i <= 28 && first == 6 && strings.ContainsAny(s[i:j], "0123456789"):
		least = 34
	default:
		return 0, 0
	}
	if end = runEnd(s, j+1); end-j < least {
		return 0, 0
	}
	return from, end
}

// runEnd is the end of the run of credential characters and points at i.
func runEnd(s string, i int) int {
	for i < len(s) && (class[s[i]]&run != 0 || s[i] == '.') {
		i++
	}
	return i
}

// base64End goes on over the rest of a base64 text, which may hold slashes.
func base64End(s string, i int) int {
	for i < len(s) && (class[s[i]]&run != 0 || s[i] == '/' || s[i] == '=' || s[i] == '.') {
		i++
	}
	return i
}

// jwt checks that the run begins a JSON web token: three parts, of which the
// first is the base64url text of an object that names an algorithm.
func jwt(s string, i, j int) int {
	if j >= len(s) || s[j] != '.' {
		return 0
	}
	head, err := base64.RawURLEncoding.DecodeString(s[i:j])
	if err != nil || !strings.Contains(string(head), `"alg"`) {
		return 0
	}
	return runEnd(s, j)
}

// pem is a private key in armour. Of one whose head is missing everything before
// its end is masked that may belong to it, and of one whose end is missing the rest.
func pem(s string, i int) (from, end int, kind Kind) {
	head := s[i:min(len(s), i+60)]
	title, _, _ := strings.Cut(head[5:], "-----")
	if !strings.Contains(title, "PRIVATE KEY") {
		return 0, 0, ""
	}
	if strings.HasPrefix(title, "END ") {
		// Base64 has no dash: the walk ends at the marks of another key, so that each
		// byte is walked over once.
		from = i
		for from > 0 && s[from-1] != '-' && (class[s[from-1]]&run != 0 || strings.IndexByte("/=\\ \r\n", s[from-1]) >= 0) {
			from--
		}
		return from, min(len(s), i+10+len(title)), PrivateKey
	}
	if k := strings.Index(s[i:], "-----END"); k >= 0 {
		if l := strings.Index(s[i+k+8:], "-----"); l >= 0 {
			return i, i + k + 8 + l + 5, PrivateKey
		}
	}
	return i, len(s), PrivateKey
}

// random reports whether a run looks drawn by chance: letters of both cases and
// digits, or long hexadecimal, with the entropy per character of such a text.
func random(s string, seen uint8) bool {
	if seen&digit == 0 || uuid(s) {
		return false
	}
	var count [128]uint16
	var digits, uppers, lowers, hex int
	for i := range len(s) {
		c := s[i]
		count[c&127]++
		switch k := class[c]; {
		case k&digit != 0:
			digits++
			hex++
		case k&upper != 0:
			uppers++
		case k&lower != 0:
			lowers++
			if c <= 'f' {
				hex++
			}
		}
	}
	letters := uppers + lowers
	switch {
	case hex == len(s):
		return len(s) >= 32 && letters >= 4 && entropy(&count, len(s)) >= 3
	case digits < 3:
		return false
	case uppers >= 3 && lowers >= 3:
		return entropy(&count, len(s)) >= 3.7
	}
	return len(s) >= 40 && digits >= 6 && letters >= 6 && letters+digits == len(s) && entropy(&count, len(s)) >= 3.9
}

// entropy is Shannon's, in bits per character.
func entropy(count *[128]uint16, n int) float64 {
	var h float64
	for _, c := range count {
		if c > 0 {
			p := float64(c) / float64(n)
			h -= p * math.Log2(p)
		}
	}
	return h
}

// uuid reports the textual form of RFC 9562.
func uuid(s string) bool {
	return len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-' &&
		strings.Count(s, "-") == 4
}
