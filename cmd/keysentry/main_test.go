package main

import (
	"flag"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keysentry/keysentry/internal/devstack"
	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

var update = flag.Bool("update", false, "rewrite the reference pages and the goldens in the scripts")

// TestMain re-enters this binary as the keysentry command that scripts call, and
// as a server process of the development stack.
func TestMain(m *testing.M) {
	devstack.MaybeRunChild()
	testscript.Main(withServers{m}, map[string]func(){"keysentry": main})
}

// withServers stops the servers that tests have started.
type withServers struct{ m *testing.M }

func (w withServers) Run() int {
	// Help texts and generated pages show defaults, which these change.
	for _, name := range []string{"KEYSENTRY_CONFIG", "KEYSENTRY_SERVER", "KEYSENTRY_CREDENTIAL"} {
		_ = os.Unsetenv(name)
	}
	return devstacktest.Run(w.m)
}
