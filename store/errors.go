package store

import (
	"context"
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
		if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, io.EOF) || errors.Is(err, context.DeadlineExceeded) {
			return "check that ClickHouse is running and that addrs names its native port"
		}
		return ""
	}
	switch code {
	case codeUnknownTable, codeNoSuchColumn:
		return "the schema is incomplete: restart keysentry, which migrates at start, or run it with the right database"
	case codeUnknownDatabase:
		return "the database does not exist: start keysentry with a user that may create it"
	case codeReadonly, codeAccessDenied:
		return "the user lacks a right: grant it INSERT, SELECT, CREATE and ALTER on the database"
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

// explain adds the advice to err.
func explain(err error) error {
	if a := advice(err); a != "" {
		return fmt.Errorf("%w (%s)", err, a)
	}
	return err
}

// errNotSent marks an attempt that ended before a row left this process.
var errNotSent = errors.New("not sent")
