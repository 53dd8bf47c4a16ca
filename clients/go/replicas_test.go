package florin

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/florin-db/florin/clients/go/internal/fake"
	"github.com/florin-db/florin/clients/go/internal/frame"
)

// follower starts a node of one ledger.
func follower(t *testing.T, id uint64, handler fake.Handler) *fake.Node {
	node := fake.Start(t, 1, handler)
	node.NodeID.Store(id)
	node.LedgerID.Store(9)
	return node
}

func together(nodes ...*fake.Node) string {
	var addresses []string
	for _, node := range nodes {
		addresses = append(addresses, seedOf(node))
	}
	return "florin://" + strings.Join(addresses, ",")
}

// connected waits until every node of the client can be asked.
func connected(t *testing.T, client *Client) {
	t.Helper()
	eventually(t, "every node is connected", func() bool {
		for node := range client.fleet.Load().all {
			if missing, _ := node.missing(); missing != nil {
				return false
			}
		}
		return true
	})
}

func TestUsersAreSpreadOverNodesAndEachKeepsItsOwn(t *testing.T) {
	var mu sync.Mutex
	asked := map[uint64]map[int]bool{}
	counts := [3]int{}
	var nodes []*fake.Node
	for index := range 3 {
		nodes = append(nodes, follower(t, uint64(index+1), func(request fake.Request) []byte {
			if request.Opcode == frame.Hello {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if asked[request.UserID] == nil {
				asked[request.UserID] = map[int]bool{}
				counts[index]++
			}
			asked[request.UserID][index] = true
			if request.Freshness != (frame.Freshness{}) {
				t.Errorf("nobody has changed nodes: %+v", request.Freshness)
			}
			return nodes[index].Answer(request)
		}))
	}
	client := dial(t, together(nodes...), Options{})
	connected(t, client)
	for range 2 {
		for userID := range uint64(300) {
			check(t, client, userID)
		}
	}
	for _, count := range counts {
		if count < 60 || count > 140 {
			t.Errorf("users are spread %v", counts)
		}
	}
	for userID, by := range asked {
		if len(by) != 1 {
			t.Errorf("user %d was asked of %v", userID, by)
		}
	}
}

// A node that warms up, sheds, is behind what the caller asks for, answers late or not at all, drains, or is gone: the
// other is asked within the deadline.
func TestWhoeverCannotAnswerNowIsGoneRound(t *testing.T) {
	refuse := func(status Status) fake.Handler {
		return func(request fake.Request) []byte { return fake.Refuse(request, uint8(status), "not now") }
	}
	for name, handler := range map[string]fake.Handler{
		"unavailable": refuse(StatusUnavailable),
		"overloaded":  refuse(StatusOverloaded),
		"stale":       refuse(StatusStale),
		"silent":      func(fake.Request) []byte { return []byte{} },
		"draining": func(request fake.Request) []byte {
			return fake.Flagged(fake.Refuse(request, uint8(StatusUnavailable), "ending"), frame.Draining)
		},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			node := follower(t, 1, func(request fake.Request) []byte {
				if request.Opcode == frame.Hello {
					return nil
				}
				asked.Add(1)
				return handler(request)
			})
			client := dial(t, together(node, follower(t, 2, nil)), Options{StallAfter: 20 * time.Millisecond})
			connected(t, client)
			for userID := range uint64(20) {
				check(t, client, userID)
			}
			if batch, err := client.GetBalances(t.Context(), []uint64{1, 2}); err != nil || batch.Entries[1].Balance == nil {
				t.Errorf("%+v, %v", batch, err)
			}
			if asked.Load() == 0 {
				t.Error("it was never asked")
			}
		})
	}
	// Where nobody can, the caller hears it at once if waiting does not mend it.
	client := dial(t, together(follower(t, 1, sheds), follower(t, 2, sheds)), Options{})
	if _, err := client.GetBalance(within(t, patience), 1); !errors.Is(err, ErrOverloaded) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// The first falls silent while nobody else is there. A call that waits for it goes on to the other as soon as that one comes.
