package florin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

// Hedge sends a second request where the first takes long: to another node, or where there is only one over another connection
// to it. Whole answers are as good from one as from the other, so the first to come is the caller's, and the other is discarded.
// It is for the last percent of calls: those that meet a node, or a path, that stands still for a moment.
//
// At most one is sent for a call, and no more of them than Share of all requests: where everything is slow, it is nodes that have
// too much to do, and the share is all that comes on top. No answer goes back in time by it: another node is asked for what has
// been shown at least, and an answer that lacks something (a quarantined account, a batch's entry that is not OK) does not win.
type Hedge struct {
	// After is how long a request may be unanswered before the second one is sent, or [P95]; 0 means that none ever is. Time for
	// which the server may hold a request (Wait) comes on top. Choose one that few requests take: what 95 or 99 of 100 stay below.
	After time.Duration
	// Share is how many second requests there may be, as a share of all requests; 0 means 0.05. What is not used is kept, for 100 of
	// them at most.
	Share float64
}

// P95, as a [Hedge].After, is what 95 of 100 of the last requests have stayed below: of 256, each operation by itself, at least a
// millisecond. Until there have been 64 of an operation, no second one is sent.
const P95 time.Duration = -1

func (h *Hedge) check() error {
	switch {
	case h.After < 0 && h.After != P95:
		return fmt.Errorf("florin: Hedge.After: expected 0 or more, or P95, got %v", h.After)
	case !(h.Share >= 0 && h.Share <= 1):
		return fmt.Errorf("florin: Hedge.Share: expected 0 to 1, got %v", h.Share)
	case h.After == 0 && h.Share != 0:
		return errors.New("florin: Hedge.Share: expected Hedge.After beside it, got 0")
	}
	return nil
}

// oneRequest is what a request is worth to the budget, which counts in millionths of one.
const oneRequest = 1_000_000

// hedging is a client's, where it sends second requests.
type hedging struct {
	after time.Duration
	share int64
	// budget is what may be spent on second requests.
	budget atomic.Int64
	// took is what requests have taken, by opcode; kept for P95 alone.
	took [frame.Ping + 1]observed
}

// newHedging returns nil where no second request is ever to be sent.
func newHedging(options Hedge) *hedging {
	if options.After == 0 {
		return nil
	}
	share := options.Share
	if share == 0 {
		share = 0.05
	}
	return &hedging{after: options.After, share: int64(share * oneRequest)}
}

// earn counts a first request.
func (h *hedging) earn() {
	if h.budget.Load() < hedgesKept*oneRequest {
		h.budget.Add(h.share)
	}
}

// spend takes a second request out of the budget; false where that has none.
func (h *hedging) spend() bool {
	for {
		has := h.budget.Load()
		if has < oneRequest {
			return false
		}
		if h.budget.CompareAndSwap(has, has-oneRequest) {
			return true
		}
	}
}

// delay is how long a request may be unanswered; 0 where that is not known.
func (h *hedging) delay(call *call) time.Duration {
	after := h.after
	if after == P95 {
		after = time.Duration(h.took[call.opcode].p95.Load())
	}
	if after == 0 {
		return 0
	}
	return after + call.held()
}

// note takes note of a request that was answered.
func (h *hedging) note(call *call, sent sent) {
	if h.after == P95 && call.held() == 0 {
		h.took[call.opcode].note(time.Since(sent.at))
	}
}

// observed is what the last requests took.
type observed struct {
	count atomic.Uint64
	last  [observedMax]atomic.Int64
	p95   atomic.Int64
}

func (o *observed) note(took time.Duration) {
	count := o.count.Add(1)
	o.last[(count-1)%observedMax].Store(int64(took))
	if count%observedEvery != 0 {
		return
	}
	var sorted [observedMax]int64
	known := sorted[:min(count, observedMax)]
	for index := range known {
		known[index] = o.last[index].Load()
	}
	slices.Sort(known)
	o.p95.Store(max(known[len(known)*95/100], int64(hedgeAfterMin)))
}

// errOvertaken ends a request whose second one was answered first.
var errOvertaken = errors.New("another request was answered first")

