package florin

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

// link keeps one connection to one address alive.
type link struct {
	network, address string
	// node is the address that the caller named, whose link this is.
	node string
	// name is what the caller called the node's host: what its certificate must be for.
	name    string
	options *Options
	hello   []byte
	// greet judges what each Hello brought: an error means that the connection must not be used.
	greet func(hello) error
	// changes tells whoever waits that a link's state is another.
	changes *changes
	tally   *tally

	// cancel ends the link, for the given reason.
	cancel context.CancelCauseFunc
	// ended is closed when the link has let go of its last connection.
	ended chan struct{}
	// renewal has room for the one wish that the connection be made anew.
	renewal chan struct{}
	// wanted has room for the one wish that the next attempt to connect be made instead of after its pause.
	wanted chan struct{}
	// parting are connections that the server is ending.
	parting sync.WaitGroup

	current atomic.Pointer[connection]

	mu      sync.Mutex
	failure error
}

// changes is a broadcast: channel is closed, and replaced, whenever something has changed.
type changes struct {
	mu      sync.Mutex
	channel chan struct{}
}

func newChanges() *changes { return &changes{channel: make(chan struct{})} }

// next returns a channel that is closed at the next change.
func (c *changes) next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.channel
}

func (c *changes) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.channel)
	c.channel = make(chan struct{})
}

var (
	// errRerouted ends the links of a shard map that is no longer the node's.
	errRerouted = errors.New("the node has another shard map now")
	// errUnnamed ends the links of a node that has left.
	errUnnamed = errors.New("the nodes' map names this node no more")
	// errDraining ends connections that the server has said it will end.
	errDraining = errors.New("the server is ending its connections")
	// errUnneeded ends a connection that was made in place of another which has been heard again.
	errUnneeded = errors.New("another connection is used")
)

// start begins to connect, until ctx ends or the link is cancelled.
func (l *link) start(ctx context.Context) *link {
	ctx, l.cancel = context.WithCancelCause(ctx)
	l.ended = make(chan struct{})
	l.renewal = make(chan struct{}, 1)
	l.wanted = make(chan struct{}, 1)
	go l.run(ctx)
	return l
}

func (l *link) run(ctx context.Context) {
	defer close(l.ended)
	defer l.parting.Wait()
	for failures := 0; ctx.Err() == nil; failures++ {
		connection, err := l.connect(ctx)
		if err != nil {
			l.note(nil, err)
		} else {
			began := time.Now()
			l.hold(ctx, connection)
			if time.Since(began) >= settledAfter {
				failures = 0
			}
		}
		l.rest(ctx, l.options.pause(failures))
	}
}

// rest waits before the next attempt: no longer than a moment where the node is wanted, and never so short that many who want it
// are a storm.
func (l *link) rest(ctx context.Context, pause time.Duration) {
	least := min(wantedAfter/2+rand.N(wantedAfter/2), pause)
	sleep(ctx, least, nil)
	sleep(ctx, pause-least, l.wanted)
}

// want has the node tried soon where it is away: somebody needs it, or has said that it is there.
func (l *link) want() {
	if l.current.Load() != nil {
		return
	}
	select {
	case l.wanted <- struct{}{}:
	default:
	}
}

// hold serves with the connection, or with those that take its place, until there is none.
func (l *link) hold(ctx context.Context, connection *connection) {
	// One that falls silent at once is not replaced at once.
	for failures := 0; connection != nil; failures++ {
		l.note(connection, nil)
		began := time.Now()
		connection = l.successor(ctx, connection, failures)
		if time.Since(began) >= settledAfter {
			failures = 0
		}
	}
}

