package florin

import (
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

// fleet are the nodes that a client knows, as of one map. It never changes; another map makes another fleet.
type fleet struct {
	// nodes are in their places: first those that the caller named, in that order, then those that a map has told of. A node keeps
	// its place for as long as it is known; nil is a place that is free.
	nodes []*node
	// given is how many the caller named.
	given int
	// divided is nil where each node has all users.
	divided *nodeMap
	// holders are the nodes in the map's places; nil where one cannot be asked.
	holders []*node
}

// places is a set of nodes, by their places.
type places [(placesMax + 63) / 64]uint64

func (p *places) add(node *node)      { p[node.place/64] |= 1 << (node.place % 64) }
func (p *places) has(node *node) bool { return p[node.place/64]>>(node.place%64)&1 != 0 }
func (p *places) isEmpty() bool       { return *p == places{} }

// with is the set and one more.
func (p places) with(node *node) places {
	p.add(node)
	return p
}

// tour is how far a call has come on its way from node to node.
type tour struct {
	// refused are those who could not answer in this round, and rounds how many there were before.
	refused places
	rounds  int
	// isAstray says that somebody who holds the user by the map has said that it does not, and knew of no later map.
	isAstray bool
}

// isMany says that there is more than one node.
func (f *fleet) isMany() bool { return len(f.nodes) > 1 }

// all are the nodes that there are.
func (f *fleet) all(yield func(*node) bool) {
	for _, node := range f.nodes {
		if node != nil && !yield(node) {
			return
		}
	}
}

// epoch is that of the map; 0 where there is none.
func (f *fleet) epoch() uint64 {
	if f.divided == nil {
		return 0
	}
	return f.divided.epoch
}

// holdersOf are the nodes that hold the user, the owner first, nil among them; none where that is not known.
func (f *fleet) holdersOf(userID uint64) (holders [frame.HoldersMax]*node, isKnown bool) {
	if f.divided == nil {
		return holders, false
	}
	for index, place := range f.divided.holdersOf(userID) {
		if place != nobody {
			holders[index] = f.holders[place]
			isKnown = isKnown || holders[index] != nil
		}
	}
	return holders, isKnown
}

// isOwner says that the node is the user's owner, or that nobody knows of one.
func (f *fleet) isOwner(userID uint64, node *node) bool {
	holders, _ := f.holdersOf(userID)
	return holders[0] == nil || holders[0] == node
}

// find returns a node and a connection for the user, that stands no worse than so; nil where there is none among those that have not
// refused. The best standing comes first. Where it is known who holds the user, others are asked only where none of these can be; and
// where the map is wrong, and from the second round on, before holders that are not heard: by then they may know better.
func (f *fleet) find(userID uint64, worst int32, tour tour) (*node, *connection) {
	if !f.isMany() {
		if !tour.refused.isEmpty() {
			return nil, nil
		}
		return f.nodes[0], f.nodes[0].find(userID, worst)
	}
	holders, isKnown := f.holdersOf(userID)
	mayKnowBetter := tour.rounds > 0 || tour.isAstray
	for standing := range worst + 1 {
		for _, node := range holders {
			if node == nil || tour.refused.has(node) {
				continue
			}
			if connection := node.find(userID, standing); connection != nil {
				return node, connection
			}
		}
		if mayKnowBetter {
			if node, connection := f.best(userID, standing, tour); connection != nil {
				return node, connection
			}
		}
	}
	if mayKnowBetter || isKnown && !tour.refused.isEmpty() {
		return nil, nil
	}
	for standing := range worst + 1 {
		if node, connection := f.best(userID, standing, tour); connection != nil {
			return node, connection
		}
	}
	return nil, nil
}

// best returns, of all that have not refused and stand so, the one that stands first for this user, for every client alike: so a node's
// users go to all others when it is gone.
func (f *fleet) best(userID uint64, standing int32, tour tour) (best *node, found *connection) {
	var highest uint64
	for node := range f.all {
		score := frame.Mix(userID ^ node.salt)
		if tour.refused.has(node) || (best != nil && score <= highest) {
			continue
		}
		if connection := node.find(userID, standing); connection != nil {
			best, found, highest = node, connection, score
		}
	}
	return best, found
}

// want has those tried soon who could answer about the user and are not there: those who hold it, or else anybody. Of a single node
// nothing says that it has come back.
func (f *fleet) want(userID uint64) {
	if !f.isMany() {
		return
	}
	holders, isKnown := f.holdersOf(userID)
	if !isKnown {
		for node := range f.all {
			node.seed.want()
		}
		return
	}
	for _, node := range holders {
		if node != nil && node.find(userID, standsSilent) == nil {
			node.seed.want()
		}
	}
}

// find is the fleet's.
func (c *Client) find(userID uint64, worst int32, tour tour) (*node, *connection) {
	return c.fleet.Load().find(userID, worst, tour)
}

// hear takes in the map that a Hello told, unless what is known is as late or later: nodes that it names first are connected to, and
// those that it names no more are let go.
func (c *Client) hear(told *nodeMap) {
	if told == nil || told.epoch <= c.fleet.Load().epoch() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.fleet.Load()
	if told.epoch <= old.epoch() || c.isClosed {
		return
	}
	next, added := old.follow(c, told)
	for _, node := range added {
		node.open()
	}
	c.fleet.Store(next)
	for node := range old.all {
		if next.nodes[node.place] != node {
			node.leave()
		} else {
			// It may have come back.
			node.seed.want()
		}
	}
	c.changes.tell()
}

// follow is the fleet as the map has it, and the nodes in it that are new.
func (f *fleet) follow(c *Client, told *nodeMap) (next *fleet, added []*node) {
	next = &fleet{given: f.given, divided: told, holders: make([]*node, len(told.nodes))}
	next.nodes = make([]*node, len(f.nodes), len(f.nodes)+len(told.nodes))
	copy(next.nodes, f.nodes[:f.given])
	var unknown []int
	for index, wanted := range told.nodes {
		switch known := f.named(c, wanted); {
		case known != nil:
			next.nodes[known.place], next.holders[index] = known, known
		case wanted.address(c) != "":
			unknown = append(unknown, index)
		}
	}
	for _, index := range unknown {
		node := &node{client: c, network: "tcp", address: told.nodes[index].address(c), place: next.free()}
		if node.place == placesMax {
			break
		}
		if node.place == len(next.nodes) {
			next.nodes = append(next.nodes, nil)
		}
		next.nodes[node.place], next.holders[index] = node, node
		added = append(added, node)
	}
	return next, added
}

// free is the first place that nobody has.
func (f *fleet) free() int {
	for place, node := range f.nodes {
		if node == nil && place >= f.given {
			return place
		}
	}
	return len(f.nodes)
}

// named is the node that a map means, where it is known: one that the caller named, by who answers there (its address may be
// translated), and any by its address.
func (f *fleet) named(c *Client, wanted mapNode) *node {
	for _, node := range f.nodes[:f.given] {
		if routes := node.routes.Load(); routes != nil && routes.node == wanted.id {
			return node
		}
	}
	address := wanted.address(c)
	for node := range f.all {
		if node.network == "tcp" && node.address == address {
			return node
		}
	}
	return nil
}

// address is where the client asks the node; empty where it cannot, for that has no listener for TLS, or no other.
func (n mapNode) address(c *Client) string {
	port := n.port
	if c.options.TLS != nil {
		port = n.tlsPort
	}
	if port == 0 {
		return ""
	}
	return net.JoinHostPort(n.host, strconv.Itoa(int(port)))
}

// news says when the map was last asked for.
type news struct {
	mu sync.Mutex
	at time.Time
	// good is the most connections that have been good since.
	good int64
}

// isDue says, and notes, that it is time to ask for the map again: soon, where a call did not go as the map has it, and at once, but for
// a moment, where connections have been lost. Those who stay know who has come; once all that a client knows of have left, nobody can
// tell it.
func (n *news) isDue(now time.Time, good int64, isWell bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.good = max(n.good, good)
	every := learnEvery
	switch {
	case good < n.good:
		every = lostEvery
	case isWell:
		every = renewEvery
	}
	if !n.at.IsZero() && now.Sub(n.at) < every {
		return false
	}
	n.at, n.good = now, good
	return true
}

// lookForNews asks for the map, over the connection, where that is due. Nobody waits for it.
func (c *Client) lookForNews(connection *connection, isWell bool) {
	if c.fleet.Load().divided == nil || !c.news.isDue(time.Now(), c.tally.good.Load(), isWell) {
		return
	}
	// What it brings is heard when it is read; a connection that is full, or lost, is not the one to ask.
	_, _ = connection.send(c.helloCall())
}

// helloCall is a Hello whose reply is heard.
func (c *Client) helloCall() *call {
	call := newCall(frame.Hello)
	call.body, call.hear = c.hello, c.hear
	return call
}
