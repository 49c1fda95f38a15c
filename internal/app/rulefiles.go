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
// of the folders inside them, sorted by path. Tests of rules are kept apart.
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
			if err != nil || d.IsDir() {
				return err
			}
			if ext := filepath.Ext(path); ext != ".yml" && ext != ".yaml" {
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
