// Package torture breaks the daemon on purpose while events flow, and counts
// what is stored afterwards.
//
// Each trial has a Kafka and a ClickHouse of its own, the real daemon as a child
// process with the shipped rules, and a flow of simulated events whose times are
// the present. A fault strikes once per round; what it does and which bar its
// recovery has to keep stand in faults.go. Moments that chance would hardly hit
// are named points at which the daemon ends itself (app.DieAt); others are drawn
// by the seed.
//
// The verdict is by counting: every record that the topic ever held must be in
// ClickHouse exactly once, or lie in a gap that retention made and the journal
// names exactly; the committed offsets, which are polled meanwhile, never went
// back; and the journal holds every finding once. A trial that cannot show that
// its fault happened fails with an error instead of a verdict.
//
// docs/explanation/torture.md is for those who run it.
package torture
