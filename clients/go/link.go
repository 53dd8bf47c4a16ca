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

const (
	// backOffMin and backOffMax bound the pause between two attempts to connect. It doubles from one to the other, and
	// each is drawn from its upper half, so that the callers of a server that comes back do not come back as one.
	backOffMin = 10 * time.Millisecond
	backOffMax = 2 * time.Second
	// connectTimeout bounds one attempt: the connection and its Hello.
	connectTimeout = 5 * time.Second
)

// link keeps one connection to one address alive.
type link struct {
	network, address string
	dial             func(ctx context.Context, network, address string) (net.Conn, error)
	hello            []byte
	// learn is told what each Hello brought.
	learn func(hello)

	// cancel ends the link, for the given reason.
	cancel context.CancelCauseFunc
	// ended is closed when the link has let go of its last connection.
	ended chan struct{}

	current atomic.Pointer[connection]

	mu      sync.Mutex
	failure error
	// changed is closed, and replaced, when an attempt has ended in one way or the other.
	changed chan struct{}
}

// errRerouted ends the links of a shard map that is no longer the node's.
var errRerouted = errors.New("the node has another shard map now")

// start begins to connect, until ctx ends or the link is cancelled.
func (l *link) start(ctx context.Context) *link {
	ctx, l.cancel = context.WithCancelCause(ctx)
	l.ended = make(chan struct{})
	l.changed = make(chan struct{})
	go l.run(ctx)
	return l
}

func (l *link) run(ctx context.Context) {
	defer close(l.ended)
	pause := backOffMin
	for ctx.Err() == nil {
		connection, err := l.connect(ctx)
		if err != nil {
			l.note(err)
			sleep(ctx, pause/2+rand.N(pause/2))
			pause = min(2*pause, backOffMax)
			continue
		}
		pause = backOffMin
		l.current.Store(connection)
		l.note(nil)
		select {
		case <-connection.gone:
		case <-ctx.Done():
			connection.lose(context.Cause(ctx))
		}
		l.current.Store(nil)
		l.note(connection.failure(connection.cause()))
	}
}

// connect makes one connection, and says Hello on it.
func (l *link) connect(ctx context.Context) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	socket, err := l.dial(ctx, l.network, l.address)
	if err != nil {
		return nil, &DisconnectedError{Address: l.address, Cause: err}
	}
	connection := newConnection(socket, l.address)
	call := newCall(frame.Hello)
	call.body = l.hello
	defer call.free()
	if err := connection.roundTrip(ctx, call); err != nil {
		connection.lose(err)
		return nil, &DisconnectedError{Address: l.address, Cause: fmt.Errorf("its answer to Hello: %w", err)}
	}
	l.learn(call.hello)
	return connection, nil
}

func (l *link) note(failure error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure = failure
	close(l.changed)
	l.changed = make(chan struct{})
}

// state returns the connection, or why there is none (nil before the first attempt has ended), and a channel that is
// closed when that changes.
func (l *link) state() (*connection, error, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current.Load(), l.failure, l.changed
}

// cause is what ended the connection.
func (c *connection) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lost
}

func sleep(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
