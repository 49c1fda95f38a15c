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
	"signature": true, "xamzsecuritytoken": true, "passphrase": true, "accountkey": true, "sharedaccesskey": true,
	"sharedaccesssignature": true, "encryptionkey": true, "signingkey": true, "masterkey": true, "authkey": true,
	"authorizationcode": true, "otp": true, "totp": true, "mfacode": true, "samlresponse": true, "assertion": true,
	"clientassertion": true, "jwt": true, "passcode": true, "dbpass": true, "pgpass": true, "mysqlpass": true, "redispass": true,
	"smtppass": true, "ftppass": true, "userpass": true, "adminpass": true, "codeverifier": true,
}

// inQuery are names that tell of a secret in the query of a URL only, and only
// before a long value: elsewhere key=, code= and auth= are ordinary words, and so are
// code=404 and auth=basic in a query.
var inQuery = map[string]bool{
	"key": true, "auth": true, "code": true, "sig": true, "sid": true, "pass": true, "pw": true, "hmac": true, "hash": true, "session": true,
}

// minQuery is the least length of such a value.
const minQuery = 16

// tellingEnds are ends of names that tell as much: db_password, x-auth-token,
// proxy-authorization.
var tellingEnds = [...]string{
	"password", "passwd", "passphrase", "secret", "token", "apikey", "serverkey", "secretkey", "privatekey",
	"authorization", "cookie", "credentials", "signature", "secretkeybase", "jsessionid", "sessid",
}

