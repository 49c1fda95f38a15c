package configs

import "embed"

// Mappings holds mappings/*.yml.
//
//go:embed mappings/*.yml
var Mappings embed.FS
