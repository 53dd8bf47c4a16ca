package florin

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

const goldenFolder = "../../schemas/golden"

// goldenFile is golden.json. Where a request or a reply has one of several bodies, one of the pointers is set.
type goldenFile struct {
	Requests []struct {
		File   string
		Header struct {
			Opcode    frame.Opcode
			Encoding  uint8
			RequestID number `json:"request_id"`
			UserID    number `json:"user_id"`
		}
		Freshness *struct {
			MinVersion number `json:"min_version"`
			MaxAgeMS   uint32 `json:"max_age_ms"`
			WaitMS     uint32 `json:"wait_ms"`
		}
		Body struct {
			Windows    *uint8
			UserIDs    []number `json:"user_ids"`
			PayloadHex string   `json:"payload_hex"`
		}
	}
	Replies []struct {
		File   string
		Header struct {
			Opcode   frame.Opcode
			Encoding uint8
			Status   uint8
			AsOfUS   number `json:"as_of_us"`
			Shard    uint16
			Flags    uint16
		}
		Body goldenBody
	}
	RefusedReplies []struct {
		File  string
		Field string
	} `json:"refused_replies"`
}

type goldenBody struct {
	Hello *struct {
		Server   string
		Shards   uint16
		Ports    []uint16
		NodeID   number `json:"node_id"`
		LedgerID number `json:"ledger_id"`
		Nodes    *goldenNodes
	}
	Balance    *goldenBalance
	Statistics *goldenStatistics
	Balances   []struct {
		UserID      number `json:"user_id"`
		Status      Status
		Quarantined bool
		Balance     *goldenBalance
	}
	PayloadHex *string `json:"payload_hex"`
	Message    string
}

type goldenNodes struct {
	Epoch       number
	Partitioner string
	Nodes       []struct {
		NodeID  number `json:"node_id"`
		Host    string
		Port    uint16
		TLSPort uint16 `json:"tls_port"`
	}
	Partitions []struct {
		Owner    *uint16
		Standbys []uint16
	}
}

type goldenBalance struct {
	UserID      number `json:"user_id"`
	Version     number
	UpdatedAtUS number `json:"updated_at_us"`
	Balances    []struct {
		Asset           string
		Available, Held number
	}
}

type goldenStatistics struct {
	UserID     number `json:"user_id"`
	Version    number
	Windows    Windows
	Statistics []struct {
		Asset   string
		Windows []struct {
			CreditCount  number `json:"credit_count"`
			CreditSum    number `json:"credit_sum"`
			DebitCount   number `json:"debit_count"`
			DebitSum     number `json:"debit_sum"`
			LargestDebit number `json:"largest_debit"`
		}
	}
	First number `json:"first_transaction_at_us"`
	Last  number `json:"last_transaction_at_us"`
}

// number is a 64-bit integer, signed or not, in a string.
type number uint64

func (n *number) UnmarshalJSON(text []byte) error {
	digits := strings.Trim(string(text), `"`)
	if signed, err := strconv.ParseInt(digits, 10, 64); err == nil {
		*n = number(signed)
		return nil
	}
	unsigned, err := strconv.ParseUint(digits, 10, 64)
	*n = number(unsigned)
	return err
}

func golden(t testing.TB) goldenFile {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(goldenFolder, "golden.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file goldenFile
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Requests) == 0 || len(file.Replies) == 0 || len(file.RefusedReplies) == 0 {
		t.Fatal("golden.json lacks requests, replies or refused_replies")
	}
	return file
}

func goldenBytes(t testing.TB, file string) []byte {
	t.Helper()
	bytes, err := os.ReadFile(filepath.Join(goldenFolder, file))
	if err != nil {
		t.Fatal(err)
	}
	return bytes
}

func TestRequestsAreTheGoldenFrames(t *testing.T) {
	for _, request := range golden(t).Requests {
		header := request.Header
		// This client asks for FlatBuffers; what a Hello's body holds, and not how, is the protocol's.
		if header.Opcode == frame.Hello || header.Encoding == 1 {
			continue
		}
		t.Run(request.File, func(t *testing.T) {
			call := newCall(header.Opcode)
			defer call.free()
			call.userID = uint64(header.UserID)
			if fresh := request.Freshness; fresh != nil {
				call.freshness = frame.Freshness{
					MinVersion: uint64(fresh.MinVersion), MaxAgeMS: fresh.MaxAgeMS, WaitMS: fresh.WaitMS,
				}
			}
			for _, id := range request.Body.UserIDs {
				call.entries = append(call.entries, BatchEntry{UserID: uint64(id)})
			}
			call.body, _ = hex.DecodeString(request.Body.PayloadHex)
			expected := goldenBytes(t, request.File)
			expected[6] = frame.FlatBuffers
			if header.Opcode == frame.GetStatistics {
				call.windows = AllWindows
				if mask := request.Body.Windows; mask != nil {
					call.windows = Windows(*mask)
				} else {
					// Without a mask means all: this client says so.
					expected = append(expected, uint8(AllWindows))
					expected[0]++
				}
			}
			if got := call.append(nil, uint64(header.RequestID)); !bytes.Equal(got, expected) {
				t.Errorf("got  % x\nwant % x", got, expected)
			}
		})
	}
}

