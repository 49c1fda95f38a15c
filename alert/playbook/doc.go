// Package playbook runs responses as code: a playbook is a YAML file of steps, a
// plan is a playbook with its inputs filled in, and a run is an approved plan
// being executed. The package folds journal records into the state of runs on
// every member, and acts only on the leader.
//
// # States of a key rotation
//
//	planned -> approved -> precheck -> issuing -> issued -> stored -> tested -> distributing -> overlap -> proven -> revoked -> verified -> done
//
// Beside them: denied and expired (before the approval), failed (ended when
// nothing was changed yet; held for a person otherwise), unknown (an answer was
// lost and probing has not settled it yet), overdue (the overlap is over and the
// proof is missing), back_out (the old key is being restored; ended when it is),
// stopped (a person pulled the switch: no further step starts until resumed).
//
// # Invariants
//
//   - Nothing outside is changed before the intent (a Step record with state
//     started) is accepted, nor later than Config.MaxIntentAge after it: an intent
//     that has grown old is written anew first. A probe has a record of its own,
//     accepted before it is sent.
//   - What runs is the journaled plan, whose hash the approvals name, not the
//     playbook as it is on disk today.
//   - A step that is done is never redone. One that is not is converged: it first
//     looks whether its effect is already there.
//   - A key is revoked only after a probe younger than Config.ProbeMaxAge minted
//     with another key.
//   - An overlap that ends without proof revokes nothing; a person chooses.
//   - A server key exists in memory only until it is in the secret store. If the
//     process dies between, the lost key is found by its label and revoked (once
//     another key is known to answer), and a new one is issued.
//   - Records carry fingerprints of keys, never keys.
package playbook
