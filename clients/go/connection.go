package florin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

// connection is one socket, shared by any number of callers.
//
// A caller queues its call and rings the bell; the writer takes all that is queued in one write. So callers that come
// while a write is under way share the next one: the more of them there are, the less each costs, here and at the server.
// The reader hands each reply to its caller by the request's id, which names a slot and its generation.
type connection struct {
	socket  net.Conn
	address string
	// inFlightMax bounds the calls that wait for a reply.
	inFlightMax int
	// node is the id that its Hello's answer had; set before anyone but its link knows of the connection.
	node uint64
	// tally is the client's.
	tally *tally
	// bell has room for one ring: one is enough for everything that is queued by then.
	bell chan struct{}
	// gone is closed when the connection is lost.
	gone chan struct{}
	// leaving is closed when the server has said that it will end the connection.
	leaving chan struct{}

	// standing is how it stands; it changes under the lock.
	standing atomic.Int32

	mu sync.Mutex
	// queued are the ids of calls that are not yet written, and of some whose callers have left since.
	queued      []uint64
	queuedBytes int
	// leftQueued counts the latter.
	leftQueued int
	slots      []slot
	free       []uint32
	lost       error
	// isGreeted says that its Hello was answered as it should be: it is counted.
	isGreeted bool
	isLeaving bool
	// isCounted says that it is among the tally's good ones.
	isCounted bool
	silence   silence
}

// How a connection stands: it is heard; it owes answers and has been silent for a while; it is lost, or the server is
// ending it. New calls are sent to the first that stands best, and never to one that is closed.
const (
	standsGood = iota
	standsSilent
	standsClosed
)

// slot holds a call that waits for its reply. Its generation is raised each time the slot is emptied, so that a reply
// that comes after its caller has gone finds nobody.
type slot struct {
	call       *call
	generation uint32
	// isQueued says that the call is not yet written.
	isQueued bool
}

// arrival is a reply whose caller was found.
type arrival struct {
	call   *call
	header frame.Reply
	body   []byte
}

func newConnection(socket net.Conn, address string, options *Options, tally *tally) *connection {
	c := &connection{
		socket:      socket,
		address:     address,
		tally:       tally,
		inFlightMax: options.InFlightMax,
		bell:        make(chan struct{}, 1),
		gone:        make(chan struct{}),
		leaving:     make(chan struct{}),
		silence: silence{
			stallAfter: options.StallAfter, most: options.SilenceMax, stalled: make(chan struct{}),
		},
	}
	c.silence.timer = time.AfterFunc(options.SilenceMax, c.look)
	go c.write()
	go c.read()
	return c
}

// roundTrip sends the call and waits for its reply.
func (c *connection) roundTrip(ctx context.Context, call *call) error {
	sent, err := c.send(call)
	if err != nil {
		return err
	}
	return c.wait(ctx, call, sent, elsewhere{})
}

// sent is a call that was queued, and what tells that its connection has fallen silent.
type sent struct {
	id      uint64
	stalled <-chan struct{}
	// at is when; kept where second requests are sent.
	at time.Time
}

// elsewhere is where else a call that waits may be answered.
type elsewhere struct {
	// patience is after how long, and how often from then on, to look for somebody else to ask instead; 0 is never.
	patience time.Duration
	// mayMove says that there is somebody else to ask; nil where there never is.
	mayMove func(isSlow bool) bool
	// hedgeAfter is after how long hedge sends a second request; 0 is never. It returns what is closed once that has an answer.
	hedgeAfter time.Duration
	hedge      func() <-chan struct{}
}

// send queues the call.
func (c *connection) send(call *call) (sent, error) {
	c.mu.Lock()
	if c.lost != nil {
		c.mu.Unlock()
		return sent{}, &DisconnectedError{Address: c.address, Cause: c.lost}
	}
	if err := c.full(); err != nil {
		c.mu.Unlock()
		return sent{}, err
	}
	id := c.reserve(call)
	mustRing := len(c.queued) == c.leftQueued
	c.queued = append(c.queued, id)
	c.queuedBytes += call.bytes()
	c.asked(time.Duration(call.freshness.WaitMS) * time.Millisecond)
	stalled := c.silence.stalled
	c.mu.Unlock()
	if mustRing {
		c.ring()
	}
	return sent{id: id, stalled: stalled}, nil
}

