// Package rules is the rule language: Sigma detection, correlation and filter
// documents, with a few marked extensions. It parses YAML to an AST with
// positions, lowers that to an IR (modifiers resolved, filters ANDed,
// placeholders expanded, field mapping applied, predicates shared across rules)
// and compiles the IR to a stream program. Every error a rule can have surfaces
// here, at load, with file:line:column and a stable code; matching cannot fail.
//
// The package does no input or output: callers hand it file contents.
package rules
