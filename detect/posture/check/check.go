// Package check holds the posture checks that ship: each is a posture.Check over
// the registries of keys and certificates.
package check

import "github.com/keysentry/keysentry/detect/posture"

// All returns the shipped checks over reg.
func All(reg posture.Registry) []posture.Check {
	return []posture.Check{KeyAge{reg}, CertificateLead{reg}}
}
