package detect

import (
	"cmp"
	"strings"
	"time"

	"github.com/keysentry/keysentry/event"
)

// certificate is one client certificate of the registry.
type certificate struct {
	cn, service         string
	notBefore, notAfter event.Instant
	active, disabled    bool
	toggled             event.Instant // when it was last activated or disabled
	declared            bool          // by the configuration
}

// settings are what is known of one network besides keys.
type settings struct {
	secureOff   bool
	secureSince event.Instant
	regions     map[string]bool // in which calls succeeded, or that are declared
	certs       int             // of the registry
	// names are the common names of the network's certificates, and the service
	// that each belongs to; empty: any.
	names map[string]string
	// tokens says of which observers records of opened sessions name their token.
	tokens [8]bool
	// forbidden is since when mints are refused with 403 and none succeeds; zero:
	// the last one did. single is when a mint last succeeded in spite of such
	// refusals, which then are about their caller.
	forbidden, single event.Instant
	// firstMint is since when mints come in, without a pause of more than a day.
	firstMint, lastMint event.Instant
}

// keyUsed is when tokens were minted with a key, by anyone.
type keyUsed struct{ first, last event.Instant }

// maxRegions bounds the regions of one network.
const maxRegions = 64

// facts are the certificates and settings, and what successes show.
type facts struct {
	certs    map[keyName]*certificate
	networks map[string]*settings
	used     map[keyName]*keyUsed
}

func newFacts(declared map[string]Declared) facts {
	f := facts{certs: map[keyName]*certificate{}, networks: map[string]*settings{}, used: map[keyName]*keyUsed{}}
	for name, d := range declared {
		f.declare(name, d)
	}
	return f
}

func (f *facts) network(name string) *settings {
	s := f.networks[name]
	if s == nil {
		s = &settings{regions: map[string]bool{}}
		if len(f.networks) < maxKeys {
			f.networks[strings.Clone(name)] = s
		}
	}
	return s
}

// lifecycle takes a lifecycle event in.
func (f *facts) lifecycle(e *event.Event) {
	switch e.Type {
	case event.TypeSecureModeDisabled, event.TypeSecureModeEnabled:
		if s := f.network(e.Network); e.TS >= s.secureSince {
			s.secureOff, s.secureSince = e.Type == event.TypeSecureModeDisabled, e.TS
		}
	case event.TypeCertificateIssued, event.TypeCertificateActivated, event.TypeCertificateDisabled:
		f.certificate(e)
	}
}

// entry is the registry's entry of a certificate, made if there is none; nil: there
// is no room.
func (f *facts) entry(network, id string) *certificate {
	c := f.certs[keyName{network, id}]
	if c == nil {
		if len(f.certs) >= maxKeys {
			return nil
		}
		c = &certificate{}
		f.certs[keyName{strings.Clone(network), strings.Clone(id)}] = c
		f.network(network).certs++
	}
	return c
}

func (f *facts) certificate(e *event.Event) {
	if e.CertID == "" {
		return
	}
	c := f.entry(e.Network, e.CertID)
	if c == nil {
		return
	}
	if e.CertCN != "" {
		c.cn = strings.Clone(e.CertCN)
		f.network(e.Network).name(c.cn, "")
	}
	if e.Service != "" && e.Type != event.TypeCertificateDisabled {
		c.service = strings.Clone(e.Service)
	}
	c.notBefore = cmp.Or(e.CertNotBefore, c.notBefore)
	c.notAfter = cmp.Or(e.CertNotAfter, c.notAfter)
	if e.Type != event.TypeCertificateIssued && e.TS >= c.toggled {
		c.disabled, c.toggled = e.Type == event.TypeCertificateDisabled, e.TS
		c.active = !c.disabled
	}
}

// name notes a common name of the network; one that is told for two services
// belongs to any.
func (s *settings) name(cn, service string) {
	if s.names == nil {
		s.names = map[string]string{}
	}
	if was, ok := s.names[cn]; ok && was != service {
		service = ""
	}
	if len(s.names) < maxDeclared {
		s.names[cn] = service
	}
}

// forbiddenSlack is by how much a success may be later than a refusal and still
// have been under way when that was given.
const forbiddenSlack = 5 * time.Second

// succeeded takes in what a call that succeeded shows.
func (f *facts) succeeded(e *event.Event) {
	s := f.network(e.Network)
	if e.Region != "" && !s.regions[e.Region] && len(s.regions) < maxRegions {
		s.regions[strings.Clone(e.Region)] = true
	}
	switch e.Type {
	case event.TypeSessionCreated:
		s.tokens[e.Origin&7] = s.tokens[e.Origin&7] || e.TokenID != ""
	case event.TypeAuthTokenIssued:
		if s.forbidden != 0 && e.TS.Sub(s.forbidden) > forbiddenSlack {
			s.forbidden, s.single = 0, e.TS
		}
		if s.firstMint == 0 || e.TS.Sub(s.lastMint) > 24*time.Hour {
			s.firstMint = e.TS
		}
		s.firstMint, s.lastMint = min(s.firstMint, e.TS), max(s.lastMint, e.TS)
		f.use(e)
	}
}

// use notes that a token was minted with a key.
func (f *facts) use(e *event.Event) {
	if e.KeyID == "" {
		return
	}
	u := f.used[keyName{e.Network, e.KeyID}]
	if u == nil {
		if len(f.used) >= maxKeys {
			return
		}
		u = &keyUsed{first: e.TS}
		f.used[keyName{strings.Clone(e.Network), strings.Clone(e.KeyID)}] = u
	}
	u.first, u.last = min(u.first, e.TS), max(u.last, e.TS)
}

// refused takes in what a refusal shows.
func (f *facts) refused(e *event.Event) {
	if e.Status != 403 || !atMint(e) {
		return
	}
	if s := f.network(e.Network); s.forbidden == 0 {
		s.forbidden = e.TS
	}
}

// superseded says whether hosts of the network mint with another key that came into
// use after this one, and none with this one any more.
func (f *facts) superseded(network, key string, at event.Instant) bool {
	u := f.used[keyName{network, key}]
	if u == nil {
		return false
	}
	for n, o := range f.used {
		if n.network == network && n.key != key && o.first > u.first && o.last > u.last && o.first <= at && at.Sub(o.last) < supersededWithin {
			return true
		}
	}
	return false
}

// supersededWithin is how recently the successor of a key must have been used.
const supersededWithin = time.Hour