// successor waits until the connection is over and returns nil, or until another has taken its place.
func (l *link) successor(ctx context.Context, connection *connection, failures int) *connection {
	for ; ; failures++ {
		select {
		case <-connection.gone:
			l.note(nil, connection.failure(connection.cause()))
			return nil
		case <-ctx.Done():
			connection.lose(context.Cause(ctx))
			l.note(nil, connection.failure(connection.cause()))
			return nil
		case <-connection.leaving:
			l.note(nil, &DisconnectedError{Address: l.address, Cause: errDraining})
			l.part(ctx, connection)
			return nil
		case <-connection.stalled():
		case <-l.renewal:
		}
		if failures > 0 {
			sleep(ctx, l.options.pause(failures-1), connection.gone)
		}
		other, err := l.connect(ctx)
		switch {
		case err != nil:
			// The one there is may be heard again yet.
		case connection.standing.Load() == standsGood && connection.node == other.node:
			other.lose(errUnneeded)
		default:
			connection.lose(errSilent)
			return other
		}
	}
}

// part lets the calls on a connection that the server is ending come to their end.
func (l *link) part(ctx context.Context, connection *connection) {
	l.parting.Go(func() {
		select {
		case <-connection.gone:
		case <-ctx.Done():
			connection.lose(context.Cause(ctx))
		}
	})
}

// renew asks for the connection to be made anew, because there is reason to think that another node answers there now.
func (l *link) renew() {
	select {
	case l.renewal <- struct{}{}:
	default:
	}
}

// connect makes one connection, counts it, and tells of it.
func (l *link) connect(ctx context.Context) (*connection, error) {
	began := time.Now()
	connection, err := l.dial(ctx)
	if err != nil {
		l.tally.disconnects.Add(1)
	}
	if tell := l.options.Hooks.Connect; tell != nil {
		tell(ConnectInfo{Node: l.node, Address: l.address, Duration: time.Since(began), Err: err})
	}
	return connection, err
}

// dial makes one connection, and says Hello on it.
func (l *link) dial(ctx context.Context) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	socket, err := l.options.Dial(ctx, l.network, l.address)
	if err != nil {
		return nil, &DisconnectedError{Address: l.address, Cause: err}
	}
	if tcp, ok := socket.(*net.TCPConn); ok {
		if err := tcp.SetKeepAliveConfig(keepAlive); err != nil {
			_ = socket.Close()
			return nil, &DisconnectedError{Address: l.address, Cause: err}
		}
	}
	if l.options.TLS != nil {
		if socket, err = secure(ctx, socket, l.options.TLS, l.name); err != nil {
			return nil, &DisconnectedError{Address: l.address, Cause: err}
		}
	}
	connection := newConnection(socket, l.address, l.options, l.tally)
	call := newCall(frame.Hello)
	call.body = l.hello
	defer call.free()
	if err := connection.roundTrip(ctx, call); err != nil {
		connection.lose(err)
		return nil, &DisconnectedError{Address: l.address, Cause: fmt.Errorf("its answer to Hello: %w", explained(err))}
	}
	if peer, ok := socket.RemoteAddr().(*net.TCPAddr); ok && l.options.dialer != nil {
		call.hello.host = peer.AddrPort().Addr().Unmap().String()
	}
	if err := l.greet(call.hello); err != nil {
		connection.lose(err)
		return nil, &DisconnectedError{Address: l.address, Cause: err}
	}
	connection.node = call.hello.nodeID
	if !connection.greeted() {
		return nil, connection.failure(connection.cause())
	}
	return connection, nil
}

func (l *link) note(connection *connection, failure error) {
	l.mu.Lock()
	l.current.Store(connection)
	l.failure = failure
	l.mu.Unlock()
	l.changes.tell()
}

// state returns the connection, or why there is none: nil before the first attempt has ended.
func (l *link) state() (*connection, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current.Load(), l.failure
}

// standing returns the connection if it stands no worse than so, else nil.
func (l *link) standing(worst int32) *connection {
	if connection := l.current.Load(); connection != nil && connection.standing.Load() <= worst {
		return connection
	}
	return nil
}

// cause is what ended the connection.
func (c *connection) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

// pause is a random time up to a bound that doubles with each failure.
func pause(first, most time.Duration, failures int) time.Duration {
	bound := most
	if failures < 16 {
		bound = min(first<<failures, most)
	}
	return rand.N(bound)
}

// sleep pauses until ctx ends, or over is closed.
func sleep(ctx context.Context, pause time.Duration, over <-chan struct{}) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-over:
	case <-ctx.Done():
	}
}
