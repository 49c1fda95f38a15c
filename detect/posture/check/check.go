// Package check holds the posture checks that ship, each a posture.Check over the
// registries of keys and certificates, over the events of the last day, over
// deployed certificate files or over TLS servers, and it reads checks of the user's
// own: SQL in YAML.
package check

import (
	"github.com/keysentry/keysentry/detect/posture"
)

// Sources are what the shipped checks look at.
type Sources struct {
	Registry posture.Registry
	Facts    posture.Facts
	Coverage posture.Coverage
	// Networks are those of the configuration: one that nothing is heard of is
	// unknown.
	Networks []string
	Files    []CertFile
	Probes   []posture.Probe
}

// All returns the shipped checks, in the order of the scorecard.
func All(s Sources) []posture.Check {
	d := daily{s.Facts, s.Networks}
	out := []posture.Check{
		Unauthorized{d}, KeyAge{s.Registry}, MTLSCoverage{d}, TokenFailure{d}, CertificateLead{s.Registry, s.Files}, SecureMode{d},
		ActiveCertificates{s.Registry}, DataCoverage{s.Coverage, s.Networks},
	}
	if len(s.Probes) > 0 {
		out = append(out, TLSServers{Probes: s.Probes})
	}
	return out
}
