package florin

import (
	"context"
	"errors"
	"time"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

// Hooks are told what a client does, for traces and metrics of any kind: the example of Hooks counts, and
// examples/opentelemetry makes spans. Each may be nil, and then costs nothing.
//
// All but Connect are called on the goroutine of the caller, so the time that they take is the call's. They are called by many
// goroutines at the same time. None is told a user's id, for traces are often kept by others than those who may read accounts; a
// server's words, in an Err, may have one.
type Hooks struct {
	// RequestStart is told of a call before anything is sent. It returns the context in which the rest of the call is told: ctx,
	// or one derived from it, such as one with a span.
	RequestStart func(ctx context.Context, request RequestInfo) context.Context
	// RequestEnd is told how the call ended, once for each RequestStart.
	RequestEnd func(ctx context.Context, outcome Outcome)
	// Retry is told that a request is sent again.
	Retry func(ctx context.Context, retry RetryInfo)
	// Hedge is told that a second request is sent while the first is unanswered; see Options.Hedge.
	Hedge func(ctx context.Context, hedge HedgeInfo)
	// Connect is told of each attempt to connect that has ended, Hello included.
	Connect func(connect ConnectInfo)
}

// RequestInfo is what a caller has asked.
type RequestInfo struct {
	// Operation is GetBalance, GetStatistics, GetBalances or Ping.
	Operation string
	// Users is how many users it names.
	Users int
}

// Outcome is how a call ended.
type Outcome struct {
	RequestInfo
	// Status is a name for metrics, one of few: OK, a status of the node's ([Status].String), or what the client found itself:
	// DEADLINE_EXCEEDED, CANCELED, DISCONNECTED, QUEUE_FULL, PROTOCOL_ERROR, OTHER_NODE, OTHER_LEDGER, CLOSED. Of a batch that was
	// answered it is OK: its entries have statuses of their own.
	Status string
	// Err is what the caller gets; nil where the call was answered.
	Err error
	// Node is the address, as the target has it, of the node that answered, or was asked last; of a batch that was split, the first
	// part's. Empty where none was asked.
	Node string
	// Requests is how many requests were sent: one for each part of a batch, those that were sent again, and hedges.
	Requests int
	// Hedged says that a second request was sent, whether or not its answer came first.
	Hedged bool
	// Duration is how long the caller has waited.
	Duration time.Duration
}

// RetryInfo is a request that is sent again.
type RetryInfo struct {
	// Operation is GetBalance, GetStatistics, GetBalances or Ping.
	Operation string
	// Attempt counts from 1, the first time; here it is 2 or more.
	Attempt int
	// Node is the address, as the target has it, that is asked now.
	Node string
	// Status and Err are what the attempt before ended with, as in Outcome.
	Status string
	Err    error
}

// HedgeInfo is a second request.
type HedgeInfo struct {
	// Operation is GetBalance, GetStatistics or GetBalances.
	Operation string
	// First and Node are the addresses, as the target has them, of the nodes that were asked first and now; they are the same where
	// another connection is.
	First, Node string
	// Waited is how long the first request has been unanswered.
	Waited time.Duration
}

// ConnectInfo is an attempt to connect that has ended.
type ConnectInfo struct {
	// Node is the node's address as the target has it, Address where this connection leads: to one of its shards, mostly.
	Node, Address string
	// Duration is how long it took.
	Duration time.Duration
	// Err is why it failed; nil where there is a connection now.
	Err error
}

// start tells of a call that begins.
func (h *Hooks) start(ctx context.Context, opcode frame.Opcode, users int) (context.Context, time.Time) {
	if h.RequestStart == nil && h.RequestEnd == nil {
		return ctx, time.Time{}
	}
	began := time.Now()
	if h.RequestStart != nil {
		ctx = h.RequestStart(ctx, RequestInfo{Operation: opcode.String(), Users: users})
	}
	return ctx, began
}

// end tells how a call ended that has been sent by these attempts.
func (h *Hooks) end(ctx context.Context, began time.Time, call *call, users int, tried attempts, err error) {
	if h.RequestEnd == nil {
		return
	}
	outcome := Outcome{
		RequestInfo: RequestInfo{Operation: call.opcode.String(), Users: users},
		Status:      label(err),
		Err:         err,
		Requests:    tried.requests,
		Hedged:      tried.isHedged,
		Duration:    time.Since(began),
	}
	if call.node != nil {
		outcome.Node = call.node.address
	}
	h.RequestEnd(ctx, outcome)
}

// label is an error's name for metrics.
func label(err error) string {
	var status *StatusError
	switch {
	case err == nil:
		return StatusOK.String()
	case errors.Is(err, context.DeadlineExceeded):
		return "DEADLINE_EXCEEDED"
	case errors.Is(err, context.Canceled):
		return "CANCELED"
	case errors.As(err, &status):
		return status.Status.String()
	}
	for _, named := range []struct {
		err  error
		name string
	}{
		{ErrProtocol, "PROTOCOL_ERROR"}, {ErrOtherLedger, "OTHER_LEDGER"}, {ErrOtherNode, "OTHER_NODE"}, {ErrQueueFull, "QUEUE_FULL"},
		{ErrClosed, "CLOSED"},
	} {
		if errors.Is(err, named.err) {
			return named.name
		}
	}
	return "DISCONNECTED"
}
