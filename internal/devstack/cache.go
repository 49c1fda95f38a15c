package devstack

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// cacheDir is the folder of this program's downloads in the user's cache.
func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	return filepath.Join(base, "keysentry"), nil
}

// fetchOnce makes dir, which is complete when it exists: fill writes into a
// new folder beside it, which then gets dir's name. Of several processes that
// want the same folder one fills it and the others wait for its lock.
func fetchOnce(dir string, fill func(tmp string) error) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return fmt.Errorf("make the cache folder: %w", err)
	}
	unlock, err := lockFile(dir + ".lock")
	if err != nil {
		return fmt.Errorf("lock the cache folder: %w", err)
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return nil // another process filled it meanwhile
	}
	tmp, err := os.MkdirTemp(parent, filepath.Base(dir)+".part-")
	if err != nil {
		return fmt.Errorf("make the cache folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := fill(tmp); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("finish the cache folder: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("finish the cache folder: %w", err)
	}
	return nil
}

// orStderr is w, or standard error.
func orStderr(w io.Writer) io.Writer {
	if w == nil {
		return os.Stderr
	}
	return w
}
