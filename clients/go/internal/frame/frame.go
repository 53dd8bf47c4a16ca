// Package frame holds the layout of florin's frames: wire.md, version 1. Every integer is little-endian.
package frame

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Bounds of the protocol.
const (
	// Version stands in every header.
	Version = 1
	// RequestHeaderBytes is where a request's options, or its body, begin.
	RequestHeaderBytes = 24
	// FreshnessBytes is the length of a request's options.
	FreshnessBytes = 16
	// ReplyHeaderBytes is where a reply's body begins.
	ReplyHeaderBytes = 32
	// ReplyBytesMax bounds what a reader buffers. The longest legal reply, 1,024 balances of 16 assets each, has
	// half of it.
	ReplyBytesMax = 1 << 20
	// BatchUsersMax is how many users one GetBalances may name.
	BatchUsersMax = 1024
	// PingBytesMax is how many bytes a Ping may carry.
	PingBytesMax = 1024
	// AssetsMax is how many assets one account may hold.
	AssetsMax = 16
	// NodesMax, PartitionsMax, HoldersMax and HostBytesMax bound the map of nodes that divide a ledger's users.
	NodesMax      = 256
	PartitionsMax = 8_192
	HoldersMax    = 4
	HostBytesMax  = 253
	// StatusMax is the largest status that version 1 knows.
	StatusMax = 9
)

// Opcode says what a request asks.
type Opcode uint8

// The opcodes of version 1.
const (
	Hello Opcode = iota
	GetBalance
	GetStatistics
	GetBalances
	Ping
)

var opcodeNames = [...]string{"Hello", "GetBalance", "GetStatistics", "GetBalances", "Ping"}

func (o Opcode) String() string {
	if int(o) < len(opcodeNames) {
		return opcodeNames[o]
	}
	return fmt.Sprintf("opcode %d", uint8(o))
}

// The encodings of a body.
const (
	// Plain is an error's message, a Ping's echo, or nothing.
	Plain uint8 = 0
	// FlatBuffers is what this client asks for.
	FlatBuffers uint8 = 2
)

// The reply flags.
const (
	Forwarded   uint16 = 1
	Quarantined uint16 = 2
	// Draining: the server is ending the connection; what is new should be asked elsewhere.
	Draining uint16 = 4
	// Lasting, beside Quarantined: it stays so until the account's rows are in the ledger.
	Lasting uint16 = 8
)

const flagFreshness = 1

// Freshness is what a caller asks of an answer's age. The zero value asks nothing, and is not sent.
type Freshness struct {
	MinVersion uint64
	MaxAgeMS   uint32
	WaitMS     uint32
}

// Request is a request's header, less its length.
type Request struct {
	Opcode    Opcode
	Encoding  uint8
	RequestID uint64
	UserID    uint64
	Freshness Freshness
}

// AppendRequest appends the request's header and options; bodyBytes of body must follow.
func AppendRequest(out []byte, request Request, bodyBytes int) []byte {
	length, flags := RequestHeaderBytes+bodyBytes, uint8(0)
	if request.Freshness != (Freshness{}) {
		length, flags = length+FreshnessBytes, flagFreshness
	}
	out = binary.LittleEndian.AppendUint32(out, uint32(length))
	out = append(out, Version, uint8(request.Opcode), request.Encoding, flags)
	out = binary.LittleEndian.AppendUint64(out, request.RequestID)
	out = binary.LittleEndian.AppendUint64(out, request.UserID)
	if flags != 0 {
		out = binary.LittleEndian.AppendUint64(out, request.Freshness.MinVersion)
		out = binary.LittleEndian.AppendUint32(out, request.Freshness.MaxAgeMS)
		out = binary.LittleEndian.AppendUint32(out, request.Freshness.WaitMS)
	}
	return out
}

// Reply is a reply's header.
type Reply struct {
	Length    uint32
	Opcode    Opcode
	Encoding  uint8
	Status    uint8
	RequestID uint64
	AsOfUS    int64
	Shard     uint16
	Flags     uint16
	Schema    uint32
}

// FieldError is a field that holds what no version-1 peer sends.
type FieldError struct {
	Field    string
	Expected string
	Got      string
}

func (e *FieldError) Error() string {
	return fmt.Sprintf("%s: expected %s, got %s", e.Field, e.Expected, e.Got)
}

// ParseReply reads the header at the beginning of bytes, which must hold all of it. An error leaves the stream
// without a known place where the next frame begins.
func ParseReply(bytes []byte) (Reply, error) {
	_ = bytes[ReplyHeaderBytes-1]
	reply := Reply{
		Length:    binary.LittleEndian.Uint32(bytes),
		Opcode:    Opcode(bytes[5]),
		Encoding:  bytes[6],
		Status:    bytes[7],
		RequestID: binary.LittleEndian.Uint64(bytes[8:]),
		AsOfUS:    int64(binary.LittleEndian.Uint64(bytes[16:])),
		Shard:     binary.LittleEndian.Uint16(bytes[24:]),
		Flags:     binary.LittleEndian.Uint16(bytes[26:]),
		Schema:    binary.LittleEndian.Uint32(bytes[28:]),
	}
	return reply, CheckStart(bytes)
}

// CheckStart refuses what cannot be the beginning of a reply, as soon as it shows.
func CheckStart(bytes []byte) error {
	if len(bytes) < 4 {
		return nil
	}
	if length := binary.LittleEndian.Uint32(bytes); length < ReplyHeaderBytes || length > ReplyBytesMax {
		expected := fmt.Sprintf("%d to %d", ReplyHeaderBytes, ReplyBytesMax)
		return foreign(bytes, &FieldError{Field: "length", Expected: expected, Got: fmt.Sprint(length)})
	}
	if len(bytes) > 4 && bytes[4] != Version {
		return foreign(bytes, &FieldError{Field: "version", Expected: fmt.Sprint(Version), Got: fmt.Sprint(bytes[4])})
	}
	return nil
}

// foreign tells a wrong header as of the protocol that it is of, where that shows: a record of TLS (RFC 8446, section 5.1), with
// which a port for TLS answers whoever asks in plain, or a status line of HTTP.
func foreign(bytes []byte, err *FieldError) error {
	switch {
	case bytes[0] >= 20 && bytes[0] <= 23 && bytes[1] == 3 && bytes[2] <= 4:
		return &FieldError{Field: "reply", Expected: "one in plain", Got: "TLS: this port is for TLS, write florins:// before its address"}
	case string(bytes[:4]) == "HTTP":
		return &FieldError{Field: "reply", Expected: "one in frames", Got: "HTTP: this is a node's admin port, or no florin; give the " +
			"port that florin serve calls any shard, or tls"}
	}
	return err
}

// Shard returns the shard of so many that owns the user: wire.md, "Routing".
func Shard(userID uint64, shards uint16) int {
	shard, _ := bits.Mul64(Mix(userID), uint64(shards))
	return int(shard)
}

// Mix is the splitmix64 finaliser.
func Mix(userID uint64) uint64 {
	z := userID + 0x9E3779B97F4A7C15
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
	z = (z ^ (z >> 27)) * 0x94D049BB133111EB
	return z ^ (z >> 31)
}
