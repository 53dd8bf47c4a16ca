package florin

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// name is what a Hello says of this client.
const name = "florin-go/0.1.0"

// Options are a client's settings. The zero value is fit for use.
type Options struct {
	// ConnectionsPerShard is how many connections the client keeps to each shard; 0 means 1. One carries some hundred
	// thousand requests a second, and carries them cheaper the more of them share it.
	ConnectionsPerShard int
	// InFlightMax is how many requests may be unanswered on one connection; 0 means 4,096. One more waits as if the
	// connection were lost, and fails with ErrQueueFull when its context ends, or at once with FailFast.
	InFlightMax int
	// FailFast makes a call that nobody can answer at the moment fail at once. Without it, a call waits for a connection,
	// for a node that warms up or restarts, and for room in the queue, until its context ends.
	FailFast bool
	// Deadline bounds how long a call whose context has no deadline waits and asks again after its first failure; 0 means
	// 2 s.
	Deadline time.Duration
	// StallAfter is after how long without one byte, while requests are unanswered, new calls go to another connection
	// and another is made; 0 means 250 ms. Time for which the server may hold a request (Wait) does not count.
	StallAfter time.Duration
	// SilenceMax is after how long without one byte, while requests are unanswered, a connection is given up; 0 means
	// 10 s. Keep it above the second for which a server may hold a request.
	SilenceMax time.Duration
	// Hedge sends a second request where the first takes long; the zero value sends none.
	Hedge Hedge
	// Hooks are told what the client does, for traces and metrics.
	Hooks Hooks
	// Token proves the caller to a server that asks for it.
	Token string
	// TLS says whom the nodes of a florins:// target must be (RootCAs, ServerName), and who the caller is (Certificates). nil
	// means the host's authorities, the name in the target, and no certificate. What the protocol needs is set on a copy of it.
	TLS *tls.Config
	// Dial replaces the client's own, for example to tunnel. The client's own asks a name's addresses anew for each
	// connection, tries all of them, and connects to a node's shards at the address that its shard map came from.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// dialer is the client's own; nil where Dial is the caller's, so that a socket's address means nothing here.
	dialer *dialer
	// pause is how long to wait before the next attempt to connect, after so many that failed; tests have another than the client's own.
	pause func(failures int) time.Duration
}

// Client reads from one florin node, or from several that follow the same ledger. Any number of goroutines may share it, and should: their requests travel together.
type Client struct {
	options Options
	hello   []byte
	ctx     context.Context
	cancel  context.CancelCauseFunc

	// fleet are the nodes that the client knows; mu is held while another takes its place.
	fleet    atomic.Pointer[fleet]
	mu       sync.Mutex
	isClosed bool
	news     news
	changes  *changes
	// seen is what has been shown of each user, where there is more than one node.
	seen *seen
	// ledger is the first ledger's id that a Hello told; 0 before.
	ledger atomic.Uint64
	// hedging is nil where no second requests are sent.
	hedging *hedging
	tally   tally
}

// New makes a client of the node at target, which is florin://HOST:PORT (the port on which any shard answers),
// florins://HOST:PORT (the same by TLS, see Options.TLS), florin://HOST:PORT,HOST:PORT (several nodes of one ledger) or
// unix:///PATH. It begins to connect and does not wait for it: see [Client.Ready]. The client reconnects by itself
// whenever it has to.
func New(target string, options Options) (*Client, error) {
	network, addresses, err := parseTarget(target)
	if err != nil {
		return nil, err
	}
	switch isSecure := strings.HasPrefix(target, secureScheme); {
	case isSecure:
		options.TLS = secured(options.TLS)
	case options.TLS != nil:
		return nil, fmt.Errorf("florin: Options.TLS: expected a target florins://HOST:PORT beside it, got %q", target)
	}
	for name, count := range map[string]int{
		"ConnectionsPerShard": options.ConnectionsPerShard, "InFlightMax": options.InFlightMax,
	} {
		if count < 0 {
			return nil, fmt.Errorf("florin: %s: expected 0 or more, got %d", name, count)
		}
	}
	for name, duration := range map[string]time.Duration{
		"Deadline": options.Deadline, "StallAfter": options.StallAfter, "SilenceMax": options.SilenceMax,
	} {
		if duration < 0 {
			return nil, fmt.Errorf("florin: %s: expected 0 or more, got %v", name, duration)
		}
	}
	if err := options.Hedge.check(); err != nil {
		return nil, err
	}
	options.ConnectionsPerShard = max(options.ConnectionsPerShard, 1)
	options.InFlightMax = cmp.Or(options.InFlightMax, 4_096)
	options.Deadline = cmp.Or(options.Deadline, 2*time.Second)
	options.StallAfter = cmp.Or(options.StallAfter, 250*time.Millisecond)
	options.SilenceMax = cmp.Or(options.SilenceMax, 10*time.Second)
	if options.Dial == nil {
		options.dialer = cmp.Or(options.dialer, newDialer())
		options.Dial = options.dialer.connect
	}
	if options.pause == nil {
		options.pause = func(failures int) time.Duration { return pause(pauseMin, pauseMax, failures) }
	}
	c := &Client{options: options, hello: encodeHello(name, options.Token), changes: newChanges(), seen: newSeen()}
	c.hedging = newHedging(options.Hedge)
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	given := &fleet{given: len(addresses)}
	for place, address := range addresses {
		given.nodes = append(given.nodes, &node{client: c, network: network, address: address, place: place})
	}
	c.fleet.Store(given)
	for _, node := range given.nodes {
		node.open()
	}
	return c, nil
}

