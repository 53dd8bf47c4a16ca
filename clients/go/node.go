package florin

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

// node is one address, that the caller named or a map has told of, and what is behind it.
type node struct {
	client           *Client
	network, address string
	// place is the node's among the client's; salt is what spreads users over nodes.
	place int
	salt  uint64

	// seed leads to the address, which tells the shard map.
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
	// host is where the shards' ports are: the address that the map came from, or the one that the caller gave.
	host string
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

// open begins to connect.
func (n *node) open() {
	for index := range len(n.address) {
		n.salt = frame.Mix(n.salt ^ uint64(n.address[index]))
	}
	// It is there before what it brings asks for it: that may be sooner than here it goes on.
	n.seed = n.client.link(n, n.address, n.learn)
	n.seed.start(n.client.ctx)
}

// close makes no more links.
func (n *node) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
}

// leave ends the connections to a node that the map names no more: calls under way go elsewhere.
func (n *node) leave() {
	n.close()
	n.seed.cancel(errUnnamed)
	if routes := n.routes.Load(); routes != nil {
		routes.cancel(errUnnamed)
	}
}

// links are all that lead to the node, the one to its address first.
func (n *node) links(yield func(*link) bool) {
	if !yield(n.seed) {
		return
	}
	routes := n.routes.Load()
	if routes == nil {
		return
	}
	for _, group := range routes.groups {
		for _, link := range group.links {
			if !yield(link) {
				return
			}
		}
	}
}

// missing returns a link without a connection, and why it has none; nil where there is no such link.
func (n *node) missing() (*link, error) {
	routes := n.routes.Load()
	if connection, failure := n.seed.state(); connection == nil || routes == nil {
		return n.seed, failure
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

// learn replaces the routes where the node has another shard map than they say, or is another.
func (n *node) learn(answer hello) error {
	if err := n.client.checkLedger(answer); err != nil {
		return err
	}
	n.route(answer)
	// By now it is known who answers here: a map may mean this node by another address.
	n.client.hear(answer.nodes)
	return nil
}

// route makes the routes that the answer calls for, where there are others.
func (n *node) route(answer hello) {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.routes.Load()
	if n.closed || (old != nil && old.agree(answer)) {
		return
	}
	n.routes.Store(n.routesFor(answer))
	if old != nil {
		old.cancel(errRerouted)
	}
}

// greetShard refuses a shard's port that leads elsewhere than to the node that named it. That node may have been started
// anew meanwhile, so it is asked again.
func (n *node) greetShard(node uint64) func(hello) error {
	return func(answer hello) error {
		if err := n.client.checkLedger(answer); err != nil {
			return err
		}
		if node != 0 && answer.nodeID != 0 && node != answer.nodeID {
			n.seed.renew()
			return &IdentityError{Expected: node, Got: answer.nodeID}
		}
		n.client.hear(answer.nodes)
		return nil
	}
}

// routesFor makes the links that the shard map calls for. Without ports of the shards' own, as on a unix socket, any
// connection leads to any shard.
func (n *node) routesFor(answer hello) *routes {
	routes := &routes{
		shards: answer.shards, ports: answer.ports, host: answer.host, node: answer.nodeID, isDirect: len(answer.ports) > 0,
	}
	addresses := []string{n.address}
	count := n.client.options.ConnectionsPerShard * int(answer.shards)
	if routes.isDirect {
		addresses, count = addresses[:0], n.client.options.ConnectionsPerShard
		host := cmp.Or(answer.host, n.host())
		for _, port := range answer.ports {
			addresses = append(addresses, net.JoinHostPort(host, strconv.Itoa(int(port))))
		}
	}
	for _, address := range addresses {
		group := group{next: new(atomic.Uint32)}
		for range count {
			link := n.client.link(n, address, n.greetShard(answer.nodeID))
			group.links = append(group.links, link.start(n.client.ctx))
		}
		routes.groups = append(routes.groups, group)
	}
	return routes
}

// shardsOr is how many shards the node has; as many as said where that is not known, or any of them may be asked.
func (n *node) shardsOr(shards uint16) uint16 {
	if n == nil {
		return shards
	}
	if routes := n.routes.Load(); routes != nil && routes.isDirect {
		return routes.shards
	}
	return 1
}

// host is what the caller called the node's host; empty for a unix socket.
func (n *node) host() string {
	if n.network == "unix" {
		return ""
	}
	host, _, err := net.SplitHostPort(n.address)
	if err != nil {
		panic(fmt.Sprintf("florin: %q was checked when the client was made: %v", n.address, err))
	}
	return host
}

func (r *routes) agree(answer hello) bool {
	return r.shards == answer.shards && r.node == answer.nodeID && r.host == answer.host &&
		slices.Equal(r.ports, answer.ports)
}

func (r *routes) cancel(cause error) {
	for _, group := range r.groups {
		for _, link := range group.links {
			link.cancel(cause)
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
func (n *node) find(userID uint64, worst int32) *connection {
	routes := n.routes.Load()
	if routes == nil {
		return n.seed.standing(worst)
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
		if connection := n.seed.standing(standing); connection != nil {
			return connection
		}
	}
	return nil
}

// other returns a good connection for the user to the same node as the first one, but another; nil where there is none. Those to
// the shard that owns the user come first: others pass the request on.
func (n *node) other(userID uint64, first *connection) *connection {
	fits := func(link *link) *connection {
		connection := link.standing(standsGood)
		if connection == nil || connection == first || connection.node != first.node {
			return nil
		}
		return connection
	}
	if routes := n.routes.Load(); routes != nil && routes.isDirect {
		for _, link := range routes.groups[frame.Shard(userID, routes.shards)].links {
			if connection := fits(link); connection != nil {
				return connection
			}
		}
	}
	for link := range n.links {
		if connection := fits(link); connection != nil {
			return connection
		}
	}
	return nil
}
