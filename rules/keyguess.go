package rules

// keyGuess remembers the keys of the records before, in their order, and guesses
// the next one: records of one source have the same keys in the same order. A
// guess that holds costs one comparison, instead of finding the end of the key
// and looking it up in the tree of paths. One that does not is learned anew.
type keyGuess struct {
	known []knownKey
	at    int // place in known of the next guess
}

// knownKey is a key as it stood in a record: from its quote to its colon, below
// the node from, leading to edge.
type knownKey struct {
	text []byte
	from int32
	edge trieEdge
}

// Bounds of what is remembered.
const (
	maxKnownKeys = 512
	maxKnownKey  = 64
)

// guess returns where the key at the start of raw leads, and how many bytes it
// takes with its colon; 0 when no guess holds. The key after the next is tried
// too, for a record that lacks one.
func (k *keyGuess) guess(from int32, raw []byte) (trieEdge, int) {
	for i := k.at; i < len(k.known) && i < k.at+2; i++ {
		e := &k.known[i]
		if n := len(e.text); e.from == from && n <= len(raw) && string(raw[:n]) == string(e.text) {
			k.at = i + 1
			return e.edge, n
		}
	}
	return trieEdge{}, 0
}

// learn puts a key in the place of the one that was guessed.
func (k *keyGuess) learn(from int32, text []byte, e trieEdge) {
	if k.at == maxKnownKeys || len(text) > maxKnownKey {
		return
	}
	if k.at == len(k.known) {
		k.known = append(k.known, knownKey{text: make([]byte, 0, maxKnownKey)})
	}
	known := &k.known[k.at]
	known.text, known.from, known.edge = append(known.text[:0], text...), from, e
	k.at++
}
