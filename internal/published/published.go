// Package published finds records that other people published, for tests. They are
// no part of the project: a test that needs them is skipped where they are not.
package published

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Path is the file or folder data/NAME of the folder that KEYSENTRY_SHARED names,
// else of the folder shared beside the checkout.
func Path(t testing.TB, name string) string {
	t.Helper()
	root := os.Getenv("KEYSENTRY_SHARED")
	if root == "" {
		root = beside(t)
	}
	full := filepath.Join(root, "data", filepath.FromSlash(name))
	if _, err := os.Stat(full); err != nil {
		t.Skipf("SKIP: the published data is not here (set KEYSENTRY_SHARED to its folder): %v", err)
	}
	return full
}

// beside is the folder shared next to the checkout.
func beside(t testing.TB) string {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(filepath.Dir(dir), "shared")
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("the test does not run inside the checkout")
		}
		dir = up
	}
}

// Read is the content of a file, unpacked when its name ends with .gz.
func Read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(Path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(name, ".gz") {
		return b
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if b, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	return b
}

// Lines are the lines of a file that are not empty, without their ends.
func Lines(t testing.TB, name string) [][]byte {
	t.Helper()
	var out [][]byte
	for l := range bytes.Lines(Read(t, name)) {
		if l = bytes.TrimRight(l, "\r\n"); len(l) > 0 {
			out = append(out, l)
		}
	}
	return out
}
