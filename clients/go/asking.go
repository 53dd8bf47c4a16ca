package florin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

// errRefused says that every node that can be asked has been, and could not answer.
var errRefused = errors.New("every node has been asked")

// refusals are what a call remembers of its attempts.
type refusals struct {
	// nodes is the set of those that could not answer.
	nodes uint64
	// mayPass says that one of them may be able to, a little later.
	mayPass bool
}

// find returns a node and a connection for the user, that stands no worse than so; nil where there is none among those
// that have not refused. The best standing comes first, and among those the node that stands first for this user, for
// every client alike: so a node's users go to all others when it is gone.
func (c *Client) find(userID uint64, worst int32, refused uint64) (*node, *connection) {
	if len(c.nodes) == 1 {
		if refused != 0 {
			return nil, nil
		}
		return c.nodes[0], c.nodes[0].find(userID, worst)
	}
	for standing := range worst + 1 {
		var best *node
		var found *connection
		var highest uint64
		for _, node := range c.nodes {
			score := frame.Mix(userID ^ node.salt)
			if refused&node.bit != 0 || (best != nil && score <= highest) {
				continue
			}
			if connection := node.find(userID, standing); connection != nil {
				best, found, highest = node, connection, score
			}
		}
		if best != nil {
			return best, found
		}
	}
	return nil, nil
}

// pick gives the call a node and a connection that is not refused. It waits for the client's very first attempt to
// connect, and later for a connection only if mayWait says so.
func (c *Client) pick(ctx context.Context, call *call, refused uint64, mayWait bool) (*connection, error) {
	for {
		changed := c.changes.next()
		if node, connection := c.find(call.userID, standsSilent, refused); connection != nil {
			call.node = node
			return connection, nil
		}
		if refused != 0 {
			return nil, errRefused
		}
		if c.ctx.Err() != nil {
			return nil, ErrClosed
		}
		failure, isDecided := c.failure()
		if failure != nil && (isFinal(failure) || (isDecided && !mayWait)) {
			return nil, failure
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if failure == nil {
				failure = fmt.Errorf("florin: connecting to %s", c.nodes[0].address)
			}
			return nil, fmt.Errorf("%w (%w)", failure, ctx.Err())
		}
	}
}

// failure is why no node can be asked, one that waiting mends if there is one; and whether every first attempt to connect
// has ended.
func (c *Client) failure() (reason error, isDecided bool) {
	isDecided = true
	for _, node := range c.nodes {
		connection, failure := node.seed.state()
		if connection != nil {
			// It is lost, or the server is ending it, and its link has not said so yet.
			failure = &DisconnectedError{Address: node.address, Cause: errDraining}
		}
		isDecided = isDecided && failure != nil
		if reason == nil || (isFinal(reason) && !isFinal(failure)) {
			reason = failure
		}
	}
	return reason, isDecided
}

// do sends the call and waits for its reply. It only reads, so it is sent again where its connection was lost, and where
// the node said that it cannot answer at the moment, to another node if there is one, until the context ends.
func (c *Client) do(ctx context.Context, call *call) error {
	var refused refusals
	return c.again(ctx, call, &refused, c.try(ctx, call, &refused, false))
}

// again goes on with a call whose first attempt has ended with err.
func (c *Client) again(ctx context.Context, call *call, refused *refusals, err error) error {
	if err == nil || !c.mayRepeat(ctx, call, refused, err) {
		return c.named(err)
	}
	if _, hasDeadline := ctx.Deadline(); !hasDeadline {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.options.Deadline)
		defer cancel()
	}
	for failures, rounds := 0, 0; ; failures++ {
		if errors.Is(err, ErrDisconnected) && failures > len(c.nodes) {
			sleep(ctx, pause(againMin, againMax, failures-len(c.nodes)), nil)
		}
		last := err
		err = c.try(ctx, call, refused, !c.options.FailFast)
		if err == errRefused {
			if err = last; !refused.mayPass {
				return c.named(last)
			}
			sleep(ctx, pause(againMin, againMax, rounds), nil)
			*refused, rounds = refusals{}, rounds+1
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil && c.ctx.Err() == nil:
			// What the node said, or what became of its connection, says more than that the time is over.
			return fmt.Errorf("%w (%w)", last, ctx.Err())
		case err != last && (c.options.FailFast || !c.mayRepeat(ctx, call, refused, err)):
			return c.named(err)
		}
	}
}

