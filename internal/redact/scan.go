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
)

var class = func() (t [256]uint8) {
	for c := '0'; c <= '9'; c++ {
		t[c] = run | digit
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c] = run | upper
		t[c+'a'-'A'] = run | lower
	}
	t['_'], t['-'], t['+'] = run, run, run
	t['='], t[':'], t[' '] = mark, mark, mark
	return t
}()

// scan finds secrets, in order, without overlap, appended to spans.
func (r *Redactor) scan(s string, m mode, spans []span) []span {
	if !longRun(s) && (m == modeName || !marked(s)) {
		return spans // most texts are clean, and it shows at a glance
	}
	own := r.own.Load()
	for i := 0; i < len(s); {
		c := class[s[i]]
		if c&run == 0 {
			if c&mark != 0 && m != modeName {
				if sp := named(s, i, m); sp.to > 0 {
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
			spans = append(spans, sp)
			i = sp.to
		}
	}
	return spans
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
func marked(s string) bool {
	if strings.IndexByte(s, '=') >= 0 || strings.IndexByte(s, ':') >= 0 {
		return true
	}
	return strings.Contains(s, "earer ") || strings.Contains(s, "asic ")
}

// examine decides about the run s[i:j].
func examine(s string, i, j int, m mode, own *ownKeys, seen uint8) (span, bool) {
	if end, kind := shaped(s, i, j); end > 0 {
		return span{from: i, to: end, kind: kind}, true
	}
	if j-i < minRun {
		return span{}, false
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

// prefixes are those that vendors publish for their credentials.
var prefixes = [...]struct {
	text string
	kind Kind
}{
	{"AKIA", AWSKey}, {"ASIA", AWSKey}, {"IQoJb3JpZ2lu", AWSKey}, {"FwoGZXIvYXdz", AWSKey},
	{"ghp_", Token}, {"gho_", Token}, {"ghu_", Token}, {"ghs_", Token}, {"ghr_", Token}, {"github_pat_", Token},
	{"glpat-", Token}, {"xoxb-", Token}, {"xoxp-", Token}, {"xoxa-", Token}, {"xoxr-", Token}, {"xoxs-", Token}, {"xapp-", Token},
	{"sk_live_", Token}, {"rk_live_", Token}, {"sk-", Token}, {"AIza", Token}, {"npm_", Token}, {"dop_v1_", Token},
	{"shpat_", Token}, {"AGE-SECRET-KEY-1", Token}, {"pypi-", Token}, {"whsec_", Token},
}

// prefixStart marks the first bytes of prefixes.
var prefixStart = func() (t [256]bool) {
	for _, p := range prefixes {
		t[p.text[0]] = true
	}
	return t
}()

// shaped recognises the credentials that have a form. It returns the end of what
// to mask, or 0.
func shaped(s string, i, j int) (int, Kind) {
	switch {
	case s[i] == 'e' && strings.HasPrefix(s[i:], "eyJ"):
		if end := jwt(s, i, j); end > 0 {
			return end, JWT
		}
	case s[i] == '-' && strings.HasPrefix(s[i:], "-----BEGIN"):
		return pem(s, i)
	case j < len(s) && s[j] == '.' && dotted(s[i:j]):
		if end := runEnd(s, j+1); end-i >= minRun+4 {
			return end, Token
		}
	}
	if j-i < minRun || !prefixStart[s[i]] {
		return 0, ""
	}
	for _, p := range prefixes {
		if s[i] == p.text[0] && strings.HasPrefix(s[i:j], p.text) {
			if p.kind == AWSKey && len(p.text) == 4 && !upperDigits(s[i:j]) {
				continue
			}
			return base64End(s, j), p.kind
		}
	}
	return 0, ""
}

// dotted are prefixes that end with a point: Vault, Google, SendGrid.
func dotted(word string) bool { return word == "hvs" || word == "ya29" || word == "SG" }

func upperDigits(s string) bool {
	for i := range len(s) {
		if class[s[i]]&(upper|digit) == 0 {
			return false
		}
	}
	return len(s) == 20
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

func pem(s string, i int) (int, Kind) {
	head := s[i:min(len(s), i+60)]
	if !strings.Contains(head, "PRIVATE KEY") {
		return 0, ""
	}
	if k := strings.Index(s[i:], "-----END"); k >= 0 {
		if l := strings.Index(s[i+k+8:], "-----"); l >= 0 {
			return i + k + 8 + l + 5, PrivateKey
		}
	}
	return len(s), PrivateKey
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
