package playbook

import (
	"sync"
)

// keyMemory holds keys between their issue and the secret store. It is the only
// place where an unstored key lives.
type keyMemory struct {
	mu   sync.Mutex
	keys map[string]IssuedKey // by idempotence key of the issue
}

func newKeyMemory() *keyMemory { return &keyMemory{keys: map[string]IssuedKey{}} }

func (m *keyMemory) put(label string, k IssuedKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[label] = k
}

func (m *keyMemory) get(label string) (IssuedKey, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.keys[label]
	return k, ok
}

func (m *keyMemory) drop(label string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.keys, label)
}
