package devstack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFetchOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "1.0")
	var fills atomic.Int32
	fill := func(tmp string) error {
		fills.Add(1)
		return os.WriteFile(filepath.Join(tmp, "x"), []byte("whole"), 0o644)
	}
	if err := fetchOnce(dir, func(string) error { return errors.New("no network") }); err == nil {
		t.Fatal("a failed fetch passed")
	}
	if _, err := os.Stat(dir); err == nil {
		t.Fatal("a failed fetch left the folder")
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := fetchOnce(dir, fill); err != nil {
				t.Error(err)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "x")); err != nil || string(b) != "whole" {
				t.Errorf("read %q, %v", b, err)
			}
		})
	}
	wg.Wait()
	if n := fills.Load(); n != 1 {
		t.Errorf("filled %d times, want once", n)
	}
	left, err := filepath.Glob(dir + ".part-*")
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestVerifyIntegrity(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512([]byte("content"))
	good := "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
	for _, tc := range []struct{ name, integrity, want string }{
		{"right", good, ""},
		{"another file", "sha512-AAAA", "not what the registry promised"},
		{"a weaker sum", "sha1-AAAA", "no sha512"},
		{"none", "", "no sha512"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := verifyIntegrity(path, tc.integrity)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
		})
	}
}

func TestParseNPMPack(t *testing.T) {
	t.Parallel()
	want := npmPacked{Name: "@chdb/lib", Version: "1", Filename: "f.tgz", Integrity: "sha512-x"}
	one := `{"name":"@chdb/lib","version":"1","filename":"f.tgz","integrity":"sha512-x","files":[]}`
	for _, tc := range []struct {
		name, out string
		ok        bool
	}{
		{"a list", "[" + one + "]", true},
		{"by name", `{"@chdb/lib":` + one + "}", true},
		{"two", "[" + one + "," + one + "]", false},
		{"none", "[]", false},
		{"no JSON", "npm notice", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parseNPMPack([]byte(tc.out))
			if (err == nil) != tc.ok {
				t.Fatalf("error %v", err)
			}
			if tc.ok {
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestUnpackTarball(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, entry string
		ok          bool
	}{
		{"the library", "package/libchdb.so", true},
		{"another file", "package/index.js", false},
		{"outside", "../libchdb.so", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			tarball := filepath.Join(dir, "p.tgz")
			if err := os.WriteFile(tarball, tgz(t, tc.entry, "library"), 0o644); err != nil {
				t.Fatal(err)
			}
			err := unpackTarball(tarball, dir)
			if (err == nil) != tc.ok {
				t.Fatalf("error %v", err)
			}
			b, _ := os.ReadFile(filepath.Join(dir, chdbLib))
			if tc.ok && string(b) != "library" {
				t.Errorf("unpacked %q", b)
			}
		})
	}
}

func tgz(t *testing.T, name, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(gz)
	err := tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg})
	if err == nil {
		_, err = io.WriteString(tw, content)
	}
	if err := errors.Join(err, tw.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Not parallel: they change the environment.
func TestUnavailable(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("JAVA_HOME", "")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	for _, tc := range []struct {
		name  string
		start func() error
		want  []string
	}{
		{"no npm", func() error { return Prefetch(t.Context(), io.Discard, FetchClickHouse) },
			[]string{"ClickHouse is not available", "npm", "install Node.js"}},
		{"no java", func() error { _, err := StartApacheKafka(t.Context(), ApacheOptions{}); return err },
			[]string{"Apache Kafka is not available", "(`java`) is not on the PATH", "fake Kafka"}},
		{"no maven", func() error { _, err := ensureKafkaJars(t.Context(), io.Discard); return err },
			[]string{"Apache Kafka is not available", "(`mvn`) is not on the PATH"}},
		{"npm fails", func() error {
			fakeProgram(t, "npm", "echo broken pipe dreams >&2; exit 1")
			_, err := StartClickHouse(t.Context(), ClickHouseOptions{Progress: io.Discard})
			return err
		}, []string{"npm could not fetch", "broken pipe dreams", "check the network"}},
		{"maven fails", func() error {
			fakeProgram(t, "mvn", "echo no route; exit 1")
			_, err := ensureKafkaJars(t.Context(), io.Discard)
			return err
		}, []string{"Maven could not fetch it", "no route"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.start()
			var u *UnavailableError
			if !errors.Is(err, ErrUnavailable) || !errors.As(err, &u) {
				t.Fatalf("error %v, want ErrUnavailable", err)
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in %q", want, err)
				}
			}
		})
	}
}

// fakeProgram puts a shell script first on the PATH.
func fakeProgram(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
}
