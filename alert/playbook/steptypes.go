package playbook

// State is the state of a run; see the package comment.
type State string

// The states.
const (
	StatePlanned      State = "planned"
	StateApproved     State = "approved"
	StatePrecheck     State = "precheck"
	StateIssuing      State = "issuing"
	StateIssued       State = "issued"
	StateStored       State = "stored"
	StateTested       State = "tested"
	StateDistributing State = "distributing"
	StateOverlap      State = "overlap"
	StateProven       State = "proven"
	StateRevoked      State = "revoked"
	StateVerified     State = "verified"
	StateDone         State = "done"
	StateDenied       State = "denied"
	StateExpired      State = "expired"
	StateFailed       State = "failed"
	StateUnknown      State = "unknown"
	StateOverdue      State = "overdue"
	StateBackOut      State = "back_out"
	StateStopped      State = "stopped"
)

// stepType is what the loader and the planner know about a type of step: which
// inputs it takes, which outputs later steps may use, and which state of the
// run it enters when it starts and reaches when it is done.
type stepType struct {
	inputs         map[string]stepInput
	outputs        []string
	enters, reach  State
	onlyCompensate bool // makes sense as a compensation only
}

type stepInput struct {
	typ      InputType
	required bool
	values   []string
}

// Names of step types.
const (
	typeApprove    = "approve"
	typePrecheck   = "server_key.precheck"
	typeIssue      = "server_key.issue"
	typeStore      = "secret.store"
	typeRestore    = "secret.restore"
	typeDistribute = "secret.distribute"
	typeProbe      = "server_key.probe"
	typeWait       = "wait_for_evidence"
	typeRevoke     = "server_key.revoke"
	typeVerify     = "verify"
	typeNotify     = "notify"
)

// stepTypes is the closed list of step types.
func stepTypes() map[string]stepType {
	which := stepInput{typ: TypeEnum, values: []string{"old", "new"}}
	return map[string]stepType{
		typeApprove: {inputs: map[string]stepInput{"people": {typ: TypeInt}}},
		typePrecheck: {inputs: map[string]stepInput{"old_key": {typ: TypeKeyID}},
			outputs: []string{outOldKey, outOldProviderID, outOldVersion}, enters: StatePrecheck},
		typeIssue: {outputs: []string{outNewKey, outNewProviderID}, enters: StateIssuing, reach: StateIssued},
		typeStore: {outputs: []string{outNewVersion}, reach: StateStored},
		typeProbe: {outputs: []string{outOverlap}, reach: StateTested},
		typeDistribute: {inputs: map[string]stepInput{"key": which},
			enters: StateDistributing},
		typeWait: {inputs: map[string]stepInput{"key": which, "overlap": {typ: TypeDuration, required: true}},
			enters: StateOverlap, reach: StateProven},
		typeRevoke:  {inputs: map[string]stepInput{"key": which}, reach: StateRevoked},
		typeVerify:  {reach: StateVerified},
		typeNotify:  {inputs: map[string]stepInput{"text": {typ: TypeString, required: true}}},
		typeRestore: {onlyCompensate: true, outputs: []string{outRestoredVersion}},
	}
}

// Names of step outputs.
const (
	outOldKey          = "old_key"
	outOldProviderID   = "old_provider_id"
	outOldVersion      = "old_version"
	outNewKey          = "new_key"
	outNewProviderID   = "new_provider_id"
	outNewVersion      = "new_version"
	outRestoredVersion = "restored_version"
	outOverlap         = "overlap"
	outLostProviderID  = "lost_provider_id"
	outProof           = "proof"
)

// checkNames is the closed list of preconditions and verifications.
func checkNames() []string {
	return []string{checkOldAnswers, checkNewAnswers, checkOldDead, checkStoreHoldsNew, checkStoreHoldsOld}
}

// Names of checks.
const (
	checkOldAnswers    = "old_key_answers"
	checkNewAnswers    = "new_key_answers"
	checkOldDead       = "old_key_dead"
	checkStoreHoldsNew = "store_holds_new_key"
	checkStoreHoldsOld = "store_holds_old_key"
)