// mayRepeat says whether another attempt may have an answer where the last had err, and notes who should not be asked.
func (c *Client) mayRepeat(ctx context.Context, call *call, refused *refusals, err error) bool {
	if ctx.Err() != nil || c.ctx.Err() != nil {
		return false
	}
	if errors.Is(err, ErrDisconnected) {
		refused.mayPass = true
		if errors.Is(err, errSlow) {
			refused.nodes |= call.node.bit
		}
		return !isFinal(err)
	}
	if c.options.FailFast || call.node == nil {
		return false
	}
	isMany := len(c.nodes) > 1
	var status *StatusError
	switch {
	case errors.As(err, &status) && status.Status == StatusUnavailable && status.Lasting:
		// Time does not mend it; another node may have seen more.
		if !isMany {
			return false
		}
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrQueueFull), errors.Is(err, errBehind):
		refused.mayPass = true
	case isMany && errors.Is(err, ErrStale):
		refused.mayPass = refused.mayPass || call.freshness != call.wanted
	case isMany && errors.Is(err, ErrOverloaded):
	default:
		return false
	}
	refused.nodes |= call.node.bit
	return true
}

// named is the error that a caller sees: after Close, all that was lost was closed.
func (c *Client) named(err error) error {
	if errors.Is(err, ErrDisconnected) && c.ctx.Err() != nil {
		return ErrClosed
	}
	return err
}

func (c *Client) try(ctx context.Context, call *call, refused *refusals, mayWait bool) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("florin: %v: %w", call.opcode, err)
	}
	connection, err := c.pick(ctx, call, refused.nodes, mayWait)
	if err != nil {
		return err
	}
	sent, err := c.send(connection, call)
	if err != nil {
		return err
	}
	return c.wait(ctx, connection, call, sent, refused)
}

// send queues the call. Where another node has shown the user, it asks for that version at least.
func (c *Client) send(connection *connection, call *call) (sent, error) {
	call.freshness, call.floor = call.wanted, 0
	if len(c.nodes) > 1 && (call.opcode == frame.GetBalance || call.opcode == frame.GetStatistics) {
		mark := c.seen.mark(call.userID)
		call.floor = mark.version
		if mark.version != 0 && (mark.node != connection.node || connection.node == 0) {
			call.freshness.MinVersion = max(call.wanted.MinVersion, mark.version)
		}
	}
	return connection.send(call)
}

// wait waits for the reply; it moves the call away from a connection that falls silent while another does not, and, where
// another node can be asked, from one that takes long.
func (c *Client) wait(ctx context.Context, connection *connection, call *call, sent sent, refused *refusals) error {
	var patience time.Duration
	if len(c.nodes) > 1 && !c.options.FailFast {
		patience = c.options.StallAfter + time.Duration(call.freshness.WaitMS)*time.Millisecond
	}
	err := connection.wait(ctx, call, sent, patience, func(isSlow bool) bool {
		others := refused.nodes
		if isSlow {
			others |= call.node.bit
		}
		_, other := c.find(call.userID, standsGood, others)
		return other != nil
	})
	switch {
	case err == nil && len(c.nodes) > 1:
		return c.seen.show(call, connection.node)
	case errors.Is(err, ErrNotFound) && call.floor != 0:
		// The user has been shown, so there is one.
		return behindError(call.origin, call.userID, call.floor, 0)
	default:
		return err
	}
}
