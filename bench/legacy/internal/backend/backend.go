// Package backend answers the reads from florin, one node or several: what is left of the service once florin has taken them over.
package backend

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/florin-db/florin/bench/legacy/internal/domain"
	"github.com/florin-db/florin/bench/legacy/internal/reads"
	"github.com/florin-db/florin/clients/go"
)

// readyTimeout bounds how long a readiness probe waits for the node.
const readyTimeout = time.Second

// readyUsers are how many users a readiness probe asks for: where nodes divide them, each of a few belongs to another partition, and one
// that is being loaded is no reason to answer about nobody.
const readyUsers = 16

// Node is a florin node, or those that it divides the users with.
type Node struct {
	client *florin.Client
}

// Target is a node, who asks it, and whom it must be.
type Target struct {
	// Address is florin://HOST:PORT or florins://HOST:PORT, or several with commas between; empty where the service asks none.
	Address string
	// TokenFile has the token that proves who asks; empty where none is shown.
	TokenFile string
	// Authorities are those of the nodes' certificates, Certificate and Key who asks, all in PEM; empty means the host's authorities,
	// and no certificate.
	Authorities, Certificate, Key string
}

// Dial makes a client of the node at the target, and does not wait for it.
func Dial(target Target) (*Node, error) {
	var options florin.Options
	if target.TokenFile != "" {
		text, err := os.ReadFile(target.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		options.Token = strings.TrimSpace(string(text))
	}
	var err error
	if options.TLS, err = target.tls(); err != nil {
		return nil, err
	}
	client, err := florin.New(target.Address, options)
	if err != nil {
		return nil, err
	}
	return &Node{client: client}, nil
}

// tls is nil where nothing is said of it.
func (t Target) tls() (*tls.Config, error) {
	if t.Authorities == "" && t.Certificate == "" && t.Key == "" {
		return nil, nil
	}
	config := new(tls.Config)
	if t.Authorities != "" {
		text, err := os.ReadFile(t.Authorities)
		if err != nil {
			return nil, fmt.Errorf("--tls-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--tls-ca: expected certificates in PEM, got none in %s", t.Authorities)
		}
	}
	if t.Certificate != "" || t.Key != "" {
		own, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
		}
		config.Certificates = []tls.Certificate{own}
	}
	return config, nil
}

// Close ends its connections.
func (n *Node) Close() error { return n.client.Close() }

// Ready implements [reads.Source].
func (n *Node) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := n.client.Ready(ctx); err != nil {
		return err
	}
	// A node that is warming up says so to every read.
	answers := make(chan error, readyUsers)
	for userID := range uint64(readyUsers) {
		go func() {
			_, err := n.client.GetBalance(ctx, userID)
			answers <- err
		}()
	}
	var last error
	for range readyUsers {
		if last = <-answers; last == nil || errors.Is(last, florin.ErrNotFound) {
			return nil
		}
	}
	return last
}

// Origin implements [reads.Source].
func (n *Node) Origin() reads.Origin { return reads.Origin{AsOf: domain.FormatTime(0)} }

// Balance implements [reads.Source].
func (n *Node) Balance(ctx context.Context, userID uint64, freshness reads.Freshness) (*reads.Balance, reads.Origin, error) {
	var options [3]florin.ReadOption
	balance, err := n.client.GetBalance(ctx, userID, asked(freshness, &options)...)
	if err != nil {
		return nil, n.Origin(), n.refusal(err)
	}
	return translate(balance), origin(balance.Metadata), nil
}

// Statistics implements [reads.Source].
func (n *Node) Statistics(ctx context.Context, userID uint64, windows domain.Windows, freshness reads.Freshness, into *reads.Statistics) (reads.Origin, error) {
	var options [3]florin.ReadOption
	found, err := n.client.GetStatistics(ctx, userID, florin.Windows(windows), asked(freshness, &options)...)
	if err != nil {
		return n.Origin(), n.refusal(err)
	}
	into.UserID, into.Version = found.UserID, found.Version
	sums := into.Reset(len(found.Assets), windows)
	first := domain.FormatTime(found.FirstTransactionAt.UnixMicro())
	last := domain.FormatTime(found.LastTransactionAt.UnixMicro())
	for index := range found.Assets {
		asset := &into.Statistics[index]
		asset.Asset = found.Assets[index].Asset.String()
		asset.FirstTransactionAt, asset.LastTransactionAt = first, last
		for window, held := range found.Assets[index].ByWindow {
			sums[domain.WindowCount*index+window] = reads.Sums(held)
		}
	}
	return origin(found.Metadata), nil
}

// Balances implements [reads.Source].
func (n *Node) Balances(ctx context.Context, userIDs []uint64, freshness reads.Freshness, into *reads.Batch) (reads.Origin, error) {
	var options [3]florin.ReadOption
	batch, err := n.client.GetBalances(ctx, userIDs, asked(freshness, &options)...)
	if err != nil {
		return n.Origin(), n.refusal(err)
	}
	into.Balances = into.Balances[:0]
	for _, found := range batch.Entries {
		entry := reads.Entry{
			UserID: found.UserID, Status: reads.Status(found.Status.String()), Quarantined: found.Quarantined,
		}
		if found.Balance != nil {
			entry.Balance = translate(found.Balance)
		}
		into.Balances = append(into.Balances, entry)
	}
	return origin(batch.Metadata), nil
}

func asked(freshness reads.Freshness, options *[3]florin.ReadOption) []florin.ReadOption {
	if freshness == (reads.Freshness{}) {
		return nil
	}
	options[0] = florin.MinVersion(freshness.MinVersion)
	options[1] = florin.MaxAge(time.Duration(freshness.MaxAgeMS) * time.Millisecond)
	options[2] = florin.Wait(time.Duration(freshness.WaitMS) * time.Millisecond)
	return options[:]
}

func translate(found *florin.Balance) *reads.Balance {
	balance := &reads.Balance{
		UserID:    found.UserID,
		Version:   found.Version,
		UpdatedAt: domain.FormatTime(found.UpdatedAt.UnixMicro()),
		Balances:  make([]reads.AssetBalance, len(found.Assets)),
	}
	for index, held := range found.Assets {
		balance.Balances[index] = reads.AssetBalance{Asset: held.Asset.String(), Available: held.Available, Held: held.Held}
	}
	return balance
}

func origin(metadata florin.Metadata) reads.Origin {
	return reads.Origin{
		AsOf:        domain.FormatTime(metadata.AsOf.UnixMicro()),
		Shard:       metadata.Shard,
		Forwarded:   metadata.Forwarded,
		Quarantined: metadata.Quarantined,
	}
}

// refusal passes on what the node refused, as it is; what the client itself reports is the service's own unavailability.
func (n *Node) refusal(err error) error {
	var refused *florin.StatusError
	// That another node has a user is the client's to follow: where none of them had it in time, nobody can answer at the moment.
	if errors.As(err, &refused) && refused.Status != florin.StatusNotOwner {
		return &reads.Refusal{
			Origin:  origin(refused.Metadata),
			Status:  reads.Status(refused.Status.String()),
			Message: refused.Message,
		}
	}
	return &reads.Refusal{Origin: n.Origin(), Status: reads.Unavailable, Message: "the backend cannot be read: " + err.Error()}
}
