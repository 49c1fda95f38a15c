package simulate

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

//go:embed scenarios/*.yml
var files embed.FS

// first are the short scenarios that come first in the list.
var first = []string{"unauthorized-spike", "retired-key", "clock-skew", "key-theft", "secure-mode-off"}

// Library is the scenarios that come with Keysentry, the short ones first.
var Library = sync.OnceValue(func() []*Script {
	names, err := fs.Glob(files, "scenarios/*.yml")
	if err != nil {
		panic(err) // the pattern is good
	}
	var out []*Script
	for _, n := range names {
		text, err := files.ReadFile(n)
		if err != nil {
			panic(err) // it is embedded
		}
		s, err := ParseScript(n, text)
		if err != nil {
			panic(err) // a test reads them all
		}
		out = append(out, s)
	}
	rank := func(s *Script) int {
		if i := slices.Index(first, s.Name); i >= 0 {
			return i
		}
		return len(first)
	}
	slices.SortStableFunc(out, func(a, b *Script) int { return rank(a) - rank(b) })
	return out
})

// Scenarios lists what Options.Scenario may name.
func Scenarios() []Scenario {
	out := []Scenario{{Ordinary, "backends mint and users open sessions, by day more than by night; nothing is wrong"}}
	for _, s := range Library() {
		about, _, _ := strings.Cut(s.About, ". ")
		out = append(out, Scenario{s.Name, strings.TrimSuffix(about, ".")})
	}
	return out
}

// Attacks are the scenarios that come with Keysentry, but for the short ones.
func Attacks() []*Script {
	var out []*Script
	for _, s := range Library() {
		if !slices.Contains(first, s.Name) {
			out = append(out, s)
		}
	}
	return out
}

// LoadScripts reads a file, or all *.yml of a folder.
func LoadScripts(path string) ([]*Script, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("scenarios: %w", err)
	}
	names := []string{path}
	if info.IsDir() {
		if names, err = filepath.Glob(filepath.Join(path, "*.yml")); err != nil {
			return nil, fmt.Errorf("scenarios: %w", err)
		}
		if len(names) == 0 {
			return nil, fmt.Errorf("scenarios: %s holds no *.yml", path)
		}
	}
	var out []*Script
	var errs []error
	for _, n := range names {
		text, err := readScript(n)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s, err := ParseScript(n, text)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, s)
	}
	return out, errors.Join(errs...)
}

// readScript reads at most one byte more than a scenario may have.
func readScript(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("scenarios: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxScript+1))
	return text, errors.Join(err, f.Close())
}

// play is one scenario of a run.
type play struct {
	script *Script
	at     moment
	placed bool // at is said
}

// plays are the scenarios of a run, in the order of the options.
func (o Options) plays() ([]play, error) {
	var out []play
	named := map[*Script]bool{}
	for _, text := range append([]string{o.Scenario}, o.Scenarios...) {
		if text == "" {
			continue
		}
		name, when, moved := strings.Cut(text, "@")
		if name == Ordinary && !moved {
			continue
		}
		s := o.find(name)
		if s == nil {
			return nil, fmt.Errorf("%w %q: keysentry simulate --list tells which there are", ErrScenario, name)
		}
		p := play{s, s.at, s.At != ""}
		if moved {
			var err error
			p.placed = true
			if p.at, err = parseMoment(when); err != nil {
				return nil, fmt.Errorf("%w: %s: %w", ErrScenario, text, err)
			}
		}
		named[s] = true
		out = append(out, p)
	}
	for _, s := range o.Scripts {
		if !named[s] {
			out = append(out, play{s, s.at, s.At != ""})
		}
	}
	return out, nil
}

// find is a scenario by name; one's own come first.
func (o Options) find(name string) *Script {
	for _, list := range [][]*Script{o.Scripts, Library()} {
		for _, s := range list {
			if s.Name == name {
				return s
			}
		}
	}
	return nil
}
