// Package stagetest lets a test binary be the daemon that package stage starts,
// as the real program is one by its command run.
//
// The package's TestMain is
//
//	func TestMain(m *testing.M) { stagetest.Main(m) }
package stagetest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/keysentry/keysentry/internal/app"
	"github.com/keysentry/keysentry/internal/config"
	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// Main is the body of a TestMain: it becomes a server process or a daemon when
// it was started as one; else it runs the tests.
func Main(m *testing.M) {
	devstack.MaybeRunChild()
	if len(os.Args) >= 4 && os.Args[1] == "run" && os.Args[2] == "--config" {
		if err := daemon(os.Args[3], os.Args[4:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(devstacktest.Run(m))
}

func daemon(path string, args []string) error {
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	opts := app.Options{Version: "test", Out: io.Discard, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	switch {
	case len(args) == 2 && args[0] == "--die-at":
		if opts.DieAt, err = app.ParseDieAt(args[1]); err != nil {
			return err
		}
	case len(args) > 0:
		return fmt.Errorf("unknown arguments %q", args)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	a, err := app.New(cfg, opts)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}
