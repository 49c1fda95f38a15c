package event

// Spec is what the contract says about one field of a message.
type Spec struct {
	Doc string
	// MaxBytes bounds a text field; 0 for other kinds.
	MaxBytes int
	// Cut says that a longer value is cut at MaxBytes instead of refused. It
	// holds for text that a hostile caller chooses: a long user agent must not be
	// a way out of detection.
	Cut bool
	// Name says that control characters are refused: the field names something.
	Name bool
	// Fingerprint says that only the output of Fingerprint is accepted.
	Fingerprint bool
}

var specs = [NumFields]Spec{
	FieldID:            {Doc: "identity given by the producer; absent: derived from topic, partition, offset and index", MaxBytes: 128, Name: true},
	FieldType:          {Doc: "what happened"},
	FieldTime:          {Doc: "clock of the host when it happened"},
	FieldSentAt:        {Doc: "clock of the host when the record was handed to Kafka"},
	FieldNetwork:       {Doc: "tenant of the platform", MaxBytes: 128, Name: true},
	FieldRegion:        {Doc: "region of the platform", MaxBytes: 64, Name: true},
	FieldService:       {Doc: "identity of the service that speaks", MaxBytes: 128, Name: true},
	FieldHost:          {Doc: "instance that speaks", MaxBytes: 253, Name: true},
	FieldRelease:       {Doc: "version of its code", MaxBytes: 128, Name: true},
	FieldBoot:          {Doc: "random per process start", MaxBytes: 64, Name: true},
	FieldSeq:           {Doc: "running number per network, host and boot, from 1 on; makes gaps visible"},
	FieldUserID:        {Doc: "user that a token or session is for", MaxBytes: 256},
	FieldActor:         {Doc: "administrator or principal who acted", MaxBytes: 512},
	FieldActorRole:     {Doc: "role the actor acted in", MaxBytes: 128, Name: true},
	FieldAuthMode:      {Doc: "how the network authenticates its backends"},
	FieldKeyID:         {Doc: "fingerprint of the server key or access key", MaxBytes: 64, Fingerprint: true},
	FieldTokenID:       {Doc: "fingerprint of the auth token", MaxBytes: 64, Fingerprint: true},
	FieldSessionID:     {Doc: "fingerprint of the session", MaxBytes: 64, Fingerprint: true},
	FieldDeviceID:      {Doc: "fingerprint of the device", MaxBytes: 64, Fingerprint: true},
	FieldIssuedAt:      {Doc: "when the token was issued"},
	FieldExpiresAt:     {Doc: "when the token ends"},
	FieldEndpoint:      {Doc: "path of the call; a query string is dropped", MaxBytes: 512, Cut: true},
	FieldMethod:        {Doc: "HTTP method", MaxBytes: 32, Name: true},
	FieldStatus:        {Doc: "HTTP status of the answer, 100 to 599"},
	FieldCode:          {Doc: "error code of the platform", MaxBytes: 128, Name: true},
	FieldReason:        {Doc: "reason in words", MaxBytes: 1024, Cut: true},
	FieldCertID:        {Doc: "fingerprint of the client certificate", MaxBytes: 128, Name: true},
	FieldCertCN:        {Doc: "common name of the client certificate", MaxBytes: 256},
	FieldCertNotBefore: {Doc: "start of the certificate's validity"},
	FieldCertNotAfter:  {Doc: "end of the certificate's validity"},
	FieldTLSAlert:      {Doc: "TLS alert of a failed handshake", MaxBytes: 64, Name: true},
	FieldSourceIP:      {Doc: "caller as the observer saw it"},
	FieldClientIP:      {Doc: "address of the end user, on mints"},
	FieldUserAgent:     {Doc: "user agent of the caller", MaxBytes: 1024, Cut: true},
	FieldRequestID:     {Doc: "identity of the request", MaxBytes: 256, Cut: true},
	FieldClockOffset:   {Doc: "seconds by which the host's clock is ahead of true time, from chrony or NTP; on heartbeats"},
	FieldClockError:    {Doc: "bound of that figure's error, in seconds"},
}

// daemonDocs say what the fields mean that only the daemon sets.
var daemonDocs = map[Field]string{
	FieldOrigin:          "who saw the event: set by the configuration of the topic",
	FieldCause:           "why the request was refused, on refusals",
	FieldCauseConfidence: "confidence of the cause, 0 to 1",
	FieldTS:              "effective time, which windows run on",
	FieldObservedAt:      "append time of the broker",
	FieldTopic:           "Kafka topic",
	FieldPartition:       "Kafka partition",
	FieldOffset:          "Kafka offset",
	FieldIdx:             "place inside the message",
	FieldTraits:          "facts that the registries knew when the event was judged: words of the list below, sorted, one space between",
	FieldSourceNet:       "network of `source_ip`: AS64500 where the table of networks knows it, else its /24 (IPv4) or /48 (IPv6)",
}

