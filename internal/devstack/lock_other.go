//go:build !unix

package devstack

// lockFile does not lock here; two processes that fetch at once both work, and
// the second rename fails.
func lockFile(string) (unlock func(), err error) { return func() {}, nil }

// tryLockFile does not lock here.
func tryLockFile(string) (unlock func(), err error) { return func() {}, nil }
