package detect

import (
	"fmt"
	"testing"
	"time"

	"github.com/keysentry/keysentry/detect/offset"
	"github.com/keysentry/keysentry/event"
)

// world is what happened before a refusal, for the tables below. Times are seconds
// after start; the refusals come at the second 10.
type world struct {
	declared map[string]Declared
	before   []ev
}

// estimates are clocks that are not all confident.
type estimates map[string]offset.Estimate

func (c estimates) Offset(_, host string) (time.Duration, time.Duration, bool) {
	e := c[host]
	return e.Offset, e.Error, e.Confident
}

func (c estimates) Estimate(_, host string) (offset.Estimate, bool) {
	e, ok := c[host]
	return e, ok
}

func clockTable() estimates {
	s := time.Second
	return estimates{
		"fast":    {Offset: 312 * s, Error: 4 * s, Confident: true, AsOf: start},
		"nearly":  {Offset: 50 * s, Error: 4 * s, Confident: true, AsOf: start},
		"slow":    {Offset: -700 * s, Error: 4 * s, Confident: true, Anchored: true, AsOf: start},
		"perhaps": {Offset: -700 * s, Error: 4 * s, SlowOrDelayed: true, AsOf: start},
		"right":   {Offset: -20 * time.Millisecond, Error: 100 * time.Millisecond, SlowOrDelayed: true, AsOf: start},
	}
}

// token is a mint of a token by a host whose clock is ahead, of a user.
func token(s float64, host, user, id string, ahead time.Duration) ev {
	v := minted(at(s), host, "k2")
	v.fields[event.FieldTokenID], v.fields[event.FieldUserID] = id, user
	v.ahead = ahead
	v.issued, v.expires = at(s).Add(ahead), at(s).Add(ahead+10*time.Minute)
	return v
}

// opened is a session that was opened.
func opened(s float64, user, session, device string, kv ...string) ev {
	v := ev{typ: event.TypeSessionCreated, ts: at(s), origin: event.OriginGateway, status: 200,
		fields: fields(append([]string{"user_id", user, "session_id", session, "device_id", device, "region", "eu", "endpoint", "/api/v4/sessions"}, kv...)...)}
	return v
}

func revoked(s float64, kv ...string) ev {
	return ev{typ: event.TypeSessionRevoked, ts: at(s), origin: event.OriginKeysentry, fields: fields(kv...)}
}

// call is a refused call as a gateway saw it; kv begin with the endpoint.
func call(typ event.Type, status uint16, endpoint string, kv ...string) ev {
	return ev{typ: typ, ts: at(10), origin: event.OriginGateway, status: status, fields: fields(append([]string{"endpoint", endpoint}, kv...)...)}
}

func sessionCall(status uint16, kv ...string) ev {
	return call(event.TypeSessionDenied, status, "/api/v4/sessions", kv...)
}

func request(status uint16, kv ...string) ev {
	return call(event.TypeRequestUnauthorized, status, "/api/v3/posts", kv...)
}

// mintRefused is a refused mint that a backend tells of, from an address of the fleet.
func mintRefused(status uint16, host, key string, kv ...string) ev {
	v := refused(at(10), host, key, "10.0.0.1")
	v.status = status
	for f, x := range fields(kv...) {
		v.fields[f] = x
	}
	return v
}

func handshake(origin event.Origin, kv ...string) ev {
	return ev{typ: event.TypeMTLSHandshakeFailed, ts: at(10), origin: origin, fields: fields(append([]string{"host", "h1", "service", "chat"}, kv...)...)}
}

func cert(typ event.Type, s float64, id, cn string) ev {
	return ev{typ: typ, ts: at(s), origin: event.OriginConsole, fields: fields("cert_id", id, "cert_cn", cn)}
}

