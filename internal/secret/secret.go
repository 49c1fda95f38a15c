// Package secret holds values that must not be seen: server keys, tokens,
// passwords, signing keys. A Value cannot print itself; the only way to its
// content is Reveal, which is easy to search for.
package secret

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
)

// mask is what every printing of a Value shows.
const mask = "[secret]"

// Value is a secret. The content is behind a pointer, so that reflection-based
// printers stop at an address even where they ignore the methods below. The
// zero Value is empty.
type Value struct{ p *string }

// New wraps s.
func New(s string) Value { return Value{&s} }

// Reveal returns the content. Every call is a place to review.
func (v Value) Reveal() string {
	if v.p == nil {
		return ""
	}
	return *v.p
}

// Empty reports whether there is no content.
func (v Value) Empty() bool { return v.p == nil || *v.p == "" }

// String is a mask.
func (v Value) String() string { return mask }

// GoString is a mask.
func (v Value) GoString() string { return mask }

// Format is a mask for every verb.
func (v Value) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte(mask)) }

// MarshalText is a mask, for JSON, YAML and the rest.
func (v Value) MarshalText() ([]byte, error) { return []byte(mask), nil }

// MarshalYAML is a mask.
func (v Value) MarshalYAML() (any, error) { return mask, nil }

// LogValue is a mask.
func (v Value) LogValue() slog.Value { return slog.StringValue(mask) }

// Ref says where a secret of the configuration is kept: in a file or in an
// environment variable. A configuration never holds the secret itself.
type Ref struct {
	File string `yaml:"file,omitempty"`
	Env  string `yaml:"env,omitempty"`
}

// IsZero reports whether the reference names nothing.
func (r Ref) IsZero() bool { return r.File == "" && r.Env == "" }

// Validate reports a reference that names both or neither.
func (r Ref) Validate() error {
	switch {
	case r.File != "" && r.Env != "":
		return errors.New("give either file or env, not both")
	case r.IsZero():
		return errors.New("give file: PATH or env: NAME; the secret itself is not accepted here")
	case r.Env != "" && !isName(r.Env):
		return errNoName
	}
	return nil
}

// errNoName does not repeat what may be the secret itself.
var errNoName = errors.New("env is no name of an environment variable; the secret itself is not accepted here")

// isName reports whether s can name an environment variable in every shell.
func isName(s string) bool {
	for i, r := range s {
		letter := r == '_' || (r >= 'a' && r <= 'z') || (r >= 'A' && r <= 'Z')
		if !letter && (i == 0 || r < '0' || r > '9') {
			return false
		}
	}
	return s != ""
}

// Resolve reads the secret; trailing line ends of a file are dropped. A zero
// reference resolves to the empty Value. The error names the place, never the
// content.
func (r Ref) Resolve(getenv func(string) string) (Value, error) {
	switch {
	case r.IsZero():
		return Value{}, nil
	case r.Env != "" && !isName(r.Env):
		return Value{}, errNoName
	case r.Env != "":
		s := getenv(r.Env)
		if s == "" {
			return Value{}, fmt.Errorf("environment variable %s is not set or empty", r.Env)
		}
		return New(s), nil
	}
	b, err := os.ReadFile(r.File)
	if err != nil {
		return Value{}, fmt.Errorf("read secret file: %w", err)
	}
	s := strings.TrimRight(string(b), "\r\n")
	if s == "" {
		return Value{}, fmt.Errorf("secret file %s is empty", r.File)
	}
	return New(s), nil
}
