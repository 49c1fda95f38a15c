package detect

import (
	"errors"
	"fmt"
	"time"

	"github.com/keysentry/keysentry/event"
)

// Declared is what the configuration says about a network: facts that no event has
// to tell. They hold from the start on; what lifecycle events tell later counts
// over them.
type Declared struct {
	// Regions in which the network's calls belong. A call elsewhere that is refused
	// went to the wrong region.
	Regions []string `yaml:"regions,omitempty"`
	// Certificates are the client certificates that the backends present.
	Certificates []DeclaredCertificate `yaml:"certificates,omitempty"`
}

// DeclaredCertificate is one client certificate. An id names one certificate; a
// common name alone says which services may bear it.
type DeclaredCertificate struct {
	ID      string `yaml:"id,omitempty"`      // fingerprint, as events name it
	CN      string `yaml:"cn"`                // common name
	Service string `yaml:"service,omitempty"` // that presents it; empty: any
	// NotBefore and NotAfter are RFC 3339; empty: not known.
	NotBefore string `yaml:"not_before,omitempty"`
	NotAfter  string `yaml:"not_after,omitempty"`
	// Disabled: it was taken out of use.
	Disabled bool `yaml:"disabled,omitempty"`
}

// maxDeclared bounds each list.
const maxDeclared = 1000

// Validate reports every fault, each beginning with the path of the field.
func (d Declared) Validate() []error {
	var errs []error
	if len(d.Regions) > maxRegions {
		errs = append(errs, fmt.Errorf("regions: at most %d", maxRegions))
	}
	for i, r := range d.Regions {
		if r == "" {
			errs = append(errs, fmt.Errorf("regions[%d]: is empty", i))
		}
	}
	if len(d.Certificates) > maxDeclared {
		errs = append(errs, fmt.Errorf("certificates: at most %d", maxDeclared))
	}
	seen := map[string]bool{}
	for i, c := range d.Certificates {
		for _, err := range c.validate() {
			errs = append(errs, fmt.Errorf("certificates[%d].%w", i, err))
		}
		if c.ID != "" && seen[c.ID] {
			errs = append(errs, fmt.Errorf("certificates[%d].id: %s is declared twice", i, c.ID))
		}
		seen[c.ID] = true
	}
	return errs
}

func (c DeclaredCertificate) validate() []error {
	var errs []error
	if c.CN == "" {
		errs = append(errs, errors.New("cn: give the common name"))
	}
	from, err := instantOf(c.NotBefore)
	if err != nil {
		errs = append(errs, fmt.Errorf("not_before: %w", err))
	}
	to, err := instantOf(c.NotAfter)
	if err != nil {
		errs = append(errs, fmt.Errorf("not_after: %w", err))
	}
	if from != 0 && to != 0 && to <= from {
		errs = append(errs, errors.New("not_after: is not after not_before"))
	}
	if c.ID == "" && (from != 0 || to != 0 || c.Disabled) {
		errs = append(errs, errors.New("id: dates and disabled are about one certificate; name it"))
	}
	return errs
}

// instantOf reads an optional time.
func instantOf(text string) (event.Instant, error) {
	if text == "" {
		return 0, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0, fmt.Errorf("write it as 2026-12-31T00:00:00Z: %w", err)
	}
	return event.At(t), nil
}

// declare takes in what the configuration says; it was validated.
func (f *facts) declare(network string, d Declared) {
	s := f.network(network)
	for _, r := range d.Regions {
		s.regions[r] = true
	}
	for _, x := range d.Certificates {
		s.name(x.CN, x.Service)
		if x.ID == "" {
			continue
		}
		if c := f.entry(network, x.ID); c != nil {
			c.cn, c.service, c.declared, c.disabled = x.CN, x.Service, true, x.Disabled
			c.notBefore, _ = instantOf(x.NotBefore)
			c.notAfter, _ = instantOf(x.NotAfter)
		}
	}
}
