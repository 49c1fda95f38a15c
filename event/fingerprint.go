package event

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// fingerprintVersion names the construction below, so that another one can
// follow without the two being mistaken for each other.
const fingerprintVersion = "v1:"

// fingerprintDigits is the length of the hexadecimal part: 128 bits.
const fingerprintDigits = 32

// Fingerprint names a secret value without telling it: HMAC-SHA-256 of the
// value under a key that the network's backends and the daemon share, cut to
// 128 bits, in hexadecimal after a version. Without the key nobody can test a
// guess against it.
func Fingerprint(key []byte, value string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(value))
	var sum [sha256.Size]byte
	return fingerprintVersion + hex.EncodeToString(h.Sum(sum[:0])[:fingerprintDigits/2])
}

// IsFingerprint reports whether s has the form that Fingerprint gives, of any
// version: v, digits, colon, 32 lower-case hexadecimal digits. A value without
// that form may be the secret itself and is never accepted.
func IsFingerprint(s string) bool {
	if len(s) < len(fingerprintVersion)+fingerprintDigits || s[0] != 'v' {
		return false
	}
	colon := len(s) - fingerprintDigits - 1
	if s[colon] != ':' || colon > 4 {
		return false
	}
	for i := 1; i < colon; i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	for i := colon + 1; i < len(s); i++ {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
