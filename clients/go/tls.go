package florin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
)

// ErrTLS: the node is not whom Options.TLS trusts, or does not trust this caller; the error says which of both, and what is
// missing.
var ErrTLS = errors.New("florin: no connection by TLS")

// TLSError is a connection by TLS that did not come about.
type TLSError struct {
	// Problem says what is missing, and where to give it.
	Problem string
	// Cause is what the handshake failed with.
	Cause error
}

func (e *TLSError) Error() string { return fmt.Sprintf("TLS: %s: %v", e.Problem, e.Cause) }

// Unwrap returns the cause.
func (e *TLSError) Unwrap() error { return e.Cause }

// Is makes every TLSError an ErrTLS.
func (e *TLSError) Is(target error) bool { return target == ErrTLS }

// secured is the configuration for all connections of a client: TLS 1.3, for a node speaks nothing older.
func secured(config *tls.Config) *tls.Config {
	if config == nil {
		config = new(tls.Config)
	}
	config = config.Clone()
	config.MinVersion = tls.VersionTLS13
	config.NextProtos = []string{"florin"}
	if config.ClientSessionCache == nil {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(sessionsMax)
	}
	return config
}

// secure shakes hands over a socket. serverName is what the caller called the node, whatever its shards' addresses are.
func secure(ctx context.Context, socket net.Conn, config *tls.Config, serverName string) (net.Conn, error) {
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = serverName
	}
	connection := tls.Client(socket, config)
	if err := connection.HandshakeContext(ctx); err != nil {
		_ = socket.Close()
		return nil, explained(err)
	}
	return connection, nil
}

// The alerts by which a node says what it thinks of a caller's certificate (RFC 8446, section 6).
const (
	alertBadCertificate         = tls.AlertError(42)
	alertUnsupportedCertificate = tls.AlertError(43)
	alertCertificateExpired     = tls.AlertError(45)
	alertCertificateUnknown     = tls.AlertError(46)
	alertUnknownAuthority       = tls.AlertError(48)
	alertDecryptError           = tls.AlertError(51)
	alertCertificateRequired    = tls.AlertError(116)
)

// explained says what is missing, where a failure is TLS's; others are as they are. A node looks at a caller's certificate after
// the caller's half of the handshake, so that it may be told with the first answer.
func explained(err error) error {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		header    tls.RecordHeaderError
		remote    *net.OpError
	)
	problem := ""
	switch {
	case errors.As(err, &name):
		problem = "the node's certificate is for another name; correct the target, or give its name in Options.TLS.ServerName"
	case errors.As(err, &authority):
		problem = "the node's certificate is of an authority that nobody here trusts; give it in Options.TLS.RootCAs"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		problem = "by this host's clock the node's certificate has ended, or is not valid yet; whoever runs the node gives it another (--tls-cert)"
	case errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage:
		problem = "the node's certificate is not for servers; it needs the extended key usage serverAuth (--tls-cert)"
	case errors.As(err, &invalid):
		problem = "the node's certificate is not valid; whoever runs the node gives it another (--tls-cert)"
	case errors.As(err, &header):
		problem = "what answers there does not speak TLS; expected a port of --tls-listen"
	case errors.As(err, &remote) && remote.Op == "remote error":
		// The package has alerts as numbers only of its own side; what the peer's is called, it says in the same words.
		is := func(alerts ...tls.AlertError) bool {
			return slices.ContainsFunc(alerts, func(alert tls.AlertError) bool { return remote.Err.Error() == alert.Error() })
		}
		switch {
		case is(alertCertificateRequired):
			problem = "the node asks for a certificate; give one in Options.TLS.Certificates"
		case is(alertUnknownAuthority, alertBadCertificate, alertCertificateUnknown, alertDecryptError):
			problem = "the node does not take the certificate in Options.TLS.Certificates: expected one of its --tls-client-ca"
		case is(alertCertificateExpired):
			problem = "by the node's clock the certificate in Options.TLS.Certificates has ended, or is not valid yet; give another there"
		case is(alertUnsupportedCertificate):
			problem = "the certificate in Options.TLS.Certificates is not for callers; it needs the extended key usage clientAuth"
		default:
			problem = "the node refuses"
		}
	default:
		return err
	}
	return &TLSError{Problem: problem, Cause: err}
}
