package florin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/florin-db/florin/clients/go/internal/fake"
)

// authority signs certificates, of which it makes as many as are asked for.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := new(authority)
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "an authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.certificate, a.key = a.sign(t, template)
	return a
}

func (a *authority) sign(t *testing.T, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

func (a *authority) pair(t *testing.T, template *x509.Certificate) tls.Certificate {
	t.Helper()
	certificate, key := a.sign(t, template)
	return tls.Certificate{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// server is a node's side, which asks for certificates of this authority.
func (a *authority) server(t *testing.T, asks tls.ClientAuthType) *tls.Config {
	return a.serverOf(t, asks, &x509.Certificate{})
}

func (a *authority) serverOf(t *testing.T, asks tls.ClientAuthType, template *x509.Certificate) *tls.Config {
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	pair := a.pair(t, template)
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: asks, ClientCAs: a.pool(), MinVersion: tls.VersionTLS13,
		NextProtos: []string{"florin", "http/1.1"},
	}
}

func (a *authority) caller(t *testing.T) tls.Certificate {
	return a.pair(t, &x509.Certificate{
		DNSNames: []string{"caller"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// Certificates that nobody takes: whose time is over, whose time is to come, and for another purpose.
func ended(usage x509.ExtKeyUsage) *x509.Certificate {
	return &x509.Certificate{
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
}

func early(usage x509.ExtKeyUsage) *x509.Certificate {
	return &x509.Certificate{
		NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(2 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
}

func only(usage x509.ExtKeyUsage) *x509.Certificate {
	return &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{usage}}
}

func TestByTLSEveryShardIsReached(t *testing.T) {
	own := newAuthority(t)
	node := fake.StartTLS(t, 3, own.server(t, tls.RequireAndVerifyClientCert))
	config := &tls.Config{RootCAs: own.pool(), Certificates: []tls.Certificate{own.caller(t)}}
	client := dial(t, node.Target, Options{TLS: config})
	for user := range uint64(50) {
		balance, err := client.GetBalance(within(t, patience), user)
		if err != nil {
			t.Fatal(err)
		}
		same(t, balance.UserID, user)
	}
	for shard := range 3 {
		same(t, node.Accepted(shard), 1)
	}
	same(t, config.NextProtos == nil && config.MinVersion == 0, true)
}

// Each failure says what is missing, and in which field to give it.
func TestWhatIsMissingForTLSIsSaid(t *testing.T) {
	own, other := newAuthority(t), newAuthority(t)
	open := fake.StartTLS(t, 1, own.server(t, tls.NoClientCert))
	asking := fake.StartTLS(t, 1, own.server(t, tls.RequireAndVerifyClientCert))
	server, caller := x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth
	node := func(template *x509.Certificate) string {
		return fake.StartTLS(t, 1, own.serverOf(t, tls.NoClientCert, template)).Target
	}
	shows := func(template *x509.Certificate) *tls.Config {
		return &tls.Config{RootCAs: own.pool(), Certificates: []tls.Certificate{own.pair(t, template)}}
	}
	trusts := &tls.Config{RootCAs: own.pool()}
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	go func() {
		for {
			socket, err := plain.Accept()
			if err != nil {
				return
			}
			_, _ = socket.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
		}
	}()
	for name, test := range map[string]struct {
		target   string
		config   *tls.Config
		expected string
	}{
		"the host's authorities": {open.Target, nil, "RootCAs"},
		"another authority":      {open.Target, &tls.Config{RootCAs: other.pool()}, "RootCAs"},
		"another name":           {open.Target, &tls.Config{RootCAs: own.pool(), ServerName: "elsewhere"}, "ServerName"},
		"no certificate":         {asking.Target, &tls.Config{RootCAs: own.pool()}, "Certificates"},
		"a foreign certificate": {asking.Target, &tls.Config{
			RootCAs: own.pool(), Certificates: []tls.Certificate{other.caller(t)}}, "certificate"},
		"a node whose time is over":      {node(ended(server)), trusts, "the node's certificate has ended, or is not valid yet"},
		"a node whose time is to come":   {node(early(server)), trusts, "the node's certificate has ended, or is not valid yet"},
		"a node with a caller's":         {node(only(caller)), trusts, "extended key usage serverAuth"},
		"a caller whose time is over":    {asking.Target, shows(ended(caller)), "Certificates has ended, or is not valid yet"},
		"a caller whose time is to come": {asking.Target, shows(early(caller)), "Certificates has ended, or is not valid yet"},
		"a port without TLS":             {"florins://" + plain.Addr().String(), &tls.Config{RootCAs: own.pool()}, "--tls-listen"},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := New(test.target, Options{TLS: test.config})
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			tellsInTime(t, 300*time.Millisecond, func(ctx context.Context) error {
				_, err := client.GetBalance(ctx, 1)
				return err
			}, func(err error) bool {
				return errors.Is(err, ErrDisconnected) && errors.Is(err, ErrTLS) && strings.Contains(err.Error(), test.expected)
			})
		})
	}
}

func TestTLSTakesATargetOfItsOwn(t *testing.T) {
	if client, err := New("florin://localhost:1", Options{TLS: new(tls.Config)}); err == nil {
		client.Close()
		t.Error("a configuration for nothing was taken")
	} else if !strings.Contains(err.Error(), "florins://") {
		t.Errorf("got %v", err)
	}
}
