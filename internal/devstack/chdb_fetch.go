package devstack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// chdbVersion is pinned: the registry's "latest" is older and refuses the
// options that make libchdb a server.
const chdbVersion = "26.7.3-stable.1"

const chdbLib = "libchdb.so"

// chdbPackages are the npm packages by GOOS/GOARCH.
var chdbPackages = map[string]string{
	"linux/amd64":  "@chdb/lib-linux-x64-gnu",
	"linux/arm64":  "@chdb/lib-linux-arm64-gnu",
	"darwin/amd64": "@chdb/lib-darwin-x64",
	"darwin/arm64": "@chdb/lib-darwin-arm64",
}

const clickHouseInstead = "install ClickHouse so that `clickhouse` is on the PATH, or give the address of a server you have"

// chdbDir is where the unpacked package is kept.
func chdbDir() (string, error) {
	base, err := cacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(base, "chdb", chdbVersion, runtime.GOOS+"-"+runtime.GOARCH), nil
}

// ensureChdb returns the path of libchdb, fetching it when it is not there.
func ensureChdb(ctx context.Context, progress io.Writer) (string, error) {
	pkg, ok := chdbPackages[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		return "", &UnavailableError{Part: "ClickHouse", Instead: clickHouseInstead,
			Missing: "there is no embedded engine for " + runtime.GOOS + "/" + runtime.GOARCH}
	}
	dir, err := chdbDir()
	if err != nil {
		return "", err
	}
	err = fetchOnce(dir, func(tmp string) error { return fetchChdb(ctx, pkg, tmp, orStderr(progress)) })
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, chdbLib), nil
}

// fetchChdb downloads, checks and unpacks the package into dir.
func fetchChdb(ctx context.Context, pkg, dir string, progress io.Writer) error {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return &UnavailableError{Part: "ClickHouse", Instead: "install Node.js (npm fetches the embedded engine once), or " + clickHouseInstead,
			Missing: "neither `clickhouse` nor `npm` is on the PATH"}
	}
	spec := pkg + "@" + chdbVersion
	fmt.Fprintf(progress, "devstack: fetching the embedded ClickHouse (%s, 178 MB, once)\n", spec)
	packed, err := npmPack(ctx, npm, spec, dir, progress)
	if err != nil {
		return &UnavailableError{Part: "ClickHouse", Missing: "npm could not fetch " + spec, Cause: err,
			Instead: "check the network and try again, or " + clickHouseInstead}
	}
	if packed.Version != chdbVersion || packed.Name != pkg {
		return fmt.Errorf("fetch %s: npm gave %s@%s", spec, packed.Name, packed.Version)
	}
	tarball := filepath.Join(dir, filepath.Base(packed.Filename))
	if err := verifyIntegrity(tarball, packed.Integrity); err != nil {
		return fmt.Errorf("fetch %s: %w", spec, err)
	}
	fmt.Fprintln(progress, "devstack: unpacking (566 MB)")
	if err := unpackTarball(tarball, dir); err != nil {
		return fmt.Errorf("unpack %s: %w", spec, err)
	}
	return os.Remove(tarball)
}

// npmPacked is what `npm pack --json` and `npm view --json` say.
type npmPacked struct {
	Name      string `json:"name"`
	Version   string `json:"version"`
	Filename  string `json:"filename"`
	Integrity string `json:"integrity"`
}

// npmPack downloads the tarball into dir. The integrity it returns is the
// registry's, not the one that npm computes over the file it has written.
func npmPack(ctx context.Context, npm, spec, dir string, progress io.Writer) (npmPacked, error) {
	view, err := runNPM(ctx, npm, dir, "view", spec, "dist.integrity", "--json")
	if err != nil {
		return npmPacked{}, err
	}
	var integrity string
	if err := json.Unmarshal(view, &integrity); err != nil {
		return npmPacked{}, fmt.Errorf("read what npm says of %s: %w", spec, err)
	}
	stop := reportGrowth(dir, progress)
	out, err := runNPM(ctx, npm, dir, "pack", spec, "--json", "--pack-destination", dir, "--cache", filepath.Join(dir, "npm-cache"))
	stop()
	if err != nil {
		return npmPacked{}, err
	}
	if err := os.RemoveAll(filepath.Join(dir, "npm-cache")); err != nil {
		return npmPacked{}, err
	}
	p, err := parseNPMPack(out)
	p.Integrity = integrity
	return p, err
}

// parseNPMPack reads the answer of npm pack: a list with one entry, or (npm 12)
// an object by package name.
func parseNPMPack(out []byte) (npmPacked, error) {
	var list []npmPacked
	if err := json.Unmarshal(out, &list); err != nil {
		var byName map[string]npmPacked
		if errObj := json.Unmarshal(out, &byName); errObj != nil {
			return npmPacked{}, fmt.Errorf("read the answer of npm: %w", err)
		}
		for _, p := range byName {
			list = append(list, p)
		}
	}
	if len(list) != 1 {
		return npmPacked{}, fmt.Errorf("read the answer of npm: %d packages instead of one", len(list))
	}
	return list[0], nil
}

func runNPM(ctx context.Context, npm, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, npm, args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("npm %s: %w: %s", args[0], err, lastLine(stderr.String()))
	}
	return out, nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// reportGrowth says every two seconds how much there is in dir, until the
// returned function is called.
func reportGrowth(dir string, progress io.Writer) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
				fmt.Fprintf(progress, "devstack: %d MB\n", folderSize(dir)>>20)
			}
		}
	}()
	return func() { close(quit); <-done }
}

func folderSize(dir string) int64 {
	var n int64
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return nil // files come and go while npm works
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			n += info.Size()
		}
		return nil
	})
	return n
}

// verifyIntegrity checks a file against "sha512-BASE64".
func verifyIntegrity(path, integrity string) error {
	want, ok := strings.CutPrefix(integrity, "sha512-")
	if !ok {
		return fmt.Errorf("the registry gives no sha512 of it, but %q", integrity)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	h := sha512.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := base64.StdEncoding.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("the download is not what the registry promised: sha512 %s, want %s", got, want)
	}
	return nil
}

// unpackTarball writes the library of an npm tarball (files are under
// "package/") into dir. Other files of the package are for Node and stay out.
func unpackTarball(tarball, dir string) error {
	f, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	tr := tar.NewReader(gz)
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return errors.New("the package holds no package/" + chdbLib)
		}
		if err != nil {
			return err
		}
		if hdr.Name == "package/"+chdbLib && hdr.Typeflag == tar.TypeReg {
			return writeFile(filepath.Join(dir, chdbLib), tr)
		}
	}
}

func writeFile(path string, r io.Reader) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, r)
	return err
}
