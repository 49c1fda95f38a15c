package console

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"time"
)

// forwardedHeader marks a request that a member passed on, so that two members
// that each believe in the other do not play ball with it.
const forwardedHeader = "X-Keysentry-Forwarded"

func transport(caFile string) (*http.Transport, error) {
	t := &http.Transport{ResponseHeaderTimeout: 10 * time.Second, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute}
	if caFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read http.tls.ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("http.tls.ca_file %s holds no certificate", caFile)
	}
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return t, nil
}

var errNotPrivate = errors.New("not https and not this machine")

// private reports whether a credential may be sent there.
func private(u *url.URL) bool {
	return u.Host != "" && (u.Scheme == "https" || u.Scheme == "http" && loopback(u.Hostname()))
}

// toLeader runs next here when this member leads (or nobody is known to), and
// passes the request to the leader otherwise.
func (s *Server) toLeader(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		leader := s.deps.Leader()
		if leader == "" || leader == s.URL() {
			next(w, r)
			return
		}
		target, err := url.Parse(leader)
		if err == nil && !private(target) {
			s.deps.Logger.Error("the leader's address is not forwarded to; set its http.advertise to an https address", "leader", leader)
			err = errNotPrivate
		}
		if err != nil || r.Header.Get(forwardedHeader) != "" {
			fail(w, http.StatusServiceUnavailable, "no leader can be reached; try again in a few seconds")
			return
		}
		proxy := &httputil.ReverseProxy{
			Transport: s.forward,
			Rewrite: func(p *httputil.ProxyRequest) {
				p.SetURL(target)
				p.Out.Header.Set(forwardedHeader, "1")
			},
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
				s.deps.Logger.Warn("forward to leader failed", "leader", leader, "error", err)
				fail(w, http.StatusBadGateway, "the leader does not answer; try again in a few seconds")
			},
		}
		proxy.ServeHTTP(w, r)
	}
}