func (v ev) from(source string) ev     { v.source = source; return v }
func (v ev) dated(from, to float64) ev { v.before, v.after = at(from), at(to); return v }
func (v ev) expiring(s float64) ev     { v.expires = at(s); return v }
func (v ev) by(origin event.Origin) ev { v.origin = origin; return v }
func (v ev) with(kv ...string) ev {
	f := fields(kv...)
	for k, x := range v.fields {
		if _, ok := f[k]; !ok {
			f[k] = x
		}
	}
	v.fields = f
	return v
}

type causeCase struct {
	name  string
	world world
	v     ev
	want  event.Cause
	// attack: whoever did it, no clock of ours is to blame, however it is judged.
	attack bool
}

// old is a world whose memory reaches back for hours.
func old(more ...ev) world {
	return world{before: append([]ev{token(-40_000, "h1", "u0", "t0", 0), opened(-40_000, "u0", "s0", "d0", "token_id", "t0")}, more...)}
}

func declares(d Declared, more ...ev) world {
	return world{declared: map[string]Declared{"n1": d}, before: more}
}

func keyCases() []causeCase {
	k1 := "k1" // revoked
	return []causeCase{
		{"unknown, status only", world{}, mintRefused(401, "h1", "k9"), event.CauseUnknownKey, false},
		{"unknown, by code", world{}, mintRefused(401, "h1", "k9", "code", "INVALID_SERVER_KEY"), event.CauseUnknownKey, false},
		{"unknown, by words", world{}, mintRefused(401, "h1", "k9", "reason", "Server key is invalid"), event.CauseUnknownKey, false},
		{"unknown, from outside", world{}, refused(at(10), "", "k9", "198.51.100.7"), event.CauseUnknownKey, true},
		{"unknown, at another endpoint", world{}, request(401, "key_id", "k9").from("198.51.100.7"), event.CauseUnknownKey, true},
		{"straggler, status only", world{}, mintRefused(401, "h1", k1), event.CauseRetiredKeyStraggler, false},
		{"straggler, by code", world{}, mintRefused(401, "h1", k1, "code", "invalid_server_key"), event.CauseRetiredKeyStraggler, false},
		{"straggler, 403", world{}, mintRefused(403, "h1", k1), event.CauseRetiredKeyStraggler, false},
		{"straggler behind a new address of the gateway", world{before: []ev{minted(at(0), "h2", "k2").from("192.0.2.9")}},
			mintRefused(401, "h1", k1).from("192.0.2.9"), event.CauseRetiredKeyStraggler, false},
		{"a new pod with an old image", world{}, mintRefused(401, "h1-new", k1), event.CauseRetiredKeyStraggler, false},
		{"straggler after a rotation that nobody told of", world{before: []ev{minted(at(0), "h1", "k3"), minted(at(1), "h2", "k3")}},
			mintRefused(401, "h1", "k2"), event.CauseRetiredKeyStraggler, false},
		{"foreign", world{}, refused(at(10), "", k1, "198.51.100.7"), event.CauseRetiredKeyForeign, true},
		{"foreign, by code", world{}, refused(at(10), "", k1, "198.51.100.7").with("code", "server-key-invalid"), event.CauseRetiredKeyForeign, true},
		{"foreign, though it says that it is ours", world{}, mintRefused(401, "h1", k1).from("198.51.100.7"), event.CauseRetiredKeyForeign, true},
		{"foreign, a key of before nobody told of", world{before: []ev{minted(at(0), "h1", "k3")}}, refused(at(10), "", "k2", "198.51.100.7"), event.CauseRetiredKeyForeign, true},
		{"wrong region at the mint", world{}, mintRefused(401, "h1", "k2", "region", "us"), event.CauseWrongRegion, false},
		{"wrong region by code", world{}, mintRefused(403, "h1", "k2", "code", "wrong_region"), event.CauseWrongRegion, false},
		{"wrong region, 403", world{}, mintRefused(403, "h1", "k2", "region", "us"), event.CauseWrongRegion, false},
		{"wrong region, 404", world{}, mintRefused(404, "h1", "k2", "region", "us"), event.CauseWrongRegion, false},
		{"a declared region that is not used yet", declares(Declared{Regions: []string{"eu", "us"}}), mintRefused(404, "h1", "k2", "region", "us"), event.CauseBadRequest, false},
		{"wrong region of a network without mints", declares(Declared{Regions: []string{"sg"}}), mintRefused(401, "h1", "k2", "region", "us"), event.CauseWrongRegion, false},
		{"secure mode off, told", world{before: []ev{{typ: event.TypeSecureModeDisabled, ts: at(5), origin: event.OriginConsole, fields: fields()}}},
			mintRefused(403, "h1", "k2"), event.CauseSecureModeOff, false},
		{"secure mode off, by code", world{}, mintRefused(403, "h1", "k2", "code", "secure_mode_disabled"), event.CauseSecureModeOff, false},
		{"secure mode off, by status", world{}, mintRefused(403, "h1", "k2"), event.CauseSecureModeOff, false},
		{"secure mode off, for everybody", world{before: []ev{mintRefused(403, "h2", "k2")}}, mintRefused(403, "h1", "k2"), event.CauseSecureModeOff, false},
	}
}

