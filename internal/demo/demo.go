// Package demo plays the product's story on real parts: an embedded Kafka and
// ClickHouse, a simulated platform with its backends, and the daemon as it ships.
// Each promised step is waited for and counted; nothing is staged but the
// misfortunes.
package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Options of a demo.
type Options struct {
	Out, Err io.Writer
	// Exit ends after the story; otherwise everything keeps running until the
	// context ends.
	Exit bool
	// Dir holds the data; empty: a temporary folder that is removed.
	Dir     string
	Verbose bool // the daemon's log goes to Err
	Version string
}

// Run plays the story and reports whether every promised step happened.
func Run(ctx context.Context, o Options) (ok bool, err error) {
	dir := o.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "keysentry-demo-"); err != nil {
			return false, fmt.Errorf("make a folder: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else if err := os.MkdirAll(dir, 0o700); err != nil {
		return false, fmt.Errorf("make the folder: %w", err)
	}
	out := &narrator{w: o.Out, began: time.Now()}
	w, err := build(ctx, o, dir, out)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, w.stop()) }()
	ok = w.story(ctx)
	if ctx.Err() != nil {
		return false, nil // interrupted: no verdict
	}
	out.closing(w, ok)
	if !o.Exit {
		out.say("Everything keeps running; Ctrl-C ends it.")
		<-ctx.Done()
	}
	return ok, nil
}

// narrator prints the story, one line at a time.
type narrator struct {
	mu    sync.Mutex
	w     io.Writer
	began time.Time
	steps int
	done  int
}

func (n *narrator) printf(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	fmt.Fprintf(n.w, format, args...)
}

func (n *narrator) stamp() string {
	d := time.Since(n.began).Round(time.Second)
	return fmt.Sprintf("%02d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// chapter begins a part of the story.
func (n *narrator) chapter(title string) { n.printf("\n%s  == %s\n", n.stamp(), title) }

// say tells something that happens by our own hand.
func (n *narrator) say(format string, args ...any) {
	n.printf("%s     %s\n", n.stamp(), fmt.Sprintf(format, args...))
}

// verdict tells whether a promised step happened.
func (n *narrator) verdict(happened bool, format string, args ...any) {
	mark := "ok "
	if !happened {
		mark = "NO "
	}
	n.mu.Lock()
	n.steps++
	if happened {
		n.done++
	}
	n.mu.Unlock()
	n.printf("%s %s %s\n", n.stamp(), mark, fmt.Sprintf(format, args...))
}

// Write takes the daemon's messages to people, set off from the story.
func (n *narrator) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	start := 0
	for i, b := range p {
		if b == '\n' {
			if _, err := fmt.Fprintf(n.w, "      | %s\n", p[start:i]); err != nil {
				return 0, err
			}
			start = i + 1
		}
	}
	if start < len(p) {
		if _, err := fmt.Fprintf(n.w, "      | %s\n", p[start:]); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (n *narrator) closing(w *world, ok bool) {
	n.chapter("Look around")
	n.say("console     %s", w.daemon.URL())
	n.say("kafka       %s", w.kafka.Addr())
	n.say("clickhouse  %s (native), http://%s (HTTP)", w.clickhouse.Addr(), w.clickhouse.HTTPAddr())
	for _, q := range []string{"unauthorized", "incidents", "key_age"} {
		n.say("analysts    keysentry query -c %s %s", w.configFile, q)
	}
	n.say("analysts    SELECT cause, count() FROM keysentry.v_unauthorized GROUP BY cause")
	n.printf("\n%d of %d promised steps happened.\n", n.done, n.steps)
	if !ok {
		n.printf("Not every promised step happened; see the lines marked NO.\n")
	}
}

// token is a random secret for this run.
func token() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
