// Package fake is a florin node for tests: it speaks the protocol's frames, and answers as the test says.
package fake

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/florin-db/florin/clients/go/internal/frame"
	wire "github.com/florin-db/florin/clients/go/internal/generated/florin/v1"
)

// AsOfUS stands in every reply.
const AsOfUS = 1_795_320_306_000_007

// Request is a request as it came.
type Request struct {
	frame.Request
	Body []byte
	// Shard is the one whose port it came to; any for the port of all.
	Shard int
	// Turn numbers the connection's reads: requests of one turn came together.
	Turn int
}

// Any is the Shard of requests that came to the port of all.
const Any = -1

// UserIDs are the body of a GetBalances.
func (r Request) UserIDs() []uint64 {
	ids := make([]uint64, len(r.Body)/8)
	for index := range ids {
		ids[index] = binary.LittleEndian.Uint64(r.Body[8*index:])
	}
	return ids
}

// Handler answers a request with a frame, or with nothing.
type Handler func(Request) []byte

// Writer writes what the node answers in one of a connection's turns; an error ends the connection.
type Writer func(socket net.Conn, turn int, answers []byte) error

// SetWriter makes the node write otherwise than at once.
func (n *Node) SetWriter(write Writer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.write = write
}

// Node is a node of some shards.
type Node struct {
	// Target is what a client is given.
	Target string

	// NodeID and LedgerID are what a Hello says.
	NodeID, LedgerID atomic.Uint64
	// Version is every user's; 0 where the node has never seen any.
	Version atomic.Uint64

	shards    int
	ports     []uint16
	nodes     *Map
	mu        sync.Mutex
	handler   Handler
	write     Writer
	isClosed  bool
	listeners []net.Listener
	sockets   map[net.Conn]struct{}
	accepted  map[int]int
	serving   sync.WaitGroup
}

// Map is what a Hello says of nodes that divide the users among them.
type Map struct {
	Epoch       uint64
	Partitioner string
	Nodes       []MapNode
	// Holders are, for each partition, Each places among the nodes.
	Holders []uint16
	Each    uint8
}

// MapNode is one of them.
type MapNode struct {
	ID   uint64
	Host string
	Port uint16
}

// SetMap makes Hello tell a map.
func (n *Node) SetMap(nodes *Map) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes = nodes
}

// add writes the map into a body that is being built.
func (m *Map) add(builder *flatbuffers.Builder) flatbuffers.UOffsetT {
	nodes := make([]flatbuffers.UOffsetT, len(m.Nodes))
	for index, node := range m.Nodes {
		host := builder.CreateString(node.Host)
		wire.MapNodeStart(builder)
		wire.MapNodeAddNodeId(builder, node.ID)
		wire.MapNodeAddHost(builder, host)
		wire.MapNodeAddPort(builder, node.Port)
		nodes[index] = wire.MapNodeEnd(builder)
	}
	named := builder.CreateVectorOfTables(nodes)
	wire.NodeMapStartHoldersVector(builder, len(m.Holders))
	for index := len(m.Holders) - 1; index >= 0; index-- {
		builder.PrependUint16(m.Holders[index])
	}
	holders := builder.EndVector(len(m.Holders))
	partitioner := builder.CreateString(m.Partitioner)
	wire.NodeMapStart(builder)
	wire.NodeMapAddEpoch(builder, m.Epoch)
	wire.NodeMapAddPartitioner(builder, partitioner)
	wire.NodeMapAddNodes(builder, named)
	wire.NodeMapAddHolders(builder, holders)
	wire.NodeMapAddHoldersEach(builder, m.Each)
	return wire.NodeMapEnd(builder)
}

// Start begins to serve on loopback, and ends with the test.
func Start(t testing.TB, shards int, handler Handler) *Node {
	return StartAt(t, "127.0.0.1:0", shards, handler)
}

// StartAt is Start with the address of the port of all.
func StartAt(t testing.TB, address string, shards int, handler Handler) *Node {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return StartAtHost(t, host, port, shards, handler)
}

