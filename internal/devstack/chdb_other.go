//go:build !linux && !darwin

package devstack

import "errors"

// runChdb cannot be: libchdb exists for Linux and macOS.
func runChdb(string, []string) error { return errors.New("libchdb is not made for this system") }
