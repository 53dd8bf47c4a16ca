package florin

import (
	"errors"
	"time"
)

// errSilent ends a connection on which requests were unanswered for too long without a byte from the server.
var errSilent = errors.New("no byte came while requests were unanswered")

// errStalled moves a call from a connection that has been silent for a while to one that has not.
var errStalled = errors.New("the connection has fallen silent")

// errSlow moves a call from a node that takes long to another one.
var errSlow = errors.New("the node takes long, another one is asked")

// silence watches a connection for a server, or a path, that takes requests and gives nothing back. A socket alone does
// not show it: what a firewall drops is no error for a quarter of an hour.
//
// A connection that owes an answer and has not had a byte for stallAfter is stalled: new calls go elsewhere, its link
// tries to make another, and if that succeeds the calls move there. After most it is lost. The connection's lock guards
// all of it.
type silence struct {
	stallAfter, most time.Duration

	// unanswered counts requests without a reply, whether or not anyone still waits for it.
	unanswered int
	// since is when the last byte came, or, if that is later, when a request was queued with none before it unanswered.
	since time.Time
	// heldUntil is until when the server may be holding a request because its caller said Wait.
	heldUntil time.Time
	timer     *time.Timer
	isRunning bool
	isStalled bool
	// stalled is closed when the connection stalls, and replaced when it is heard again.
	stalled chan struct{}
}

// asked counts a request, which the server may hold for wait.
func (c *connection) asked(wait time.Duration) {
	s := &c.silence
	if s.unanswered++; s.unanswered == 1 || wait > 0 {
		now := time.Now()
		if s.unanswered == 1 {
			s.since = now
		}
		if until := now.Add(wait); wait > 0 && until.After(s.heldUntil) {
			s.heldUntil = until
		}
	}
	if !s.isRunning {
		s.isRunning = true
		s.timer.Reset(s.stallAfter)
	}
}

// heard takes note of bytes from the server.
func (c *connection) heard() {
	s := &c.silence
	s.since = time.Now()
	if s.isStalled {
		s.isStalled = false
		s.stalled = make(chan struct{})
		c.stand()
	}
}

// stalled returns a channel that is closed when the connection falls silent, or has.
func (c *connection) stalled() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.silence.stalled
}

// look is run by the timer, and no more often than stallAfter: it costs a busy connection nothing.
func (c *connection) look() {
	c.mu.Lock()
	s := &c.silence
	if c.lost != nil || s.unanswered == 0 {
		s.isRunning = false
		c.mu.Unlock()
		return
	}
	now := time.Now()
	silent := now.Sub(s.since)
	if silent >= s.most {
		c.mu.Unlock()
		c.lose(errSilent)
		return
	}
	next := s.stallAfter - silent
	if silent >= s.stallAfter {
		if next = s.heldUntil.Sub(now); next <= 0 {
			next = s.stallAfter
			if !s.isStalled {
				s.isStalled = true
				close(s.stalled)
				c.stand()
			}
		}
	}
	s.timer.Reset(max(min(next, s.most-silent), time.Millisecond))
	c.mu.Unlock()
}
