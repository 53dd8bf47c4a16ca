package florin

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/florin-db/florin/clients/go/internal/frame"
)

// FuzzReply gives arbitrary bytes as the reply to each kind of request: an error or an answer within the protocol's
// bounds, never a panic, and never more memory than a legal reply takes.
func FuzzReply(f *testing.F) {
	file := golden(f)
	for _, reply := range file.Replies {
		f.Add(goldenBytes(f, reply.File))
	}
	for _, refused := range file.RefusedReplies {
		f.Add(goldenBytes(f, refused.File))
	}
	f.Fuzz(func(t *testing.T, bytes []byte) {
		if len(bytes) < frame.ReplyHeaderBytes {
			return
		}
		header, err := frame.ParseReply(bytes)
		if err != nil {
			var field *frame.FieldError
			if !errors.As(err, &field) {
				t.Fatalf("%v names no field", err)
			}
			// Go on with the body: the header alone would hide it.
			header = frame.Reply{Opcode: frame.Opcode(bytes[5]), Encoding: frame.FlatBuffers}
		}
		body := bytes[frame.ReplyHeaderBytes:]
		for opcode := frame.Hello; opcode <= frame.Ping; opcode++ {
			header := header
			header.Opcode = opcode
			for _, entries := range []int{1, 5, frame.BatchUsersMax} {
				readAs(t, opcode, header, body, entries)
			}
		}
	})
}

func readAs(t *testing.T, opcode frame.Opcode, header frame.Reply, body []byte, entries int) {
	call := newCall(opcode)
	defer call.free()
	// The ids of the golden frames, so that their mutations get past the comparison with what was asked.
	call.userID, call.windows, call.entries = 42, Windows(len(body)%15+1), make([]BatchEntry, entries)
	for index := range call.entries {
		call.entries[index].UserID = []uint64{42, 9, 1<<63 - 1, 43, 42}[index%5]
	}
	call.accept(header, body)
	<-call.done
	if call.err != nil {
		if !errors.Is(call.err, ErrProtocol) && call.err.Error() == "" {
			t.Fatal("an error without a text")
		}
		return
	}
	switch opcode {
	case frame.GetBalance:
		isLegalBalance(t, call.balance)
	case frame.GetStatistics:
		if len(call.statistics.Assets) > frame.AssetsMax {
			t.Fatalf("%d assets", len(call.statistics.Assets))
		}
	case frame.GetBalances:
		for _, entry := range call.entries {
			if (entry.Status == StatusOK) != (entry.Balance != nil) {
				t.Fatalf("entry %+v", entry)
			}
			if entry.Balance != nil {
				isLegalBalance(t, entry.Balance)
			}
		}
	case frame.Hello:
		if call.hello.shards == 0 {
			t.Fatal("a node without shards")
		}
	}
}

func isLegalBalance(t *testing.T, balance *Balance) {
	t.Helper()
	if len(balance.Assets) > frame.AssetsMax {
		t.Fatalf("%d assets", len(balance.Assets))
	}
	for _, held := range balance.Assets {
		if strings.Trim(held.Asset.String(), "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
			t.Fatalf("asset %q", held.Asset)
		}
	}
}

// FuzzStream gives arbitrary bytes, cut in two, to a connection on which requests wait.
func FuzzStream(f *testing.F) {
	for _, reply := range golden(f).Replies {
		f.Add(goldenBytes(f, reply.File), uint16(7))
	}
	f.Fuzz(func(t *testing.T, bytes []byte, cut uint16) {
		ours, theirs := net.Pipe()
		connection := newConnection(ours, "pipe", &Options{StallAfter: time.Minute, SilenceMax: time.Minute, InFlightMax: 1 << 20}, new(tally))
		received := make(chan struct{})
		go func() {
			defer close(received)
			requests := make([]byte, 2*frame.RequestHeaderBytes)
			for read := 0; read < frame.RequestHeaderBytes; {
				count, err := theirs.Read(requests)
				if err != nil {
					return
				}
				read += count
			}
			at := min(int(cut), len(bytes))
			// The connection may have seen enough of it and closed.
			_, _ = theirs.Write(bytes[:at])
			_, _ = theirs.Write(bytes[at:])
			theirs.Close()
		}()
		call := newCall(frame.GetBalance)
		defer call.free()
		call.userID = 42
		err := connection.roundTrip(t.Context(), call)
		if err == nil {
			isLegalBalance(t, call.balance)
		}
		<-received
		connection.lose(ErrClosed)
		<-connection.gone
	})
}
