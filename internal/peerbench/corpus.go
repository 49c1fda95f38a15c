package peerbench

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keysentry/keysentry/rules"
)

// ruleFile is one file of rules.
type ruleFile = rules.File

// archive is the name that a packed corpus has in its folder.
const archive = "sigma-rules.tar.gz"

// readCorpus reads every rule file of a packed corpus or a folder, by name.
func readCorpus(path string) ([]ruleFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("%w: no SigmaHQ rules at %q: name a checkout of the SigmaHQ rules, or an archive of it, with --corpus (make bench-peers CORPUS=...)", ErrMissing, path)
	}
	var files []ruleFile
	packed := filepath.Join(path, archive)
	switch {
	case !info.IsDir():
		files, err = readArchive(path)
	default:
		if _, serr := os.Stat(packed); serr == nil {
			files, err = readArchive(packed)
		} else {
			files, err = readFolder(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the corpus: %w", err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%w: %s holds no rule file", ErrMissing, path)
	}
	slices.SortFunc(files, func(a, b ruleFile) int { return strings.Compare(a.Name, b.Name) })
	return files, nil
}

func isRule(name string) bool {
	ext := filepath.Ext(name)
	return ext == ".yml" || ext == ".yaml"
}

func readFolder(dir string) (files []ruleFile, err error) {
	root := os.DirFS(dir)
	err = fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !isRule(name) {
			return err
		}
		data, err := fs.ReadFile(root, name)
		files = append(files, ruleFile{Name: name, Data: data})
		return err
	})
	return files, err
}

func readArchive(path string) (files []ruleFile, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	zr, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Typeflag != tar.TypeReg || !isRule(h.Name) {
			continue
		}
		data, err := io.ReadAll(tr)
		if err != nil {
			return nil, err
		}
		files = append(files, ruleFile{Name: h.Name, Data: data})
	}
}

// loadable is the files that both sides load without an error.
func (b *bench) loadable(ctx context.Context, files []ruleFile) ([]ruleFile, error) {
	_, diags := rules.Load(files, rules.Options{AnyLogSource: true})
	refused := map[string]bool{}
	for _, d := range diags {
		if d.Severity == rules.Error {
			refused[d.File] = true
		}
	}
	files = slices.DeleteFunc(slices.Clone(files), func(f ruleFile) bool { return refused[f.Name] })
	return b.theirLoadable(ctx, files)
}

// theirLoadable leaves out what the peer refuses. It halves the files until
// those that are refused stand alone: few are, and the peer names no files.
func (b *bench) theirLoadable(ctx context.Context, files []ruleFile) ([]ruleFile, error) {
	if len(files) == 0 {
		return nil, nil
	}
	dir, err := writeRules(filepath.Join(b.dir, "validate"), files)
	if err != nil {
		return nil, err
	}
	bad, err := rsigmaRefuses(ctx, b.theirs, dir)
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		return nil, err
	}
	switch {
	case !bad:
		return files, nil
	case len(files) == 1:
		return nil, nil
	}
	half := len(files) / 2
	first, err := b.theirLoadable(ctx, files[:half])
	if err != nil {
		return nil, err
	}
	second, err := b.theirLoadable(ctx, files[half:])
	return slices.Concat(first, second), err
}

// writeRules writes rule files into a new folder, under numbers, because the
// names come from elsewhere.
func writeRules(dir string, files []ruleFile) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("write the rules: %w", err)
	}
	for i, f := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d.yml", i)), f.Data, 0o644); err != nil {
			return "", fmt.Errorf("write the rules: %w", err)
		}
	}
	return dir, nil
}

// writeEvents writes n events, one on a line.
func writeEvents(path string, event func(dst []byte, i int) []byte, n int) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write the events: %w", err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	var line []byte
	for i := range n {
		line = append(event(line[:0], i), '\n')
		if _, err = w.Write(line); err != nil {
			break
		}
	}
	if err := errors.Join(err, w.Flush(), f.Close()); err != nil {
		return fmt.Errorf("write the events: %w", err)
	}
	return nil
}
