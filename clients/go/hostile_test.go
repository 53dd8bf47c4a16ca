package florin

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"runtime"
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