// secureScheme begins a target whose nodes are reached by TLS.
const secureScheme = "florins://"

func parseTarget(target string) (network string, addresses []string, err error) {
	if path, ok := strings.CutPrefix(target, "unix://"); ok && path != "" {
		return "unix", []string{path}, nil
	}
	wrong := fmt.Errorf("florin: expected florin://HOST:PORT, or florins:// by TLS, up to %d of them with commas between, each once, or "+
		"unix:///PATH, got %q", nodesMax, target)
	list, ok := strings.CutPrefix(target, "florin://")
	if !ok {
		list, ok = strings.CutPrefix(target, secureScheme)
	}
	if !ok {
		return "", nil, wrong
	}
	for address := range strings.SplitSeq(list, ",") {
		_, port, err := net.SplitHostPort(address)
		if err != nil || port == "" || slices.Contains(addresses, address) || len(addresses) == nodesMax {
			return "", nil, wrong
		}
		addresses = append(addresses, address)
	}
	return "tcp", addresses, nil
}

// Ready waits until the client has a connection to every shard of a node. It returns at once where the server refuses
// the client, and with the reason of the last failure when ctx ends.
func (c *Client) Ready(ctx context.Context) error {
	for {
		changed := c.changes.next()
		missing, failure := c.missing()
		switch {
		case c.ctx.Err() != nil:
			return ErrClosed
		case missing == nil:
			return nil
		case isFinal(failure):
			return failure
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if failure == nil {
				return fmt.Errorf("florin: connecting to %s: %w", missing.address, ctx.Err())
			}
			return fmt.Errorf("%w (%w)", failure, ctx.Err())
		}
	}
}

// missing returns a link without a connection, and why it has none, of a node that is not refused if there is one; nil
// where a node misses none.
func (c *Client) missing() (*link, error) {
	var missing *link
	var reason error
	for node := range c.fleet.Load().all {
		link, failure := node.missing()
		if link == nil {
			return nil, nil
		}
		if missing == nil || isFinal(reason) {
			missing, reason = link, failure
		}
	}
	return missing, reason
}

// isFinal says that asking again does not help: somebody has to do something first.
func isFinal(failure error) bool {
	for _, final := range []error{ErrUnauthenticated, ErrPermissionDenied, ErrOtherLedger, ErrClosed} {
		if errors.Is(failure, final) {
			return true
		}
	}
	return false
}

// Shards returns how many shards the node has, the first of several; 0 before the client has learnt it.
func (c *Client) Shards() int {
	if routes := c.known(); routes != nil {
		return int(routes.shards)
	}
	return 0
}

// known returns the routes of the first node that has told them; nil before.
func (c *Client) known() *routes {
	for node := range c.fleet.Load().all {
		if routes := node.routes.Load(); routes != nil {
			return routes
		}
	}
	return nil
}

// Close ends all connections. Calls under way, and later ones, fail with ErrClosed.
func (c *Client) Close() error {
	c.mu.Lock()
	c.isClosed = true
	c.mu.Unlock()
	// No map changes it any more.
	fleet := c.fleet.Load()
	for node := range fleet.all {
		node.close()
	}
	c.cancel(ErrClosed)
	for node := range fleet.all {
		<-node.seed.ended
		node.routes.Load().wait()
	}
	c.changes.tell()
	return nil
}

// link makes a link to one of the node's addresses, which begins to connect once it is started.
func (c *Client) link(node *node, address string, greet func(hello) error) *link {
	return &link{
		network: node.network, address: address, node: node.address, name: node.host(), options: &c.options, hello: c.hello,
		greet: greet, changes: c.changes, tally: &c.tally,
	}
}

// checkLedger keeps the first ledger's id, and refuses every other.
func (c *Client) checkLedger(answer hello) error {
	if answer.ledgerID == 0 || c.ledger.CompareAndSwap(0, answer.ledgerID) {
		return nil
	}
	if expected := c.ledger.Load(); expected != answer.ledgerID {
		return &IdentityError{IsLedger: true, Expected: expected, Got: answer.ledgerID}
	}
	return nil
}
