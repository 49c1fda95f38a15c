package check

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/keysentry/keysentry/detect/finding"
	"github.com/keysentry/keysentry/detect/posture"
	"github.com/keysentry/keysentry/event"
)

// CertFile is a client certificate as it is deployed: a PEM file, the client's own
// certificate first.
type CertFile struct{ Network, Path string }

// maxPEM bounds what is read of a file.
const maxPEM = 1 << 20

// errHoldsKey keeps private keys out of the daemon: the file is not used at all.
var errHoldsKey = errors.New("the file holds a private key; name one that holds the certificate alone")

// ReadCertificate reads the first certificate of a PEM file. Its id is the SHA-256
// of the certificate in hexadecimal. It refuses files that hold a private key.
func ReadCertificate(f CertFile) (posture.Certificate, error) {
	file, err := os.Open(f.Path)
	if err != nil {
		return posture.Certificate{}, err
	}
	defer func() { _ = file.Close() }()
	text, err := io.ReadAll(io.LimitReader(file, maxPEM+1))
	if err != nil {
		return posture.Certificate{}, err
	}
	if len(text) > maxPEM {
		return posture.Certificate{}, fmt.Errorf("the file is larger than %d bytes and no certificate", maxPEM)
	}
	var first *x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if strings.Contains(block.Type, "PRIVATE KEY") {
			return posture.Certificate{}, errHoldsKey
		}
		if block.Type != "CERTIFICATE" || first != nil {
			continue
		}
		if first, err = x509.ParseCertificate(block.Bytes); err != nil {
			return posture.Certificate{}, fmt.Errorf("parse certificate: %w", err)
		}
	}
	if first == nil {
		return posture.Certificate{}, errors.New("the file holds no certificate in PEM form")
	}
	sum := sha256.Sum256(first.Raw)
	return posture.Certificate{Network: f.Network, CertID: hex.EncodeToString(sum[:]), CN: first.Subject.CommonName, State: "active",
		NotBefore: event.At(first.NotBefore), NotAfter: event.At(first.NotAfter)}, nil
}

// withFiles judges the deployed files beside what the events told: a certificate
// that they never told of is judged by its file, and a file that says something
// else than they do is a result of its own.
func (c CertificateLead) withFiles(told []posture.Certificate, now time.Time) []posture.Result {
	var out []posture.Result
	for _, f := range c.Files {
		k, err := ReadCertificate(f)
		if err != nil {
			out = append(out, posture.Result{Subject: finding.Subject{Network: f.Network, Field: "file", Value: f.Path}, Status: posture.Unknown,
				Severity: finding.Ticket, Stage: "unreadable", Value: "not read", Summary: "The file of a client certificate cannot be read.",
				Resolution: "Give the daemon a readable PEM file that holds the certificate and no private key (networks.NAME.certificate_files).",
				Facts:      []finding.Pair{{Field: "error", Value: err.Error()}}})
			continue
		}
		same, ok := match(k, told)
		if !ok || differs(k, same) != "" {
			r := judgeCertificate(k, now)
			r.Facts = append(r.Facts, finding.Pair{Field: "file", Value: f.Path})
			out = append(out, r)
		}
		if r, bad := mismatch(f, k, same, ok, told); bad {
			out = append(out, r)
		}
	}
	return out
}

// match finds the certificate among those that events told of: by its id, in any
// spelling of a SHA-256, or by its name and end, because the events' fingerprint
// may be a keyed one.
func match(k posture.Certificate, told []posture.Certificate) (posture.Certificate, bool) {
	for _, t := range told {
		if t.Network == k.Network && plainID(t.CertID) == k.CertID {
			return t, true
		}
	}
	for _, t := range told {
		if t.Network == k.Network && t.CN != "" && t.CN == k.CN && sameSecond(t.NotAfter, k.NotAfter) {
			return t, true
		}
	}
	return posture.Certificate{}, false
}

func plainID(id string) string {
	id = strings.ToLower(strings.ReplaceAll(id, ":", ""))
	return strings.TrimPrefix(id, "sha256")
}

func sameSecond(a, b event.Instant) bool { return a.Time().Unix() == b.Time().Unix() }

// differs says what the events tell otherwise than the file; what they do not tell
// is no difference.
func differs(file, told posture.Certificate) string {
	var out []string
	if told.CN != "" && told.CN != file.CN {
		out = append(out, "name "+told.CN+" instead of "+file.CN)
	}
	if told.NotBefore != 0 && !sameSecond(told.NotBefore, file.NotBefore) {
		out = append(out, "begin "+told.NotBefore.String()+" instead of "+file.NotBefore.String())
	}
	if told.NotAfter != 0 && !sameSecond(told.NotAfter, file.NotAfter) {
		out = append(out, "end "+told.NotAfter.String()+" instead of "+file.NotAfter.String())
	}
	return strings.Join(out, ", ")
}

// mismatch is the result of a file that does not agree with the events.
func mismatch(f CertFile, k, same posture.Certificate, known bool, told []posture.Certificate) (posture.Result, bool) {
	r := posture.Result{Subject: finding.Subject{Network: f.Network, Field: "file", Value: f.Path}, Status: posture.Warn, Severity: finding.Ticket,
		Stage: "mismatch", Since: k.NotBefore, Facts: []finding.Pair{{Field: "cert_cn", Value: k.CN}, {Field: "cert_id", Value: k.CertID}}}
	diff := differs(k, same)
	switch {
	case known && diff != "":
		r.Value, r.Summary = "differs from the events", "Events say of a deployed client certificate what its file does not say."
		r.Facts = append(r.Facts, finding.Pair{Field: "events say", Value: diff})
		r.Resolution = "Find out who reports the certificate with other dates or another name; the file is what the host presents."
	case known && same.State == "disabled":
		r.Value, r.Summary = "disabled", "A client certificate is deployed that was disabled."
		r.Resolution = "Install the current certificate."
	case !known && activeName(k, told):
		r.Value, r.Summary = "another one is active", "The deployed client certificate is not the one that events call active."
		r.Resolution = "Install the active certificate, or report the deployed one as a lifecycle event."
	default:
		return r, false
	}
	return r, true
}

// activeName reports whether events call another certificate of that name active.
func activeName(k posture.Certificate, told []posture.Certificate) bool {
	for _, t := range told {
		if t.Network == k.Network && t.State == "active" && t.CN != "" && t.CN == k.CN {
			return true
		}
	}
	return false
}
