package florin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

const (
	// queuedBytesMax bounds the requests that wait for a server that reads nothing. Callers that are still there are
	// bounded by their own number; those that have given up leave their frames behind.
	queuedBytesMax = 4 << 20
	// writeTimeout is after how long a server that reads nothing counts as lost.
	writeTimeout = 10 * time.Second
	// readBytes is a connection's buffer: some hundred replies for each system call.
	readBytes = 64 << 10
	// keptBytesMax is the capacity above which an emptied buffer is not kept.
	keptBytesMax = 256 << 10
)

// connection is one socket, shared by any number of callers.
//
// A caller appends its frame to queued and rings the bell; the writer takes all that is queued in one write. So callers
// that come while a write is under way share the next one: the more of them there are, the less each costs, here and at
// the server. The reader hands each reply to its caller by the request's id, which names a slot and its generation.
type connection struct {
	socket  net.Conn
	address string
	// bell has room for one ring: one is enough for everything that is queued by then.
	bell chan struct{}
	// gone is closed when the connection is lost.
	gone chan struct{}

	mu     sync.Mutex
	queued []byte
	slots  []slot
	free   []uint32
	lost   error
}

// slot holds a call that waits for its reply. Its generation is raised each time the slot is emptied, so that a reply
// that comes after its caller has gone finds nobody.
type slot struct {
	call       *call
	generation uint32
}

// arrival is a reply whose caller was found.
type arrival struct {
	call   *call
	header frame.Reply
	body   []byte
}

func newConnection(socket net.Conn, address string) *connection {
	c := &connection{
		socket:  socket,
		address: address,
		bell:    make(chan struct{}, 1),
		gone:    make(chan struct{}),
	}
	go c.write()
	go c.read()
	return c
}

// roundTrip sends the call and waits for its reply.
func (c *connection) roundTrip(ctx context.Context, call *call) error {
	id, err := c.send(call)
	if err != nil {
		return err
	}
	return c.wait(ctx, call, id)
}

// send queues the call's frame, and returns its id.
func (c *connection) send(call *call) (uint64, error) {
	c.mu.Lock()
	if c.lost != nil {
		c.mu.Unlock()
		return 0, &DisconnectedError{Address: c.address, Cause: c.lost}
	}
	if len(c.queued) > queuedBytesMax {
		c.mu.Unlock()
		return 0, ErrQueueFull
	}
	id := c.reserve(call)
	mustRing := len(c.queued) == 0
	c.queued = call.append(c.queued, id)
	c.mu.Unlock()
	if mustRing {
		select {
		case c.bell <- struct{}{}:
		default:
		}
	}
	return id, nil
}

// wait waits for the reply to a call that was sent. When it returns, the connection no longer knows the call.
func (c *connection) wait(ctx context.Context, call *call, id uint64) error {
	select {
	case <-call.done:
		return call.err
	case <-ctx.Done():
		if !c.takeBack(id) {
			// The reply is being read at this very moment.
			<-call.done
			return call.err
		}
		return fmt.Errorf("florin: %v: %w", call.opcode, ctx.Err())
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
	c.slots[index].call = call
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

// takeBack makes the connection forget a call; false where its reply has come.
func (c *connection) takeBack(id uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.claim(id) != nil
}

// write sends what is queued until the connection is lost.
func (c *connection) write() {
	var spare []byte
	for {
		select {
		case <-c.bell:
		case <-c.gone:
			return
		}
		// Callers that are ready to run may join this write.
		runtime.Gosched()
		c.mu.Lock()
		out := c.queued
		c.queued = spare[:0]
		c.mu.Unlock()
		if len(out) == 0 {
			// Who rang was taken along by the write before.
			spare = out
			continue
		}
		if err := c.socket.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			c.lose(err)
			return
		}
		if _, err := c.socket.Write(out); err != nil {
			c.lose(err)
			return
		}
		if spare = out; cap(spare) > keptBytesMax {
			spare = nil
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
			used, needed, parseErr := c.deliver(buffer[:filled], &arrived)
			filled = copy(buffer, buffer[used:filled])
			buffer = fit(buffer, filled, needed)
			if parseErr != nil {
				err = parseErr
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) && filled > 0 {
				err = io.ErrUnexpectedEOF
			}
			c.lose(err)
			return
		}
	}
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
// the next reply is if that is known. An error means that what follows cannot be read.
func (c *connection) deliver(bytes []byte, scratch *[]arrival) (used, needed int, err error) {
	arrived := (*scratch)[:0]
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
		if int(uint32(header.RequestID)) >= len(c.slots) {
			err = unexpected("request_id", "one that was sent", header.RequestID)
			break
		}
		if call := c.claim(header.RequestID); call != nil {
			body := bytes[used+frame.ReplyHeaderBytes : used+needed]
			arrived = append(arrived, arrival{call: call, header: header, body: body})
		}
		used, needed = used+needed, 0
	}
	c.mu.Unlock()
	for _, one := range arrived {
		one.call.accept(one.header, one.body)
	}
	clear(arrived)
	*scratch = arrived
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

func (c *connection) failure(cause error) error {
	if errors.Is(cause, ErrProtocol) || errors.Is(cause, ErrClosed) {
		return cause
	}
	return &DisconnectedError{Address: c.address, Cause: cause}
}
