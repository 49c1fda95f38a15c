package rules

// Code is the stable identity of a kind of diagnostic.
type Code string