// errPartial says that an answer lacks something that the other request's may have.
var errPartial = errors.New("the answer lacks something")

// second is a request that is under way beside the first.
type second struct {
	call   *call
	cancel context.CancelFunc
	// won is closed when it has a whole answer.
	won chan struct{}
	// ended has room for how it ended.
	ended chan error
}

// hedge sends a second request; nil where there is nobody else to ask, or no budget left.
func (c *Client) hedge(ctx context.Context, call *call, first *connection, sent sent, tried *attempts) *second {
	node, connection := c.other(call, first, tried.tour)
	if connection == nil {
		return nil
	}
	if !c.hedging.spend() {
		c.tally.hedgesWithheld.Add(1)
		return nil
	}
	twin := call.twin(node)
	also, err := c.send(connection, twin)
	if err != nil {
		c.hedging.budget.Add(oneRequest)
		twin.free()
		return nil
	}
	tried.isHedged = true
	tried.requests++
	c.tally.hedges.Add(1)
	if tell := c.options.Hooks.Hedge; tell != nil {
		tell(ctx, HedgeInfo{
			Operation: call.opcode.String(), First: call.node.address, Node: node.address, Waited: time.Since(sent.at),
		})
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &second{call: twin, cancel: cancel, won: make(chan struct{}), ended: make(chan error, 1)}
	tour := tried.tour
	go func() {
		err := c.judge(connection, twin, connection.wait(ctx, twin, also, elsewhere{
			patience: c.patience(twin),
			mayMove:  func(isSlow bool) bool { return c.hasOther(twin, tour, isSlow) },
		}))
		switch {
		case err != nil:
		case twin.isWhole():
			close(s.won)
		default:
			err = errPartial
		}
		s.ended <- err
	}()
	return s
}

// other returns a connection for a second request: a good one to another node, else another good one to the same.
func (c *Client) other(call *call, first *connection, tour tour) (*node, *connection) {
	if c.fleet.Load().isMany() {
		tour.refused.add(call.node)
		if node, connection := c.find(call.userID, standsGood, tour); connection != nil {
			return node, connection
		}
	}
	return call.node, call.node.other(call.userID, first)
}

// end decides between the first request, which has ended with err, and the second. Nobody knows the second's call any more then.
func (c *Client) end(s *second, call *call, err error) error {
	if !mayBeBettered(err) {
		s.cancel()
	}
	ended := <-s.ended
	s.cancel()
	if mayBeBettered(err) && ended == nil {
		call.adopt(s.call)
		c.tally.hedgesWon.Add(1)
		err = nil
	}
	s.call.free()
	return err
}

// mayBeBettered says that another request may have an answer where one ended with err.
func mayBeBettered(err error) bool {
	for _, passing := range []error{errOvertaken, errBehind, ErrDisconnected, ErrUnavailable, ErrNotOwner, ErrStale, ErrOverloaded} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// mayHedge says that the request may be sent a second time.
func (c *call) mayHedge() bool {
	return c.opcode == frame.GetBalance || c.opcode == frame.GetStatistics || c.opcode == frame.GetBalances
}

// twin asks a node the same.
func (c *call) twin(node *node) *call {
	twin := newCall(c.opcode)
	twin.userID, twin.windows, twin.wanted, twin.node = c.userID, c.windows, c.wanted, node
	if c.entries != nil {
		twin.entries = make([]BatchEntry, len(c.entries))
		for index := range c.entries {
			twin.entries[index].UserID = c.entries[index].UserID
		}
	}
	return twin
}

// adopt takes over the other's answer.
func (c *call) adopt(other *call) {
	c.node, c.floor, c.origin, c.err = other.node, other.floor, other.origin, nil
	c.balance, c.statistics = other.balance, other.statistics
	copy(c.entries, other.entries)
}

// isWhole says that the answer has all that was asked, of accounts that are complete.
func (c *call) isWhole() bool {
	lacks := func(entry BatchEntry) bool { return entry.Status != StatusOK }
	return !c.origin.Quarantined && !slices.ContainsFunc(c.entries, lacks)
}

// held is for how long the server may hold the request.
func (c *call) held() time.Duration { return time.Duration(c.freshness.WaitMS) * time.Millisecond }
