package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/florin-db/florin/clients/go"
)

const request = "GET /v1/users/1/balance HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"

// dial connects by TLS and asks; the answer, and whether a ticket was shown.
func dial(address string, config *tls.Config) (string, bool, error) {
	connection, err := tls.Dial("tcp", address, config)
	if err != nil {
		return "", false, err
	}
	defer connection.Close()
	_ = connection.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(connection, request); err != nil {
		return "", false, err
	}
	answer, err := io.ReadAll(connection)
	return string(answer), connection.ConnectionState().DidResume, err
}

// TestGosOwnTLSIsAnsweredAndRefusedAsItShouldBe lets crypto/tls talk to a node that wants certificates.
func TestGosOwnTLSIsAnsweredAndRefusedAsItShouldBe(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "certs")
	if out, err := command("tls", "init", folder).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	file := func(name string) string { return filepath.Join(folder, name) }
	_, said := startNode(t, 8, "--shards", "2", "--tls-listen", "127.0.0.1:0", "--tls-cert", file("node.crt"), "--tls-key",
		file("node.key"), "--tls-client-ca", file("ca.crt"))
	ports := regexp.MustCompile(`(?m)^  tls \d +(\S+)$`).FindAllStringSubmatch(said, -1)
	if len(ports) != 2 {
		t.Fatalf("expected two shards' ports, got %v of %s", ports, said)
	}
	first, second := ports[0][1], ports[1][1]

	authority, err := os.ReadFile(file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	own, err := tls.LoadX509KeyPair(file("caller.crt"), file("caller.key"))
	if err != nil {
		t.Fatal(err)
	}
	known := &tls.Config{
		RootCAs: roots, Certificates: []tls.Certificate{own}, ClientSessionCache: tls.NewLRUClientSessionCache(8),
		ServerName: "localhost",
	}
	// A ticket of one shard is good for the other.
	for turn, address := range []string{first, second, first} {
		answer, resumed, err := dial(address, known)
		if err != nil || !strings.HasPrefix(answer, "HTTP/1.1 200 OK\r\n") || resumed != (turn > 0) {
			t.Errorf("turn %d: %v, resumed: %v, %q", turn, err, resumed, answer)
		}
	}
	for what, change := range map[string]func(*tls.Config){
		"TLS 1.2":          func(config *tls.Config) { config.MaxVersion = tls.VersionTLS12 },
		"a weak group":     func(config *tls.Config) { config.CurvePreferences = []tls.CurveID{tls.CurveP521} },
		"no certificate":   func(config *tls.Config) { config.Certificates = nil },
		"another name":     func(config *tls.Config) { config.ServerName = "elsewhere" },
		"no authority":     func(config *tls.Config) { config.RootCAs = x509.NewCertPool() },
		"another protocol": func(config *tls.Config) { config.NextProtos = []string{"h2"} },
	} {
		config := &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{own}, ServerName: "localhost"}
		change(config)
		if answer, _, err := dial(first, config); err == nil || answer != "" {
			t.Errorf("%s: %v, %q", what, err, answer)
		}
	}

	any := regexp.MustCompile(`(?m)^  tls +(\S+:\S+)$`).FindStringSubmatch(said)[1]
	_, port, _ := strings.Cut(any, ":")
	asker, err := florin.New("florins://localhost:"+port, florin.Options{TLS: known})
	if err != nil {
		t.Fatal(err)
	}
	defer asker.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for user := range uint64(8) {
		if balance, err := asker.GetBalance(ctx, user+1); err != nil || balance.UserID != user+1 {
			t.Errorf("%d: %v, %v", user+1, balance, err)
		}
	}
}