func TestRepliesReadAsTheManifestSays(t *testing.T) {
	for _, reply := range golden(t).Replies {
		t.Run(reply.File, func(t *testing.T) {
			bytes := goldenBytes(t, reply.File)
			header, err := frame.ParseReply(bytes)
			if err != nil {
				t.Fatal(err)
			}
			call := callFor(header.Opcode, reply.Body)
			defer call.free()
			call.accept(header, bytes[frame.ReplyHeaderBytes:])
			<-call.done
			if header.Encoding == 1 {
				if !errors.Is(call.err, ErrProtocol) {
					t.Fatalf("an rkyv body, which was not asked for, was read: %v", call.err)
				}
				return
			}
			origin := reply.Header
			expected := Metadata{
				AsOf:        moment(int64(origin.AsOfUS)),
				Shard:       origin.Shard,
				Forwarded:   origin.Flags&1 != 0,
				Quarantined: origin.Flags&2 != 0,
			}
			if Status(reply.Header.Status) == StatusNotOwner {
				// What stands there is the map's epoch.
				expected.AsOf = time.Time{}
			}
			if call.origin != expected {
				t.Errorf("metadata %+v, want %+v", call.origin, expected)
			}
			compare(t, call, reply.Header.Status, reply.Body)
		})
	}
}

// callFor is the call that the reply answers.
func callFor(opcode frame.Opcode, body goldenBody) *call {
	call := newCall(opcode)
	switch {
	case body.Balance != nil:
		call.userID = uint64(body.Balance.UserID)
	case body.Statistics != nil:
		call.userID, call.windows = uint64(body.Statistics.UserID), body.Statistics.Windows
	case body.PayloadHex != nil:
		call.body, _ = hex.DecodeString(*body.PayloadHex)
	}
	for _, entry := range body.Balances {
		call.entries = append(call.entries, BatchEntry{UserID: uint64(entry.UserID)})
	}
	return call
}

func compare(t *testing.T, call *call, status uint8, body goldenBody) {
	t.Helper()
	if status != 0 {
		var refusal *StatusError
		if !errors.As(call.err, &refusal) || refusal.Status != Status(status) || refusal.Message != body.Message {
			t.Fatalf("got %v, want status %d: %s", call.err, status, body.Message)
		}
		if !errors.Is(call.err, statusErrors[status]) {
			t.Errorf("%v is not %v", call.err, statusErrors[status])
		}
		return
	}
	if call.err != nil {
		t.Fatal(call.err)
	}
	switch {
	case body.Balance != nil:
		same(t, describeBalance(call.balance), body.Balance.String())
	case body.Statistics != nil:
		same(t, describeStatistics(call.statistics), body.Statistics.String())
	case body.Balances != nil:
		for index, entry := range body.Balances {
			got := call.entries[index]
			same(t, got.UserID, uint64(entry.UserID))
			same(t, got.Status, entry.Status)
			same(t, got.Quarantined, entry.Quarantined)
			same(t, got.Balance == nil, entry.Balance == nil)
			if got.Balance != nil {
				same(t, describeBalance(got.Balance), entry.Balance.String())
			}
		}
	case body.Hello != nil:
		told := body.Hello
		got := call.hello
		got.nodes = nil
		want := hello{told.Server, told.Shards, told.Ports, "", uint64(told.NodeID), uint64(told.LedgerID), nil}
		same(t, fmt.Sprint(got), fmt.Sprint(want))
		same(t, call.hello.nodes.String(), told.Nodes.String())
	case body.PayloadHex != nil:
		same(t, hex.EncodeToString(call.echo), *body.PayloadHex)
	default:
		t.Fatal("the manifest says nothing of the body")
	}
}