func TestANodeThatComesWhileAnotherIsSilentIsAsked(t *testing.T) {
	var isSilent atomic.Bool
	silent := follower(t, 1, nil)
	silent.SetWriter(func(socket net.Conn, _ int, answers []byte) error {
		if isSilent.Load() {
			return nil
		}
		_, err := socket.Write(answers)
		return err
	})
	other := follower(t, 2, nil)
	other.SetPorts()
	way := fake.Through(t, nowhere)
	client := dial(t, silent.Target+","+way.Address, Options{StallAfter: 20 * time.Millisecond, pause: never})
	check(t, client, 1)
	isSilent.Store(true)
	before := way.Accepted()
	answered := make(chan error, 1)
	go func() {
		_, err := client.GetBalance(within(t, patience), 1)
		answered <- err
	}()
	// Each time that the call looks for another, and finds nobody, the other is tried.
	eventually(t, "it looks again", func() bool { return way.Accepted() >= before+3 })
	way.Lead(seedOf(other))
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// nowhere is where nobody listens: below the ports that are given out, for there a connection to a closed port may be one to itself.
const nowhere = "127.0.0.1:1"

// never is the pause before a node that was away is tried again, unless it is wanted.
func never(int) time.Duration { return time.Hour }

// A Hello that is never answered keeps no call from those who answer, nor any beyond its time where nobody does.
func TestAHelloThatIsNeverAnsweredHoldsNobody(t *testing.T) {
	mute := fake.Mute(t)
	client := dial(t, "florin://"+mute+","+seedOf(follower(t, 2, nil)), Options{})
	for userID := range uint64(50) {
		check(t, client, userID)
	}
	alone, err := New("florin://"+mute, Options{SilenceMax: 2 * patience})
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	for _, ask := range []func(context.Context) error{
		alone.Ready,
		func(ctx context.Context) error { return dropped(alone.GetBalance(ctx, 1)) },
		func(ctx context.Context) error { return dropped(alone.GetBalances(ctx, []uint64{1, 2})) },
	} {
		if err := ask(within(t, 20*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
}

func dropped[T any](_ T, err error) error { return err }

func sheds(request fake.Request) []byte {
	if request.Opcode == frame.Hello {
		return nil
	}
	return fake.Refuse(request, uint8(StatusOverloaded), "later")
}

func TestOneNodeThatAnswersIsEnough(t *testing.T) {
	one, other := follower(t, 1, nil), follower(t, 2, nil)
	client := dial(t, together(one, other), Options{})
	connected(t, client)
	one.Close()
	for userID := range uint64(50) {
		check(t, client, userID)
	}
}

// The node that a user was read from goes away, and the other is behind it: its answer is older than what has been shown.
func TestNoAnswerGoesBackInTime(t *testing.T) {
	for _, behind := range []uint64{0, 3} {
		for _, isBatch := range []bool{false, true} {
			one, other := follower(t, 1, nil), follower(t, 2, nil)
			client := dial(t, together(one, other), Options{})
			connected(t, client)
			read := func(ctx context.Context) (uint64, error) {
				if !isBatch {
					balance, err := client.GetBalance(ctx, 1)
					if err != nil {
						return 0, err
					}
					return balance.Version, nil
				}
				batch, err := client.GetBalances(ctx, []uint64{2, 1})
				if err != nil {
					return 0, err
				}
				return batch.Entries[1].Balance.Version, nil
			}
			if version, err := read(within(t, patience)); err != nil || version != 7 {
				t.Fatal(version, err)
			}
			gone, left := one, other
			if node, _ := client.find(1, standsGood, tour{}); node.address != seedOf(one) {
				gone, left = other, one
			}
			if isBatch {
				// User 2 decides who is asked.
				gone, left = one, other
				if node, _ := client.find(2, standsGood, tour{}); node.address != seedOf(one) {
					gone, left = other, one
				}
			}
			gone.Close()
			left.Version.Store(behind)
			tellsInTime(t, 60*time.Millisecond, func(ctx context.Context) error {
				_, err := read(ctx)
				return err
			}, func(err error) bool {
				return errors.Is(err, ErrStale) && errors.Is(err, context.DeadlineExceeded)
			})
			left.Version.Store(8)
			if version, err := read(within(t, patience)); err != nil || version != 8 {
				t.Errorf("behind %d, batch %v: got %d, %v", behind, isBatch, version, err)
			}
		}
	}
}

// A node of another ledger takes one of the addresses: it is never asked, and does not end the wait for the others.
func TestANodeOfAnotherLedgerIsNeverAsked(t *testing.T) {
	first := follower(t, 1, nil)
	second := follower(t, 2, nil)
	path := fake.Through(t, seedOf(first))
	way := fake.Through(t, seedOf(second))
	first.SetPorts()
	second.SetPorts()
	client := dial(t, "florin://"+path.Address+","+way.Address, Options{})
	connected(t, client)
	other := follower(t, 3, func(request fake.Request) []byte {
		if request.Opcode != frame.Hello {
			t.Error("another ledger's node was asked")
		}
		return nil
	})
	other.SetPorts()
	other.LedgerID.Store(10)
	way.Lead(seedOf(other))
	way.Cut()
	for userID := range uint64(50) {
		check(t, client, userID)
	}
	path.Lead("127.0.0.1:1")
	path.Cut()
	_, err := client.GetBalance(within(t, 60*time.Millisecond), 1)
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrOtherLedger) {
		t.Errorf("got %v", err)
	}
	path.Lead(seedOf(first))
	check(t, client, 1)
}

// Three nodes that follow at their own pace, and every kind of trouble on the way to each, in a random order: every call
// is answered, and no caller sees a user's version go back.
func TestInAnyWeatherNoVersionGoesBack(t *testing.T) {
	t.Run("one request at a time", func(t *testing.T) { inAnyWeather(t, 40, Hedge{}) })
	t.Run("with second requests", func(t *testing.T) { inAnyWeather(t, 40, Hedge{After: time.Millisecond, Share: 0.5}) })
}

func inAnyWeather(t *testing.T, rounds uint64, hedge Hedge) {
	var nodes []*fake.Node
	var paths []*fake.Path
	var addresses []string
	for id := range uint64(3) {
		node := follower(t, id+1, nil)
		node.SetPorts()
		node.Version.Store(1)
		path := fake.Through(t, seedOf(node))
		nodes, paths, addresses = append(nodes, node), append(paths, path), append(addresses, path.Address)
	}
	client := dial(t, "florin://"+strings.Join(addresses, ","), Options{
		StallAfter: 30 * time.Millisecond, SilenceMax: time.Second, Hedge: hedge,
	})
	var shown [16]atomic.Uint64
	note := func(userID, before, got uint64) {
		if got < before {
			t.Errorf("user %d: %d after %d", userID, got, before)
		}
		for {
			highest := shown[userID].Load()
			if got <= highest || shown[userID].CompareAndSwap(highest, got) {
				return
			}
		}
	}
	stop := make(chan struct{})
	var callers sync.WaitGroup
	var reads atomic.Int64
	for caller := range uint64(8) {
		callers.Go(func() {
			for userID := caller; !t.Failed(); userID = (userID + 5) % 16 {
				select {
				case <-stop:
					return
				default:
				}
				other := (userID + 1) % 16
				before, otherBefore := shown[userID].Load(), shown[other].Load()
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				if reads.Add(1)%3 == 0 {
					batch, err := client.GetBalances(ctx, []uint64{userID, other})
					if err != nil {
						t.Error(err)
						cancel()
						return
					}
					note(userID, before, batch.Entries[0].Balance.Version)
					note(other, otherBefore, batch.Entries[1].Balance.Version)
				} else {
					balance, err := client.GetBalance(ctx, userID)
					if err != nil {
						t.Error(err)
						cancel()
						return
					}
					note(userID, before, balance.Version)
				}
				cancel()
			}
		})
	}
	random := rand.New(rand.NewPCG(18, 3))
	for round := range rounds {
		paths[random.IntN(len(paths))].Weather(random, 5)
		// One node is always there, the others follow when it suits them.
		nodes[round%3].Version.Store(round + 2)
		before := reads.Load()
		eventually(t, "reads", func() bool { return reads.Load() >= before+16 || t.Failed() })
	}
	close(stop)
	for _, node := range nodes {
		node.Version.Store(100)
	}
	callers.Wait()
	if counters := client.Counters(); (counters.HedgesWon > 0) != (hedge != Hedge{}) {
		t.Errorf("%+v", counters)
	}
}

func TestWhatIsKeptOfUsersIsBounded(t *testing.T) {
	seen := newSeen()
	call := func(userID, version uint64) *call {
		return &call{opcode: frame.GetBalance, balance: &Balance{UserID: userID, Version: version}}
	}
	for userID := range uint64(10 * seenMax) {
		if seen.show(call(userID, 9), 1) != nil || seen.show(call(7, 9), 1) != nil {
			t.Fatal("nothing is behind")
		}
	}
	if err := seen.show(call(7, 8), 2); !errors.Is(err, ErrStale) {
		t.Errorf("got %v", err)
	}
	if len(seen.young) > seenMax || len(seen.old) > seenMax {
		t.Errorf("%d and %d users are kept", len(seen.young), len(seen.old))
	}
}
