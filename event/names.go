package event

// messageField finds the field of a message by name. It is a switch because the
// compiler turns it into a search by length, several times faster than a map.
// Names that only the daemon sets are not found.
func messageField(name []byte) (Field, bool) {
	switch string(name) {
	case "id":
		return FieldID, true
	case "type":
		return FieldType, true
	case "time":
		return FieldTime, true
	case "sent_at":
		return FieldSentAt, true
	case "network":
		return FieldNetwork, true
	case "region":
		return FieldRegion, true
	case "service":
		return FieldService, true
	case "host":
		return FieldHost, true
	case "release":
		return FieldRelease, true
	case "boot":
		return FieldBoot, true
	case "seq":
		return FieldSeq, true
	case "user_id":
		return FieldUserID, true
	case "actor":
		return FieldActor, true
	case "actor_role":
		return FieldActorRole, true
	case "auth_mode":
		return FieldAuthMode, true
	case "key_id":
		return FieldKeyID, true
	case "token_id":
		return FieldTokenID, true
	case "session_id":
		return FieldSessionID, true
	case "device_id":
		return FieldDeviceID, true
	case "issued_at":
		return FieldIssuedAt, true
	case "expires_at":
		return FieldExpiresAt, true
	case "endpoint":
		return FieldEndpoint, true
	case "method":
		return FieldMethod, true
	case "status":
		return FieldStatus, true
	case "code":
		return FieldCode, true
	case "reason":
		return FieldReason, true
	case "cert_id":
		return FieldCertID, true
	case "cert_cn":
		return FieldCertCN, true
	case "cert_not_before":
		return FieldCertNotBefore, true
	case "cert_not_after":
		return FieldCertNotAfter, true
	case "tls_alert":
		return FieldTLSAlert, true
	case "source_ip":
		return FieldSourceIP, true
	case "client_ip":
		return FieldClientIP, true
	case "user_agent":
		return FieldUserAgent, true
	case "request_id":
		return FieldRequestID, true
	case "clock_offset":
		return FieldClockOffset, true
	case "clock_error":
		return FieldClockError, true
	}
	return 0, false
}
