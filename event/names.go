package event

// nameTable finds the fields of a message by name: an open hash table of field
// numbers plus one, several times faster than a map for names this short. Names
// that only the daemon sets are not in it.
var nameTable = func() (t [256]uint8) {
	for f := range FieldOrigin {
		h := nameHash([]byte(fieldNames[f]))
		for t[h] != 0 {
			h++
		}
		t[h] = uint8(f) + 1
	}
	return t
}()

// nameHash mixes the length and three bytes; name is not empty. It wraps within
// the table.
func nameHash(name []byte) uint8 {
	n := len(name)
	return uint8(n)*7 + name[0]*31 + name[n-1]*5 + name[n/2]*11
}

// messageField finds the field of a message by name.
func messageField(name []byte) (Field, bool) {
	if len(name) == 0 {
		return 0, false
	}
	for h := nameHash(name); nameTable[h] != 0; h++ {
		if f := Field(nameTable[h] - 1); fieldNames[f] == string(name) {
			return f, true
		}
	}
	return 0, false
}
