package florin

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/florin-db/florin/clients/go/internal/flat"
	"github.com/florin-db/florin/clients/go/internal/frame"
	wire "github.com/florin-db/florin/clients/go/internal/generated/florin/v1"
)

// The functions below read a body only after internal/flat has checked it, and copy out of it all that they return: the
// body lies in a connection's buffer, which the next replies overwrite.

func metadata(header frame.Reply) Metadata {
	metadata := Metadata{
		Shard:       header.Shard,
		Forwarded:   header.Flags&frame.Forwarded != 0,
		Quarantined: header.Flags&frame.Quarantined != 0,
		Lasting:     header.Flags&frame.Lasting != 0,
	}
	// In the place of a NOT_OWNER's stands a map's epoch.
	if header.Status != uint8(StatusNotOwner) {
		metadata.AsOf = moment(header.AsOfUS)
	}
	return metadata
}

func moment(us int64) time.Time { return time.UnixMicro(us).UTC() }

// printable is a rune as a terminal or a log may be given it: what would move the cursor, end a line, set a colour or turn the text
// round is U+FFFD. The server's words may be a stranger's.
func printable(r rune) rune {
	// Two that end lines are no controls, and those that set a direction of writing are all of Bidi_Control.
	if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r) {
		return unicode.ReplacementChar
	}
	return r
}

// checkHeader refuses a header that does not answer the request, and turns any status but OK into its error.
func checkHeader(header frame.Reply, opcode frame.Opcode, body []byte) error {
	if header.Status > frame.StatusMax {
		return unexpected("status", fmt.Sprintf("0 to %d", frame.StatusMax), header.Status)
	}
	if header.Status != uint8(StatusOK) {
		if header.Encoding != frame.Plain {
			return unexpected("encoding", frame.Plain, header.Encoding)
		}
		if !utf8.Valid(body) {
			return &ProtocolError{Field: "body", Problem: "expected a message in UTF-8"}
		}
		message := string(body)
		if runes := []rune(message); len(runes) > messageRunesMax {
			message = string(runes[:messageRunesMax])
		}
		message = strings.Map(printable, message)
		return &StatusError{Metadata: metadata(header), Status: Status(header.Status), Message: message}
	}
	if header.Opcode != opcode {
		return unexpected("opcode", opcode, header.Opcode)
	}
	expected := frame.FlatBuffers
	if opcode == frame.Ping {
		expected = frame.Plain
	}
	if header.Encoding != expected {
		return unexpected("encoding", expected, header.Encoding)
	}
	return nil
}

func decodeBalance(header frame.Reply, body []byte) (*Balance, error) {
	if err := flat.Balance(body); err != nil {
		return nil, protocolError(err)
	}
	var table wire.Balance
	table.Init(body, flatbuffers.GetUOffsetT(body))
	return readBalance(metadata(header), &table)
}

func readBalance(metadata Metadata, table *wire.Balance) (*Balance, error) {
	balance := &Balance{
		Metadata:  metadata,
		UserID:    table.UserId(),
		Version:   table.Version(),
		UpdatedAt: moment(table.UpdatedAtUs()),
		Assets:    make([]AssetBalance, table.BalancesLength()),
	}
	var row wire.AssetBalance
	for index := range balance.Assets {
		table.Balances(&row, index)
		held := AssetBalance{Asset: Asset(row.Asset()), Available: row.Available(), Held: row.Held()}
		if !held.Asset.isLegal() {
			return nil, protocolError(illegalAsset(held.Asset))
		}
		balance.Assets[index] = held
	}
	return balance, nil
}

func decodeStatistics(header frame.Reply, body []byte) (*Statistics, error) {
	if err := flat.Statistics(body); err != nil {
		return nil, protocolError(err)
	}
	var table wire.Statistics
	table.Init(body, flatbuffers.GetUOffsetT(body))
	statistics := &Statistics{
		Metadata:           metadata(header),
		UserID:             table.UserId(),
		Version:            table.Version(),
		Windows:            Windows(table.Windows()),
		Assets:             make([]AssetStatistics, table.StatisticsLength()),
		FirstTransactionAt: moment(table.FirstTransactionAtUs()),
		LastTransactionAt:  moment(table.LastTransactionAtUs()),
	}
	var row wire.AssetStatistics
	for index := range statistics.Assets {
		table.Statistics(&row, index)
		asset := &statistics.Assets[index]
		asset.Asset = Asset(row.Asset())
		if !asset.Asset.isLegal() {
			return nil, protocolError(illegalAsset(asset.Asset))
		}
		readWindows(&row, statistics.Windows, &asset.ByWindow)
	}
	return statistics, nil
}

