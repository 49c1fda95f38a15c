package event

import "fmt"

// AuthMode is how the network authenticates its backends.
type AuthMode uint8

// The values of AuthMode.
const (
	ModeNone AuthMode = iota
	ModeUnsecure
	ModeSecure
	ModeSecureMtls
	numAuthModes
)

var authModeNames = [numAuthModes]string{
	ModeNone:       "",
	ModeUnsecure:   "unsecure",
	ModeSecure:     "secure",
	ModeSecureMtls: "secure_mtls",
}

var authModeByName = nameIndex(authModeNames[1:])

// ParseAuthMode is the inverse of AuthMode.String; the empty string is ModeNone.
func ParseAuthMode(s string) (AuthMode, bool) {
	if s == "" {
		return ModeNone, true
	}
	i, ok := authModeByName[s]
	return AuthMode(i + 1), ok
}

// AuthModes lists every value but ModeNone, in declaration order.
func AuthModes() []AuthMode {
	out := make([]AuthMode, 0, numAuthModes-1)
	for c := ModeNone + 1; c < numAuthModes; c++ {
		out = append(out, c)
	}
	return out
}

func (c AuthMode) String() string {
	if c < numAuthModes {
		return authModeNames[c]
	}
	return fmt.Sprintf("authMode(%d)", uint8(c))
}

// MarshalText writes the name.
func (c AuthMode) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads a name of the list, or nothing.
func (c *AuthMode) UnmarshalText(b []byte) error {
	v, ok := ParseAuthMode(string(b))
	if !ok {
		return fmt.Errorf("unknown authMode %q", b)
	}
	*c = v
	return nil
}
