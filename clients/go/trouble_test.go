package florin

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/florin-db/florin/clients/go/internal/fake"
	"github.com/florin-db/florin/clients/go/internal/frame"
)

// seedOf is the address of a node's port of all.
func seedOf(node *fake.Node) string { return node.Target[len("florin://"):] }

// behind starts a node without shard ports that is reached over a way.
func behind(t *testing.T, handler fake.Handler) (*fake.Node, *fake.Path) {
	node := fake.Start(t, 1, handler)
	node.SetPorts()
	return node, fake.Through(t, seedOf(node))
}

// A path that drops packets: the socket is open, writes succeed, nothing comes back. The client read without a deadline,
// so every call failed for as long as anybody looked (145 s), though a new connection would have worked at once.
func TestAPathThatDropsPacketsIsLeft(t *testing.T) {
	_, path := behind(t, nil)
	client := dial(t, "florin://"+path.Address, Options{StallAfter: 20 * time.Millisecond, SilenceMax: 2 * patience})
	check(t, client, 1)
	path.Drop()
	var callers sync.WaitGroup
	for userID := range uint64(20) {
		callers.Go(func() { check(t, client, userID) })
	}
	// Nobody lives to see that the connection is given up for its silence: another one was tried meanwhile.
	callers.Wait()
}

