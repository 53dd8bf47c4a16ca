package florin

import (
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/florin-db/florin/clients/go/internal/frame"
	wire "github.com/florin-db/florin/clients/go/internal/generated/florin/v1"
)

// nobody stands in the place of a holder where there is none.
const nobody = math.MaxUint16

// nodeMap says which nodes hold which partition of a ledger's users: wire.md, "Partitions". It never changes.
type nodeMap struct {
	// epoch rises with every change: a map with a higher one takes the place of one with a lower.
	epoch uint64
	// partitioner is what all producers choose a key's partition by.
	partitioner func(key []byte) uint32
	nodes       []mapNode
	// holders are, for each partition, as many places among the nodes as holdersEach, or nobody: its owner's, then standbys'.
	holders     []uint16
	holdersEach int
}

// mapNode is where a node is asked.
type mapNode struct {
	id   uint64
	host string
	// port is that of its any-shard listener, tlsPort that of the same by TLS; 0 where it has none.
	port, tlsPort uint16
}

// partitioners are the functions that wire.md names, of a user's id in decimal ASCII, before the division by the partitions.
var partitioners = map[string]func(key []byte) uint32{
	// As org.apache.kafka.common.utils.Utils.toPositive of its murmur2.
	"murmur2": func(key []byte) uint32 { return murmur2(key) & math.MaxInt32 },
	"crc32":   crc32.ChecksumIEEE,
}

// murmur2 is Kafka's, org.apache.kafka.common.utils.Utils.murmur2.
func murmur2(key []byte) uint32 {
	const mix = 0x5BD1E995
	hash := 0x9747B28C ^ uint32(len(key))
	for ; len(key) >= 4; key = key[4:] {
		word := uint32(key[0]) | uint32(key[1])<<8 | uint32(key[2])<<16 | uint32(key[3])<<24
		word *= mix
		word ^= word >> 24
		hash = hash*mix ^ word*mix
	}
	for index, byte := range key {
		hash ^= uint32(byte) << (8 * index)
	}
	if len(key) > 0 {
		hash *= mix
	}
	hash ^= hash >> 13
	hash *= mix
	return hash ^ hash>>15
}

// partitionOf is the partition that the user belongs to.
func (m *nodeMap) partitionOf(userID uint64) int {
	var digits [20]byte
	return int(m.partitioner(strconv.AppendUint(digits[:0], userID, 10)) % uint32(m.partitions()))
}

func (m *nodeMap) partitions() int { return len(m.holders) / m.holdersEach }

// holdersOf are the places, among the map's nodes, of those who answer about the user, the owner's first; nobody's among them.
func (m *nodeMap) holdersOf(userID uint64) []uint16 {
	from := m.partitionOf(userID) * m.holdersEach
	return m.holders[from : from+m.holdersEach]
}

// readNodeMap copies a map out of a body that internal/flat has checked; nil where the table is.
func readNodeMap(table *wire.NodeMap) (*nodeMap, error) {
	if table == nil {
		return nil, nil
	}
	partitioner, ok := partitioners[string(table.Partitioner())]
	if !ok {
		return nil, unexpected("body", "partitioner murmur2 or crc32", fmt.Sprintf("%.64q", table.Partitioner()))
	}
	m := &nodeMap{epoch: table.Epoch(), partitioner: partitioner, holdersEach: int(table.HoldersEach())}
	count, each := table.HoldersLength(), m.holdersEach
	if each < 1 || each > frame.HoldersMax || count%each != 0 || count == 0 || count/each > frame.PartitionsMax {
		expected := fmt.Sprintf("1 to %d partitions of 1 to %d holders each", frame.PartitionsMax, frame.HoldersMax)
		return nil, unexpected("body", expected, fmt.Sprintf("%d holders, %d each", count, each))
	}
	var row wire.MapNode
	for index := range table.NodesLength() {
		table.Nodes(&row, index)
		host := row.Host()
		if !isHost(host) || row.NodeId() == 0 || row.Port() == 0 && row.TlsPort() == 0 {
			expected := fmt.Sprintf("of each node an id, a host of 1 to %d letters, digits, -, ., _ and : and a port", frame.HostBytesMax)
			return nil, unexpected("body", expected, fmt.Sprintf("none of node %d", index))
		}
		m.nodes = append(m.nodes, mapNode{id: row.NodeId(), host: string(host), port: row.Port(), tlsPort: row.TlsPort()})
	}
	m.holders = make([]uint16, count)
	for index := range m.holders {
		place := table.Holders(index)
		if place != nobody && int(place) >= len(m.nodes) {
			return nil, unexpected("body", fmt.Sprintf("holders below %d, the nodes there are", len(m.nodes)), place)
		}
		m.holders[index] = place
	}
	return m, nil
}

// isHost tells whether this may be a node's host: what others say of nodes ends in logs, and in names that are looked up.
func isHost(host []byte) bool {
	illegal := func(letter byte) bool {
		isDigit, isLetter := '0' <= letter && letter <= '9', 'a' <= letter|0x20 && letter|0x20 <= 'z'
		return !isDigit && !isLetter && strings.IndexByte("-._:", letter) < 0
	}
	return 1 <= len(host) && len(host) <= frame.HostBytesMax && !slices.ContainsFunc(host, illegal)
}