// StartAtHost is Start on another host, whose port of all is this one.
func StartAtHost(t testing.TB, host, port string, shards int, handler Handler) *Node {
	t.Helper()
	n := newNode(t, shards, handler)
	any := n.listen(t, "tcp", net.JoinHostPort(host, port), Any)
	for shard := range shards {
		listener := n.listen(t, "tcp", net.JoinHostPort(host, "0"), shard)
		n.ports = append(n.ports, uint16(listener.Addr().(*net.TCPAddr).Port))
	}
	n.Target = "florin://" + any.Addr().String()
	n.serve()
	return n
}

// StartTLS is Start, but each connection is by TLS.
func StartTLS(t testing.TB, shards int, config *tls.Config) *Node {
	t.Helper()
	n := newNode(t, shards, nil)
	any := n.listen(t, "tcp", "127.0.0.1:0", Any)
	for shard := range shards {
		listener := n.listen(t, "tcp", "127.0.0.1:0", shard)
		n.ports = append(n.ports, uint16(listener.Addr().(*net.TCPAddr).Port))
	}
	for index, listener := range n.listeners {
		n.listeners[index] = shardListener{tls.NewListener(listener, config), listener.(shardListener).shard}
	}
	n.Target = "florins://" + any.Addr().String()
	n.serve()
	return n
}

// StartUnix is Start on a unix socket.
func StartUnix(t testing.TB, shards int, handler Handler) *Node {
	t.Helper()
	n := newNode(t, shards, handler)
	path := filepath.Join(t.TempDir(), "florin.sock")
	n.listen(t, "unix", path, Any)
	n.Target = "unix://" + path
	n.serve()
	return n
}

func newNode(t testing.TB, shards int, handler Handler) *Node {
	n := &Node{shards: shards, handler: handler, sockets: map[net.Conn]struct{}{}, accepted: map[int]int{}}
	n.Version.Store(7)
	t.Cleanup(n.Close)
	return n
}

type shardListener struct {
	net.Listener
	shard int
}

func (n *Node) listen(t testing.TB, network, address string, shard int) net.Listener {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	n.listeners = append(n.listeners, shardListener{listener, shard})
	return listener
}

// Close ends the node and all its connections.
func (n *Node) Close() {
	n.mu.Lock()
	n.isClosed = true
	for _, listener := range n.listeners {
		listener.Close()
	}
	n.mu.Unlock()
	n.Drop()
	n.serving.Wait()
}

// Drop ends all connections.
func (n *Node) Drop() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for socket := range n.sockets {
		socket.Close()
	}
}

// SetPorts makes Hello name other ports than the shards' own, as behind a translated address.
func (n *Node) SetPorts(ports ...uint16) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports = ports
}

// SetShards makes Hello name so many shards, each with a port.
func (n *Node) SetShards(shards int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.shards, n.ports = shards, make([]uint16, shards)
}

// Ports are those that Hello names.
func (n *Node) Ports() []uint16 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ports
}

// Accepted returns how many connections a shard's port has had.
func (n *Node) Accepted(shard int) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.accepted[shard]
}

func (n *Node) serve() {
	for _, listener := range n.listeners {
		n.serving.Go(func() {
			for {
				socket, err := listener.Accept()
				if err != nil {
					return
				}
				n.admit(socket, listener.(shardListener).shard)
			}
		})
	}
}

func (n *Node) admit(socket net.Conn, shard int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isClosed {
		socket.Close()
		return
	}
	n.sockets[socket] = struct{}{}
	n.accepted[shard]++
	n.serving.Go(func() {
		n.converse(socket, shard)
		socket.Close()
		n.mu.Lock()
		delete(n.sockets, socket)
		n.mu.Unlock()
	})
}

func (n *Node) converse(socket net.Conn, shard int) {
	buffer, filled := make([]byte, 1<<20), 0
	for turn := 0; ; turn++ {
		count, err := socket.Read(buffer[filled:])
		if err != nil {
			return
		}
		filled += count
		var out []byte
		used := 0
		for filled-used >= frame.RequestHeaderBytes {
			length := int(binary.LittleEndian.Uint32(buffer[used:]))
			if filled-used < length {
				break
			}
			request := parse(buffer[used : used+length])
			request.Shard, request.Turn = shard, turn
			out = append(out, n.answer(request)...)
			used += length
		}
		filled = copy(buffer, buffer[used:filled])
		n.mu.Lock()
		write := n.write
		n.mu.Unlock()
		if write == nil {
			_, err = socket.Write(out)
		} else {
			err = write(socket, turn, out)
		}
		if err != nil {
			return
		}
	}
}

