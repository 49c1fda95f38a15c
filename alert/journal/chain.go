package journal

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/keysentry/keysentry/internal/secret"
)

// Head is the last accepted record: its number and its hash. The zero Head is
// that of an empty journal.
type Head struct {
	N    int64  `json:"n"`
	Hash string `json:"hash"`
}

// String is NUMBER:HASH, the form in which a head is written down.
func (h Head) String() string { return strconv.FormatInt(h.N, 10) + ":" + h.Hash }

// ParseHead reads what String writes; the empty string is the zero Head.
func ParseHead(s string) (Head, error) {
	if s == "" || s == (Head{}).String() {
		return Head{}, nil
	}
	number, hash, ok := strings.Cut(s, ":")
	n, err := strconv.ParseInt(number, 10, 64)
	sum, hexErr := hex.DecodeString(hash)
	if !ok || err != nil || n < 1 || hexErr != nil || len(sum) != sha256.Size {
		return Head{}, fmt.Errorf("head %q is not NUMBER:HASH with 64 hexadecimal digits", s)
	}
	return Head{N: n, Hash: strings.ToLower(hash)}, nil
}

// Reason says why a record is a stray.
type Reason string

// The reasons, in the order in which they are looked for.
const (
	StrayBadJSON   Reason = "bad_json"   // no record at all
	StrayBadHash   Reason = "bad_hash"   // the content does not fit its hash
	StrayBadMAC    Reason = "bad_mac"    // not written by a holder of the key
	StrayWrongPrev Reason = "wrong_prev" // of two writers or two copies, the second
)

// Reasons lists every reason.
func Reasons() []Reason {
	return []Reason{StrayBadJSON, StrayBadHash, StrayBadMAC, StrayWrongPrev}
}

// StrayError says that a record is not part of the history.
type StrayError struct {
	Reason Reason
	Detail string
}

func (e *StrayError) Error() string {
	if e.Detail == "" {
		return "stray record: " + string(e.Reason)
	}
	return "stray record: " + string(e.Reason) + ": " + e.Detail
}

// hashContext separates these hashes from any other use of SHA-256. The number
// is the version of the encoding.
const hashContext = "keysentry.journal.1\n"

// hash is the SHA-256 of the record's canonical encoding:
//
//	hashContext
//	n, epoch, time   8 bytes each, big endian; time in nanoseconds since 1970
//	kind, body, prev a length of 4 bytes, big endian, then the bytes
//
// The body is taken as compact JSON, so that white space does not matter; the
// order of its fields and the way its strings are escaped do. Hash, MAC and the
// offset are not part of it.
func (r *Record) hash() ([]byte, error) {
	var body bytes.Buffer
	if err := json.Compact(&body, r.Body); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	b := make([]byte, 0, len(hashContext)+3*8+3*4+len(r.Kind)+body.Len()+len(r.Prev))
	b = append(b, hashContext...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.N))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Epoch))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time))
	for _, f := range [][]byte{[]byte(r.Kind), body.Bytes(), []byte(r.Prev)} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	sum := sha256.Sum256(b)
	return sum[:], nil
}

// mac is the HMAC-SHA-256 of the raw hash.
func mac(hash []byte, key secret.Value) []byte {
	m := hmac.New(sha256.New, []byte(key.Reveal()))
	m.Write(hash)
	return m.Sum(nil)
}

// Seal makes the record that follows prev. epoch is that of the leader, 0 for a
// took_over record.
func Seal(e Entry, prev Head, epoch int64, key secret.Value) (Record, error) {
	if key.Empty() {
		return Record{}, errors.New("seal record: the journal's key is empty")
	}
	if e.Kind == "" {
		return Record{}, errors.New("seal record: the kind is empty")
	}
	body, err := json.Marshal(e.Body)
	if err != nil {
		return Record{}, fmt.Errorf("seal %s: %w", e.Kind, err)
	}
	r := Record{N: prev.N + 1, Epoch: epoch, Time: e.Time, Kind: e.Kind, Body: body, Prev: prev.Hash}
	h, err := r.hash()
	if err != nil {
		return Record{}, fmt.Errorf("seal %s: %w", e.Kind, err)
	}
	r.Hash = hex.EncodeToString(h)
	r.MAC = hex.EncodeToString(mac(h, key))
	return r, nil
}

// Encode is the record as it is kept: one JSON object.
func (r Record) Encode() ([]byte, error) { return json.Marshal(r) }

// Decode reads what Encode writes. An error is a *StrayError.
func Decode(value []byte) (Record, error) {
	var r Record
	if err := json.Unmarshal(value, &r); err != nil {
		return Record{}, &StrayError{StrayBadJSON, err.Error()}
	}
	if r.N < 1 || r.Kind == "" || len(r.Body) == 0 {
		return Record{}, &StrayError{StrayBadJSON, "number, kind or body is missing"}
	}
	return r, nil
}

// verify checks hash and MAC, without looking at the record's place.
func (r *Record) verify(key secret.Value) error {
	want, err := r.hash()
	if err != nil {
		return &StrayError{StrayBadJSON, err.Error()}
	}
	if r.Hash != hex.EncodeToString(want) {
		return &StrayError{StrayBadHash, ""}
	}
	got, err := hex.DecodeString(r.MAC)
	if err != nil || !hmac.Equal(got, mac(want, key)) {
		return &StrayError{StrayBadMAC, ""}
	}
	return nil
}

// Chain accepts records one by one, in the order of their offsets. The zero
// value is not usable; see NewChain.
type Chain struct {
	head Head
	key  secret.Value
}

// NewChain begins at an empty journal.
func NewChain(key secret.Value) *Chain { return &Chain{key: key} }

// Head is the last accepted record.
func (c *Chain) Head() Head { return c.head }

// Accept makes r the head, or says with a *StrayError why it is no part of the
// history; the head is then what it was.
func (c *Chain) Accept(r Record) error {
	if err := r.verify(c.key); err != nil {
		return err
	}
	if r.Prev != c.head.Hash || r.N != c.head.N+1 {
		return &StrayError{StrayWrongPrev, fmt.Sprintf("number %d after %d", r.N, c.head.N)}
	}
	c.head = Head{N: r.N, Hash: r.Hash}
	return nil
}