func same[T comparable](t *testing.T, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func describeBalance(b *Balance) string {
	text := fmt.Sprint(b.UserID, b.Version, b.UpdatedAt.UnixMicro())
	for _, held := range b.Assets {
		text += fmt.Sprintln(" ", held.Asset, held.Available, held.Held)
	}
	return text
}

func (g *goldenBalance) String() string {
	text := fmt.Sprint(uint64(g.UserID), uint64(g.Version), int64(g.UpdatedAtUS))
	for _, held := range g.Balances {
		text += fmt.Sprintln(" ", held.Asset, int64(held.Available), int64(held.Held))
	}
	return text
}

// String has of each partition its holders, the owner first, and of the function what it makes of a key.
func (m *nodeMap) String() string {
	if m == nil {
		return ""
	}
	text := fmt.Sprintln(m.epoch, m.partitioner([]byte("42")))
	for _, node := range m.nodes {
		text += fmt.Sprintln(node.id, node.host, node.port, node.tlsPort)
	}
	for from := 0; from < len(m.holders); from += m.holdersEach {
		text += fmt.Sprintln(slices.DeleteFunc(slices.Clone(m.holders[from:from+m.holdersEach]), func(place uint16) bool {
			return place == nobody
		}), m.holders[from] == nobody)
	}
	return text
}

func (g *goldenNodes) String() string {
	if g == nil {
		return ""
	}
	text := fmt.Sprintln(uint64(g.Epoch), partitioners[g.Partitioner]([]byte("42")))
	for _, node := range g.Nodes {
		text += fmt.Sprintln(uint64(node.NodeID), node.Host, node.Port, node.TLSPort)
	}
	for _, partition := range g.Partitions {
		holders := partition.Standbys
		if partition.Owner != nil {
			holders = append([]uint16{*partition.Owner}, holders...)
		}
		text += fmt.Sprintln(holders, partition.Owner == nil)
	}
	return text
}

func describeStatistics(s *Statistics) string {
	text := fmt.Sprint(s.UserID, s.Version, s.FirstTransactionAt.UnixMicro(), s.LastTransactionAt.UnixMicro())
	for _, asset := range s.Assets {
		text += " " + asset.Asset.String()
		for window, sums := range asset.ByWindow {
			if s.Windows.Has(Window(window)) {
				text += fmt.Sprint(sums)
			} else if sums != (WindowStatistics{}) {
				text += " sums of a window that was not asked for"
			}
		}
	}
	return text
}

func (g *goldenStatistics) String() string {
	text := fmt.Sprint(uint64(g.UserID), uint64(g.Version), int64(g.First), int64(g.Last))
	for _, asset := range g.Statistics {
		text += " " + asset.Asset
		for _, sums := range asset.Windows {
			text += fmt.Sprint(WindowStatistics{
				CreditCount: uint64(sums.CreditCount), CreditSum: int64(sums.CreditSum),
				DebitCount: uint64(sums.DebitCount), DebitSum: int64(sums.DebitSum), LargestDebit: int64(sums.LargestDebit),
			})
		}
	}
	return text
}

func TestRefusedRepliesAreNotBelieved(t *testing.T) {
	for _, refused := range golden(t).RefusedReplies {
		t.Run(refused.File, func(t *testing.T) {
			bytes := goldenBytes(t, refused.File)
			header, err := frame.ParseReply(bytes)
			if err != nil {
				err = protocolError(err)
			} else {
				call := newCall(header.Opcode)
				defer call.free()
				call.userID = 42
				call.accept(header, bytes[frame.ReplyHeaderBytes:])
				<-call.done
				err = call.err
			}
			var protocol *ProtocolError
			if !errors.As(err, &protocol) || !errors.Is(err, ErrProtocol) {
				t.Fatalf("got %v, want a ProtocolError", err)
			}
			// rkyv is never asked for, so its faults are not looked for.
			if strings.Contains(refused.File, "rkyv") || refused.Field == "schema" {
				same(t, protocol.Field, "encoding")
			} else {
				same(t, protocol.Field, refused.Field)
			}
		})
	}
}

func TestMixIsTheProtocols(t *testing.T) {
	same(t, frame.Mix(0), 0xE220A8397B1DCDAF)
	same(t, frame.Mix(1), 0x910A2DEC89025CC1)
	for _, shards := range []uint16{1, 2, 3, 8, 64} {
		owned := make([]int, shards)
		for id := range uint64(10_000) {
			owned[frame.Shard(id, shards)]++
		}
		for shard, count := range owned {
			if fair := 10_000 / int(shards); count < fair/2 || count > fair*2 {
				t.Errorf("shard %d of %d owns %d of 10,000", shard, shards, count)
			}
		}
	}
}