// full is why no call can be taken at the moment; nil where one can. The caller holds the lock.
func (c *connection) full() error {
	if unanswered := len(c.slots) - len(c.free); unanswered >= c.inFlightMax {
		return fmt.Errorf("%w: %d are unanswered, as many as InFlightMax allows", ErrQueueFull, unanswered)
	}
	if c.queuedBytes > queuedBytesMax {
		return fmt.Errorf("%w: %d bytes of them wait to be written, of at most %d", ErrQueueFull, c.queuedBytes, queuedBytesMax)
	}
	return nil
}

func (c *connection) ring() {
	select {
	case c.bell <- struct{}{}:
	default:
	}
}

// wait waits for the reply to a call that was sent. When it returns, the connection no longer knows the call. It gives up where
// the connection falls silent, or takes too long, and there is somebody else to ask, and where a second request is answered.
func (c *connection) wait(ctx context.Context, call *call, sent sent, with elsewhere) error {
	var slow, due <-chan time.Time
	var overtaken <-chan struct{}
	if with.patience > 0 {
		// Again and again: another node may be found, or heard again, while this one is silent.
		ticker := time.NewTicker(with.patience)
		defer ticker.Stop()
		slow = ticker.C
	}
	if with.hedgeAfter > 0 {
		timer := time.NewTimer(with.hedgeAfter)
		defer timer.Stop()
		due = timer.C
	}
	for {
		var err error
		select {
		case <-call.done:
			return call.err
		case <-sent.stalled:
			if with.mayMove == nil || !with.mayMove(false) {
				// The link loses the connection as soon as it has made another.
				sent.stalled = nil
				continue
			}
			err = &DisconnectedError{Address: c.address, Cause: errStalled}
		case <-slow:
			if !with.mayMove(true) {
				continue
			}
			err = &DisconnectedError{Address: c.address, Cause: errSlow}
		case <-due:
			overtaken = with.hedge()
			continue
		case <-overtaken:
			err = errOvertaken
		case <-ctx.Done():
			err = fmt.Errorf("florin: %v: %w", call.opcode, ctx.Err())
		}
		if !c.takeBack(sent.id) {
			// The reply is being read at this very moment.
			<-call.done
			return call.err
		}
		return err
	}
}

// reserve finds a slot for the call; the caller holds the lock.
func (c *connection) reserve(call *call) uint64 {
	var index uint32
	if last := len(c.free) - 1; last >= 0 {
		index, c.free = c.free[last], c.free[:last]
	} else {
		index = uint32(len(c.slots))
		c.slots = append(c.slots, slot{})
	}
	c.slots[index].call, c.slots[index].isQueued = call, true
	return uint64(c.slots[index].generation)<<32 | uint64(index)
}

// claim empties the slot that the id names, and returns its call; nil where that has gone. The caller holds the lock.
func (c *connection) claim(id uint64) *call {
	index, generation := uint32(id), uint32(id>>32)
	if int(index) >= len(c.slots) || c.slots[index].generation != generation {
		return nil
	}
	call := c.slots[index].call
	if call != nil {
		c.slots[index] = slot{generation: generation + 1}
		c.free = append(c.free, index)
	}
	return call
}

// wasSent says whether a call of this id was ever made, however long ago. The caller holds the lock.
func (c *connection) wasSent(id uint64) bool {
	index, generation := uint32(id), uint32(id>>32)
	if int(index) >= len(c.slots) {
		return false
	}
	// Generations go round after 4 billion: what is less than half of that ahead is still to come.
	ahead := int32(generation - c.slots[index].generation)
	return ahead < 0 || ahead == 0 && c.slots[index].call != nil
}

// isLive says whether the id's caller still waits. The caller holds the lock.
func (c *connection) isLive(id uint64) bool {
	slot := c.slots[uint32(id)]
	return slot.generation == uint32(id>>32) && slot.call != nil
}