func answerCases() []causeCase {
	return []causeCase{
		{"rate limited at the mint", world{}, mintRefused(429, "h1", "k1"), event.CauseRateLimited, false},
		{"rate limited at a session", world{}, sessionCall(429, "token_id", "t"), event.CauseRateLimited, false},
		{"rate limited by code", world{}, request(400, "code", "too_many_requests"), event.CauseRateLimited, false},
		{"platform error at the mint", world{}, mintRefused(503, "h1", "k1"), event.CausePlatformError, false},
		{"platform error at a session", world{}, sessionCall(500), event.CausePlatformError, false},
		{"platform error by code", world{}, request(400, "code", "internal_error"), event.CausePlatformError, false},
		{"bad request at the mint", world{}, mintRefused(400, "h1", "k2"), event.CauseBadRequest, false},
		{"bad request at the mint with a body too large", world{}, mintRefused(413, "h1", "k2"), event.CauseBadRequest, false},
		{"bad request at a session", world{}, sessionCall(422, "token_id", "t"), event.CauseBadRequest, false},
		{"bad request elsewhere", world{}, request(404), event.CauseBadRequest, false},
		{"bad request by code", world{}, request(400, "code", "bad_request"), event.CauseBadRequest, false},
	}
}

func tokenCases() []causeCase {
	min := 60.0
	return []causeCase{
		{"banned, status only", world{}, sessionCall(401, "token_id", "t", "user_id", "u"), event.CauseUserBanned, false},
		{"banned, by code", world{}, sessionCall(403, "code", "user_banned"), event.CauseUserBanned, false},
		{"banned, by words", world{}, sessionCall(403, "reason", "this user is banned"), event.CauseUserBanned, false},
		{"banned before, at another endpoint", world{before: []ev{sessionCall(401, "user_id", "u")}}, request(403, "user_id", "u"), event.CauseUserBanned, false},
		{"no token, by code", world{}, sessionCall(403, "code", "auth_token_required"), event.CauseMissingAuthToken, false},
		{"no token, where tokens are named", world{before: []ev{opened(0, "u", "s", "d", "token_id", "t")}}, sessionCall(403, "user_id", "u"), event.CauseMissingAuthToken, false},
		{"no token, where mints are seen", old(), sessionCall(403, "user_id", "u"), event.CauseMissingAuthToken, false},
		{"no token, by words", world{}, sessionCall(403, "reason", "Auth token is missing"), event.CauseMissingAuthToken, false},

		{"expired, by code", world{}, sessionCall(403, "code", "token_expired", "token_id", "t"), event.CauseExpiredAuthToken, false},
		{"expired, by its dates", world{}, sessionCall(403, "token_id", "t").expiring(0), event.CauseExpiredAuthToken, false},
		{"expired, by the dates of its mint", old(token(-15*min, "h1", "u", "t", 0)), sessionCall(403, "token_id", "t", "user_id", "u"), event.CauseExpiredAuthToken, false},
		{"expired a moment ago", old(token(-10*min, "h1", "u", "t", 0)), sessionCall(403, "token_id", "t", "user_id", "u"), event.CauseExpiredAuthToken, false},
		{"expired long ago although its host is slow", old(token(-40*min, "slow", "u", "t", -700*time.Second)), sessionCall(403, "token_id", "t"), event.CauseExpiredAuthToken, false},
		{"expired, of a host whose records come late", old(token(-14*min, "perhaps", "u", "t", -700*time.Second)), sessionCall(403, "token_id", "t", "code", "auth_token_expired"), event.CauseExpiredAuthToken, false},
		{"expired, named by a gateway whose own clock is slow", world{}, sessionCall(403, "code", "auth_token_expired", "host", "slow"), event.CauseExpiredAuthToken, false},
		{"a stolen token, replayed late", old(token(-30*min, "fast", "u", "t", 0)), sessionCall(403, "token_id", "t", "code", "auth_token_expired").from("198.51.100.7"), event.CauseExpiredAuthToken, true},

		{"skew, a slow host", old(token(9, "slow", "u", "t", -700*time.Second)), sessionCall(403, "token_id", "t", "code", "auth_token_expired"), event.CauseClockSkew, false},
		{"skew, a slow host, status only", old(token(9, "slow", "u", "t", -700*time.Second)), sessionCall(403, "token_id", "t"), event.CauseClockSkew, false},
		{"skew, a host that is slow or delayed", old(token(9, "perhaps", "u", "t", -700*time.Second)), sessionCall(403, "token_id", "t"), event.CauseClockSkew, false},
		{"skew, a fast host, by code", old(token(9, "fast", "u", "t", 312*time.Second)), sessionCall(403, "token_id", "t", "code", "auth_token_not_yet_valid"), event.CauseClockSkew, false},
		{"skew, a fast host, status only", old(token(9, "fast", "u", "t", 312*time.Second)), sessionCall(403, "token_id", "t"), event.CauseClockSkew, false},
		{"skew, a fast host that no estimate knows", old(token(9, "h7", "u", "t", 100*time.Second)), sessionCall(403, "token_id", "t"), event.CauseClockSkew, false},
		{"skew, the gateway names itself", old(token(9, "fast", "u", "t", 312*time.Second)), sessionCall(403, "token_id", "t", "host", "gw-1", "code", "auth_token_not_yet_valid"), event.CauseClockSkew, false},

		{"forged: never minted", old(), sessionCall(403, "token_id", "forged", "user_id", "u"), event.CauseInvalidToken, true},
		{"forged, by code", old(), sessionCall(403, "token_id", "forged", "code", "invalid_auth_token"), event.CauseInvalidToken, true},
		{"forged, from the future", old(), sessionCall(403, "token_id", "forged", "code", "auth_token_not_yet_valid"), event.CauseInvalidToken, true},
		{"forged, from the future, under the name of a fast host", old(token(0, "fast", "u", "t", 312*time.Second)),
			sessionCall(403, "token_id", "forged", "host", "fast", "code", "auth_token_not_yet_valid").from("198.51.100.7"), event.CauseInvalidToken, true},
		{"a token of another user", old(token(0, "h1", "u", "t", 0)), sessionCall(403, "token_id", "t", "user_id", "other"), event.CauseInvalidToken, true},
		{"a good token that is not accepted", old(token(0, "right", "u", "t", 0)), sessionCall(403, "token_id", "t", "user_id", "u"), event.CauseInvalidToken, false},
		{"invalid, by words", world{}, sessionCall(403, "token_id", "t", "reason", "The token is invalid"), event.CauseInvalidToken, false},
	}
}

