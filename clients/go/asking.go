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

// attempts are what a call remembers of those that it has made.
type attempts struct {
	// count is how many there were, and requests how many requests they took: one more where isHedged says that a second was sent.
	count, requests int
	isHedged        bool
	// last is what the last one ended with.
	last error
	// tour says who could not answer.
	tour tour
	// mayPass says that one of them may be able to, a little later.
	mayPass bool
}

// nextRound begins to ask everybody again.
func (a *attempts) nextRound() {
	a.tour, a.mayPass = tour{rounds: a.tour.rounds + 1}, false
}

// pick gives the call a node and a connection that is not refused. It waits for the client's very first attempt to
// connect, and later for a connection only if mayWait says so.
func (c *Client) pick(ctx context.Context, call *call, tour tour, mayWait bool) (*connection, error) {
	for {
		changed := c.changes.next()
		if node, connection := c.find(call.userID, standsSilent, tour); connection != nil {
			call.node = node
			return connection, nil
		}
		c.fleet.Load().want(call.userID)
		if !tour.refused.isEmpty() {
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
				failure = fmt.Errorf("florin: connecting to %s", c.fleet.Load().nodes[0].address)
			}
			return nil, fmt.Errorf("%w (%w)", failure, ctx.Err())
		}
	}
}

// failure is why no node can be asked, one that waiting mends if there is one; and whether every first attempt to connect
// has ended.
func (c *Client) failure() (reason error, isDecided bool) {
	isDecided = true
	for node := range c.fleet.Load().all {
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
func (c *Client) do(ctx context.Context, call *call, users int) error {
	var tried attempts
	ctx, began := c.options.Hooks.start(ctx, call.opcode, users)
	err := c.again(ctx, call, &tried, c.try(ctx, call, &tried, false))
	c.options.Hooks.end(ctx, began, call, users, tried, err)
	return err
}

// again goes on with a call whose first attempt has ended with err.
func (c *Client) again(ctx context.Context, call *call, tried *attempts, err error) error {
	if err == nil || !c.mayRepeat(ctx, call, tried, err) {
		return c.named(err)
	}
	if _, hasDeadline := ctx.Deadline(); !hasDeadline {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.options.Deadline)
		defer cancel()
	}
	for failures := 0; ; failures++ {
		if nodes := len(c.fleet.Load().nodes); errors.Is(err, ErrDisconnected) && failures > nodes {
			sleep(ctx, pause(againMin, againMax, failures-nodes), nil)
		}
		last := err
		tried.last = last
		err = c.try(ctx, call, tried, !c.options.FailFast)
		if err == errRefused {
			if err = last; !tried.mayPass {
				return c.named(last)
			}
			sleep(ctx, pause(againMin, againMax, tried.tour.rounds), nil)
			tried.nextRound()
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil && c.ctx.Err() == nil:
			// What the node said, or what became of its connection, says more than that the time is over.
			return fmt.Errorf("%w (%w)", last, ctx.Err())
		case err != last && (c.options.FailFast || !c.mayRepeat(ctx, call, tried, err)):
			return c.named(err)
		}
	}
}

// mayRepeat says whether another attempt may have an answer where the last had err, and notes who should not be asked.
func (c *Client) mayRepeat(ctx context.Context, call *call, tried *attempts, err error) bool {
	if ctx.Err() != nil || c.ctx.Err() != nil {
		return false
	}
	if errors.Is(err, ErrDisconnected) {
		tried.mayPass = true
		if errors.Is(err, errSlow) {
			tried.tour.refused.add(call.node)
		}
		return !isFinal(err)
	}
	if c.options.FailFast || call.node == nil {
		return false
	}
	isMany := c.fleet.Load().isMany()
	var status *StatusError
	switch {
	case errors.Is(err, ErrNotOwner):
		isNews := c.learn(ctx, call)
		if call.opcode == frame.GetBalances && c.fleet.Load().epoch() != call.divided {
			// Its users are put together anew.
			return false
		}
		tried.mayPass, tried.tour.isAstray = true, tried.tour.isAstray || !isNews

	case errors.As(err, &status) && status.Status == StatusUnavailable && status.Lasting:
		// Time does not mend it; another node may have seen more.
		if !isMany {
			return false
		}
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrQueueFull), errors.Is(err, errBehind):
		tried.mayPass = true
	case isMany && errors.Is(err, ErrStale):
		tried.mayPass = tried.mayPass || call.freshness != call.wanted
	case isMany && errors.Is(err, ErrOverloaded):
	default:
		return false
	}
	if errors.Is(err, ErrUnavailable) || errors.Is(err, ErrStale) {
		// Who loads the user's partition, or is behind with it, may know who has it by now; others are asked meanwhile.
		c.lookForNews(call.connection, false)
	}
	tried.tour.refused.add(call.node)
	return true
}

// learn asks for the map, over the connection that has said that another node has the user, where that node's is news: in the round
// trip of a question, and of who stands still no longer than of whom others are asked instead.
func (c *Client) learn(ctx context.Context, call *call) (isNews bool) {
	if call.epoch <= c.fleet.Load().epoch() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, c.options.StallAfter)
	defer cancel()
	hello := c.helloCall()
	defer hello.free()
	// Without an answer the next who does not have the user is asked.
	_ = call.connection.roundTrip(ctx, hello)
	return true
}

