package florin

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

// errSilent ends a connection on which requests were unanswered for too long without a reply, or a good part of a long one.
var errSilent = errors.New("no whole reply came while requests were unanswered")

// errStalled moves a call from a connection that has been silent for a while to one that has not.
var errStalled = errors.New("no whole reply came for a while, another connection is asked")

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
	// unheard counts bytes since something was heard; part of a reply's promised bytes are there.
	unheard, part int
	promised      uint32
	timer         *time.Timer
	isRunning     bool
	isStalled     bool
	// isOverdue says that the silence was too long once: the second look decides.
	isOverdue bool
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

// noteBytes takes note of bytes from the server; part is what is there of a reply that is not whole.
func (c *connection) noteBytes(isWhole bool, count int, part []byte) {
	s := &c.silence
	s.part, s.promised = len(part), 0
	if s.part >= 4 {
		s.promised = binary.LittleEndian.Uint32(part)
	}
	if s.unheard += count; isWhole || s.unheard >= progressBytes {
		s.unheard = 0
		c.heard()
	}
}

// silent says what came instead of a reply. The caller holds the lock.
func (c *connection) silent() error {
	if c.silence.part == 0 {
		return errSilent
	}
	return fmt.Errorf("%w: no more than %d of its %d bytes", errSilent, c.silence.part, max(c.silence.promised, frame.ReplyHeaderBytes))
}

// heard takes note of the server.
func (c *connection) heard() {
	s := &c.silence
	s.since = time.Now()
	s.isOverdue = false
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
	if silent >= s.most && !s.isOverdue {
		// A process that stood still finds the time over before it has read what came meanwhile.
		s.isOverdue = true
		s.timer.Reset(secondLook)
		c.mu.Unlock()
		return
	}
	if silent >= s.most {
		cause := c.silent()
		c.mu.Unlock()
		c.lose(cause)
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
