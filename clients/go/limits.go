package florin

// Every bound of the client, and why it is what it is. Those that a caller may choose are in Options.

import (
	"net"
	"time"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

const (
	// queuedBytesMax bounds the requests that wait for a server that reads nothing. The frames of callers that have given
	// up do not count: they are never written.
	queuedBytesMax = 4 << 20
	// writeBytesMax bounds one write.
	writeBytesMax = 1 << 20
	// readBytes is a connection's buffer: some hundred replies for each system call.
	readBytes = 64 << 10
	// keptBytesMax is the capacity above which an emptied buffer is not kept.
	keptBytesMax = 256 << 10
	// againMin and againMax bound the pause before nodes that could not answer are asked again.
	againMin = 5 * time.Millisecond
	againMax = 250 * time.Millisecond
	// pauseMin and pauseMax bound the pause before the next attempt to connect: a random time (full jitter) up to a bound
	// that doubles from one to the other with each failure, so that the callers of a server that comes back do not come
	// back as one.
	pauseMin = 10 * time.Millisecond
	pauseMax = 2 * time.Second
	// wantedAfter is after how long a node that was away is tried again where it is needed, or said to be there, whatever the pause is:
	// some half of this time or more after the last attempt, so that a call finds within a second who has come back, and a thousand
	// clients of a node that is gone make some thousands of attempts a second at most.
	wantedAfter = 250 * time.Millisecond
	// settledAfter is how long a connection must have held to count as no failure: a server that accepts, and ends what it
	// has accepted, is asked no more often than one that refuses.
	settledAfter = pauseMax
	// connectTimeout bounds one attempt: the connection and its Hello.
	connectTimeout = 2 * time.Second
	// nodesMax is how many nodes a target names: who has more names some of them, and they tell of the others.
	nodesMax = 64
	// placesMax is how many nodes a client knows of: those that it was given, and those of a map.
	placesMax = nodesMax + frame.NodesMax
	// learnEvery is how often a node is asked for its map by a client whose calls go to others than the owners, which are gone: a
	// change is noticed within a second, and a thousand clients cost their nodes a thousand Hellos.
	learnEvery = time.Second
	// lostEvery is how often by a client that goes on losing connections: once for all those of a node, and more often than nodes
	// can end one after the other.
	lostEvery = 100 * time.Millisecond
	// renewEvery is how often by a client whose calls go to the owners: nodes that were added must be known before those that are
	// known have gone.
	renewEvery = 10 * time.Second
	// messageRunesMax bounds what is kept of a server's words: its own sentences have some hundred, and a stranger's end in logs.
	messageRunesMax = 1024
	// shardsMax bounds the shard map that is believed: each shard takes a connection, or several.
	shardsMax = 256
	// attemptAfter is how long an address may take before the next one is tried beside it (RFC 8305 calls it the connection
	// attempt delay): one that swallows packets must not use up the time of those behind the same name that answer.
	attemptAfter = 250 * time.Millisecond
	// seenMax is how many users each half of seen remembers: some 4 MiB in all.
	seenMax = 32 << 10
	// observedMax is how many durations tell what requests take, and observedEvery after how many new ones they are looked at again:
	// enough for 95 of 100 to be 13 away from the slowest, and for a change to show within some hundred requests.
	observedMax   = 256
	observedEvery = 64
	// hedgeAfterMin is the least delay that is observed: below it a timer is no better than the wait.
	hedgeAfterMin = time.Millisecond
	// hedgesKept is how many second requests can be saved up: enough to meet a node that stands still for a moment, and nothing that
	// a node would feel.
	hedgesKept = 100
	// secondLook is after how long a silence that was too long is looked at again.
	secondLook = 20 * time.Millisecond
	// progressBytes of a reply are heard like a whole one: a long one over a slow path takes its time, and a byte a second is
	// silence.
	progressBytes = 1 << 10
	// sessionsMax is how many nodes' tickets are kept, so that a connection that is made again takes no certificates.
	sessionsMax = 64
)

// keepAlive finds a peer that has vanished without a word, also where nothing is asked: within half a minute.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}
