package rules

import (
	"encoding/binary"
	"math"
	"strings"
	"unicode/utf8"
)

// grams says of most texts, at a fraction of the automaton's cost, that no
// literal of a set occurs in them. It knows four bytes in a row of every
// literal, its gram; a text that holds no gram of any literal holds no literal.
//
// It looks at texts as they are: bytes count without the bit that tells capitals
// from small letters, so the texts of most records are never folded. That is
// right for ASCII only; a text with another byte always passes.
type grams struct {
	bits []uint64 // a set of hashes; nil: every text passes
}

const (
	gramLen   = 4
	gramLog   = 16 // bits of a hash
	noCase    = 0x20202020
	manyGrams = 1 << gramLog / 8 // from here on too many texts would pass
)

// newGrams makes the filter of folded literals. A literal of three bytes has a
// gram with every byte that may follow it; one of two would have too many.
func newGrams(lits []string) grams {
	g := grams{bits: make([]uint64, 1<<gramLog/64)}
	n := 0
	for _, lit := range lits {
		switch {
		case !isASCII(lit):
			continue // only a text that is not ASCII either can hold it
		case len(lit) < gramLen-1:
			return grams{}
		case len(lit) < gramLen:
			for c := range utf8.RuneSelf {
				g.add(lit + string(rune(c)))
				n++
			}
		default:
			g.add(rarest(lit))
			n++
		}
	}
	if n > manyGrams {
		return grams{}
	}
	return g
}

// rarest is the gram of a literal that ordinary texts hold least, by how common
// its letters are.
func rarest(lit string) string {
	const common = "zqjxkvbywgpfmucdlhrsnioate/._- " // ascending
	best, least := "", math.MaxInt
	for i := 0; i+gramLen <= len(lit); i++ {
		n := 0
		for _, c := range lit[i : i+gramLen] {
			n += strings.IndexRune(common, c)
		}
		if n < least {
			best, least = lit[i:i+gramLen], n
		}
	}
	return best
}

func (g grams) add(gram string) {
	h := gramHash(binary.LittleEndian.Uint32([]byte(gram)))
	g.bits[h>>6] |= 1 << (h & 63)
}

// gramHash is multiplicative: the upper bits of the product.
func gramHash(w uint32) uint32 { return (w | noCase) * 0x9e3779b1 >> (32 - gramLog) }

// pass reports whether a literal may occur in text.
func (g grams) pass(text string) bool {
	if len(g.bits) != 1<<gramLog/64 {
		return true
	}
	bits := (*[1 << gramLog / 64]uint64)(g.bits)
	var hit, seen uint64
	rest := text
	for ; len(rest) >= 8; rest = rest[gramLen:] {
		w := load64(rest)
		seen |= w
		hit |= look(bits, w) | look(bits, w>>8) | look(bits, w>>16) | look(bits, w>>24)
		if hit&1 != 0 {
			return true
		}
	}
	// What is left of the text, with zeros after it.
	var w uint64
	if len(text) >= 8 {
		w = load64(text[len(text)-8:]) >> (8 * (8 - len(rest)))
	} else {
		for i := len(rest) - 1; i >= 0; i-- {
			w = w<<8 | uint64(rest[i])
		}
	}
	seen |= w
	for range len(rest) { // not until w is zero: the text may hold bytes of zero
		hit |= look(bits, w)
		w >>= 8
	}
	return hit&1 != 0 || seen&highBits != 0
}

// look is the bit of the gram in the lower half of w, in the lowest bit; the
// other bits mean nothing.
func look(bits *[1 << gramLog / 64]uint64, w uint64) uint64 {
	h := gramHash(uint32(w))
	return bits[h>>6] >> (h & 63)
}
