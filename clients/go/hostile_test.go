package florin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/florin-db/florin/clients/go/internal/fake"
	"github.com/florin-db/florin/clients/go/internal/frame"
)

// A server that answered one request twice was taken to have answered all: nobody noticed that it was silent about another,
// whose caller waited without end.
func TestAReplyThatComesTwiceAnswersNobodyElse(t *testing.T) {
	var node *fake.Node
	var swallowed atomic.Bool
	node = fake.Start(t, 1, func(request fake.Request) []byte {
		switch {
		case request.Opcode == frame.GetBalance && request.UserID == 2 && swallowed.CompareAndSwap(false, true):
			return []byte{}
		case request.Opcode == frame.GetBalance && request.UserID == 1:
			answer := node.Answer(request)
			return append(append(answer[:len(answer):len(answer)], answer...), answer...)
		}
		return node.Answer(request)
	})
	node.SetPorts()
	client := dial(t, node.Target, Options{StallAfter: 100 * time.Millisecond, SilenceMax: 200 * time.Millisecond})
	var callers sync.WaitGroup
	callers.Go(func() { check(t, client, 2) })
	eventually(t, "it is swallowed", swallowed.Load)
	check(t, client, 1)
	callers.Wait()
}

// Whatever a server does (answers nobody asked for, answers twice, others' answers, frames without end, half frames, ends
// that it announces and does not make, a time that goes back), a caller gets its own answer or an error, and memory is
// bounded.
func TestAHostileServerGetsNoWrongAnswerThrough(t *testing.T) {
	var node *fake.Node
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(13, 7))
	draw := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	node = fake.Start(t, 2, func(request fake.Request) []byte {
		answer := node.Answer(request)
		// A refused Hello is final, and its bytes have a fuzzer.
		if request.Opcode == frame.Hello {
			return answer
		}
		switch draw(120) {
		case 0:
			return append(answer[:len(answer):len(answer)], answer...)
		case 1:
			request.UserID++
			return node.Answer(request)
		case 2:
			request.RequestID ^= 1 << draw(64)
			return node.Answer(request)
		case 3:
			binary.LittleEndian.PutUint32(answer, uint32(draw(1<<31)))
			return answer
		case 4:
			return answer[:draw(len(answer))]
		case 5:
			return fake.Flagged(answer, frame.Draining)
		case 6:
			binary.LittleEndian.PutUint64(answer[16:], uint64(draw(1<<30)))
			return answer
		case 7:
			answer[draw(len(answer))] ^= 1 << draw(8)
			return answer
		case 8:
			return []byte{}
		case 9:
			return fake.Refuse(request, uint8(draw(256)), "no")
		default:
			return answer
		}
	})
	client, err := New(node.Target, Options{StallAfter: 10 * time.Millisecond, SilenceMax: 30 * time.Millisecond, InFlightMax: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var callers sync.WaitGroup
	var answered, refused atomic.Int64
	for caller := range uint64(16) {
		callers.Go(func() {
			for round := range uint64(40) {
				userID := 100*caller + round
				ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
				balance, err := client.GetBalance(ctx, userID)
				cancel()
				switch {
				case err == nil && balance.UserID != userID:
					t.Errorf("user %d was told of user %d", userID, balance.UserID)
				case err == nil:
					answered.Add(1)
				case err.Error() == "" || errors.Is(err, ErrClosed):
					t.Errorf("user %d: %v", userID, err)
				default:
					refused.Add(1)
					// Garbage ended the connection.
					_ = client.Ready(within(t, patience))
				}
			}
		})
	}
	callers.Wait()
	if answered.Load() < 100 || refused.Load() < 10 {
		t.Errorf("%d answers and %d errors prove little", answered.Load(), refused.Load())
	}
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	if memory.HeapAlloc > 256<<20 {
		t.Errorf("%d bytes are held", memory.HeapAlloc)
	}
}

// lie is what a server does to its answers after a faultless Hello, or to that.
type lie struct {
	what string
	// toHello says that the Hello's answer is what is changed.
	toHello bool
	change  func(answer []byte) []byte
	// every is the pause behind each byte; ends says that the connection is closed behind the answer.
	every time.Duration
	ends  bool
	// expected is part of what a call is told.
	expected string
}

func at(offset int, bytes ...byte) func([]byte) []byte {
	return func(answer []byte) []byte {
		copy(answer[offset:], bytes)
		return answer
	}
}

func firstBytes(count int) func([]byte) []byte {
	return func(answer []byte) []byte { return answer[:count] }
}

func instead(bytes string) func([]byte) []byte {
	return func([]byte) []byte { return []byte(bytes) }
}

var lies = []lie{
	{what: "a length below a header's", change: at(0, 7, 0, 0, 0), expected: "length: expected 32 to 1048576, got 7"},
	{what: "a huge length", change: at(0, 255, 255, 255, 255), expected: "length: expected 32 to 1048576, got 4294967295"},
	{what: "a length that takes the next answer along", change: at(0, 0, 16, 0, 0), expected: "no whole reply came"},
	{what: "another protocol's version", change: at(4, 9), expected: "version: expected 1, got 9"},
	{what: "a request id of nobody's", change: at(8, 99), expected: "request_id: expected one that was sent, got 4294967395"},
	{what: "a request id that is still to come", change: at(12, 200), expected: "request_id: expected one that was sent"},
	{what: "an answer to another opcode", change: at(5, 2), expected: "opcode: expected GetBalance, got GetStatistics"},
	{what: "another encoding", change: at(6, 1), expected: "encoding: expected 2, got 1"},
	{what: "no status", change: at(7, 77), expected: "status: expected 0 to 9, got 77"},
	{what: "a body of garbage", change: at(32, 255, 255, 255, 255, 255, 255, 255, 255), expected: "protocol error: body: "},
	{what: "garbage", change: instead("-ERR unknown command\r\n"), expected: "length: expected 32 to 1048576, got 1381123373"},
	{what: "half a frame and the end", change: firstBytes(40), ends: true, expected: "in the middle of a reply, after 40 of "},
	{what: "three bytes and the end", change: firstBytes(3), ends: true, expected: "in the middle of a reply, after 3 of at least 32 bytes"},
	{what: "nothing", change: firstBytes(0), expected: "no whole reply came"},
	{what: "the end at once", change: firstBytes(0), ends: true, expected: "the server closed the connection"},
	{what: "a byte every 50 ms", change: at(0), every: 50 * time.Millisecond, expected: "no whole reply came"},
	{what: "no Hello", toHello: true, change: firstBytes(0), expected: "its answer to Hello: "},
	{what: "a Hello that drips", toHello: true, change: at(0), every: 50 * time.Millisecond, expected: "its answer to Hello: "},
	{what: "half a Hello and the end", toHello: true, change: firstBytes(50), ends: true, expected: "in the middle of a reply, after 50 of "},
	{what: "TLS in place of a Hello", toHello: true, change: instead("\x15\x03\x01\x00\x02\x02\x28"), expected: "write florins:// before its address"},
	{what: "HTTP in place of a Hello", toHello: true, change: instead("HTTP/1.1 400 Bad Request\r\n\r\n"), expected: "this is a node's admin port"},
	{what: "a Hello to nobody", toHello: true, change: at(8, 99), expected: "request_id: expected one that was sent, got 99"},
	{what: "another version's Hello", toHello: true, change: at(4, 2), expected: "version: expected 1, got 2"},
}

// Whatever a server does, a call has an error within its time that names what came; the server is knocked at no more often
// than one that refuses; and once the client is closed nothing of it is left.
func TestWhateverAServerAnswersACallIsToldWhatCame(t *testing.T) {
	goroutines := runtime.NumGoroutine()
	defer func() {
		eventually(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= goroutines })
	}()
	var table sync.WaitGroup
	for _, row := range lies {
		table.Go(func() { row.tell(t) })
	}
	table.Wait()
}