// named is the error that a caller sees: after Close, all that was lost was closed.
func (c *Client) named(err error) error {
	if errors.Is(err, ErrDisconnected) && c.ctx.Err() != nil {
		return ErrClosed
	}
	return err
}

func (c *Client) try(ctx context.Context, call *call, tried *attempts, mayWait bool) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("florin: %v: %w", call.opcode, err)
	}
	connection, err := c.pick(ctx, call, tried.tour, mayWait)
	if err != nil {
		return err
	}
	c.tellAttempt(ctx, call, tried)
	sent, err := c.send(connection, call)
	if err != nil {
		return err
	}
	return c.wait(ctx, connection, call, sent, tried)
}

// tellAttempt counts an attempt, and tells of one that is not the first.
func (c *Client) tellAttempt(ctx context.Context, call *call, tried *attempts) {
	tried.count++
	tried.requests++
	if tried.count == 1 {
		return
	}
	c.tally.retries.Add(1)
	if tell := c.options.Hooks.Retry; tell != nil {
		tell(ctx, RetryInfo{
			Operation: call.opcode.String(), Attempt: tried.count, Node: call.node.address, Status: label(tried.last), Err: tried.last,
		})
	}
}

// send queues the call. Where another node has shown the user, it asks for that version at least.
func (c *Client) send(connection *connection, call *call) (sent, error) {
	call.freshness, call.floor, call.connection, call.epoch = call.wanted, 0, connection, 0
	if c.fleet.Load().isMany() && (call.opcode == frame.GetBalance || call.opcode == frame.GetStatistics) {
		mark := c.seen.mark(call.userID)
		call.floor = mark.version
		if mark.version != 0 && (mark.node != connection.node || connection.node == 0) {
			call.freshness.MinVersion = max(call.wanted.MinVersion, mark.version)
		}
	}
	sent, err := connection.send(call)
	if c.hedging != nil {
		sent.at = time.Now()
	}
	return sent, err
}

// wait waits for the reply; it moves the call away from a connection that falls silent while another does not, and, where
// another node can be asked, from one that takes long. Where second requests are sent, the first whole answer is the call's.
func (c *Client) wait(ctx context.Context, connection *connection, call *call, sent sent, tried *attempts) error {
	with := elsewhere{
		patience: c.patience(call),
		mayMove:  func(isSlow bool) bool { return c.hasOther(call, tried.tour, isSlow) },
	}
	if c.hedging == nil || !call.mayHedge() {
		return c.judge(connection, call, connection.wait(ctx, call, sent, with))
	}
	var also *second
	c.hedging.earn()
	if delay := c.hedging.delay(call); delay > 0 && !tried.isHedged && (with.patience == 0 || delay < with.patience) {
		with.hedgeAfter = max(delay-time.Since(sent.at), 1)
		with.hedge = func() <-chan struct{} {
			if also = c.hedge(ctx, call, connection, sent, tried); also == nil {
				return nil
			}
			return also.won
		}
	}
	err := c.judge(connection, call, connection.wait(ctx, call, sent, with))
	if also != nil {
		err = c.end(also, call, err)
	}
	if err == nil {
		c.hedging.note(call, sent)
	}
	return err
}

// patience is how long a call waits before another node is asked instead; 0 where none is.
func (c *Client) patience(call *call) time.Duration {
	if !c.fleet.Load().isMany() || c.options.FailFast {
		return 0
	}
	return c.options.StallAfter + call.held()
}

// hasOther says whether a good connection can be asked instead: of another node, where the one asked is slow. Where none can, who could
// answer may have come back, and another may have been given the user meanwhile.
func (c *Client) hasOther(call *call, tour tour, isSlow bool) bool {
	if isSlow {
		tour.refused.add(call.node)
	}
	// Who would be asked is who is meant: a good one that would not be is nobody to go to.
	if _, other := c.find(call.userID, standsSilent, tour); other != nil && other.standing.Load() == standsGood {
		return true
	}
	if isSlow {
		c.fleet.Load().want(call.userID)
		tour.isAstray = true
		if _, witness := c.find(call.userID, standsGood, tour); witness != nil {
			c.lookForNews(witness, false)
		}
	}
	return false
}

// judge says what becomes of a call that has ended with err on the connection: an answer that shows less than has been shown is
// none.
func (c *Client) judge(connection *connection, call *call, err error) error {
	switch {
	case err == nil && c.fleet.Load().isMany():
		if err := c.seen.show(call, connection.node); err != nil {
			return err
		}
		// A call that went to another than the owner did so for that one is gone: somebody may be named in its place.
		c.lookForNews(connection, c.fleet.Load().isOwner(call.userID, call.node))
		return nil
	case errors.Is(err, ErrNotFound) && call.floor != 0:
		// The user has been shown, so there is one.
		return behindError(call.origin, call.userID, call.floor, 0)
	default:
		return err
	}
}
