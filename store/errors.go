package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/ClickHouse/ch-go"
	clickhouse "github.com/ClickHouse/clickhouse-go/v2"
)

// failure is what kind of error an attempt ended in; it decides what happens
// next, in one place.
type failure int

const (
	failureNone     failure = iota
	failureRefused          // the server said no and stored nothing: try again
	failureUnknown          // the answer was lost: look before trying again
	failurePoison           // the server cannot take this data: halve it
	failureOperator         // someone must do something; try again meanwhile
)

// Codes of the server (ErrorCodes.cpp) that the package tells apart.
const (
	codeCannotParseText     = 6
	codeNoSuchColumn        = 16
	codeTypeMismatch        = 53
	codeUnknownTable        = 60
	codeSyntax              = 62
	codeIncorrectData       = 117
	codeUnknownDatabase     = 81
	codeArgumentOutOfBound  = 69
	codeValueOutOfRange     = 321
	codeReadonly            = 164
	codeAccessDenied        = 497
	codeAuthFailed          = 516
	codeUnknownUser         = 192
	codeWrongPassword       = 193
	codeNotEnoughSpace      = 243
	codeTooManyParts        = 252
	codeTableIsReadOnly     = 242
	codeMemoryLimit         = 241
	codeConstraintViolation = 469
	codeTimeout             = 159
	codeCancelled           = 394
)

// serverCode is the code of the server's answer in err, if it is one.
func serverCode(err error) (int, bool) {
	if e, ok := errors.AsType[*ch.Exception](err); ok {
		return int(e.Code), true
	}
	if e, ok := errors.AsType[*clickhouse.Exception](err); ok {
		return int(e.Code), true
	}
	return 0, false
}

// classify says what an insert that ended in err did.
func classify(err error) failure {
	if err == nil {
		return failureNone
	}
	code, answered := serverCode(err)
	if !answered {
		if errors.Is(err, errNotSent) {
			return failureRefused
		}
		return failureUnknown
	}
	switch code {
	case codeCannotParseText, codeIncorrectData, codeTypeMismatch, codeArgumentOutOfBound, codeValueOutOfRange, codeConstraintViolation:
		return failurePoison
	case codeUnknownTable, codeUnknownDatabase, codeNoSuchColumn, codeReadonly, codeAccessDenied, codeAuthFailed, codeUnknownUser,
		codeWrongPassword, codeNotEnoughSpace, codeTableIsReadOnly:
		return failureOperator
	}
	// An insert into several day partitions is not atomic: an error may leave
	// some of them stored.
	return failureUnknown
}

// NoDatabase reports whether err says that the database is not there, as before
// the first run.
func NoDatabase(err error) bool {
	code, answered := serverCode(err)
	return answered && code == codeUnknownDatabase
}

// advice is what a person can do about err; empty when nothing in particular.
func advice(err error) string {
	code, answered := serverCode(err)
	if !answered {
		if a := tlsAdvice(err); a != "" {
			return a
		}
		if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) {
			return "check that ClickHouse is running, that addrs names its native port, and that tls.enabled fits that port"
		}
		return ""
	}
	switch code {
	case codeUnknownTable, codeNoSuchColumn:
		return "the schema is incomplete: restart keysentry, which migrates at start, or run it with the right database"
	case codeUnknownDatabase:
		return "the database does not exist: start keysentry with a user that may create it"
	case codeReadonly, codeAccessDenied:
		return "the user lacks a right; 'keysentry doctor' names the GRANT"
	case codeAuthFailed, codeUnknownUser, codeWrongPassword:
		return "check username and password"
	case codeNotEnoughSpace:
		return "the server's disk is full: free space or lower ttl_days"
	case codeTooManyParts:
		return "the server merges too slowly: raise insert.max_age or insert.max_rows"
	case codeTableIsReadOnly:
		return "the replica cannot reach its keeper: check clickhouse-keeper"
	case codeMemoryLimit:
		return "the server is short of memory: raise its limit or lower insert.max_bytes"
	}
	return ""
}

// tlsAdvice is what a person can do about two sides that do not agree on TLS.
func tlsAdvice(err error) string {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var noTLS tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.As(err, &authority):
		return "the server's certificate comes from an authority that is not trusted: name it in tls.ca_file"
	case errors.As(err, &host):
		return "the server's certificate is for another name: write that name in tls.server_name, or the certificate's host in addrs"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the server's certificate is out of date, or this machine's clock is wrong: renew the certificate"
	case errors.As(err, &noTLS):
		return "this port speaks no TLS: take the server's tcp_port_secure in addrs, or set tls.enabled to false"
	case errors.As(err, &op) && op.Op == "remote error":
		return "the server refuses the client certificate, or wants one: check tls.cert_file and tls.key_file"
	}
	return ""
}

// explain adds the advice to err.
func explain(err error) error {
	if a := advice(err); a != "" {
		return fmt.Errorf("%w (%s)", err, a)
	}
	return err
}

// errNotSent marks an attempt that ended before a row left this process.
var errNotSent = errors.New("not sent")
