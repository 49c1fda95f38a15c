package simulate

import "slices"

// ActFields lists what an act may be: its kinds and their fields.
func ActFields() []string {
	out := []string{"do", "at", "hostile"}
	for kind, fields := range actKinds {
		out = append(append(out, kind), fields...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