func parse(bytes []byte) Request {
	request := Request{Request: frame.Request{
		Opcode:    frame.Opcode(bytes[5]),
		Encoding:  bytes[6],
		RequestID: binary.LittleEndian.Uint64(bytes[8:]),
		UserID:    binary.LittleEndian.Uint64(bytes[16:]),
	}}
	body := bytes[frame.RequestHeaderBytes:]
	if bytes[7] != 0 {
		request.Freshness = frame.Freshness{
			MinVersion: binary.LittleEndian.Uint64(body),
			MaxAgeMS:   binary.LittleEndian.Uint32(body[8:]),
			WaitMS:     binary.LittleEndian.Uint32(body[12:]),
		}
		body = body[frame.FreshnessBytes:]
	}
	request.Body = append([]byte{}, body...)
	return request
}

func (n *Node) answer(request Request) []byte {
	if n.handler != nil {
		if request.Opcode != frame.Hello {
			return n.handler(request)
		}
		if answer := n.handler(request); answer != nil {
			return answer
		}
	}
	return n.Answer(request)
}

// Answer is what a node answers that has everything: each user holds as much COIN as their id says, at the node's
// version.
func (n *Node) Answer(request Request) []byte {
	shard := request.Shard
	if shard == Any {
		shard = 0
	}
	switch request.Opcode {
	case frame.Hello:
		return Reply(request, shard, frame.FlatBuffers, n.helloBody())
	case frame.GetBalance:
		version := n.Version.Load()
		switch {
		case version < request.Freshness.MinVersion:
			return Refuse(request, 3, "min_version: not yet")
		case version == 0:
			return Refuse(request, 1, "user_id: never named")
		}
		builder := flatbuffers.NewBuilder(256)
		builder.Finish(balance(builder, request.UserID, version))
		return Reply(request, shard, frame.FlatBuffers, builder.FinishedBytes())
	case frame.GetStatistics:
		return Reply(request, shard, frame.FlatBuffers, statisticsBody(request.UserID, request.Body[0]))
	case frame.GetBalances:
		return Reply(request, shard, frame.FlatBuffers, balancesBody(request.UserIDs(), n.Version.Load()))
	default:
		return Reply(request, shard, frame.Plain, request.Body)
	}
}

// Reply is a frame that answers the request.
func Reply(request Request, shard int, encoding uint8, body []byte) []byte {
	out := binary.LittleEndian.AppendUint32(nil, uint32(frame.ReplyHeaderBytes+len(body)))
	out = append(out, frame.Version, uint8(request.Opcode), encoding, 0)
	out = binary.LittleEndian.AppendUint64(out, request.RequestID)
	out = binary.LittleEndian.AppendUint64(out, AsOfUS)
	out = binary.LittleEndian.AppendUint16(out, uint16(shard))
	out = append(out, 0, 0, 0, 0, 0, 0)
	return append(out, body...)
}

// Flagged is the reply with one more flag.
func Flagged(reply []byte, flag uint16) []byte {
	flags := binary.LittleEndian.Uint16(reply[26:])
	binary.LittleEndian.PutUint16(reply[26:], flags|flag)
	return reply
}

// Elsewhere is a frame that says that another node has the user, by the map of this epoch.
func Elsewhere(request Request, epoch uint64) []byte {
	out := Refuse(request, 9, "user_id: another node has it")
	binary.LittleEndian.PutUint64(out[16:], epoch)
	return out
}

// Refuse is a frame that answers the request with another status than OK.
func Refuse(request Request, status uint8, message string) []byte {
	out := Reply(request, 0, frame.Plain, []byte(message))
	out[7] = status
	return out
}

