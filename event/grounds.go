package event

import (
	"fmt"
	"math/bits"
	"strings"
)

// Ground is one fact that a cause rests on.
type Ground uint8

// The grounds: what the answer said, then what was known of the key, of who
// called, of the network, the certificate, the token, the clock and the session.
const (
	GroundStatus Ground = iota
	GroundCode
	GroundReason
	GroundAlert
	GroundKeyUnknown
	GroundKeyRetired
	GroundKeyRevoked
	GroundKeyActive
	GroundKeySuperseded
	GroundKeyUsedBefore
	GroundKeyAbsent
	GroundLearning
	GroundHostLive
	GroundHostKnown
	GroundHostStopped
	GroundHostUnknown
	GroundSourceFleet
	GroundSourceForeign
	GroundRegionUnused
	GroundSecureModeOff
	GroundMintsRefused
	GroundCertDates
	GroundCertDisabled
	GroundCertName
	GroundCertUnknown
	GroundCertAbsent
	GroundTokenAbsent
	GroundTokenDates
	GroundMintKnown
	GroundMintUnknown
	GroundMintOtherUser
	GroundClockOffset
	GroundClockAhead
	GroundClockRight
	GroundSessionRevoked
	GroundUserRevoked
	GroundDeviceTaken
	GroundSessionAge
	GroundSessionUnknown
	GroundSessionYoung
	GroundUserBanned
	numGrounds
)

// groundSpecs hold the name and the meaning of each ground.
var groundSpecs = [numGrounds]struct{ name, doc string }{
	GroundStatus:         {"status", "the HTTP status of the answer at this endpoint"},
	GroundCode:           {"code", "the platform's own error code"},
	GroundReason:         {"reason", "the words that came with the answer"},
	GroundAlert:          {"tls_alert", "the alert of the failed handshake"},
	GroundKeyUnknown:     {"key_unknown", "the key is not in the registry"},
	GroundKeyRetired:     {"key_retired", "the registry says that a successor of the key was activated"},
	GroundKeyRevoked:     {"key_revoked", "the registry says that the key was revoked"},
	GroundKeyActive:      {"key_active", "the registry says that the key works"},
	GroundKeySuperseded:  {"key_superseded", "a key that came into use later is used instead, though nobody told of a rotation"},
	GroundKeyUsedBefore:  {"key_used_before", "tokens were minted with the key before"},
	GroundKeyAbsent:      {"key_absent", "the record names no key"},
	GroundLearning:       {"registry_learning", "no key of the network is registered yet"},
	GroundHostLive:       {"host_in_inventory", "the host is in the inventory"},
	GroundHostKnown:      {"host_known", "the host minted before, but is not in the inventory"},
	GroundHostStopped:    {"host_stopped", "the host said that it stopped"},
	GroundHostUnknown:    {"host_unknown", "no host of ours is known by this name or address"},
	GroundSourceFleet:    {"source_of_fleet", "the call came from an address that hosts of ours mint from"},
	GroundSourceForeign:  {"source_foreign", "the call came from an address that no host of ours mints from"},
	GroundRegionUnused:   {"region_unused", "no call of the network succeeds in this region"},
	GroundSecureModeOff:  {"secure_mode_off", "a lifecycle event told that Secure Mode was turned off"},
	GroundMintsRefused:   {"mints_refused", "no mint of the network has succeeded since this refusal began"},
	GroundCertDates:      {"cert_dates", "the dates of the certificate"},
	GroundCertDisabled:   {"cert_disabled", "the registry says that the certificate was disabled"},
	GroundCertName:       {"cert_name", "the certificate belongs to another service or has another common name"},
	GroundCertUnknown:    {"cert_unknown", "the certificate is not in the registry, though others of the network are"},
	GroundCertAbsent:     {"cert_absent", "no certificate was presented"},
	GroundTokenAbsent:    {"token_absent", "no auth token was presented"},
	GroundTokenDates:     {"token_dates", "the dates of the token"},
	GroundMintKnown:      {"mint_known", "the minting of the token is remembered"},
	GroundMintUnknown:    {"mint_unknown", "no mint of the token was seen, though mints of the network are"},
	GroundMintOtherUser:  {"mint_other_user", "the token was minted for another user"},
	GroundClockOffset:    {"clock_offset", "the estimated offset of the minting host's clock exceeds the leeway"},
	GroundClockAhead:     {"clock_ahead", "a record of the minting host proves a clock that is fast beyond the leeway"},
	GroundClockRight:     {"clock_right", "the minting host's clock is within the leeway"},
	GroundSessionRevoked: {"session_revoked", "the session was revoked"},
	GroundUserRevoked:    {"user_revoked", "the sessions of the user were revoked"},
	GroundDeviceTaken:    {"device_taken", "another user opened a session on the device"},
	GroundSessionAge:     {"session_age", "the session is older than an access token lives"},
	GroundSessionUnknown: {"session_unknown", "the session began before what is remembered, or never"},
	GroundSessionYoung:   {"session_young", "the session is younger than an access token lives"},
	GroundUserBanned:     {"user_banned", "the user was refused as banned before"},
}

var groundByName = func() map[string]Ground {
	m := make(map[string]Ground, numGrounds)
	for g, s := range groundSpecs {
		m[s.name] = Ground(g)
	}
	return m
}()

// AllGrounds lists every ground, in declaration order.
func AllGrounds() []Ground {
	out := make([]Ground, numGrounds)
	for i := range out {
		out[i] = Ground(i)
	}
	return out
}

func (g Ground) String() string {
	if g < numGrounds {
		return groundSpecs[g].name
	}
	return fmt.Sprintf("ground(%d)", uint8(g))
}

// Doc says what the ground means.
func (g Ground) Doc() string {
	if g < numGrounds {
		return groundSpecs[g].doc
	}
	return ""
}

// Grounds is a set of grounds, one bit each.
type Grounds uint64

// With is s with the given grounds.
func (s Grounds) With(gs ...Ground) Grounds {
	for _, g := range gs {
		s |= 1 << g
	}
	return s
}

// Has reports whether g is in s.
func (s Grounds) Has(g Ground) bool { return s&(1<<g) != 0 }

// List is the grounds of s in declaration order.
func (s Grounds) List() []Ground {
	out := make([]Ground, 0, bits.OnesCount64(uint64(s)))
	for ; s != 0; s &= s - 1 {
		out = append(out, Ground(bits.TrailingZeros64(uint64(s))))
	}
	return out
}

// String is the names of s, separated by spaces.
func (s Grounds) String() string {
	list := s.List()
	names := make([]string, len(list))
	for i, g := range list {
		names[i] = g.String()
	}
	return strings.Join(names, " ")
}

// ParseGrounds is the inverse of Grounds.String. Names that it does not know are
// left out, and ok is false.
func ParseGrounds(text string) (s Grounds, ok bool) {
	ok = true
	for _, name := range strings.Fields(text) {
		g, known := groundByName[name]
		if !known {
			ok = false
			continue
		}
		s = s.With(g)
	}
	return s, ok
}