func tells(name string) bool {
	if telling[name] {
		return true
	}
	name = strings.TrimSuffix(name, "s") // tokens, passwords
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
// and = or :, a credential after Bearer, Basic or Digest, the password of a URL. It
// returns the place of the secret, whose end is zero when there is none.
func named(s string, i int, m mode) span {
	sp := span{kind: Named}
	switch {
	case s[i] == ' ':
		sp.from, sp.to = afterScheme(s, i)
	case s[i] == ':' && (strings.HasPrefix(s[i:], "://") || isUser(s, i)):
		sp.kind = Password
		begin := i + 3
		if !strings.HasPrefix(s[i:], "://") {
			begin = strings.LastIndexByte(s[:i], '/') + 1
		}
		sp.from, sp.to = urlPassword(s, begin)
	}
	if s[i] == ' ' || sp.kind == Password && (sp.to > 0 || strings.HasPrefix(s[i:], "://")) {
		return unmasked(s, sp)
	}
	sp.kind = Named
	name, ok := nameBefore(s, i)
	if name == "value" || name == "stringvalue" {
		name = keyOf(s, i)
	}
	suspect := m == modeExcerpt && fingerprinted[name]
	switch {
	case !ok:
		return sp
	case s[i] == ':' && telegram(s, name, i):
		return span{from: i - len(strings.TrimPrefix(name, "bot")), to: i + 36, kind: Token}
	case s[i] == '=' && inQuery[name] && asked(s, i):
		if sp.from, sp.to = valueAt(s, i+1); sp.to-sp.from < minQuery {
			sp.to = 0
		}
		return unmasked(s, sp)
	case name == "pass" && (s[i] == '=' || i > 0 && s[i-1] == '"'):
	case !tells(name) && !suspect:
		return sp
	}
	sp.from, sp.to = valueAt(s, i+1)
	switch {
	case strings.HasSuffix(name, "cookie"):
		sp.to = cookieEnd(s, sp.to)
	case strings.HasSuffix(name, "authorization"):
		sp.from, sp.to = credentials(s, sp.from, sp.to)
	case strings.HasSuffix(name, "s") && numeric(s[sp.from:sp.to]):
		sp.to = 0 // so many tokens
	}
	if sp.to > 0 && event.IsFingerprint(s[sp.from:sp.to]) {
		sp.to = 0
	}
	return unmasked(s, sp)
}

// unmasked is sp, or nothing when a mask stands there.
func unmasked(s string, sp span) span {
	if sp.to > 0 && masked(s, sp.from) {
		sp.to = 0
	}
	return sp
}

// masked reports whether a mask stands at s[i].
func masked(s string, i int) bool { return strings.HasPrefix(s[i:], "[redacted:") }

// isUser reports whether the colon at s[i] ends a user's name after two slashes, as
// in //user:password@host.
func isUser(s string, i int) bool {
	k := i
	for k > 0 && i-k <= 64 && (class[s[k-1]]&run != 0 || s[k-1] == '.' || s[k-1] == '%') {
		k--
	}
	return k >= 2 && s[k-1] == '/' && s[k-2] == '/'
}

// asked reports whether the name before the mark at s[i] begins a parameter of a
// query.
func asked(s string, i int) bool {
	for i > 0 && (class[s[i-1]]&run != 0 || s[i-1] == '.') {
		i--
	}
	return i > 0 && (s[i-1] == '?' || s[i-1] == '&')
}

// telegram reports whether a bot's token, NUMBER:35 characters, has its colon at
// s[i].
func telegram(s, name string, i int) bool {
	name = strings.TrimPrefix(name, "bot")
	return len(name) >= 8 && len(name) <= 10 && numeric(name) && i+36 <= len(s) && runOnly(s[i+1:]) == 35
}

func numeric(s string) bool {
	for i := range len(s) {
		if class[s[i]]&digit == 0 {
			return false
		}
	}
	return true
}

// schemes are the words of an Authorization header before the credentials.
var schemes = [...]string{"bearer", "basic", "digest", "negotiate", "ntlm", "token", "apikey", "api-key", "aws4-hmac-sha256", "hawk",
	"oauth", "dpop", "vapid", "key", "scram-sha-1", "scram-sha-256", "splunk", "sso-key", "hoba", "mutual", "gnap", "privatetoken"}

// credentials widens the value of an Authorization header, whose first word is
// s[from:to], to what follows a scheme, all of its parameters.
func credentials(s string, from, to int) (int, int) {
	for _, scheme := range schemes {
		if to > 0 && to < len(s) && s[to] == ' ' && strings.EqualFold(s[from:to], scheme) {
			if from, to = valueAt(s, to+1); to > 0 {
				to = max(to, parameters(s, from))
			}
			return from, to
		}
	}
	return from, to
}

// parameters is the end of the list NAME="VALUE", NAME=VALUE that begins at i,
// without its last quote; zero when there is none.
func parameters(s string, i int) (end int) {
	for {
		name := runOnly(s[i:])
		if name == 0 || i+name >= len(s) || s[i+name] != '=' {
			return end
		}
		for i += name + 1; i < len(s) && (s[i] == '"' || s[i] == '\\'); i++ {
		}
		for i < len(s) && strings.IndexByte(" \",\\", s[i]) < 0 {
			i++
		}
		end = i
		for i < len(s) && (s[i] == '"' || s[i] == '\\') {
			i++
		}
		if i == len(s) || s[i] != ',' {
			return end
		}
		for i++; i < len(s) && s[i] == ' '; i++ {
		}
	}
}

// afterScheme is the credential after the scheme that ends at s[i].
func afterScheme(s string, i int) (from, to int) {
	switch scheme(s, i) {
	case "":
		return 0, 0
	case "digest":
		if !strings.HasPrefix(s[i:], " username=") && !strings.HasPrefix(s[i:], " realm=") {
			return 0, 0
		}
		return i + 1, parameters(s, i+1)
	}
	return valueAt(s, i+1)
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

// scheme is the word before i when it is Bearer, Basic or Digest, else empty.
func scheme(s string, i int) string {
	switch {
	case i >= 6 && s[i-1]|0x20 == 'r' && strings.EqualFold(s[i-6:i], "bearer"):
		return "bearer"
	case i >= 5 && s[i-1]|0x20 == 'c' && strings.EqualFold(s[i-5:i], "basic"):
		return "basic"
	case i >= 6 && s[i-1]|0x20 == 't' && strings.EqualFold(s[i-6:i], "digest"):
		return "digest"
	}
	return ""
}

// nameBefore is the name that ends before i, in lower case without separators;
// white space and one quote may stand between.
func nameBefore(s string, i int) (string, bool) {
	for i > 0 && (s[i-1] == ' ' || s[i-1] == '\t') {
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

// valueAt is the value that begins at i, after white space and a quote, or what an
// array or an object there holds. Values below four bytes, JSON's words and masks
// are left alone.
func valueAt(s string, i int) (from, to int) {
	if i < len(s) && s[i] == '>' { // name => value
		i++
	}
	for i < len(s) && (s[i] == ' ' || s[i] == '\t') {
		i++
	}
	if i < len(s) && (s[i] == '[' || s[i] == '{') {
		return nested(s, i)
	}
	quote, escaped := byte(0), false
	for i < len(s) && (s[i] == '"' || s[i] == '\'' || s[i] == '\\') {
		escaped = escaped || s[i] == '\\'
		quote = s[i]
		i++
	}
	from = i
	for i < len(s) && !closes(s[i], quote, escaped) {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		i++
	}
	v := s[from:i]
	if len(v) < 4 || v == "null" || v == "true" || v == "false" ||
		strings.EqualFold(v, "bearer") || strings.EqualFold(v, "basic") {
		return 0, 0
	}
	return from, i
}

// maxBare bounds the search for the end of an array or object that does not begin
// with a quoted text. What does is masked to its end, so it is looked at once;
// anything else would be looked at again behind each of its brackets.
const maxBare = 1 << 10

// nested is what the array or object at s[i] holds, up to the bracket that closes it
// or the end of the text; nothing when it is empty, a mask, or words in brackets:
// "token: [expired]".
func nested(s string, i int) (from, to int) {
	if masked(s, i) {
		return 0, 0
	}
	from, depth, quoted := i+1, 0, false
	end := len(s)
	if from < len(s) && s[from] != '"' {
		end = min(end, i+maxBare)
	}
	for to = i; to < end; to++ {
		switch c := s[to]; {
		case c == '\\' && to+1 < len(s) && s[to+1] != '"':
			to++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		}
		if depth == 0 {
			break
		}
	}
	to = min(to, end)
	held := s[min(from, to):to]
	if len(held) < 4 || masked(held, 0) || strings.IndexByte(held, '"') < 0 && (strings.IndexByte(held, ' ') >= 0 || !letterAndDigit(held)) {
		return 0, 0
	}
	return from, to
}

// cookieEnd is the end of a list of cookies whose first ends at i.
func cookieEnd(s string, i int) int {
	for i > 0 && strings.HasPrefix(s[i:], "; ") {
		i += 2
		for i < len(s) && !closes(s[i], 0, false) {
			i++
		}
	}
	return i
}

// closes reports whether c ends a value that was opened by the quote, or by none.
// A value inside a quoted text, whose own quotes are escaped, ends at a backslash.
func closes(c, quote byte, escaped bool) bool {
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