func sessionCases() []causeCase {
	day := 86_400.0
	return []causeCase{
		{"expired, by code", world{}, request(401, "session_id", "s", "code", "access_token_expired"), event.CauseSessionExpired, false},
		{"expired, by words", world{}, request(401, "session_id", "s", "reason", "Access token has expired"), event.CauseSessionExpired, false},
		{"expired, by its dates", world{}, request(401, "session_id", "s").expiring(0), event.CauseSessionExpired, false},
		{"expired, by its age", world{before: []ev{opened(-31*day, "u", "s", "d")}}, request(401, "session_id", "s"), event.CauseSessionExpired, false},
		{"expired, by the dates of its begin", world{before: []ev{opened(-2*day, "u", "s", "d").expiring(-day)}}, request(401, "session_id", "s"), event.CauseSessionExpired, false},
		{"expired, older than what is remembered", old(), request(401, "session_id", "s", "user_id", "u"), event.CauseSessionExpired, false},
		{"never begun, though all are remembered", world{before: []ev{opened(-40*day, "u", "s0", "d")}}, request(401, "session_id", "s"), event.CauseInvalidToken, true},

		{"revoked, by code", world{}, request(401, "session_id", "s", "code", "session_revoked"), event.CauseSessionRevoked, false},
		{"revoked by its id", world{before: []ev{revoked(0, "session_id", "s", "user_id", "u")}}, request(401, "session_id", "s"), event.CauseSessionRevoked, false},
		{"revoked with all of the user", world{before: []ev{opened(-100, "u", "s", "d"), revoked(0, "user_id", "u")}}, request(401, "session_id", "s", "user_id", "u"), event.CauseSessionRevoked, false},
		{"revoked with all of the user, whom the record does not name", world{before: []ev{opened(-100, "u", "s", "d"), revoked(0, "user_id", "u")}}, request(401, "session_id", "s"), event.CauseSessionRevoked, false},
		{"revoked, and the user came back elsewhere", world{before: []ev{opened(-100, "u", "s", "d"), revoked(0, "user_id", "u"), opened(5, "u", "s2", "d2")}},
			request(401, "session_id", "s", "user_id", "u"), event.CauseSessionRevoked, false},
		{"revoked, without a session id", world{before: []ev{revoked(0, "user_id", "u")}}, request(401, "user_id", "u"), event.CauseSessionRevoked, false},
		{"ended early, by nobody that we see", world{before: []ev{opened(-100, "u", "s", "d")}}, request(401, "session_id", "s", "user_id", "u"), event.CauseSessionRevoked, false},
		{"began after the revocation, and is old now", world{before: []ev{revoked(-32*day, "user_id", "u"), opened(-31*day, "u", "s", "d")}}, request(401, "session_id", "s", "user_id", "u"), event.CauseSessionExpired, false},

		{"displaced, by code", world{}, request(401, "session_id", "s", "code", "device_taken_over"), event.CauseSessionDisplaced, false},
		{"displaced by another user of the device", world{before: []ev{opened(-100, "u", "s", "d"), opened(0, "v", "s2", "d")}}, request(401, "session_id", "s", "user_id", "u", "device_id", "d"), event.CauseSessionDisplaced, false},
		{"displaced, and the record names no device", world{before: []ev{opened(-100, "u", "s", "d"), opened(0, "v", "s2", "d")}}, request(401, "session_id", "s", "user_id", "u"), event.CauseSessionDisplaced, false},
		{"displaced, and the session is not remembered", world{before: []ev{opened(0, "v", "s2", "d")}}, request(401, "session_id", "s", "user_id", "u", "device_id", "d"), event.CauseSessionDisplaced, false},
		{"displaced, and the first user came back", world{before: []ev{opened(-100, "u", "s", "d"), opened(-50, "v", "s2", "d"), opened(0, "u", "s3", "d")}},
			request(401, "session_id", "s", "user_id", "u", "device_id", "d"), event.CauseSessionDisplaced, false},
		{"displaced first, revoked later", world{before: []ev{opened(-100, "u", "s", "d"), opened(-50, "v", "s2", "d"), revoked(0, "user_id", "u")}},
			request(401, "session_id", "s", "user_id", "u"), event.CauseSessionDisplaced, false},
		{"revoked first, displaced later", world{before: []ev{opened(-100, "u", "s", "d"), revoked(-50, "user_id", "u"), opened(0, "v", "s2", "d")}},
			request(401, "session_id", "s", "user_id", "u"), event.CauseSessionRevoked, false},
		{"wrong region", world{before: []ev{opened(0, "v", "s2", "d")}}, request(401, "session_id", "s", "region", "us"), event.CauseWrongRegion, false},
	}
}

