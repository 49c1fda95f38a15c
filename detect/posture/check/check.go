// Package check holds the posture checks that ship: each is a posture.Check over
// the registries of keys and certificates.
package check

import "github.com/keysentry/keysentry/detect/posture"

// All returns the shipped checks over reg.
func All(reg posture.Registry) []posture.Check {
	return []posture.Check{NewKeyAge(reg), NewCertificateLead(reg)}
}

// NewKeyAge returns the check of the age of server keys.
func NewKeyAge(reg posture.Registry) posture.Check { return KeyAge{reg} }

// NewCertificateLead returns the check of how long certificates will last.
func NewCertificateLead(reg posture.Registry) posture.Check { return CertificateLead{reg} }
