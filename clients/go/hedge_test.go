package florin

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/florin-db/florin/clients/go/internal/fake"
	"github.com/florin-db/florin/clients/go/internal/frame"
)

// hedged are options by which a second request follows soon, and nothing else moves a call.
func hedged(share float64) Options {
	return Options{
		StallAfter: time.Minute, SilenceMax: 2 * time.Minute, Hedge: Hedge{After: time.Millisecond, Share: share},
	}
}

// counted is a node that counts the requests for accounts, and answers them as the test says.
type counted struct {
	*fake.Node
	asked  atomic.Int32
	answer atomic.Pointer[fake.Handler]
}

func countedNode(t *testing.T, id uint64) *counted {
	c := &counted{}
	ready := make(chan struct{})
	node := follower(t, id, func(request fake.Request) []byte {
		<-ready
		if request.Opcode == frame.Hello {
			return nil
		}
		c.asked.Add(1)
		if answer := c.answer.Load(); answer != nil {
			return (*answer)(request)
		}
		return c.Answer(request)
	})
	c.Node = node
	close(ready)
	return c
}

func (c *counted) answers(answer fake.Handler) { c.answer.Store(&answer) }

func silent(fake.Request) []byte { return []byte{} }

// owned returns so many users whom the client asks of the node first.
func owned(client *Client, first *counted, count int) []uint64 {
	var users []uint64
	for userID := uint64(1); len(users) < count; userID++ {
		if node, _ := client.find(userID, standsGood, tour{}); node.address == seedOf(first.Node) {
			users = append(users, userID)
		}
	}
	return users
}

// two are two nodes of one ledger and a client of both.
func two(t *testing.T, options Options) (one, other *counted, client *Client) {
	one, other = countedNode(t, 1), countedNode(t, 2)
	client = dial(t, together(one.Node, other.Node), options)
	connected(t, client)
	return one, other, client
}

// A node stands still: each of its users is asked of the other, once, and what it says in the end is nobody's.
func TestASecondRequestAnswersWhereTheFirstTakesLong(t *testing.T) {
	slow, other, client := two(t, hedged(1))
	resume := make(chan struct{})
	slow.answers(func(request fake.Request) []byte {
		<-resume
		return slow.Answer(request)
	})
	users := owned(client, slow, 20)
	for _, userID := range users {
		check(t, client, userID)
	}
	if _, err := client.GetStatistics(t.Context(), users[0], AllWindows); err != nil {
		t.Error(err)
	}
	batch, err := client.GetBalances(t.Context(), []uint64{users[0], 5, 6})
	if err != nil || batch.Entries[2].Balance == nil || batch.Entries[2].Balance.UserID != 6 {
		t.Errorf("got %+v, %v", batch, err)
	}
	close(resume)
	eventually(t, "what came late is dropped", func() bool {
		counters := client.Counters()
		return counters.Replies+counters.LateReplies == counters.Requests
	})
	// A request whose caller has its answer before it is written never is.
	if asked := slow.asked.Load(); asked == 0 || asked > 22 {
		t.Errorf("the slow one was asked %d times", asked)
	}
	same(t, other.asked.Load(), 22)
	counters := client.Counters()
	same(t, counters.Hedges, 22)
	same(t, counters.HedgesWon, 22)
	same(t, counters.Replies, 22)
	same(t, counters.Retries, 0)
	for _, pool := range client.Pool() {
		same(t, pool.InFlight, 0)
	}
}

// Everything is slow: nodes get no more than the share on top, for more would be what breaks them.
func TestWhereAllIsSlowTheShareIsAllThatComesOnTop(t *testing.T) {
	one, other, client := two(t, hedged(0.1))
	one.answers(silent)
	other.answers(silent)
	const calls = 300
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	for userID := range uint64(calls) {
		callers.Go(func() { _, _ = client.GetBalance(ctx, userID) })
	}
	eventually(t, "all are due", func() bool {
		counters := client.Counters()
		return counters.Hedges+counters.HedgesWithheld == calls
	})
	cancel()
	callers.Wait()
	if hedges := client.Counters().Hedges; hedges == 0 || hedges > calls/10 {
		t.Errorf("%d hedges of %d calls", hedges, calls)
	}
	if asked := one.asked.Load() + other.asked.Load(); asked > calls+calls/10 {
		t.Errorf("%d requests for %d calls", asked, calls)
	}
	// What is not used is kept, within reason.
	saved := newHedging(Hedge{After: 1, Share: 1})
	for range 10 * hedgesKept {
		saved.earn()
	}
	for range hedgesKept {
		same(t, saved.spend(), true)
	}
	same(t, saved.spend(), false)
}

func TestNoSecondRequestIsSentUnlessAskedFor(t *testing.T) {
	one, other, client := two(t, Options{})
	for userID := range uint64(20) {
		check(t, client, userID)
	}
	same(t, client.hedging == nil, true)
	same(t, one.asked.Load()+other.asked.Load(), 20)
	same(t, client.Counters().Hedges, 0)
}

