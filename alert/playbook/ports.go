package playbook

import (
	"context"
	"errors"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/internal/secret"
)

// Journal is where the runner writes. Append returns when every entry is
// accepted, in order, or none is known to be; the records come back in the order
// of the entries. It fails when this process does not lead.
type Journal interface {
	Append(ctx context.Context, entries ...journal.Entry) ([]journal.Record, error)
}

// Overlap says what a provider does to the old key when it issues a new one.
type Overlap string

// The kinds of overlap.
const (
	OverlapUnknown  Overlap = "unknown"
	OverlapParallel Overlap = "parallel" // both answer until the old one is revoked
	OverlapReplace  Overlap = "replace"  // the old one is dead at once
)

// Operation names one call of a provider, for Capabilities.Calls.
type Operation string

// The operations.
const (
	OpIssue  Operation = "issue"
	OpList   Operation = "list"
	OpRevoke Operation = "revoke"
	OpMint   Operation = "mint"
)

// Capabilities is what a provider can do, and how it says so in a plan.
type Capabilities struct {
	Name    string
	Issue   bool
	List    bool
	Revoke  bool
	Overlap Overlap
	// Calls describes each operation, as "POST http://host/path".
	Calls map[Operation]string
}

// ProviderKey is one key as the provider lists it.
type ProviderKey struct {
	ID     string
	Label  string // what Issue was given
	Digest string // hex SHA-256 of the key; empty when the provider does not tell
	Active bool
	Issued event.Instant
}

// IssuedKey is a new key. The provider shows the value once.
type IssuedKey struct {
	ID    string
	Value secret.Value
}

// MintRequest asks for one auth token: a probe.
type MintRequest struct {
	Key       secret.Value
	UserID    string
	RequestID string
}

// MintResult is the answer to a probe. The token itself is dropped unread.
type MintResult struct {
	OK     bool // a token was minted
	Dead   bool // the key was refused as invalid
	Status int
}

// KeyProvider makes and kills server keys of one network. Every method honours
// ctx; an error means that the outcome is unknown, unless it is ErrRefused.
type KeyProvider interface {
	Capabilities() Capabilities
	// Issue makes a key. label is unique to the attempt: a key listed with it was
	// made by a call whose answer was lost.
	Issue(ctx context.Context, label string) (IssuedKey, error)
	// List returns every key that the provider knows, dead ones too.
	List(ctx context.Context) ([]ProviderKey, error)
	// Revoke kills a key; to kill a dead one is no error.
	Revoke(ctx context.Context, id string) error
	// Mint asks for a token with a key.
	Mint(ctx context.Context, req MintRequest) (MintResult, error)
}

// Stored is one version of a stored secret. Versions count from 1.
type Stored struct {
	Value   secret.Value
	Version int64
}

// SecretStore keeps versions of named secrets.
type SecretStore interface {
	// Describe says where name is kept, for a plan.
	Describe(name string) string
	// Get returns the newest version, or ErrNotFound.
	Get(ctx context.Context, name string) (Stored, error)
	// GetVersion returns one version, or ErrNotFound.
	GetVersion(ctx context.Context, name string, version int64) (Stored, error)
	// Put stores a new version if the newest one is expect (0: there is none) and
	// returns its number; otherwise ErrConflict, and nothing changed.
	Put(ctx context.Context, name string, v secret.Value, expect int64) (int64, error)
}

// HostResult is what a reload did on one host.
type HostResult struct {
	Host string
	OK   bool
	Note string
}

// Distributor makes the hosts load the newest version of a secret. It is
// idempotent; hosts that it cannot reach are results, not errors.
type Distributor interface {
	Describe() string
	Distribute(ctx context.Context, name string, version int64) ([]HostResult, error)
}

// Escrow takes a key that could not be stored, encrypted to an operator.
// It returns where the key lies now.
type Escrow interface {
	Deposit(ctx context.Context, name string, v secret.Value) (string, error)
}

// Errors of the ports.
var (
	ErrNotFound = errors.New("no such secret")
	ErrConflict = errors.New("the secret was changed by someone else")
	// ErrRefused wraps an answer that says the call had no effect.
	ErrRefused = errors.New("refused")
)

// KeyUse is what the events say about one key on one host.
type KeyUse struct {
	Host  string
	KeyID string
	// First and Last are the first and last mint with the key, successful or not.
	First, Last event.Instant
	Mints       int // successful mints
	// HeartbeatKey is the key in the host's last heartbeat, if it had one.
	HeartbeatKey string
	// Live: the host belongs to the inventory and speaks. A use by a host that
	// never belonged to it is Foreign: an attack, never a laggard.
	Live    bool
	Foreign bool
}

// Evidence is what the events prove about a network, as of now.
type Evidence interface {
	// KeyUse has one entry per host and key; a live host without any mint has one
	// entry with an empty KeyID.
	KeyUse(network string, now event.Instant) []KeyUse
	// Coverage is the share of the expected data that is really there, 0 to 1;
	// false means that it cannot be told.
	Coverage(network string, from, to event.Instant) (float64, bool)
}

// Target is what playbooks may act on in one network.
type Target struct {
	Provider   KeyProvider
	Store      SecretStore
	SecretName string
	// Distributor may be nil: the hosts watch the store by themselves.
	Distributor Distributor
	// ProbeUser is the user that probes mint for.
	ProbeUser string
}