// takeBack makes the connection forget a call; false where its reply has come. A call that is not yet written never is.
func (c *connection) takeBack(id uint64) bool {
	c.mu.Lock()
	isQueued := c.isLive(id) && c.slots[uint32(id)].isQueued
	call := c.claim(id)
	if call != nil && isQueued {
		c.queuedBytes -= call.bytes()
		c.silence.unanswered--
		c.leftQueued++
		if c.leftQueued > len(c.queued)/2 {
			c.queued = slices.DeleteFunc(c.queued, func(id uint64) bool { return !c.isLive(id) })
			c.leftQueued = 0
		}
	}
	isDone := c.isDone()
	c.mu.Unlock()
	if isDone {
		c.lose(errDraining)
	}
	return call != nil
}

// isDone says that the server ends the connection and nobody waits on it any more. The caller holds the lock.
func (c *connection) isDone() bool {
	return c.isLeaving && c.lost == nil && len(c.free) == len(c.slots)
}

// leave takes no more calls, for the server has said that it ends the connection: those under way are finished.
func (c *connection) leave() {
	c.mu.Lock()
	wasLeaving := c.isLeaving
	c.isLeaving = true
	c.stand()
	isDone := c.isDone()
	c.mu.Unlock()
	if !wasLeaving {
		close(c.leaving)
	}
	if isDone {
		c.lose(errDraining)
	}
}

// stand says, under the lock, how the connection stands now.
func (c *connection) stand() {
	standing := int32(standsGood)
	switch {
	case c.lost != nil || c.isLeaving:
		standing = standsClosed
	case c.silence.isStalled:
		standing = standsSilent
	}
	c.standing.Store(standing)
	switch isGood := c.isGreeted && standing == standsGood; {
	case isGood && !c.isCounted:
		c.tally.good.Add(1)
	case !isGood && c.isCounted:
		c.tally.good.Add(-1)
	default:
		return
	}
	c.isCounted = !c.isCounted
}

// take appends the frames of what is queued to out, as many as one write may have.
func (c *connection) take(out []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken, requests := 0, 0
	for _, id := range c.queued {
		if len(out) >= writeBytesMax {
			c.ring()
			break
		}
		taken++
		if !c.isLive(id) {
			c.leftQueued--
			continue
		}
		slot := &c.slots[uint32(id)]
		slot.isQueued = false
		c.queuedBytes -= slot.call.bytes()
		out = slot.call.append(out, id)
		if slot.call.opcode != frame.Hello {
			requests++
		}
	}
	c.queued = append(c.queued[:0], c.queued[taken:]...)
	if requests > 0 {
		c.tally.requests.Add(uint64(requests))
		c.tally.writes.Add(1)
	}
	return out
}

// write sends what is queued until the connection is lost.
func (c *connection) write() {
	var out []byte
	for {
		select {
		case <-c.bell:
		case <-c.gone:
			return
		}
		// Callers that are ready to run may join this write.
		runtime.Gosched()
		if out = c.take(out[:0]); len(out) == 0 {
			// Who rang was taken along by the write before, or has left.
			continue
		}
		if err := c.socket.SetWriteDeadline(time.Now().Add(c.silence.most)); err != nil {
			c.lose(err)
			return
		}
		if _, err := c.socket.Write(out); err != nil {
			c.lose(err)
			return
		}
		if cap(out) > keptBytesMax {
			out = nil
		}
	}
}

// read hands replies to their callers until the connection is lost.
func (c *connection) read() {
	buffer := make([]byte, readBytes)
	var arrived []arrival
	filled := 0
	for {
		count, err := c.socket.Read(buffer[filled:])
		filled += count
		if count > 0 {
			used, needed, parseErr := c.deliver(buffer[:filled], count, &arrived)
			filled = copy(buffer, buffer[used:filled])
			buffer = fit(buffer, filled, needed)
			if parseErr != nil {
				err = parseErr
			}
		}
		if err != nil {
			c.lose(closed(err, buffer[:filled]))
			return
		}
	}
}

// closed says what the server's end of the connection means, if err is that: part is there of a reply.
func closed(err error, part []byte) error {
	switch {
	case !errors.Is(err, io.EOF):
		return err
	case len(part) == 0:
		return fmt.Errorf("the server closed the connection: %w", err)
	default:
		return fmt.Errorf("the server closed the connection in the middle of a reply, after %d of %s bytes: %w",
			len(part), promised(part), io.ErrUnexpectedEOF)
	}
}

