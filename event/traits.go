package event

import (
	"fmt"
	"maps"
	"math/bits"
	"strings"
	"sync/atomic"
)

// Traits are facts about one event that the registries of detection knew when
// they judged it, one bit each. A rule asks for one with traits|contains. They
// are written by name wherever they outlive the process.
type Traits uint32

// The traits, in the order of their names. None is part of another one's name, so
// that a search for a word finds that word.
const (
	TraitClockOff Traits = 1 << iota
	TraitDormantKey
	TraitFarFromMint
	TraitFreshNetwork
	TraitLateRedemption
	TraitMintAfterSession
	TraitMintedHere
	TraitNetworkJump
	TraitNoMintSeen
	TraitNotInInventory
	TraitOffSchedule
	TraitOtherDevice
	TraitOutsideChangeWindow
	TraitOutsideEgress
	TraitRetiredKey
	TraitRevokedKey
	TraitSecondKey
	TraitThirdCertificate
	TraitUnexpectedCN
	TraitUnknownKey
	TraitUserSequence
	TraitYoungNetwork
	endTraits
)

// traits are names and meanings by number of bit.
var traits = [...]struct{ name, doc string }{
	{"clock_off", "the clock of the host is further off than a token's leeway, by its heartbeat or by a confident estimate; on heartbeats"},
	{"dormant_key", "the key of the registry was used for nothing in `detect.dormant_after` (30 days) before"},
	{"far_from_mint", "the token was minted for a client in another network than that of the redeeming address"},
	{"fresh_network", "the first mint, or the first session, from this `source_net` for an hour"},
	{"late_redemption", "the token was redeemed after it had expired, with the leeway taken off"},
	{"mint_after_session", "the mint of a token that was redeemed before this event came in"},
	{"minted_here", "the token was redeemed from the network that had it minted, and that was none of our hosts: backends mint, phones redeem"},
	{"network_jump", "the token was redeemed from another network less than `detect.network_jump` (30 s) before"},
	{"no_mint_seen", "a session with a token whose mint is not among those of the last token's life; only while they are all known"},
	{"not_in_inventory", "the caller is no host that was seen to mint; only once the network has an inventory"},
	{"off_schedule", "a mint of a service outside its `detect.schedules`"},
	{"other_device", "the token was redeemed before, by another device"},
	{"outside_change_window", "a change of keys, certificates, settings or administrators outside `detect.change_windows`"},
	{"outside_egress", "the key was used from an address outside `detect.declared_egress`"},
	{"retired_key", "the registry has the key as retired: a successor is active"},
	{"revoked_key", "the registry has the key as revoked"},
	{"second_key", "the activation of a key while another one works"},
	{"third_certificate", "the activation of a certificate while two others are active"},
	{"unexpected_cn", "the common name of the certificate is none of `detect.expected_cns`"},
	{"unknown_key", "the registry has keys of the network, and this is none of them"},
	{"user_sequence", "at least `detect.sequence_length` (20) mints of this key and source for users whose numbers follow each other"},
	{"young_network", "the first mint, or the first session, from this `source_net` that is remembered was less than an hour before"},
}

// rendered remembers the text of each set of traits that occurred: a pure
// function, so that the hot path builds no text. Beyond maxRendered sets the text
// is built every time.
var rendered atomic.Pointer[map[Traits]string]

const maxRendered = 4096

// Has reports whether all of o is in t.
func (t Traits) Has(o Traits) bool { return t&o == o }

// String is the names, in order, with a space between; empty when there are none.
func (t Traits) String() string {
	if t == 0 {
		return ""
	}
	known := rendered.Load()
	if known != nil {
		if s, ok := (*known)[t]; ok {
			return s
		}
	}
	s := t.render()
	next := map[Traits]string{}
	if known != nil {
		if len(*known) >= maxRendered {
			return s
		}
		next = maps.Clone(*known)
	}
	next[t] = s
	rendered.CompareAndSwap(known, &next)
	return s
}

func (t Traits) render() string {
	var b strings.Builder
	for s := t; s != 0; s &= s - 1 {
		i := bits.TrailingZeros32(uint32(s))
		if i >= len(traits) {
			break
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(traits[i].name)
	}
	return b.String()
}

// ParseTraits is the inverse of Traits.String; words may stand in any order.
func ParseTraits(s string) (Traits, error) {
	var t Traits
	for _, word := range strings.Fields(s) {
		bit := Traits(0)
		for i := range traits {
			if traits[i].name == word {
				bit = 1 << i
			}
		}
		if bit == 0 {
			return 0, fmt.Errorf("unknown trait %q", word)
		}
		t |= bit
	}
	return t, nil
}

// AllTraits lists every trait, in order.
func AllTraits() []Traits {
	out := make([]Traits, len(traits))
	for i := range out {
		out[i] = 1 << i
	}
	return out
}

// Doc says what a single trait means.
func (t Traits) Doc() string {
	if i := bits.TrailingZeros32(uint32(t)); i < len(traits) {
		return traits[i].doc
	}
	return ""
}