func readWindows(row *wire.AssetStatistics, windows Windows, into *[4]WindowStatistics) {
	var sums wire.WindowStatistics
	next := 0
	for window := range into {
		if !windows.Has(Window(window)) {
			continue
		}
		row.Windows(&sums, next)
		next++
		into[window] = WindowStatistics{
			CreditCount:  sums.CreditCount(),
			CreditSum:    sums.CreditSum(),
			DebitCount:   sums.DebitCount(),
			DebitSum:     sums.DebitSum(),
			LargestDebit: sums.LargestDebit(),
		}
	}
}

// decodeBalances fills entries, whose ids are those that were asked.
func decodeBalances(header frame.Reply, body []byte, entries []BatchEntry) error {
	if err := flat.Balances(body, len(entries)); err != nil {
		return protocolError(err)
	}
	var table wire.Balances
	table.Init(body, flatbuffers.GetUOffsetT(body))
	origin := metadata(header)
	var row wire.BalanceEntry
	var held wire.Balance
	for index := range entries {
		table.Entries(&row, index)
		entry := &entries[index]
		if row.UserId() != entry.UserID {
			return unexpected("body", fmt.Sprintf("user %d", entry.UserID), row.UserId())
		}
		if row.Status() > frame.StatusMax {
			return unexpected("body", "a status of 0 to 9", row.Status())
		}
		entry.Status, entry.Quarantined = Status(row.Status()), row.Quarantined()
		entry.Balance = nil
		if entry.Status != StatusOK {
			continue
		}
		if row.Balance(&held) == nil {
			return protocolError(errors.New("an entry that is OK has no balance"))
		}
		balance, err := readBalance(origin, &held)
		if err != nil {
			return err
		}
		if balance.UserID != entry.UserID {
			return unexpected("body", fmt.Sprintf("the balance of user %d", entry.UserID), balance.UserID)
		}
		entry.Balance = balance
	}
	return nil
}

// hello is what a server says of itself.
type hello struct {
	server string
	shards uint16
	ports  []uint16
	// host is where the answer came from; empty where that means nothing.
	host string
	// nodeID is one life's of one node, ledgerID whose answers it gives; 0 where the server does not know.
	nodeID, ledgerID uint64
	// nodes is the map of those that divide the users among them; nil where each has all.
	nodes *nodeMap
}

func decodeHello(body []byte) (hello, error) {
	if err := flat.HelloReply(body); err != nil {
		return hello{}, protocolError(err)
	}
	var table wire.HelloReply
	table.Init(body, flatbuffers.GetUOffsetT(body))
	answer := hello{
		server: string(table.Server()), shards: table.Shards(), nodeID: table.NodeId(), ledgerID: table.LedgerId(),
	}
	var err error
	if answer.nodes, err = readNodeMap(table.Nodes(nil)); err != nil {
		return hello{}, err
	}
	for index := range table.PortsLength() {
		answer.ports = append(answer.ports, table.Ports(index))
	}
	if answer.shards == 0 || answer.shards > shardsMax {
		return hello{}, unexpected("body", fmt.Sprintf("1 to %d shards", shardsMax), answer.shards)
	}
	if len(answer.ports) != 0 && len(answer.ports) != int(answer.shards) {
		return hello{}, unexpected("body", fmt.Sprintf("a port for each of %d shards", answer.shards), len(answer.ports))
	}
	if mix := string(table.Mix()); mix != "splitmix64" {
		return hello{}, unexpected("body", "mix splitmix64", fmt.Sprintf("%q", mix))
	}
	return answer, nil
}

func encodeHello(client, token string) []byte {
	builder := flatbuffers.NewBuilder(256)
	clientAt, tokenAt := builder.CreateString(client), builder.CreateString(token)
	wire.HelloStart(builder)
	wire.HelloAddClient(builder, clientAt)
	wire.HelloAddToken(builder, tokenAt)
	builder.Finish(wire.HelloEnd(builder))
	return builder.FinishedBytes()
}

func illegalAsset(asset Asset) error {
	return fmt.Errorf("%#016x is no asset's code", uint64(asset))
}
