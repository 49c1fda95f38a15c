package kafka

import (
	"testing"

	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

func TestMain(m *testing.M) { devstacktest.Main(m) }