func (l lie) tell(t *testing.T) {
	node := fake.Start(t, 1, nil)
	defer node.Close()
	node.SetPorts()
	node.SetWriter(func(socket net.Conn, turn int, answers []byte) error {
		if len(answers) == 0 || (turn == 0) != l.toHello {
			_, err := socket.Write(answers)
			return err
		}
		return l.write(socket, answers)
	})
	client, err := New(node.Target, Options{StallAfter: 100 * time.Millisecond, SilenceMax: 600 * time.Millisecond})
	if err != nil {
		t.Error(err)
		return
	}
	defer client.Close()
	asked := 0
	tellsInTime(t, 2*time.Second, func(ctx context.Context) error {
		asked++
		_, err := client.GetBalance(ctx, 1)
		return fmt.Errorf("%s: expected %q, told: %w", l.what, l.expected, err)
	}, func(err error) bool {
		_, told, _ := strings.Cut(err.Error(), "told: ")
		return strings.Contains(told, l.expected) && len(told) <= 4000
	})
	if accepted := node.Accepted(fake.Any); accepted > 24*asked {
		t.Errorf("%s: %d connections", l.what, accepted)
	}
}

func (l lie) write(socket net.Conn, answers []byte) error {
	answers = l.change(answers)
	if l.every == 0 {
		if _, err := socket.Write(answers); err != nil {
			return err
		}
	} else {
		for index := range answers {
			if _, err := socket.Write(answers[index : index+1]); err != nil {
				return err
			}
			time.Sleep(l.every)
		}
	}
	if l.ends {
		return io.EOF
	}
	return nil
}

