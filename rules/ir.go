package rules

// detectionIR is the lowered form of one detection rule.
type detectionIR struct{}