func (n *Node) helloBody() []byte {
	builder := flatbuffers.NewBuilder(256)
	server, mix := builder.CreateString("fake/1"), builder.CreateString("splitmix64")
	named := n.Ports()
	wire.HelloReplyStartPortsVector(builder, len(named))
	for index := len(named) - 1; index >= 0; index-- {
		builder.PrependUint16(named[index])
	}
	ports := builder.EndVector(len(named))
	n.mu.Lock()
	nodes := n.nodes
	n.mu.Unlock()
	var told flatbuffers.UOffsetT
	if nodes != nil {
		told = nodes.add(builder)
	}
	wire.HelloReplyStart(builder)
	wire.HelloReplyAddServer(builder, server)
	wire.HelloReplyAddShards(builder, uint16(n.shards))
	wire.HelloReplyAddPorts(builder, ports)
	wire.HelloReplyAddMix(builder, mix)
	wire.HelloReplyAddNodeId(builder, n.NodeID.Load())
	wire.HelloReplyAddLedgerId(builder, n.LedgerID.Load())
	if told != 0 {
		wire.HelloReplyAddNodes(builder, told)
	}
	builder.Finish(wire.HelloReplyEnd(builder))
	return builder.FinishedBytes()
}

const coin = 'C' | 'O'<<8 | 'I'<<16 | 'N'<<24

func balance(builder *flatbuffers.Builder, userID, version uint64) flatbuffers.UOffsetT {
	wire.BalanceStartBalancesVector(builder, 1)
	wire.CreateAssetBalance(builder, coin, int64(userID), 0)
	rows := builder.EndVector(1)
	wire.BalanceStart(builder)
	wire.BalanceAddUserId(builder, userID)
	wire.BalanceAddVersion(builder, version)
	wire.BalanceAddUpdatedAtUs(builder, AsOfUS)
	wire.BalanceAddBalances(builder, rows)
	return wire.BalanceEnd(builder)
}

func balancesBody(userIDs []uint64, version uint64) []byte {
	builder := flatbuffers.NewBuilder(1024)
	entries := make([]flatbuffers.UOffsetT, len(userIDs))
	for index, userID := range userIDs {
		held := balance(builder, userID, version)
		wire.BalanceEntryStart(builder)
		wire.BalanceEntryAddUserId(builder, userID)
		if version == 0 {
			wire.BalanceEntryAddStatus(builder, 1)
		} else {
			wire.BalanceEntryAddBalance(builder, held)
		}
		entries[index] = wire.BalanceEntryEnd(builder)
	}
	wire.BalancesStartEntriesVector(builder, len(entries))
	for index := len(entries) - 1; index >= 0; index-- {
		builder.PrependUOffsetT(entries[index])
	}
	rows := builder.EndVector(len(entries))
	wire.BalancesStart(builder)
	wire.BalancesAddEntries(builder, rows)
	builder.Finish(wire.BalancesEnd(builder))
	return builder.FinishedBytes()
}

func statisticsBody(userID uint64, mask uint8) []byte {
	builder := flatbuffers.NewBuilder(1024)
	count := 0
	for bit := range 4 {
		count += int(mask >> bit & 1)
	}
	wire.AssetStatisticsStartWindowsVector(builder, count)
	for bit := 3; bit >= 0; bit-- {
		if mask>>bit&1 == 1 {
			wire.CreateWindowStatistics(builder, uint64(bit+1), 500, 2, 300, 200)
		}
	}
	windows := builder.EndVector(count)
	wire.AssetStatisticsStart(builder)
	wire.AssetStatisticsAddAsset(builder, coin)
	wire.AssetStatisticsAddWindows(builder, windows)
	asset := wire.AssetStatisticsEnd(builder)
	wire.StatisticsStartStatisticsVector(builder, 1)
	builder.PrependUOffsetT(asset)
	assets := builder.EndVector(1)
	wire.StatisticsStart(builder)
	wire.StatisticsAddUserId(builder, userID)
	wire.StatisticsAddVersion(builder, 7)
	wire.StatisticsAddWindows(builder, mask)
	wire.StatisticsAddStatistics(builder, assets)
	wire.StatisticsAddFirstTransactionAtUs(builder, AsOfUS)
	wire.StatisticsAddLastTransactionAtUs(builder, AsOfUS)
	builder.Finish(wire.StatisticsEnd(builder))
	return builder.FinishedBytes()
}

// ForExample is for examples, which have no test to end with: it starts a node and returns its target and how to end it.
func ForExample(shards int) (target string, end func()) {
	t := &exampleTB{}
	node := Start(t, shards, nil)
	return node.Target, node.Close
}

// exampleTB is as much of a test as Start needs.
type exampleTB struct{ testing.TB }

func (*exampleTB) Helper()             {}
func (*exampleTB) Cleanup(func())      {}
func (*exampleTB) Fatal(values ...any) { panic(fmt.Sprint(values...)) }
