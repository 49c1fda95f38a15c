package kafkawire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"

	kafkago "github.com/segmentio/kafka-go"
)

// Refused reports whether the brokers, or our own check of their certificate,
// said no for good: who we are, whom we trust or what we may is wrong, and the
// same request fails until a person changes something.
func Refused(err error) bool {
	for _, code := range []kafkago.Error{
		kafkago.SASLAuthenticationFailed, kafkago.UnsupportedSASLMechanism, kafkago.IllegalSASLState,
		kafkago.TopicAuthorizationFailed, kafkago.GroupAuthorizationFailed, kafkago.ClusterAuthorizationFailed,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return tlsFault(err)
}

// tlsFault reports that the two sides do not agree on TLS.
func tlsFault(err error) bool {
	var untrusted *tls.CertificateVerificationError
	var noTLS tls.RecordHeaderError
	return errors.As(err, &untrusted) || errors.As(err, &noTLS) || alertOf(err) != nil
}

// alertOf is the TLS alert with which the broker ended the handshake, or nil.
func alertOf(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return op.Err
	}
	return nil
}

// Explain adds to err what a person can change about it, by the path of the
// configuration or as the right to grant.
func (c *Client) Explain(err error) error {
	if err == nil {
		return nil
	}
	if a := c.advice(err); a != "" {
		return fmt.Errorf("%w: %s", err, a)
	}
	return err
}

func (c *Client) advice(err error) string {
	sasl := c.cfg.SASL
	switch {
	case errors.Is(err, kafkago.SASLAuthenticationFailed):
		return fmt.Sprintf("the brokers refuse user %q; check kafka.sasl.username, kafka.sasl.password and that the user exists for %s", sasl.Username, sasl.Mechanism)
	case errors.Is(err, kafkago.UnsupportedSASLMechanism):
		return fmt.Sprintf("this listener does not offer %s; change kafka.sasl.mechanism, or take another listener's port in kafka.brokers", sasl.Mechanism)
	case errors.Is(err, kafkago.IllegalSASLState):
		return "this listener wants no SASL, or SASL first; check kafka.sasl.mechanism and the port in kafka.brokers"
	case errors.Is(err, kafkago.TopicAuthorizationFailed), errors.Is(err, kafkago.GroupAuthorizationFailed), errors.Is(err, kafkago.ClusterAuthorizationFailed):
		return "this user lacks a right in Kafka; 'keysentry doctor' says which"
	}
	if a := c.tlsAdvice(err); a != "" {
		return a
	}
	return c.plainAdvice(err)
}

func (c *Client) tlsAdvice(err error) string {
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var noTLS tls.RecordHeaderError
	alert := alertOf(err)
	switch {
	case errors.As(err, &authority):
		return "the brokers' certificate comes from an authority that is not trusted; name it in kafka.tls.ca_file"
	case errors.As(err, &host):
		return "the brokers' certificate is for another name; write that name in kafka.tls.server_name, or the certificate's host in kafka.brokers"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "the brokers' certificate is out of date, or this machine's clock is wrong; renew the certificate"
	case errors.As(err, &noTLS):
		return "this listener speaks no TLS; take the TLS listener's port in kafka.brokers, or set kafka.tls.enabled to false"
	case alert != nil && c.cfg.TLS.CertFile == "":
		return "the brokers ended the TLS handshake; they may want a client certificate (kafka.tls.cert_file and key_file)"
	case alert != nil:
		return fmt.Sprintf("the brokers refuse the client certificate %s; it may be out of date or come from an authority that they do not trust", c.cfg.TLS.CertFile)
	}
	return ""
}

// plainAdvice is for connections that end without a word, as brokers do with
// clients that speak another protocol than the listener.
func (c *Client) plainAdvice(err error) string {
	silent := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
	var op net.Error
	switch {
	case silent && c.cfg.TLS.Enabled && c.cfg.SASL.Mechanism == "":
		return "something listens there but does not answer; does this listener want SASL (kafka.sasl), or no TLS (kafka.tls.enabled)?"
	case silent && c.cfg.TLS.Enabled:
		return "something listens there but does not answer; does this listener speak TLS (kafka.tls.enabled)?"
	case silent && !c.cfg.TLS.Enabled:
		return "something listens there but does not answer; does this listener want TLS (kafka.tls.enabled) or SASL (kafka.sasl)?"
	case silent, errors.As(err, &op):
		return "is kafka.brokers right?"
	}
	return ""
}
