package florin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

// name is what a Hello says of this client.
const name = "florin-go/0.1.0"

// Options are a client's settings. The zero value is fit for use.
type Options struct {
	// ConnectionsPerShard is how many connections the client keeps to each shard; 0 means 1. One carries some hundred
	// thousand requests a second, and carries them cheaper the more of them share it.
	ConnectionsPerShard int
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
	seed   *link
	routes atomic.Pointer[routes]

	// mu is held while the routes are replaced.
	mu     sync.Mutex
	closed bool
}

// routes say which link leads to which shard. They never change; a new map makes new ones.
type routes struct {
	shards uint16
	ports  []uint16
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
	options.ConnectionsPerShard = max(options.ConnectionsPerShard, 1)
	if options.Dial == nil {
		options.Dial = new(net.Dialer).DialContext
	}
	c := &Client{network: network, address: address, options: options, hello: encodeHello(name, options.Token)}
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
	if err := ready(ctx, c.seed); err != nil {
		return err
	}
	for {
		routes := c.routes.Load()
		for _, group := range routes.groups {
			for _, link := range group.links {
				if err := ready(ctx, link); err != nil && c.routes.Load() == routes {
					return err
				}
			}
		}
		if c.routes.Load() == routes {
			return nil
		}
	}
}

func ready(ctx context.Context, link *link) error {
	for {
		connection, failure, changed := link.state()
		if connection != nil {
			return nil
		}
		if errors.Is(failure, ErrUnauthenticated) || errors.Is(failure, ErrPermissionDenied) || errors.Is(failure, ErrClosed) {
			return failure
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if failure == nil {
				return fmt.Errorf("florin: connecting to %s: %w", link.address, ctx.Err())
			}
			return fmt.Errorf("%w (%w)", failure, ctx.Err())
		}
	}
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
	return nil
}

func (c *Client) link(address string, learn func(hello)) *link {
	link := &link{network: c.network, address: address, dial: c.options.Dial, hello: c.hello, learn: learn}
	return link.start(c.ctx)
}

// learn replaces the routes where the node has another shard map than they say.
func (c *Client) learn(answer hello) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.routes.Load()
	if c.closed || (old != nil && old.agree(answer)) {
		return
	}
	c.routes.Store(c.routesFor(answer))
	if old != nil {
		old.cancel()
	}
}

// routesFor makes the links that the shard map calls for. Without ports of the shards' own, as on a unix socket, any
// connection leads to any shard.
func (c *Client) routesFor(answer hello) *routes {
	routes := &routes{shards: answer.shards, ports: answer.ports, isDirect: len(answer.ports) > 0}
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
			group.links = append(group.links, c.link(address, func(hello) {}))
		}
		routes.groups = append(routes.groups, group)
	}
	return routes
}

func (r *routes) agree(answer hello) bool {
	if r.shards != answer.shards || len(r.ports) != len(answer.ports) {
		return false
	}
	for index, port := range r.ports {
		if port != answer.ports[index] {
			return false
		}
	}
	return true
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

// connection returns the next of the group's connections, or nil where all are down.
func (g *group) connection() *connection {
	first := 0
	if len(g.links) > 1 {
		first = int(g.next.Add(1) % uint32(len(g.links)))
	}
	for step := range g.links {
		if connection := g.links[(first+step)%len(g.links)].current.Load(); connection != nil {
			return connection
		}
	}
	return nil
}

// pick returns a connection for the user: one to the shard that owns them if there is one, else any that is up, for
// every shard passes on what is not its own. It waits only for the client's very first attempt to connect.
func (c *Client) pick(ctx context.Context, userID uint64) (*connection, error) {
	if routes := c.routes.Load(); routes != nil {
		owner := 0
		if routes.isDirect {
			owner = frame.Shard(userID, routes.shards)
		}
		for step := range routes.groups {
			if connection := routes.groups[(owner+step)%len(routes.groups)].connection(); connection != nil {
				return connection, nil
			}
		}
	}
	for {
		connection, failure, changed := c.seed.state()
		if connection != nil {
			return connection, nil
		}
		if c.ctx.Err() != nil {
			return nil, ErrClosed
		}
		if failure != nil {
			return nil, failure
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("florin: connecting to %s: %w", c.address, ctx.Err())
		}
	}
}

// do sends the call and waits for its reply. A call whose connection is lost is sent once more, on another: it only
// reads.
func (c *Client) do(ctx context.Context, call *call) error {
	err := c.try(ctx, call)
	if errors.Is(err, ErrDisconnected) && ctx.Err() == nil {
		err = c.try(ctx, call)
	}
	if errors.Is(err, ErrDisconnected) && c.ctx.Err() != nil {
		return ErrClosed
	}
	return err
}

func (c *Client) try(ctx context.Context, call *call) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("florin: %v: %w", call.opcode, err)
	}
	connection, err := c.pick(ctx, call.userID)
	if err != nil {
		return err
	}
	return connection.roundTrip(ctx, call)
}