// An answer for another user, of another version than asked for, or with a sentence of a megabyte.
func TestAnAnswerThatIsNotWhatWasAskedIsTold(t *testing.T) {
	var node *fake.Node
	node = fake.Start(t, 1, func(request fake.Request) []byte {
		switch {
		case request.Opcode == frame.GetBalance && request.UserID == 1:
			request.UserID = 2
			return node.Answer(request)
		case request.Opcode == frame.GetBalance && request.UserID == 3:
			return fake.Refuse(request, uint8(StatusInternal), strings.Repeat("x", 1<<19))
		case request.Opcode == frame.GetBalance && request.UserID == 5:
			return fake.Refuse(request, uint8(StatusInternal), "\x1b]0;x\a\n\u202ey")
		}
		return node.Answer(request)
	})
	client := dial(t, node.Target, Options{})
	if _, err := client.GetBalance(within(t, patience), 1); !errors.Is(err, ErrProtocol) || !strings.Contains(err.Error(), "expected user 1, got 2") {
		t.Errorf("got %v", err)
	}
	if _, err := client.GetBalance(within(t, patience), 3); !errors.Is(err, ErrInternal) || len(err.Error()) > 2000 {
		t.Errorf("got %d bytes", len(err.Error()))
	}
	// A terminal that shows the sentence is not told anything by it.
	if _, err := client.GetBalance(within(t, patience), 5); !errors.Is(err, ErrInternal) || !strings.HasSuffix(err.Error(), ": \ufffd]0;x\ufffd\ufffd\ufffdy") {
		t.Errorf("got %q", err)
	}
	check(t, client, 4)
}

// A Hello that named 65,535 shards made as many connections, each of which was tried again for ever.
func TestAShardMapIsBelievedWithinReason(t *testing.T) {
	node := fake.Start(t, 1, nil)
	node.SetShards(65535)
	client, err := New(node.Target, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	tellsInTime(t, time.Second, func(ctx context.Context) error {
		_, err := client.GetBalance(ctx, 1)
		return err
	}, func(err error) bool {
		return err != nil && strings.Contains(err.Error(), "expected 1 to 256 shards, got 65535")
	})
	if accepted := node.Accepted(fake.Any); accepted > 24 {
		t.Errorf("%d connections", accepted)
	}
}
