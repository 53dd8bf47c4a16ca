// Package florin reads balances and transaction statistics from a florin node, or from several.
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
// for errors.Is; [StatusError] carries the server's message. [ErrProtocol] means that what came is no florin; nothing of
// it is ever shown.
//
// Until its context ends, a call is sent again where its connection is lost ([ErrDisconnected]) and where the node cannot
// answer at the moment ([ErrUnavailable]: it warms up, or is about to end), because it only reads. So a restart costs a
// caller time and no error. An error that is over time is both: what the last attempt ended with, and
// context.DeadlineExceeded. A context without a deadline gets Options.Deadline from the first failure on;
// Options.FailFast asks for the first answer, whatever it is.
//
// # Trouble on the way
//
// The client connects in the background, with growing and random pauses. A connection that has been silent for
// Options.StallAfter while answers are due is doubted: new calls go to others, another is made, and if that succeeds the
// calls under way move there; after Options.SilenceMax it is given up. A node that announces its end gets no more calls,
// and finishes those it has. Hello says which node and which ledger answer: a shard's port that leads to another node is
// not used ([ErrOtherNode]), and nothing of another ledger than the first is ever shown ([ErrOtherLedger]).
//
// # Several nodes
//
// New takes several nodes that follow the same ledger, florin://a:7400,b:7400. Users are spread over them, and whoever is
// slow, stale, draining, overloaded or gone is gone round until the context ends. No answer goes back in time: of the users
// read last (32,768 at least) the client keeps the highest version that it has shown, asks another node for that at least,
// and takes no less. Each address counts as one node, also a name that has several.
//
// # Nodes that divide the users
//
// Where nodes divide a ledger's users among them, one address that is there is enough: its Hello names all nodes, and who holds whom.
// A user is asked of its owner, and where that one is not heard of a standby at once; a batch is split by who holds its users. A node
// that does not have a user any more says so, and tells the new map in one round trip; a map is never exchanged for an earlier one. So
// a caller may rely on this: a node that is killed or freezes costs a call no more than Options.StallAfter where the partition has a
// standby that the client hears, somewhat more where that has just come (it is looked for, and tried again, while a call waits); a planned move costs a round trip or two and no error, and nothing goes back in time. Without a standby a call waits, until
// its context ends, for somebody to have loaded the partition: ErrUnavailable, ErrNotOwner or ErrDisconnected says what the last node
// said. A client that asks nothing learns nothing: name in the target addresses of which one will be there, or a name that has several.
//
// # Second requests
//
// Options.Hedge sends a second request where the first takes long: to another node, or over another connection to the only one. At
// most one for a call, and no more than a share of all requests; the first whole answer is the caller's. It is off unless asked for.
// See [Hedge].
//
// # Traces and metrics
//
// Options.Hooks are told of each call, of requests that are sent again or a second time, and of each connection: examples/opentelemetry
// makes spans of them, in a module of its own. [Client.Counters] and [Client.Pool] say what the client has done, and how its
// connections stand. Without hooks nothing is measured for them.
//
// # TLS
//
// florins://HOST:PORT is a node's port of --tls-listen. Options.TLS says which authorities the node's certificate may be of and
// which certificate the caller shows; ErrTLS says what is missing. Connections that are made again show tickets.
//
// # Freshness
//
// Each answer says how fresh it is ([Metadata].AsOf, [Balance].Version). [MinVersion] with [Wait] reads one's own write;
// [MaxAge] bounds the age of the view.
package florin
