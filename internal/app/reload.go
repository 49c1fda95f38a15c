package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/keysentry/keysentry/alert/journal"
	"github.com/keysentry/keysentry/event"
	"github.com/keysentry/keysentry/rules"
)

// watchEvery is how often the rule files are looked at. A change is read once two
// looks in a row agree, so that a file is not read half-written; it takes effect
// well within two seconds.
const watchEvery = 300 * time.Millisecond

// watchRules reloads when rule files change. It looks instead of being told:
// that is the same on every file system, for a file that is written in place,
// renamed over or created anew, and for the symbolic links by which Kubernetes
// swaps a whole folder.
func (a *App) watchRules(ctx context.Context) error {
	if len(a.cfg.Rules.Paths) == 0 {
		return nil
	}
	seen := a.stamp
	for {
		_ = pause(ctx, watchEvery)
		if ctx.Err() != nil {
			return nil
		}
		now := stampRules(a.cfg.Rules.Paths)
		if now != seen {
			seen = now
			continue
		}
		if now != a.stamp {
			a.stamp = now
			_ = a.reload(ctx, false) // it has said what is wrong
		}
	}
}

// stampRules is the same as long as no rule file changes its place, size or time.
func stampRules(paths []string) string {
	h := sha256.New()
	note := func(path string) {
		info, err := os.Stat(path) // of what a symbolic link leads to
		if err != nil {
			fmt.Fprintln(h, path, "is not there")
			return
		}
		fmt.Fprintln(h, path, info.Size(), info.ModTime().UnixNano(), info.IsDir())
	}
	for _, p := range paths {
		note(p)
		_ = filepath.WalkDir(p, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return nil // it will be missed where it matters, when it is read
			case skipped(p, path, d):
				return skip(d)
			case !d.IsDir() && isRuleFile(path):
				note(path)
			}
			return nil
		})
	}
	return hex.EncodeToString(h.Sum(nil))
}

// digestRules identifies the content of rule files, or why they cannot be read.
func digestRules(files []rules.File, err error) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%d:%s%d:", len(f.Name), f.Name, len(f.Data))
		_, _ = h.Write(f.Data)
	}
	fmt.Fprint(h, err)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// Reload reads the rules again and swaps them in when they are sound; it keeps
// the running set and says why otherwise. Either way the journal has it.
// The user's posture checks are read again with them, and stand or fall alone.
func (a *App) Reload(ctx context.Context) error {
	return errors.Join(a.reload(ctx, true), a.reloadChecks())
}

// reload is Reload; without always it does nothing for files that were tried
// already.
func (a *App) reload(ctx context.Context, always bool) error {
	change, err := a.tryRules(always)
	if change == nil {
		return err
	}
	if _, leading := a.journal.Leading(); leading {
		if _, jerr := a.journal.Append(ctx, journal.Entry{Kind: journal.KindConfig, Time: event.At(a.opts.Now()), Body: *change}); jerr != nil {
			a.log.Error("the journal does not have the reload", "result", change.Result, "error", jerr)
			return errors.Join(err, jerr)
		}
	}
	return err
}

// tryRules swaps in what the rule files hold now, or says why not. The change is
// nil when there was nothing to try.
func (a *App) tryRules(always bool) (*journal.ConfigChange, error) {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	own, _, err := ReadRuleFiles(a.cfg.Rules.Paths)
	digest := digestRules(own, err)
	if !always && digest == a.tried {
		return nil, nil
	}
	a.tried = digest
	change := &journal.ConfigChange{What: "rules", Hash: digest, Result: "applied"}
	var set *rules.Set
	var diags []rules.Diagnostic
	was := a.ruleSet()
	if err == nil {
		set, diags = compileRules(a.cfg.Rules, own)
		err = a.newFaults(diags)
	}
	if err == nil {
		err = a.swap(set)
	}
	if err != nil {
		change.Result, change.Detail = "refused", err.Error()
		a.log.Error("reload refused; the running rules stay", "error", err)
		return change, err
	}
	change.Detail = describeChange(was, set)
	a.reportRules(diags)
	a.log.Info("rules reloaded", "rules", len(set.Rules), "correlations", len(set.Correlations), "change", change.Detail)
	return change, nil
}

func (a *App) ruleSet() *rules.Set {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rules
}

// maxNamed bounds how many rules a description of a change names.
const maxNamed = 10

// describeChange says how many rules there are now and which were added, changed
// or removed. What changed only in how it is told is marked as edited.
func describeChange(was, now *rules.Set) string {
	old := metas(was)
	var added, changed, edited, removed []string
	for _, m := range metas(now).list {
		o := old.byID[m.ID]
		switch {
		case o == nil:
			added = append(added, nameOf(m))
		case o.Logic != m.Logic:
			changed = append(changed, nameOf(m))
		case o.Hash != m.Hash:
			edited = append(edited, nameOf(m))
		}
		delete(old.byID, m.ID)
	}
	for _, m := range old.list {
		if old.byID[m.ID] != nil {
			removed = append(removed, nameOf(m))
		}
	}
	text := fmt.Sprintf("%d rules, %d correlations", len(now.Rules), len(now.Correlations))
	for _, l := range []struct {
		what  string
		names []string
	}{{"added", added}, {"changed", changed}, {"edited", edited}, {"removed", removed}} {
		if n := len(l.names); n > maxNamed {
			l.names = append(l.names[:maxNamed:maxNamed], fmt.Sprintf("and %d more", n-maxNamed))
		}
		if len(l.names) > 0 {
			text += "; " + l.what + ": " + strings.Join(l.names, ", ")
		}
	}
	return text
}

// metaList is the documents of a set, in order and by id.
type metaList struct {
	list []*rules.Meta
	byID map[string]*rules.Meta
}

func metas(set *rules.Set) metaList {
	l := metaList{byID: map[string]*rules.Meta{}}
	add := func(m *rules.Meta) {
		l.list = append(l.list, m)
		l.byID[m.ID] = m
	}
	for _, r := range set.Rules {
		if !r.Derived {
			add(&r.Meta)
		}
	}
	for _, c := range set.Correlations {
		add(&c.Meta)
	}
	return l
}

func nameOf(m *rules.Meta) string {
	if m.Name != "" {
		return m.Name
	}
	return m.Title
}

// newFaults is the first fault that the running rules do not have, and how many
// more there are. What was left out already may stay out; but a document that ran
// until now must not be lost to a slip of the pen.
func (a *App) newFaults(diags []rules.Diagnostic) error {
	a.mu.Lock()
	known := maps.Clone(a.ruleFaults)
	a.mu.Unlock()
	first, n := "", 0
	for _, d := range diags {
		if d.Severity != rules.Error {
			continue
		}
		if k := faultKey(d); known[k] > 0 {
			known[k]-- // a second one of the same kind is new
			continue
		}
		if n++; n == 1 {
			first = d.String()
		}
	}
	switch n {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("rules: %s", first)
	}
	return fmt.Errorf("rules: %s; and %d more", first, n-1)
}

// faultKey is the same for a fault that has moved within its file.
func faultKey(d rules.Diagnostic) string {
	return fmt.Sprint(d.File, "\x00", d.Code, "\x00", d.Message)
}

// swap gives the live engine the new rules first: when it refuses them, nothing
// has changed. The caller holds reloading.
func (a *App) swap(set *rules.Set) error {
	if e := a.engine(); e != nil {
		if err := e.SwapRules(set); err != nil {
			return err
		}
	}
	a.mu.Lock()
	a.rules = set
	a.mu.Unlock()
	return nil
}