// The other node follows behind: it is asked for what was shown, has less, and the first one's answer is waited for.
func TestASecondRequestNeverGoesBackInTime(t *testing.T) {
	for _, ask := range []func(*Client, uint64) (uint64, error){
		func(client *Client, userID uint64) (uint64, error) {
			balance, err := client.GetBalance(context.Background(), userID)
			if err != nil {
				return 0, err
			}
			return balance.Version, nil
		},
		func(client *Client, userID uint64) (uint64, error) {
			batch, err := client.GetBalances(context.Background(), []uint64{userID})
			if err != nil {
				return 0, err
			}
			return batch.Entries[0].Balance.Version, nil
		},
	} {
		first, behind, client := two(t, hedged(1))
		userID := owned(client, first, 1)[0]
		if version, err := ask(client, userID); err != nil || version != 7 {
			t.Fatal(version, err)
		}
		won := client.Counters().HedgesWon
		for _, version := range []uint64{3, 0} {
			behind.Version.Store(version)
			was := behind.asked.Load()
			first.answers(func(request fake.Request) []byte {
				eventually(t, "the other is asked", func() bool { return behind.asked.Load() > was })
				return first.Answer(request)
			})
			if got, err := ask(client, userID); err != nil || got != 7 {
				t.Errorf("the other is at %d: got %d, %v", version, got, err)
			}
		}
		same(t, client.Counters().HedgesWon, won)
	}
}

// An answer that lacks something does not overtake one that may have it.
func TestAnAnswerThatLacksSomethingDoesNotWin(t *testing.T) {
	first, other, client := two(t, hedged(1))
	first.answers(func(request fake.Request) []byte {
		eventually(t, "the other is asked", func() bool { return other.asked.Load() >= first.asked.Load() })
		return first.Answer(request)
	})
	other.answers(func(request fake.Request) []byte {
		return fake.Flagged(other.Answer(request), frame.Quarantined)
	})
	for _, userID := range owned(client, first, 10) {
		balance, err := client.GetBalance(t.Context(), userID)
		if err != nil || balance.Quarantined {
			t.Errorf("got %+v, %v", balance, err)
		}
	}
	same(t, client.Counters().HedgesWon, 0)
}

// The first one fails once the second is on its way: that one's answer is the call's, and nobody is asked a third time.
func TestASecondRequestIsWaitedForWhereTheFirstFails(t *testing.T) {
	for name, answer := range map[string]fake.Handler{"sheds": sheds, "warms up": func(request fake.Request) []byte {
		return fake.Refuse(request, uint8(StatusUnavailable), "not yet")
	}} {
		t.Run(name, func(t *testing.T) {
			first, other, client := two(t, hedged(1))
			var failed atomic.Int32
			first.answers(func(request fake.Request) []byte {
				eventually(t, "the other is asked", func() bool { return other.asked.Load() >= first.asked.Load() })
				failed.Add(1)
				return answer(request)
			})
			other.answers(func(request fake.Request) []byte {
				eventually(t, "the first one fails", func() bool { return failed.Load() >= other.asked.Load() })
				return other.Answer(request)
			})
			users := owned(client, first, 5)
			for _, userID := range users {
				check(t, client, userID)
			}
			same(t, first.asked.Load(), int32(len(users)))
			same(t, other.asked.Load(), int32(len(users)))
			same(t, client.Counters().Retries, 0)
		})
	}
}

// There is but one node, and the way to the shard's port loses what it is given: another connection carries the second request.
func TestASecondRequestTakesAnotherConnectionToTheOnlyNode(t *testing.T) {
	var node atomic.Pointer[fake.Node]
	var atShard, atAny atomic.Int32
	started := fake.Start(t, 1, func(request fake.Request) []byte {
		switch {
		case request.Opcode == frame.Hello:
			return nil
		case request.Shard == 0:
			atShard.Add(1)
			return []byte{}
		}
		atAny.Add(1)
		return node.Load().Answer(request)
	})
	node.Store(started)
	client := dial(t, started.Target, hedged(1))
	for userID := range uint64(10) {
		check(t, client, userID)
	}
	same(t, atAny.Load(), 10)
	same(t, client.Counters().HedgesWon, 10)
	if asked := atShard.Load(); asked > 10 {
		t.Errorf("the shard's port was asked %d times", asked)
	}
}

func TestADelayIsObserved(t *testing.T) {
	var took observed
	for range observedEvery - 1 {
		took.note(time.Minute)
	}
	same(t, took.p95.Load(), 0)
	for index := range observedMax + observedEvery {
		took.note(time.Duration(index%100) * 10 * time.Millisecond)
	}
	if p95 := time.Duration(took.p95.Load()); p95 < 900*time.Millisecond || p95 > 980*time.Millisecond {
		t.Errorf("got %v", p95)
	}
	for range observedMax + observedEvery {
		took.note(time.Microsecond)
	}
	same(t, time.Duration(took.p95.Load()), hedgeAfterMin)

	options := hedged(1)
	options.Hedge.After = P95
	slow, _, client := two(t, options)
	users := owned(client, slow, 1)
	for range observedEvery {
		check(t, client, users[0])
	}
	same(t, client.Counters().Hedges, 0)
	slow.answers(silent)
	check(t, client, users[0])
	same(t, client.Counters().HedgesWon, 1)
}

func TestAHedgeThatCannotBeIsRefused(t *testing.T) {
	for name, hedge := range map[string]Hedge{
		"After": {After: -2}, "Share: expected 0 to 1": {After: 1, Share: 1.5}, "expected Hedge.After beside it": {Share: 0.1},
	} {
		if _, err := New("florin://a:1", Options{Hedge: hedge}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v", err)
		}
	}
}

// A caller that leaves takes both of its requests along.
func TestWhoeverLeavesTakesBothRequestsAlong(t *testing.T) {
	one, other, client := two(t, hedged(1))
	one.answers(silent)
	other.answers(silent)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := client.GetBalance(ctx, 1)
		ended <- err
	}()
	eventually(t, "both are asked", func() bool { return one.asked.Load()+other.asked.Load() == 2 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for _, pool := range client.Pool() {
		same(t, pool.InFlight, 0)
	}
}
