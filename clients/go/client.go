package florin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

// name is what a Hello says of this client.
const name = "florin-go/0.1.0"

// Options are a client's settings. The zero value is fit for use.
type Options struct {
	// ConnectionsPerShard is how many connections the client keeps to each shard; 0 means 1. One carries some hundred
	// thousand requests a second, and carries them cheaper the more of them share it.
	ConnectionsPerShard int
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
	// Token proves the caller to a server that asks for it.
	Token string
	// Dial replaces the net package's, for example to tunnel.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client reads from one florin node. Any number of goroutines may share it, and should: their requests travel together.
type Client struct {
	network, address string
	options          Options
	hello            []byte
	ctx              context.Context
	cancel           context.CancelCauseFunc

	// seed leads to the address that the caller named, which tells the shard map.
	seed    *link
	routes  atomic.Pointer[routes]
	changes *changes
	// ledger is the first ledger's id that a Hello told; 0 before.
	ledger atomic.Uint64

	// mu is held while the routes are replaced.
	mu     sync.Mutex
	closed bool
}

// routes say which link leads to which shard. They never change; a new map makes new ones.
type routes struct {
	shards uint16
	ports  []uint16
	// node is the id of the node whose map this is; 0 where it has none.
	node uint64
	// isDirect says that each group leads to the shard of its index; otherwise to any.
	isDirect bool
	groups   []group
}

// group are the links that lead to one place.
type group struct {
	links []*link
	next  *atomic.Uint32
}

// New makes a client of the node at target, which is florin://HOST:PORT (the port on which any shard answers) or
// unix:///PATH. It begins to connect and does not wait for it: see [Client.Ready]. The client reconnects by itself
// whenever it has to.
func New(target string, options Options) (*Client, error) {
	network, address, err := parseTarget(target)
	if err != nil {
		return nil, err
	}
	if options.ConnectionsPerShard < 0 {
		return nil, fmt.Errorf("florin: ConnectionsPerShard: expected 0 or more, got %d", options.ConnectionsPerShard)
	}
	for name, duration := range map[string]time.Duration{
		"Deadline": options.Deadline, "StallAfter": options.StallAfter, "SilenceMax": options.SilenceMax,
	} {
		if duration < 0 {
			return nil, fmt.Errorf("florin: %s: expected 0 or more, got %v", name, duration)
		}
	}
	options.ConnectionsPerShard = max(options.ConnectionsPerShard, 1)
	options.Deadline = cmp.Or(options.Deadline, 2*time.Second)
	options.StallAfter = cmp.Or(options.StallAfter, 250*time.Millisecond)
	options.SilenceMax = cmp.Or(options.SilenceMax, 10*time.Second)
	if options.Dial == nil {
		options.Dial = new(net.Dialer).DialContext
	}
	c := &Client{
		network: network, address: address, options: options, hello: encodeHello(name, options.Token),
		changes: newChanges(),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.seed = c.link(address, c.learn)
	return c, nil
}

func parseTarget(target string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(target, "unix://"); ok && path != "" {
		return "unix", path, nil
	}
	if address, ok := strings.CutPrefix(target, "florin://"); ok {
		if _, port, err := net.SplitHostPort(address); err == nil && port != "" {
			return "tcp", address, nil
		}
	}
	return "", "", fmt.Errorf("florin: expected florin://HOST:PORT or unix:///PATH, got %q", target)
}

// Ready waits until the client has a connection to every shard. It returns at once where the server refuses the
// client, and with the reason of the last failure when ctx ends.
func (c *Client) Ready(ctx context.Context) error {
	for {
		changed := c.changes.next()
		routes := c.routes.Load()
		missing, failure := c.missing(routes)
		switch {
		case c.ctx.Err() != nil:
			return ErrClosed
		case missing == nil && c.routes.Load() == routes:
			return nil
		case missing == nil:
			continue
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

// missing returns a link without a connection, and why it has none; nil where there is no such link.
func (c *Client) missing(routes *routes) (*link, error) {
	if connection, failure := c.seed.state(); connection == nil || routes == nil {
		return c.seed, failure
	}
	for _, group := range routes.groups {
		for _, link := range group.links {
			if connection, failure := link.state(); connection == nil {
				return link, failure
			}
		}
	}
	return nil, nil
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

// Shards returns how many shards the node has; 0 before the client has learnt it.
func (c *Client) Shards() int {
	if routes := c.routes.Load(); routes != nil {
		return int(routes.shards)
	}
	return 0
}

// Close ends all connections. Calls under way, and later ones, fail with ErrClosed.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.cancel(ErrClosed)
	routes := c.routes.Load()
	c.mu.Unlock()
	<-c.seed.ended
	routes.wait()
	c.changes.tell()
	return nil
}

func (c *Client) link(address string, greet func(hello) error) *link {
	link := &link{
		network: c.network, address: address, options: &c.options, hello: c.hello, greet: greet, changes: c.changes,
	}
	return link.start(c.ctx)
}

// learn replaces the routes where the node has another shard map than they say, or is another.
func (c *Client) learn(answer hello) error {
	if err := c.checkLedger(answer); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.routes.Load()
	if c.closed || (old != nil && old.agree(answer)) {
		return nil
	}
	c.routes.Store(c.routesFor(answer))
	if old != nil {
		old.cancel()
	}
	return nil
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

// greetShard refuses a shard's port that leads elsewhere than to the node that named it. That node may have been started
// anew meanwhile, so it is asked again.
func (c *Client) greetShard(node uint64) func(hello) error {
	return func(answer hello) error {
		if err := c.checkLedger(answer); err != nil {
			return err
		}
		if node != 0 && answer.nodeID != 0 && node != answer.nodeID {
			c.seed.renew()
			return &IdentityError{Expected: node, Got: answer.nodeID}
		}
		return nil
	}
}

// routesFor makes the links that the shard map calls for. Without ports of the shards' own, as on a unix socket, any
// connection leads to any shard.
func (c *Client) routesFor(answer hello) *routes {
	routes := &routes{
		shards: answer.shards, ports: answer.ports, node: answer.nodeID, isDirect: len(answer.ports) > 0,
	}
	addresses := []string{c.address}
	count := c.options.ConnectionsPerShard * int(answer.shards)
	if routes.isDirect {
		addresses, count = addresses[:0], c.options.ConnectionsPerShard
		host, _, err := net.SplitHostPort(c.address)
		if err != nil {
			panic(fmt.Sprintf("florin: %q was checked when the client was made: %v", c.address, err))
		}
		for _, port := range answer.ports {
			addresses = append(addresses, net.JoinHostPort(host, strconv.Itoa(int(port))))
		}
	}
	for _, address := range addresses {
		group := group{next: new(atomic.Uint32)}
		for range count {
			group.links = append(group.links, c.link(address, c.greetShard(answer.nodeID)))
		}
		routes.groups = append(routes.groups, group)
	}
	return routes
}

func (r *routes) agree(answer hello) bool {
	return r.shards == answer.shards && r.node == answer.nodeID && slices.Equal(r.ports, answer.ports)
}

func (r *routes) cancel() {
	for _, group := range r.groups {
		for _, link := range group.links {
			link.cancel(errRerouted)
		}
	}
}

func (r *routes) wait() {
	if r == nil {
		return
	}
	for _, group := range r.groups {
		for _, link := range group.links {
			<-link.ended
		}
	}
}

// connection returns the next of the group's connections that stands no worse than so, or nil where none does.
func (g *group) connection(worst int32) *connection {
	first := 0
	if len(g.links) > 1 {
		first = int(g.next.Add(1) % uint32(len(g.links)))
	}
	for step := range g.links {
		if connection := g.links[(first+step)%len(g.links)].standing(worst); connection != nil {
			return connection
		}
	}
	return nil
}

// find returns a connection for the user that stands no worse than so, or nil where there is none: the best, and among
// those one to the shard that owns the user, else any, for every shard passes on what is not its own.
func (c *Client) find(userID uint64, worst int32) *connection {
	routes := c.routes.Load()
	if routes == nil {
		return c.seed.standing(worst)
	}
	owner := 0
	if routes.isDirect {
		owner = frame.Shard(userID, routes.shards)
	}
	for standing := range worst + 1 {
		for step := range routes.groups {
			group := &routes.groups[(owner+step)%len(routes.groups)]
			if connection := group.connection(standing); connection != nil {
				return connection
			}
		}
		if connection := c.seed.standing(standing); connection != nil {
			return connection
		}
	}
	return nil
}

// pick returns a connection for the user. It waits for the client's very first attempt to connect, and later for a
// connection only if mayWait says so.
func (c *Client) pick(ctx context.Context, userID uint64, mayWait bool) (*connection, error) {
	for {
		if connection := c.find(userID, standsSilent); connection != nil {
			return connection, nil
		}
		changed := c.changes.next()
		connection, failure := c.seed.state()
		switch {
		case c.find(userID, standsSilent) != nil:
			continue
		case c.ctx.Err() != nil:
			return nil, ErrClosed
		case failure == nil && connection != nil && !mayWait:
			return nil, &DisconnectedError{Address: c.address, Cause: errDraining}
		case failure != nil && (!mayWait || isFinal(failure)):
			return nil, failure
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if failure == nil {
				failure = fmt.Errorf("florin: connecting to %s", c.address)
			}
			return nil, fmt.Errorf("%w (%w)", failure, ctx.Err())
		}
	}
}

const (
	// againMin and againMax bound the pause before a node that could not answer is asked again.
	againMin = 5 * time.Millisecond
	againMax = 250 * time.Millisecond
)

// do sends the call and waits for its reply. It only reads, so it is sent again where its connection was lost, and where
// the node said that it cannot answer at the moment, until the context ends.
func (c *Client) do(ctx context.Context, call *call) error {
	return c.again(ctx, call, c.try(ctx, call, false))
}

// again goes on with a call whose first attempt has ended with err.
func (c *Client) again(ctx context.Context, call *call, err error) error {
	if err == nil || !c.mayRepeat(ctx, err) {
		return c.named(err)
	}
	if _, hasDeadline := ctx.Deadline(); !hasDeadline {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.options.Deadline)
		defer cancel()
	}
	for failures := 0; ; failures++ {
		if !errors.Is(err, ErrDisconnected) || failures > 0 {
			sleep(ctx, pause(againMin, againMax, failures), nil)
		}
		last := err
		err = c.try(ctx, call, !c.options.FailFast)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil && c.ctx.Err() == nil:
			// What the node said, or what became of its connection, says more than that the time is over.
			return fmt.Errorf("%w (%w)", last, ctx.Err())
		case c.options.FailFast || !c.mayRepeat(ctx, err):
			return c.named(err)
		}
	}
}

// mayRepeat says whether the next attempt may have an answer where the last had err.
func (c *Client) mayRepeat(ctx context.Context, err error) bool {
	if ctx.Err() != nil || c.ctx.Err() != nil {
		return false
	}
	if errors.Is(err, ErrDisconnected) {
		return !isFinal(err)
	}
	return !c.options.FailFast && (errors.Is(err, ErrUnavailable) || errors.Is(err, ErrQueueFull))
}

// named is the error that a caller sees: after Close, all that was lost was closed.
func (c *Client) named(err error) error {
	if errors.Is(err, ErrDisconnected) && c.ctx.Err() != nil {
		return ErrClosed
	}
	return err
}

func (c *Client) try(ctx context.Context, call *call, mayWait bool) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("florin: %v: %w", call.opcode, err)
	}
	connection, err := c.pick(ctx, call.userID, mayWait)
	if err != nil {
		return err
	}
	sent, err := connection.send(call)
	if err != nil {
		return err
	}
	return c.wait(ctx, connection, call, sent)
}

// wait waits for the reply; it moves the call away from a connection that falls silent while another does not.
func (c *Client) wait(ctx context.Context, connection *connection, call *call, sent sent) error {
	return connection.wait(ctx, call, sent, func() bool { return c.find(call.userID, standsGood) != nil })
}
