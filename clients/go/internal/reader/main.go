// Command reader reads the balances of some users again and again, one by one and all in one batch, and ends with 1 where a read fails or
// shows an older version than it has shown. tests/command/nodes.rs lets it run while nodes come and go: each line that it prints says
// how many balances it has read. It ends well once its input ends.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/florin-db/florin/clients/go"
)

// deadline is a busy host's: who waits for longer has been failed.
const deadline = 20 * time.Second

// pause is what lies between two reads: the nodes, and the tests beside this one, are to have the CPUs.
const pause = time.Millisecond

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "reader:", err)
		os.Exit(1)
	}
}

func run() error {
	target := flag.String("target", "", "one of the nodes, `florin://HOST:PORT` or florins://HOST:PORT")
	first := flag.Uint64("first", 1, "the first user")
	last := flag.Uint64("last", 1, "the last user")
	token := flag.String("token-file", "", "the `FILE` with the token that proves who asks")
	authorities := flag.String("tls-ca", "", "the `FILE` with the authorities of the nodes' certificates")
	certificate := flag.String("tls-cert", "", "the `FILE` with the certificate that proves who asks")
	key := flag.String("tls-key", "", "the `FILE` with its private key")
	flag.Parse()
	options := florin.Options{}
	if *token != "" {
		text, err := os.ReadFile(*token)
		if err != nil {
			return err
		}
		options.Token = strings.TrimSpace(string(text))
	}
	if *authorities != "" {
		config, err := secured(*authorities, *certificate, *key)
		if err != nil {
			return err
		}
		options.TLS = config
	}
	client, err := florin.New(*target, options)
	if err != nil {
		return err
	}
	defer client.Close()
	reader := reader{client: client, shown: map[uint64]uint64{}}
	for user := *first; user <= *last; user++ {
		reader.users = append(reader.users, user)
	}
	ended := make(chan struct{})
	go func() {
		// What comes is of no interest, and neither is why it ends.
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	for {
		select {
		case <-ended:
			return nil
		default:
		}
		if err := reader.round(); err != nil {
			return err
		}
		fmt.Println(reader.read)
	}
}

func secured(authorities, certificate, key string) (*tls.Config, error) {
	text, err := os.ReadFile(authorities)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(text) {
		return nil, errors.New("expected certificates in " + authorities)
	}
	if certificate != "" {
		own, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{own}
	}
	return config, nil
}

type reader struct {
	client *florin.Client
	users  []uint64
	// shown is the last version that was shown of each user.
	shown map[uint64]uint64
	// read is how many balances there were.
	read int
}

// round reads everybody one by one, and everybody at once.
func (r *reader) round() error {
	for _, user := range r.users {
		balance, err := get(func(ctx context.Context) (*florin.Balance, error) { return r.client.GetBalance(ctx, user) })
		if err != nil {
			return fmt.Errorf("user %d: %w", user, err)
		}
		if err := r.note(user, balance); err != nil {
			return err
		}
		time.Sleep(pause)
	}
	batch, err := get(func(ctx context.Context) (*florin.Batch, error) { return r.client.GetBalances(ctx, r.users) })
	if err != nil {
		return fmt.Errorf("a batch: %w", err)
	}
	for index, entry := range batch.Entries {
		if entry.Status != florin.StatusOK || entry.Balance == nil {
			return fmt.Errorf("user %d of a batch: %v", r.users[index], entry.Status)
		}
		if err := r.note(r.users[index], entry.Balance); err != nil {
			return err
		}
	}
	return nil
}

func get[T any](read func(ctx context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	return read(ctx)
}

func (r *reader) note(user uint64, balance *florin.Balance) error {
	if balance.UserID != user || balance.Version < r.shown[user] {
		return fmt.Errorf("user %d at version %d was answered with user %d at version %d", user, r.shown[user], balance.UserID, balance.Version)
	}
	r.shown[user] = balance.Version
	r.read++
	return nil
}
