package florin

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

// call is one request on its way, and what came back. Its owner may read it once done has been signalled, or once it has
// taken it back from its connection.
type call struct {
	// done has room for the one signal, so that a connection never waits for a caller.
	done chan struct{}

	opcode frame.Opcode
	// userID is what the call is routed by; only requests about one user carry it.
	userID  uint64
	windows Windows
	// wanted is what the caller asks of the answer's freshness; freshness is what is sent, which may ask for more.
	wanted, freshness frame.Freshness
	// node is the one that was asked last, over the connection; floor is the version that had been shown of the user by then.
	node       *node
	connection *connection
	floor      uint64
	// divided is the epoch of the map by which a GetBalances' users were put together.
	divided uint64
	// body is a Hello's or a Ping's.
	body []byte
	// entries are a GetBalances', with their ids; the reply fills in the rest.
	entries []BatchEntry

	err        error
	origin     Metadata
	balance    *Balance
	statistics *Statistics
	hello      hello
	echo       []byte
	// epoch is that of the node's map, where it does not have the user.
	epoch uint64
	// hear takes in the map that a Hello told; nil where whoever waits for it does.
	hear func(*nodeMap)
}

// calls are reused: the channel is what would cost.
var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

func newCall(opcode frame.Opcode) *call {
	c := calls.Get().(*call)
	*c = call{done: c.done, opcode: opcode}
	return c
}

// free gives the call back; whoever holds it must have had its signal, or have taken it back.
func (c *call) free() {
	*c = call{done: c.done}
	calls.Put(c)
}

// bytes is the length of the request's frame.
func (c *call) bytes() int {
	length := frame.RequestHeaderBytes
	if c.freshness != (frame.Freshness{}) {
		length += frame.FreshnessBytes
	}
	switch c.opcode {
	case frame.GetBalance:
		return length
	case frame.GetBalances:
		return length + 8*len(c.entries)
	case frame.GetStatistics:
		return length + 1
	default:
		return length + len(c.body)
	}
}

// append appends the request's frame.
func (c *call) append(out []byte, requestID uint64) []byte {
	request := frame.Request{
		Opcode:    c.opcode,
		Encoding:  frame.FlatBuffers,
		RequestID: requestID,
		Freshness: c.freshness,
	}
	switch c.opcode {
	case frame.GetBalance:
		request.UserID = c.userID
		return frame.AppendRequest(out, request, 0)
	case frame.GetBalances:
		out = frame.AppendRequest(out, request, 8*len(c.entries))
		for index := range c.entries {
			out = binary.LittleEndian.AppendUint64(out, c.entries[index].UserID)
		}
		return out
	case frame.GetStatistics:
		request.UserID = c.userID
		return append(frame.AppendRequest(out, request, 1), uint8(c.windows))
	default:
		return append(frame.AppendRequest(out, request, len(c.body)), c.body...)
	}
}

// accept reads the reply, and signals.
func (c *call) accept(header frame.Reply, body []byte) {
	c.origin = metadata(header)
	c.err = c.read(header, body)
	if header.Status == uint8(StatusNotOwner) {
		c.epoch = uint64(header.AsOfUS)
	}
	if c.hear != nil && c.err == nil {
		c.hear(c.hello.nodes)
	}
	c.done <- struct{}{}
}

// fail ends the call without a reply, and signals.
func (c *call) fail(err error) {
	c.err = err
	c.done <- struct{}{}
}

func (c *call) read(header frame.Reply, body []byte) error {
	if err := checkHeader(header, c.opcode, body); err != nil {
		return err
	}
	var err error
	switch c.opcode {
	case frame.Hello:
		c.hello, err = decodeHello(body)
	case frame.GetBalance:
		c.balance, err = decodeBalance(header, body)
		if err == nil && c.balance.UserID != c.userID {
			err = c.mistaken(c.balance.UserID)
		}
	case frame.GetStatistics:
		c.statistics, err = decodeStatistics(header, body)
		switch {
		case err != nil:
		case c.statistics.UserID != c.userID:
			err = c.mistaken(c.statistics.UserID)
		case c.statistics.Windows != c.windows:
			err = unexpected("body", fmt.Sprintf("windows %d", c.windows), uint8(c.statistics.Windows))
		}
	case frame.GetBalances:
		err = decodeBalances(header, body, c.entries)
	case frame.Ping:
		c.echo = append([]byte{}, body...)
		if string(c.echo) != string(c.body) {
			err = &ProtocolError{Field: "body", Problem: "expected the bytes that were sent"}
		}
	}
	return err
}

func (c *call) mistaken(userID uint64) error {
	return unexpected("body", fmt.Sprintf("user %d", c.userID), userID)
}