// promised is how long a reply says that it is, of which part is there.
func promised(part []byte) string {
	if len(part) < 4 {
		return fmt.Sprintf("at least %d", frame.ReplyHeaderBytes)
	}
	return fmt.Sprint(binary.LittleEndian.Uint32(part))
}

// fit returns a buffer that holds what is in buffer, with room for needed bytes in all. A buffer that was made for an
// unusually long reply is not kept.
func fit(buffer []byte, filled, needed int) []byte {
	isTooLarge := len(buffer) > keptBytesMax && max(filled, needed) <= readBytes
	if needed <= len(buffer) && !isTooLarge {
		return buffer
	}
	other := make([]byte, max(needed, readBytes))
	copy(other, buffer[:filled])
	return other
}

// deliver hands over the whole replies at the beginning of bytes. It returns how many bytes they take, and how long
// the next reply is if that is known; count of the bytes are new. An error means that what follows cannot be read.
func (c *connection) deliver(bytes []byte, count int, scratch *[]arrival) (used, needed int, err error) {
	arrived := (*scratch)[:0]
	mustLeave, late := false, 0
	c.mu.Lock()
	for len(bytes)-used >= frame.ReplyHeaderBytes {
		var header frame.Reply
		if header, err = frame.ParseReply(bytes[used:]); err != nil {
			err = protocolError(err)
			break
		}
		if needed = int(header.Length); needed > len(bytes)-used {
			break
		}
		if !c.wasSent(header.RequestID) {
			err = unexpected("request_id", "one that was sent", header.RequestID)
			break
		}
		mustLeave = mustLeave || header.Flags&frame.Draining != 0
		if call := c.claim(header.RequestID); call != nil {
			body := bytes[used+frame.ReplyHeaderBytes : used+needed]
			arrived = append(arrived, arrival{call: call, header: header, body: body})
		} else {
			late++
		}
		// A reply that comes twice answers nobody else's request.
		c.silence.unanswered = max(c.silence.unanswered-1, len(c.slots)-len(c.free))
		used, needed = used+needed, 0
	}
	if err == nil && len(bytes)-used < frame.ReplyHeaderBytes {
		if startErr := frame.CheckStart(bytes[used:]); startErr != nil {
			err = protocolError(startErr)
		}
	}
	c.noteBytes(used > 0, count, bytes[used:])
	isDone := c.isDone()
	if c.isGreeted {
		c.tally.replies.Add(uint64(len(arrived)))
		c.tally.lateReplies.Add(uint64(late))
	}
	c.mu.Unlock()
	for _, one := range arrived {
		one.call.accept(one.header, one.body)
	}
	clear(arrived)
	*scratch = arrived
	if mustLeave {
		c.leave()
	} else if isDone {
		c.lose(errDraining)
	}
	return used, needed, err
}

// lose ends the connection: every call that waits on it fails.
func (c *connection) lose(cause error) {
	c.mu.Lock()
	if c.lost != nil {
		c.mu.Unlock()
		return
	}
	c.lost = cause
	if c.isGreeted {
		c.tally.disconnects.Add(1)
	}
	c.stand()
	c.silence.timer.Stop()
	c.queued, c.queuedBytes, c.leftQueued = nil, 0, 0
	var waiting []*call
	for index := range c.slots {
		if call := c.slots[index].call; call != nil {
			c.slots[index].call = nil
			waiting = append(waiting, call)
		}
	}
	c.mu.Unlock()
	close(c.gone)
	// What closing a socket says about a connection that is over is of no use to anyone.
	_ = c.socket.Close()
	for _, call := range waiting {
		call.fail(c.failure(cause))
	}
}

// greeted says that the connection may be used; false where it is lost already.
func (c *connection) greeted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil {
		return false
	}
	c.isGreeted = true
	c.tally.connects.Add(1)
	c.stand()
	return true
}

func (c *connection) failure(cause error) error {
	if errors.Is(cause, ErrProtocol) || errors.Is(cause, ErrClosed) {
		return cause
	}
	return &DisconnectedError{Address: c.address, Cause: cause}
}