func certificateCases() []causeCase {
	issued := []ev{cert(event.TypeCertificateIssued, -900, "c1", "chat.n1").dated(-86_400, 86_400), cert(event.TypeCertificateActivated, -800, "c1", "chat.n1")}
	known := func(more ...ev) world { return world{before: append(issued[:2:2], more...)} }
	backend, gateway := event.OriginBackend, event.OriginGateway
	return []causeCase{
		{"missing, by the alert", world{}, handshake(backend, "tls_alert", "certificate required"), event.CauseCertMissing, false},
		{"missing, none presented", world{}, handshake(gateway), event.CauseCertMissing, false},
		{"missing, an alert that fits all", known(), handshake(gateway, "tls_alert", "bad_certificate"), event.CauseCertMissing, false},
		{"missing, by words", world{}, handshake(gateway, "reason", "client sent no client certificate"), event.CauseCertMissing, false},
		{"missing at the mint", world{}, mintRefused(403, "h1", "k2").mtls(), event.CauseCertMissing, false},
		{"disabled, by the registry", known(cert(event.TypeCertificateDisabled, 0, "c1", "")), handshake(gateway, "cert_id", "c1", "tls_alert", "handshake_failure"), event.CauseCertDisabled, false},
		{"disabled, declared", declares(Declared{Certificates: []DeclaredCertificate{{ID: "c1", CN: "chat.n1", Disabled: true}}}), handshake(backend, "cert_id", "c1"), event.CauseCertDisabled, false},
		{"disabled, by the alert", world{}, handshake(gateway, "cert_id", "c1", "tls_alert", "certificate_revoked"), event.CauseCertDisabled, false},
		{"disabled at the mint", known(cert(event.TypeCertificateDisabled, 0, "c1", "")), mintRefused(401, "h1", "k2", "cert_id", "c1"), event.CauseCertDisabled, false},
		{"disabled, and activated again: another fault", known(cert(event.TypeCertificateDisabled, 0, "c1", ""), cert(event.TypeCertificateActivated, 5, "c1", "")),
			handshake(gateway, "cert_id", "c1", "tls_alert", "certificate_expired"), event.CauseCertExpired, false},
		{"expired, by its dates", world{}, handshake(gateway, "cert_id", "c1").dated(-900, 0), event.CauseCertExpired, false},
		{"expired, by the registry", world{before: []ev{cert(event.TypeCertificateIssued, -900, "c1", "chat.n1").dated(-900, 0)}}, handshake(gateway, "cert_id", "c1", "tls_alert", "handshake_failure"), event.CauseCertExpired, false},
		{"expired, declared", declares(Declared{Certificates: []DeclaredCertificate{{ID: "c1", CN: "chat.n1", NotAfter: "2026-11-01T00:00:00Z"}}}), handshake(backend, "cert_id", "c1", "tls_alert", "bad_certificate"), event.CauseCertExpired, false},
		{"expired, by words", world{}, handshake(gateway, "cert_id", "c1", "reason", "x509: certificate has expired"), event.CauseCertExpired, false},
		{"not yet valid, by its dates", world{}, handshake(gateway, "cert_id", "c1", "tls_alert", "certificate_unknown").dated(60, 900), event.CauseCertNotYetValid, false},
		{"not yet valid, by words", world{}, handshake(gateway, "cert_id", "c1", "reason", "certificate is not yet valid"), event.CauseCertNotYetValid, false},
		{"not yet valid, by code", world{}, mintRefused(403, "h1", "k2", "code", "certificate_not_yet_valid"), event.CauseCertNotYetValid, false},
		{"another name than the registry's", known(), handshake(gateway, "cert_id", "c1", "cert_cn", "mail.n1"), event.CauseCertCNMismatch, false},
		{"a certificate of another service", declares(Declared{Certificates: []DeclaredCertificate{{ID: "c1", CN: "mail.n1", Service: "mail"}}}), handshake(backend, "cert_id", "c1", "cert_cn", "mail.n1"), event.CauseCertCNMismatch, false},
		{"a name that is declared for another service", declares(Declared{Certificates: []DeclaredCertificate{{CN: "mail.n1", Service: "mail"}}}), handshake(backend, "cert_id", "c1", "cert_cn", "mail.n1"), event.CauseCertCNMismatch, false},
		{"a name that the network does not use", known(), handshake(gateway, "cert_id", "c8", "cert_cn", "wiki.n1", "tls_alert", "certificate_unknown"), event.CauseCertCNMismatch, false},
		{"an active certificate is denied access", known(), handshake(gateway, "cert_id", "c1", "cert_cn", "chat.n1", "tls_alert", "access_denied"), event.CauseCertCNMismatch, false},
		{"the name, by words", world{}, handshake(gateway, "cert_id", "c1", "reason", "certificate common name does not match"), event.CauseCertCNMismatch, false},
		{"unknown authority, by the alert", world{}, handshake(gateway, "cert_id", "c9", "tls_alert", "unknown_ca"), event.CauseCertUnknownCA, false},
		{"unknown authority, not in the registry", known(), handshake(gateway, "cert_id", "c9", "cert_cn", "chat.n1", "tls_alert", "bad_certificate"), event.CauseCertUnknownCA, false},
		{"unknown authority, no alert", known(), handshake(gateway, "cert_id", "c9", "cert_cn", "chat.n1"), event.CauseCertUnknownCA, false},
		{"unknown authority, by words", world{}, handshake(gateway, "cert_id", "c9", "reason", "certificate signed by unknown authority"), event.CauseCertUnknownCA, false},
	}
}

