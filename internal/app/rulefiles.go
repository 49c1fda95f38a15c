package app

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/keysentry/keysentry/rules"
)

// ReadRuleFiles reads the named rule files, and those of the named folders and
// of the folders inside them, sorted by path. Tests of rules are kept apart, and
// names that begin with a dot are passed over: editors lock and save under such
// names, and Kubernetes keeps the versions of a mounted folder there.
func ReadRuleFiles(paths []string) (files, tests []rules.File, err error) {
	add := func(path string) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		f := rules.File{Name: path, Data: data}
		if strings.HasSuffix(path, rules.TestSuffix) {
			tests = append(tests, f)
		} else {
			files = append(files, f)
		}
		return nil
	}
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return nil, nil, fmt.Errorf("read rules: %w", err)
		}
		if !info.IsDir() {
			if err := add(p); err != nil {
				return nil, nil, fmt.Errorf("read rules: %w", err)
			}
			continue
		}
		err = filepath.WalkDir(p, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case skipped(p, path, d):
				return skip(d)
			case d.IsDir() || !isRuleFile(path):
				return nil
			}
			return add(path)
		})
		if err != nil {
			return nil, nil, fmt.Errorf("read rules: %w", err)
		}
	}
	return files, tests, nil
}

// skipped reports whether something inside the folder root is passed over.
func skipped(root, path string, d fs.DirEntry) bool {
	return path != root && strings.HasPrefix(d.Name(), ".")
}

// skip passes over a folder with all that is in it, or a file.
func skip(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

func isRuleFile(path string) bool {
	ext := filepath.Ext(path)
	return ext == ".yml" || ext == ".yaml"
}
