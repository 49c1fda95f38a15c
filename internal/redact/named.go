package redact

import (
	"strings"

	"github.com/keysentry/keysentry/event"
)

// telling are names after which a secret stands, in lower case without
// separators.
var telling = map[string]bool{
	"password": true, "passwd": true, "pwd": true, "secret": true, "clientsecret": true, "secretkey": true,
	"secretaccesskey": true, "awssecretaccesskey": true, "token": true, "authtoken": true, "accesstoken": true,
	"refreshtoken": true, "idtoken": true, "sessiontoken": true, "apikey": true, "serverkey": true, "xserverkey": true,
	"xapikey": true, "privatekey": true, "credential": true, "credentials": true, "cookie": true, "setcookie": true,
	"signature": true, "xamzsecuritytoken": true, "passphrase": true,
}

// tellingEnds are ends of names that tell as much: db_password, x-auth-token,
// proxy-authorization.
var tellingEnds = [...]string{
	"password", "passwd", "passphrase", "secret", "token", "apikey", "serverkey", "secretkey", "privatekey",
	"authorization", "cookie", "credentials",
}

func tells(name string) bool {
	if telling[name] {
		return true
	}
	for _, end := range tellingEnds {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

// fingerprinted are fields that should hold fingerprints; in a record that was
// refused they may hold the secret itself.
var fingerprinted = map[string]bool{"keyid": true, "tokenid": true, "sessionid": true, "deviceid": true, "accesskeyid": true}

// maxName bounds what is looked at of a name, from its end, separators included.
const maxName = 24

// named looks for a secret after the mark at s[i]: a value after a telling name
// and = or :, a credential after Bearer or Basic, the password of a URL. It
// returns the place of the secret, whose end is zero when there is none.
func named(s string, i int, m mode) span {
	sp := span{kind: Named}
	if s[i] == ' ' {
		if scheme(s, i) {
			sp.from, sp.to = valueAt(s, i+1)
		}
		return sp
	}
	if s[i] == ':' && strings.HasPrefix(s[i:], "://") {
		sp.kind = Password
		sp.from, sp.to = urlPassword(s, i+3)
		return sp
	}
	name, ok := nameBefore(s, i)
	if name == "value" || name == "stringvalue" {
		name = keyOf(s, i)
	}
	suspect := m == modeExcerpt && fingerprinted[name]
	if !ok || !tells(name) && !suspect {
		return sp
	}
	sp.from, sp.to = valueAt(s, i+1)
	if strings.HasSuffix(name, "cookie") {
		sp.to = cookieEnd(s, sp.to)
	}
	if suspect && sp.to > 0 && event.IsFingerprint(s[sp.from:sp.to]) {
		sp.to = 0
	}
	return sp
}

// maxPair is how far before the value of a pair its key is looked for.
const maxPair = 160

// keyOf is the name that a value goes by in {"key": NAME, "value": ...}, as
// OpenTelemetry writes attributes and others write headers; i is after the word
// value. It is empty when there is none.
func keyOf(s string, i int) string {
	before := s[max(0, i-maxPair):i]
	for _, word := range [...]string{"key", "name", "Key", "Name"} {
		for _, quote := range [...]string{`"`, `\"`} {
			at := strings.LastIndex(before, quote+word+quote+":")
			if at < 0 || strings.Contains(before[at:], "},") {
				continue // the key of another pair
			}
			from, to := valueAt(before, at+len(quote+word+quote)+1)
			if to > from {
				name, _ := nameBefore(before, to)
				return name
			}
		}
	}
	return ""
}

// scheme reports whether the word before i is Bearer or Basic.
func scheme(s string, i int) bool {
	switch {
	case i >= 6 && s[i-1]|0x20 == 'r':
		return strings.EqualFold(s[i-6:i], "bearer")
	case i >= 5 && s[i-1]|0x20 == 'c':
		return strings.EqualFold(s[i-5:i], "basic")
	}
	return false
}

// nameBefore is the name that ends before i, in lower case without separators;
// white space and one quote may stand between.
func nameBefore(s string, i int) (string, bool) {
	for i > 0 && s[i-1] == ' ' {
		i--
	}
	for i > 0 && (s[i-1] == '"' || s[i-1] == '\'' || s[i-1] == '\\') {
		i--
	}
	var buf [maxName]byte
	at := maxName
	for start := i; i > 0 && class[s[i-1]]&run != 0; i-- {
		if start-i >= maxName {
			break // how it ends tells enough
		}
		if c := s[i-1]; c != '_' && c != '-' {
			if c >= 'A' && c <= 'Z' {
				c |= 0x20
			}
			at--
			buf[at] = c
		}
	}
	if at > maxName-3 {
		return "", false
	}
	return string(buf[at:]), true
}

// valueAt is the value that begins at i, after white space and a quote. Values
// below four bytes, JSON's words and masks are left alone.
func valueAt(s string, i int) (from, to int) {
	for i < len(s) && s[i] == ' ' {
		i++
	}
	quote, escaped := byte(0), false
	for i < len(s) && (s[i] == '"' || s[i] == '\'' || s[i] == '\\') {
		escaped = escaped || s[i] == '\\'
		quote = s[i]
		i++
	}
	from = i
	for i < len(s) && !ends(s[i], quote, escaped) {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		i++
	}
	v := s[from:i]
	if len(v) < 4 || v == "null" || v == "true" || v == "false" || v[0] == '{' || v[0] == '[' ||
		strings.EqualFold(v, "bearer") || strings.EqualFold(v, "basic") {
		return 0, 0
	}
	return from, i
}

// cookieEnd is the end of a list of cookies whose first ends at i.
func cookieEnd(s string, i int) int {
	for i > 0 && strings.HasPrefix(s[i:], "; ") {
		i += 2
		for i < len(s) && !ends(s[i], 0, false) {
			i++
		}
	}
	return i
}

// ends reports whether c ends a value that was opened by the quote, or by none.
// A value inside a quoted text, whose own quotes are escaped, ends at a backslash.
func ends(c, quote byte, escaped bool) bool {
	if quote != 0 {
		return c == quote || escaped && c == '\\'
	}
	switch c {
	case ' ', '"', '\'', '&', ',', ';', '}', ')', ']', '\t', '\n':
		return true
	}
	return false
}

// urlPassword is the password in user:password@host, which begins at i.
func urlPassword(s string, i int) (from, to int) {
	colon := 0
	for ; i < len(s); i++ {
		switch s[i] {
		case '/', ' ', '"', '?', '#':
			return 0, 0
		case ':':
			if colon == 0 {
				colon = i
			}
		case '@':
			if colon == 0 || i == colon+1 {
				return 0, 0
			}
			return colon + 1, i
		}
	}
	return 0, 0
}
