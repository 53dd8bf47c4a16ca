package florin

import "sync/atomic"

// Counters are what a client has done so far, for metrics, and to see that requests share writes. They only ever grow. Hellos are
// not among the requests.
type Counters struct {
	// Requests were written to a connection, those that were sent again and hedges included.
	Requests uint64
	// Writes carried them: Requests / Writes is how many shared one.
	Writes uint64
	// Replies came to a caller that waited for them, LateReplies after their caller had left.
	Replies, LateReplies uint64
	// Retries are requests that were sent again.
	Retries uint64
	// Hedges are second requests, HedgesWon those whose answer the caller got. HedgesWithheld were due, and not sent for the share
	// was used up.
	Hedges, HedgesWon, HedgesWithheld uint64
	// Connects are connections that were made, Disconnects those that ended or could not be made.
	Connects, Disconnects uint64
}

// tally is a client's counters.
type tally struct {
	requests, writes, replies, lateReplies, retries, hedges, hedgesWon, hedgesWithheld, connects, disconnects atomic.Uint64
	// good is how many connections are, at the moment.
	good atomic.Int64
}

// Counters returns what the client has done so far.
func (c *Client) Counters() Counters {
	t := &c.tally
	return Counters{
		Requests:       t.requests.Load(),
		Writes:         t.writes.Load(),
		Replies:        t.replies.Load(),
		LateReplies:    t.lateReplies.Load(),
		Retries:        t.retries.Load(),
		Hedges:         t.hedges.Load(),
		HedgesWon:      t.hedgesWon.Load(),
		HedgesWithheld: t.hedgesWithheld.Load(),
		Connects:       t.connects.Load(),
		Disconnects:    t.disconnects.Load(),
	}
}

// NodePool is how a client's connections to one node stand at the moment.
type NodePool struct {
	// Address is the node's, as the target or a map has it.
	Address string
	// Shards is how many the node has; 0 before the client has learnt it.
	Shards int
	// Connections is how many the client keeps: one to the address, and those to the shards.
	Connections int
	// Good are those that are heard, Silent those that owe answers and have been silent for Options.StallAfter. The rest is being
	// made, or made again.
	Good, Silent int
	// InFlight is how many requests are unanswered, of at most Options.InFlightMax on each connection.
	InFlight int
	// QueuedBytes wait to be written.
	QueuedBytes int
}

// Pool returns how the client's connections stand, node by node: those of the target in their order, then those that a map has told of.
func (c *Client) Pool() []NodePool {
	var pools []NodePool
	for node := range c.fleet.Load().all {
		pool := NodePool{Address: node.address}
		if routes := node.routes.Load(); routes != nil {
			pool.Shards = int(routes.shards)
		}
		for link := range node.links {
			pool.add(link.current.Load())
		}
		pools = append(pools, pool)
	}
	return pools
}

// add counts a link, whose connection is nil where it has none.
func (p *NodePool) add(connection *connection) {
	p.Connections++
	if connection == nil {
		return
	}
	connection.mu.Lock()
	defer connection.mu.Unlock()
	switch connection.standing.Load() {
	case standsGood:
		p.Good++
	case standsSilent:
		p.Silent++
	}
	p.InFlight += len(connection.slots) - len(connection.free)
	p.QueuedBytes += connection.queuedBytes
}