// Behind a wall that drops everything, new connections too, a connection ends after SilenceMax, counted from when the
// first unanswered request was sent, and a call says why it has no answer.
func TestSilenceEndsAConnection(t *testing.T) {
	var isFrozen atomic.Bool
	node := &atomic.Pointer[fake.Node]{}
	held := func(request fake.Request) []byte {
		if isFrozen.Load() {
			return []byte{}
		}
		return node.Load().Answer(request)
	}
	frozen, path := behind(t, held)
	node.Store(frozen)
	client := dial(t, "florin://"+path.Address, Options{StallAfter: 10 * time.Millisecond, SilenceMax: 100 * time.Millisecond})
	isFrozen.Store(true)
	connection := client.fleet.Load().nodes[0].seed.current.Load()
	tellsInTime(t, 300*time.Millisecond, func(ctx context.Context) error {
		_, err := client.GetBalance(ctx, 1)
		return err
	}, func(err error) bool {
		return errors.Is(err, ErrDisconnected) && errors.Is(err, context.DeadlineExceeded)
	})
	select {
	case <-connection.gone:
	default:
		t.Error("the connection is still there")
	}
	isFrozen.Store(false)
	if err := client.Ready(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	check(t, client, 2)
}

// Whoever asked the server to hold a request does not mistake the holding for silence.
func TestARequestThatIsHeldIsNoSilence(t *testing.T) {
	var node *fake.Node
	node, path := behind(t, func(request fake.Request) []byte { return node.Answer(request) })
	path.Delay(100 * time.Millisecond)
	client := dial(t, "florin://"+path.Address, Options{StallAfter: 20 * time.Millisecond})
	before := path.Accepted()
	if _, err := client.GetBalance(t.Context(), 1, MinVersion(7), Wait(patience/2)); err != nil {
		t.Fatal(err)
	}
	same(t, path.Accepted(), before)
}

// After a restart callers with 500 ms to spare were told "warming up" at once instead of an answer 100 ms later.
func TestANodeThatWarmsUpIsWaitedFor(t *testing.T) {
	var refusals atomic.Int32
	var node *fake.Node
	node = fake.Start(t, 2, func(request fake.Request) []byte {
		if request.Opcode != frame.Hello && refusals.Add(1) <= 12 {
			return fake.Refuse(request, uint8(StatusUnavailable), "warming up")
		}
		return node.Answer(request)
	})
	client := dial(t, node.Target, Options{})
	check(t, client, 1)
	refusals.Store(0)
	if batch, err := client.GetBalances(t.Context(), []uint64{1, 2, 3}); err != nil || batch.Entries[2].Status != StatusOK {
		t.Errorf("%+v, %v", batch, err)
	}
	// Those who do not wait are told at once; so are those whose time is over, by the server's own words.
	refusals.Store(-1 << 30)
	tellsInTime(t, 40*time.Millisecond, func(ctx context.Context) error {
		_, err := client.GetBalance(ctx, 1)
		return err
	}, func(err error) bool {
		var refusal *StatusError
		return errors.As(err, &refusal) && refusal.Message == "warming up" && errors.Is(err, context.DeadlineExceeded)
	})
	hasty := dial(t, node.Target, Options{FailFast: true})
	if _, err := hasty.GetBalance(t.Context(), 1); !errors.Is(err, ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// About an account whose hole lasts both clients asked again and again until the deadline.
func TestAnAccountThatStaysIncompleteIsToldAtOnce(t *testing.T) {
	var asked atomic.Int32
	node := fake.Start(t, 1, func(request fake.Request) []byte {
		if request.Opcode == frame.Hello {
			return nil
		}
		asked.Add(1)
		refusal := fake.Refuse(request, uint8(StatusUnavailable), "not complete")
		return fake.Flagged(refusal, frame.Quarantined|frame.Lasting)
	})
	client := dial(t, node.Target, Options{})
	_, err := client.GetBalance(t.Context(), 1)
	var refusal *StatusError
	if !errors.As(err, &refusal) || !refusal.Lasting || !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	same(t, asked.Load(), 1)
}

// A node announces its end on every answer. What is new goes to another connection; what is under way is finished there.
func TestAConnectionThatDrainsIsFinishedAndLeft(t *testing.T) {
	var isDraining atomic.Bool
	var node *fake.Node
	node, path := behind(t, func(request fake.Request) []byte {
		if request.Opcode == frame.GetBalance && isDraining.Swap(false) {
			return fake.Flagged(node.Answer(request), frame.Draining)
		}
		return node.Answer(request)
	})
	client := dial(t, "florin://"+path.Address, Options{})
	link := client.fleet.Load().nodes[0].routes.Load().groups[0].links[0]
	old := link.current.Load()
	isDraining.Store(true)
	check(t, client, 1)
	eventually(t, "another is made", func() bool { return link.current.Load() != old && link.current.Load() != nil })
	check(t, client, 2)
	select {
	case <-old.gone:
	case <-time.After(patience):
		t.Error("a connection on which nothing is under way is kept")
	}
	same(t, path.Accepted(), 3)
}

// A graceful stop and a start lose no read that has the time: neither the one under way nor those that come between.
func TestARestartLosesNoRead(t *testing.T) {
	node := fake.Start(t, 2, nil)
	client := dial(t, node.Target, Options{})
	address := seedOf(node)
	stop := make(chan struct{})
	var callers sync.WaitGroup
	var reads atomic.Int64
	for caller := range uint64(8) {
		callers.Go(func() {
			for userID := caller; ; userID += 8 {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				balance, err := client.GetBalance(ctx, userID%1000)
				cancel()
				if err != nil || balance.UserID != userID%1000 {
					t.Errorf("user %d: %+v, %v", userID%1000, balance, err)
					return
				}
				reads.Add(1)
			}
		})
	}
	for range 3 {
		before := reads.Load()
		eventually(t, "reads", func() bool { return reads.Load() > before+50 })
		node.Close()
		eventually(t, "the port is free", func() bool {
			listener, err := net.Listen("tcp", address)
			if err == nil {
				listener.Close()
			}
			return err == nil
		})
		node = fake.StartAt(t, address, 3, nil)
	}
	before := reads.Load()
	eventually(t, "reads", func() bool { return reads.Load() > before+50 })
	close(stop)
	callers.Wait()
}

// A server that accepts, greets and ends what it has accepted was connected to in a hot loop.
func TestAFlappingServerIsNotConnectedToInAHotLoop(t *testing.T) {
	var node *fake.Node
	var greeted atomic.Int32
	node = fake.Start(t, 1, func(request fake.Request) []byte {
		if request.Opcode == frame.Hello {
			greeted.Add(1)
			go node.Drop()
		}
		return nil
	})
	client, err := New(node.Target, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	<-time.After(300 * time.Millisecond)
	// Without growing pauses there are thousands; with them some eight of the seed's, and of the shard's.
	if count := greeted.Load(); count > 60 {
		t.Errorf("%d connections in 300 ms", count)
	}
}

// Close raced the first connect: Ready then followed routes that were never made.
func TestReadyAfterAnEarlyCloseIsAnError(t *testing.T) {
	node := fake.Start(t, 1, nil)
	for range 200 {
		client, err := New(node.Target, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var both sync.WaitGroup
		both.Go(func() {
			if err := client.Ready(t.Context()); err != nil && !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		})
		both.Go(func() { client.Close() })
		both.Wait()
		if err := client.Ready(t.Context()); !errors.Is(err, ErrClosed) {
			t.Fatalf("got %v", err)
		}
	}
}

// Behind a translated address a shard's port led to another node, and its answers were taken for the first one's.
func TestAShardsPortThatLeadsToAnotherNodeIsNotUsed(t *testing.T) {
	var strangers atomic.Int32
	stranger := fake.Start(t, 1, func(request fake.Request) []byte {
		if request.Opcode != frame.Hello {
			strangers.Add(1)
		}
		return nil
	})
	stranger.NodeID.Store(2)
	node := fake.Start(t, 1, nil)
	node.NodeID.Store(1)
	right := node.Ports()
	node.SetPorts(stranger.Ports()...)
	client, err := New(node.Target, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for userID := range uint64(20) {
		check(t, client, userID)
	}
	tellsInTime(t, 50*time.Millisecond, client.Ready, func(err error) bool {
		var identity *IdentityError
		return errors.Is(err, ErrOtherNode) && errors.As(err, &identity) && identity.Expected == 1 && identity.Got == 2
	})
	same(t, strangers.Load(), 0)
	// A node that was started anew on the same ports is asked for its map again.
	node.SetPorts(right...)
	node.NodeID.Store(3)
	node.Drop()
	if err := client.Ready(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	check(t, client, 1)
}

// Another ledger's node on an address that a client uses: its answers are of other accounts, and came without an error.
func TestAnotherLedgersAnswersAreAnError(t *testing.T) {
	node, path := behind(t, nil)
	node.LedgerID.Store(5)
	client := dial(t, "florin://"+path.Address, Options{})
	check(t, client, 1)
	other := fake.Start(t, 1, func(request fake.Request) []byte {
		if request.Opcode != frame.Hello {
			t.Error("another ledger's node was asked")
		}
		return nil
	})
	other.SetPorts()
	other.LedgerID.Store(6)
	path.Lead(seedOf(other))
	path.Cut()
	_, err := client.GetBalance(within(t, patience), 1)
	for !errors.Is(err, ErrOtherLedger) {
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.GetBalance(within(t, patience), 1)
	}
	if !strings.Contains(err.Error(), "the address leads to a node of another ledger") || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	// A ledger that was empty when its node started says nothing of itself, and is no other.
	node.LedgerID.Store(0)
	path.Lead(seedOf(node))
	eventually(t, "answers again", func() bool {
		_, err := client.GetBalance(within(t, patience), 1)
		return err == nil
	})
}

// Callers that gave up left their frames in the queue of a server that read nothing, until nobody else could ask.
func TestWhatWasGivenUpIsNotWritten(t *testing.T) {
	ours, theirs := net.Pipe()
	connection := newConnection(ours, "pipe", &Options{StallAfter: time.Minute, SilenceMax: time.Minute, InFlightMax: 1 << 20}, new(tally))
	defer connection.lose(ErrClosed)
	ids := make([]uint64, frame.BatchUsersMax)
	give := func() error {
		call := newCall(frame.GetBalances)
		defer call.free()
		call.entries = make([]BatchEntry, len(ids))
		ctx, cancel := context.WithCancel(t.Context())
		sent, err := connection.send(call)
		cancel()
		if err == nil {
			err = connection.wait(ctx, call, sent, elsewhere{})
		}
		return err
	}
	// 100 MiB of frames, and room for four.
	for range 100 << 20 / (8 << 10) {
		if err := give(); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	connection.mu.Lock()
	if len(connection.queued) > 2 || connection.queuedBytes != 0 {
		t.Errorf("%d calls, %d bytes are queued for nobody", len(connection.queued), connection.queuedBytes)
	}
	connection.mu.Unlock()
	// Who waits is bounded, and told.
	var waiting []sent
	for {
		call := newCall(frame.GetBalances)
		call.entries = make([]BatchEntry, len(ids))
		sent, err := connection.send(call)
		if errors.Is(err, ErrQueueFull) {
			break
		}
		if err != nil || len(waiting) > 10_000 {
			t.Fatal(len(waiting), err)
		}
		waiting = append(waiting, sent)
	}
	for _, sent := range waiting {
		connection.takeBack(sent.id)
	}
	theirs.Close()
}

// Whatever the way does, a call that has the time gets its own answer: every kind of trouble in a random order, on the
// port of all and on the shards' ports alike.
func TestInAnyWeatherEveryCallGetsItsOwnAnswer(t *testing.T) {
	node := fake.Start(t, 2, nil)
	paths := []*fake.Path{fake.Through(t, seedOf(node))}
	var ports []uint16
	for _, port := range node.Ports() {
		path := fake.Through(t, net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
		_, behind, _ := net.SplitHostPort(path.Address)
		number, _ := strconv.Atoi(behind)
		ports, paths = append(ports, uint16(number)), append(paths, path)
	}
	node.SetPorts(ports...)
	client := dial(t, "florin://"+paths[0].Address, Options{StallAfter: 30 * time.Millisecond, SilenceMax: time.Second})
	stop := make(chan struct{})
	var callers sync.WaitGroup
	var reads atomic.Int64
	for caller := range uint64(16) {
		callers.Go(func() {
			for userID := caller; ; userID = (userID + 16) % 1000 {
				select {
				case <-stop:
					return
				default:
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				balance, err := client.GetBalance(ctx, userID)
				if err != nil || balance.UserID != userID || balance.Assets[0].Available != int64(userID) {
					t.Errorf("user %d: %+v, %v", userID, balance, err)
				}
				if batch, err := client.GetBalances(ctx, []uint64{userID, 1, 2, 3}); err != nil || batch.Entries[0].Balance == nil {
					t.Errorf("user %d: %+v, %v", userID, batch, err)
				}
				cancel()
				if t.Failed() {
					return
				}
				reads.Add(1)
			}
		})
	}
	random := rand.New(rand.NewPCG(13, 24))
	for range 60 {
		paths[random.IntN(len(paths))].Weather(random, 4)
		before := reads.Load()
		eventually(t, "reads", func() bool { return reads.Load() >= before+16 || t.Failed() })
	}
	close(stop)
	callers.Wait()
}

// A process that stood still (SIGSTOP, a frozen control group) for longer than a silence may last gave its connection up, with the
// answers that had come meanwhile.
func TestASilenceIsJudgedTwice(t *testing.T) {
	client := dial(t, fake.Start(t, 1, nil).Target, Options{})
	connection := client.fleet.Load().nodes[0].seed.current.Load()
	stop := func() {
		connection.mu.Lock()
		connection.silence.unanswered, connection.silence.since = 1, time.Now().Add(-time.Hour)
		connection.mu.Unlock()
		connection.look()
	}
	stop()
	same(t, connection.standing.Load(), standsGood)
	connection.mu.Lock()
	connection.heard()
	connection.mu.Unlock()
	stop()
	same(t, connection.standing.Load(), standsGood)
	select {
	case <-connection.gone:
	case <-time.After(patience):
		t.Error("where nothing comes it is given up")
	}
}
