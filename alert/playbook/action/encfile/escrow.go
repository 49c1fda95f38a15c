package encfile

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"filippo.io/age"

	"github.com/keysentry/keysentry/alert/playbook"
	"github.com/keysentry/keysentry/internal/secret"
)

// Escrow writes keys that could not be stored to files that only an operator
// can decrypt (age -d -i THEIR-IDENTITY FILE).
type Escrow struct {
	dir string
	to  age.Recipient
}

var _ playbook.Escrow = (*Escrow)(nil)

// NewEscrow takes the folder and the operator's public key (age1...).
func NewEscrow(dir, recipient string) (*Escrow, error) {
	to, err := age.ParseX25519Recipient(recipient)
	if err != nil {
		return nil, fmt.Errorf("escrow recipient: %w", err)
	}
	return &Escrow{dir: dir, to: to}, nil
}

var unsafeInName = regexp.MustCompile(`[^A-Za-z0-9._-]`)

// Deposit encrypts v into a file named after name and returns its path. The same
// name replaces the file.
func (e *Escrow) Deposit(ctx context.Context, name string, v secret.Value) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	sealed, err := seal([]byte(v.Reveal()), e.to)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return "", fmt.Errorf("make the escrow's folder: %w", err)
	}
	path := filepath.Join(e.dir, "escrow-"+unsafeInName.ReplaceAllString(name, "_")+".age")
	return path, writeDurably(path, sealed)
}
