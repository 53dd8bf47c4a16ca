// Package florin reads balances and transaction statistics from a florin node.
//
// A [Client] keeps a connection or more to each of the node's shards and sends every request to the shard that owns its
// user, so that none pays a hop. All goroutines of a process share one client:
//
//	goroutine ─┐  append frame   ┌─────────┐  one write for all    ┌───────┐
//	goroutine ─┼───────────────> │ queued  │ ────────────────────> │ shard │
//	goroutine ─┘                 └─────────┘  writer goroutine     └───────┘
//	    ^                                                              │
//	    └────────────────── by request id, reader goroutine <──────────┘
//
// Requests of goroutines that run at the same time travel in one write, and their answers come back in one read. That is
// where the speed is: a request that travels alone costs its system calls, one among fifty costs next to nothing. There is
// nothing to configure, and no reason for a second client or for a pool of them.
//
// # Deadlines and errors
//
// The context ends a call, and only that call. Every status of the protocol has its error ([ErrNotFound], [ErrStale], …)
// for errors.Is; [StatusError] carries the server's message. [ErrDisconnected] means that no connection could carry the
// request: the client goes on connecting in the background, with growing and random pauses, and calls fail at once
// meanwhile. A call whose connection is lost under way is sent once more, on another connection, because it only reads.
// [ErrProtocol] means that what came is no florin; nothing of it is ever shown.
//
// # Freshness
//
// Each answer says how fresh it is ([Metadata].AsOf, [Balance].Version). [MinVersion] with [Wait] reads one's own write;
// [MaxAge] bounds the age of the view.
package florin
