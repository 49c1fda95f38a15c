package rules

// node is the place of one expression in the set's graph.
type node int32