// DaemonFields lists the fields that only the daemon sets, in order.
func DaemonFields() []Field {
	var out []Field
	for f := FieldOrigin; f < NumFields; f++ {
		out = append(out, f)
	}
	return out
}

// Spec is the contract of f. Fields that only the daemon sets have a Doc alone.
func (f Field) Spec() Spec {
	if f < FieldOrigin {
		return specs[f]
	}
	return Spec{Doc: daemonDocs[f]}
}

// MessageFields lists the fields that a message may carry, in order.
func MessageFields() []Field {
	out := make([]Field, FieldOrigin)
	for i := range out {
		out[i] = Field(i)
	}
	return out
}

func fields(list ...Field) FieldSet {
	var s FieldSet
	for _, f := range list {
		s = s.Set(f)
	}
	return s
}

// required holds, per type, the fields without which the type says nothing.
// Every type needs type and time.
var required = [numTypes]FieldSet{
	TypeAuthTokenIssued:      fields(FieldUserID, FieldKeyID, FieldTokenID, FieldHost, FieldBoot, FieldSeq),
	TypeAuthTokenDenied:      fields(FieldHost),
	TypeSessionCreated:       fields(FieldUserID),
	TypeSessionDenied:        0,
	TypeSessionRevoked:       fields(FieldUserID),
	TypeRequestAllowed:       fields(FieldEndpoint),
	TypeRequestUnauthorized:  fields(FieldEndpoint),
	TypeMTLSHandshakeFailed:  fields(FieldHost),
	TypeServerKeyCreated:     fields(FieldNetwork, FieldKeyID),
	TypeServerKeyActivated:   fields(FieldNetwork, FieldKeyID),
	TypeServerKeyRevoked:     fields(FieldNetwork, FieldKeyID),
	TypeCertificateRequested: fields(FieldNetwork),
	TypeCertificateIssued:    fields(FieldNetwork, FieldCertID),
	TypeCertificateActivated: fields(FieldNetwork, FieldCertID),
	TypeCertificateDisabled:  fields(FieldNetwork, FieldCertID),
	TypeSecureModeEnabled:    fields(FieldNetwork),
	TypeSecureModeDisabled:   fields(FieldNetwork),
	TypeMTLSEnabled:          fields(FieldNetwork),
	TypeMTLSDisabled:         fields(FieldNetwork),
	TypeAdminTokenCreated:    fields(FieldNetwork, FieldActor),
	TypeAdminTokenRevoked:    fields(FieldNetwork, FieldActor),
	TypeHeartbeat:            fields(FieldHost, FieldBoot),
	TypeHostStarted:          fields(FieldHost, FieldBoot),
	TypeHostStopped:          fields(FieldHost, FieldBoot),
	TypeLogRecord:            0,
}

// mappedOptional are required fields that a source of another shape cannot
// give: its log has no minting process of ours behind it.
var mappedOptional = fields(FieldUserID, FieldKeyID, FieldTokenID, FieldHost, FieldBoot, FieldSeq)

// Required is the set of fields that an event of type t must carry.
func (t Type) Required() FieldSet {
	s := fields(FieldType, FieldTime)
	if t < numTypes {
		s |= required[t]
	}
	return s
}

// Validate reports the first required field that the event lacks, as a
// *DecodeError. An empty text is as good as none.
func (e *Event) Validate() error { return e.validate(e.Type.Required()) }

// ValidateMapped is Validate for an event that a mapping made: fields that only
// a producer of canonical events can know are not asked for.
func (e *Event) ValidateMapped() error { return e.validate(e.Type.Required() &^ mappedOptional) }

func (e *Event) validate(need FieldSet) error {
	if e.Type == TypeUnknown {
		return &DecodeError{ProblemMissingField, FieldType.String(), "every event has a type"}
	}
	for missing := need; missing != 0; missing &= missing - 1 {
		f := missing.first()
		if !e.Present.Has(f) || e.blank(f) {
			return &DecodeError{ProblemMissingField, f.String(), "required for " + e.Type.String()}
		}
	}
	return nil
}

func (e *Event) blank(f Field) bool {
	p := e.str(f)
	return p != nil && *p == ""
}
