package kafka

import (
	"testing"

	"github.com/keysentry/keysentry/internal/devstack/devstacktest"
)

// TestTopicIDs: every topic has one, and the same each time.
func TestTopicIDs(t *testing.T) {
	t.Parallel()
	devstacktest.Brokers(t, func(t *testing.T, addr string) {
		c := testClient(t, addr)
		one, two := devstacktest.CreateTopic(t, addr, 3, nil), devstacktest.CreateTopic(t, addr, 1, nil)
		first, err := c.TopicIDs(t.Context(), []string{one, two, "there is none"})
		if err != nil || len(first) != 2 || len(first[one]) != 32 || first[one] == first[two] {
			t.Fatalf("got %v, %v", first, err)
		}
		again, err := c.TopicIDs(t.Context(), []string{one})
		if err != nil || len(again) != 1 || again[one] != first[one] {
			t.Errorf("got %v, %v, then %v", again, err, first)
		}
	})
}