func (v ev) mtls() ev { v.mode = event.ModeSecureMtls; return v }

// TestCauseOfRealRefusals: every cause, with the codes and words that a platform
// may give and without them, as the reference platform's facts and the registries
// decide it. Each must be right: the bar of 95 % is for worlds with noise.
func TestCauseOfRealRefusals(t *testing.T) {
	t.Parallel()
	cases := map[event.Cause]int{}
	for group, list := range map[string][]causeCase{"key": keyCases(), "answer": answerCases(), "token": tokenCases(), "session": sessionCases(), "certificate": certificateCases()} {
		for _, tc := range list {
			cases[tc.want]++
			t.Run(fmt.Sprintf("%s/%s", group, tc.name), func(t *testing.T) {
				t.Parallel()
				cfg := DefaultConfig()
				cfg.InventoryAge = 10 * time.Second
				e, err := New(cfg, Deps{Rules: shipped(t), Clocks: clockTable(), Declared: tc.world.declared})
				if err != nil {
					t.Fatal(err)
				}
				e.Assign([]event.Partition{part0})
				observe(e, 0, settled()...)
				observe(e, 100, tc.world.before...)
				_, got := observe(e, 200, tc.v)
				if got[0].Cause != tc.want {
					t.Errorf("got %s with %.2f on %q, want %s", got[0].Cause, got[0].CauseConfidence, got[0].CauseGrounds, tc.want)
				}
				if got[0].CauseGrounds == 0 {
					t.Error("it says not why")
				}
				if tc.attack && got[0].Cause == event.CauseClockSkew {
					t.Error("an attack is taken for a clock")
				}
			})
		}
	}
	for _, c := range event.Causes() {
		if c != event.CauseUnknown && cases[c] < 3 {
			t.Errorf("%s has %d cases, want 3 at least", c, cases[c])
		}
	}
}
