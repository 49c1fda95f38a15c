// Package configs carries the shipped files that the binary needs at run time.
package configs

import "embed"

// Playbooks holds playbooks/*.yml.
//
//go:embed playbooks/*.yml
var Playbooks embed.FS
