package florin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/florin-db/florin/clients/go/internal/fake"
	"github.com/florin-db/florin/clients/go/internal/frame"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

func dial(t *testing.T, target string, options Options) *Client {
	t.Helper()
	// A busy machine is silent now and then: a test that does not say so means nothing by it.
	options.StallAfter = cmp.Or(options.StallAfter, patience)
	options.SilenceMax = cmp.Or(options.SilenceMax, 2*patience)
	client, err := New(target, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if err := client.Ready(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	return client
}

func within(t *testing.T, limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

// tellsInTime asks with ever more time, until it is told: a call that is given up tells what has come, and on a busy machine that may be nothing.
func tellsInTime(t *testing.T, limit time.Duration, ask func(context.Context) error, isTold func(error) bool) {
	t.Helper()
	for ; ; limit *= 4 {
		err := ask(within(t, limit))
		if isTold(err) {
			return
		}
		if !errors.Is(err, context.DeadlineExceeded) || limit > patience/4 {
			t.Errorf("within %v: got %v", limit, err)
			return
		}
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
		time.Sleep(time.Millisecond)
	}
}

// check is for goroutines, which may not end the test.
func check(t *testing.T, client *Client, userID uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	balance, err := client.GetBalance(ctx, userID)
	if err != nil {
		t.Error(err)
		return
	}
	if held, ok := balance.Asset("COIN"); !ok || balance.UserID != userID || held.Available != int64(userID) {
		t.Errorf("user %d got %+v", userID, balance)
	}
}

func TestEachReadReturnsWhatTheServerSays(t *testing.T) {
	for name, node := range map[string]*fake.Node{"tcp": fake.Start(t, 2, nil), "unix": fake.StartUnix(t, 2, nil)} {
		t.Run(name, func(t *testing.T) {
			client := dial(t, node.Target, Options{})
			same(t, client.Shards(), 2)
			check(t, client, 42)
			statistics, err := client.GetStatistics(t.Context(), 42, Only(Hours24, Days30))
			if err != nil {
				t.Fatal(err)
			}
			same(t, statistics.Assets[0].ByWindow[Hours24].CreditCount, 1)
			same(t, statistics.Assets[0].ByWindow[Days7].CreditCount, 0)
			same(t, statistics.Assets[0].ByWindow[Days30].CreditCount, 3)
			same(t, statistics.LastTransactionAt.UnixMicro(), int64(fake.AsOfUS))
			origin, err := client.Ping(t.Context(), []byte("ping"))
			if err != nil || origin.AsOf.UnixMicro() != fake.AsOfUS {
				t.Errorf("%+v, %v", origin, err)
			}
			if _, err := client.Ping(t.Context(), make([]byte, 1025)); err == nil {
				t.Error("a Ping of 1,025 bytes was sent")
			}
		})
	}
}

func TestRequestsGoToTheShardThatOwnsTheUser(t *testing.T) {
	const shards = 3
	node := fake.Start(t, shards, nil)
	client := dial(t, node.Target, Options{ConnectionsPerShard: 2})
	for userID := range uint64(100) {
		balance, err := client.GetBalance(t.Context(), userID)
		if err != nil {
			t.Fatal(err)
		}
		same(t, int(balance.Shard), frame.Shard(userID, shards))
	}
	for shard := range shards {
		same(t, node.Accepted(shard), 2)
	}
}

func TestBatchesAreSplitAndJoinedInOrder(t *testing.T) {
	var mu sync.Mutex
	sizes := map[int][]int{}
	var node *fake.Node
	node = fake.Start(t, 2, func(request fake.Request) []byte {
		if request.Opcode == frame.GetBalances {
			mu.Lock()
			sizes[request.Shard] = append(sizes[request.Shard], len(request.Body)/8)
			mu.Unlock()
			for _, id := range request.UserIDs() {
				if request.UserID != 0 || frame.Shard(id, 2) != request.Shard {
					t.Errorf("shard %d was asked for user %d", request.Shard, id)
				}
			}
		}
		return node.Answer(request)
	})
	client := dial(t, node.Target, Options{})
	ids := make([]uint64, 5000)
	for index := range ids {
		ids[index] = uint64(index * 7 % 1999)
	}
	batch, err := client.GetBalances(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	for index, entry := range batch.Entries {
		if entry.UserID != ids[index] || entry.Balance == nil || entry.Balance.Assets[0].Available != int64(ids[index]) {
			t.Fatalf("entry %d of user %d: %+v", index, ids[index], entry)
		}
	}
	for shard := range 2 {
		if got := sizes[shard]; len(got) != 3 || slices.Max(got) != frame.BatchUsersMax {
			t.Errorf("shard %d was asked for %v users", shard, got)
		}
	}
	if batch, err := client.GetBalances(t.Context(), nil); err != nil || len(batch.Entries) != 0 {
		t.Errorf("an empty batch: %+v, %v", batch, err)
	}
}

func TestABatchSaysWhichOfItsUsersCannotBeAnswered(t *testing.T) {
	var isDown atomic.Int32
	var node *fake.Node
	node = fake.Start(t, 2, func(request fake.Request) []byte {
		if request.Opcode == frame.GetBalances && (request.Shard == 1 || isDown.Load() == 2) {
			return fake.Refuse(request, uint8(StatusUnavailable), "warming up")
		}
		return node.Answer(request)
	})
	client := dial(t, node.Target, Options{Deadline: time.Second})
	ids := []uint64{0, 1, 2, 3, 4, 5, 6, 7}
	batch, err := client.GetBalances(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	for index, entry := range batch.Entries {
		want := StatusOK
		if frame.Shard(ids[index], 2) == 1 {
			want = StatusUnavailable
		}
		same(t, entry.Status, want)
		same(t, entry.Balance != nil, want == StatusOK)
	}
	isDown.Store(2)
	if _, err := client.GetBalances(t.Context(), ids); !errors.Is(err, ErrUnavailable) {
		t.Errorf("no shard could answer: %v", err)
	}
}

func TestConcurrentRequestsShareWrites(t *testing.T) {
	const callers, each = 64, 50
	var mu sync.Mutex
	turns := map[[2]int]int{}
	var node *fake.Node
	node = fake.Start(t, 1, func(request fake.Request) []byte {
		if request.Opcode == frame.GetBalance {
			mu.Lock()
			turns[[2]int{request.Shard, request.Turn}]++
			mu.Unlock()
		}
		return node.Answer(request)
	})
	client := dial(t, node.Target, Options{})
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			for turn := range each {
				check(t, client, uint64(caller*each+turn))
			}
		})
	}
	group.Wait()
	if len(turns) > callers*each/4 {
		t.Errorf("%d requests took %d writes", callers*each, len(turns))
	}
}

func TestOptionsAreSent(t *testing.T) {
	seen := make(chan frame.Freshness, 1)
	var node *fake.Node
	node = fake.Start(t, 1, func(request fake.Request) []byte {
		if request.Opcode == frame.GetBalance {
			seen <- request.Freshness
			request.Freshness = frame.Freshness{}
		}
		return node.Answer(request)
	})
	client := dial(t, node.Target, Options{})
	for _, c := range []struct {
		options []ReadOption
		want    frame.Freshness
	}{
		{nil, frame.Freshness{}},
		{[]ReadOption{MinVersion(7)}, frame.Freshness{MinVersion: 7}},
		{[]ReadOption{MaxAge(time.Microsecond), Wait(1500 * time.Microsecond)}, frame.Freshness{MaxAgeMS: 1, WaitMS: 2}},
		{[]ReadOption{MaxAge(10000 * time.Hour), MinVersion(1 << 63)}, frame.Freshness{MinVersion: 1 << 63, MaxAgeMS: 1<<32 - 1}},
		{[]ReadOption{MinVersion(7), MinVersion(8)}, frame.Freshness{MinVersion: 8}},
	} {
		if _, err := client.GetBalance(t.Context(), 42, c.options...); err != nil {
			t.Fatal(err)
		}
		same(t, <-seen, c.want)
	}
}

func TestEveryStatusHasItsError(t *testing.T) {
	var status atomic.Int32
	var node *fake.Node
	node = fake.Start(t, 1, func(request fake.Request) []byte {
		if request.Opcode == frame.GetBalance {
			return fake.Refuse(request, uint8(status.Load()), "what to do")
		}
		return node.Answer(request)
	})
	client := dial(t, node.Target, Options{})
	for want := StatusNotFound; want <= StatusInternal; want++ {
		status.Store(int32(want))
		var err error
		tellsInTime(t, 30*time.Millisecond, func(ctx context.Context) error {
			_, err = client.GetBalance(ctx, 42)
			return err
		}, func(err error) bool {
			var refusal *StatusError
			return errors.As(err, &refusal) && refusal.Status == want && refusal.Message == "what to do"
		})
		for other, sentinel := range statusErrors {
			if sentinel != nil {
				same(t, errors.Is(err, sentinel), Status(other) == want)
			}
		}
	}
}

func TestADeadlineEndsACallAndNothingElse(t *testing.T) {
	release := make(chan struct{})
	var node *fake.Node
	node = fake.Start(t, 1, func(request fake.Request) []byte {
		if request.Opcode == frame.GetBalance && request.UserID == 1 {
			return nil
		}
		if request.Opcode == frame.GetBalance && request.UserID == 2 {
			<-release
		}
		return node.Answer(request)
	})
	client := dial(t, node.Target, Options{})
	if _, err := client.GetBalance(within(t, 10*time.Millisecond), 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.GetBalance(ctx, 42); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := client.GetBalance(within(t, 10*time.Millisecond), 2); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	// The late reply finds nobody, though its slot has been given to another call by then.
	close(release)
	for userID := range uint64(20) {
		check(t, client, userID+100)
	}
}

func TestALostConnectionIsMadeAgainAndItsReadsRepeated(t *testing.T) {
	var drops atomic.Int32
	var node *fake.Node
	node = fake.Start(t, 2, func(request fake.Request) []byte {
		if request.Opcode == frame.GetBalance && request.UserID == 1 && drops.Add(1) == 1 {
			go node.Drop()
			return nil
		}
		return node.Answer(request)
	})
	client := dial(t, node.Target, Options{})
	_, err := client.GetBalance(t.Context(), 1)
	if err != nil && !errors.Is(err, ErrDisconnected) {
		t.Fatal(err)
	}
	if err := client.Ready(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "answers again", func() bool {
		_, err := client.GetBalance(t.Context(), 1)
		return err == nil
	})
}

func TestAnAbsentServerIsNamed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	for isFast, options := range map[bool]Options{true: {FailFast: true}, false: {Deadline: time.Second}} {
		client, err := New("florin://"+address, options)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		_, err = client.GetBalance(t.Context(), 42)
		var lost *DisconnectedError
		if !errors.As(err, &lost) || !errors.Is(err, ErrDisconnected) || lost.Address != address {
			t.Errorf("got %v", err)
		}
		same(t, errors.Is(err, context.DeadlineExceeded), !isFast)
	}
	client, err := New("florin://"+address, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	tellsInTime(t, 30*time.Millisecond, client.Ready, func(err error) bool {
		return errors.Is(err, ErrDisconnected) && errors.Is(err, context.DeadlineExceeded)
	})
	fake.StartAt(t, address, 2, nil)
	if err := client.Ready(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	check(t, client, 42)
}

func TestANodeThatComesBackWithOtherShardsIsFollowed(t *testing.T) {
	node := fake.Start(t, 1, nil)
	client := dial(t, node.Target, Options{})
	check(t, client, 42)
	node.Close()
	var other *fake.Node
	eventually(t, "the port is free", func() bool {
		listener, err := net.Listen("tcp", node.Target[len("florin://"):])
		if err != nil {
			return false
		}
		listener.Close()
		return true
	})
	other = fake.StartAt(t, node.Target[len("florin://"):], 3, nil)
	eventually(t, "three shards", func() bool { return client.Shards() == 3 })
	if err := client.Ready(within(t, patience)); err != nil {
		t.Fatal(err)
	}
	for userID := range uint64(30) {
		check(t, client, userID)
	}
	for shard := range 3 {
		same(t, other.Accepted(shard), 1)
	}
}

func TestAShardPortThatIsOutOfReachIsDoneWithout(t *testing.T) {
	node := fake.Start(t, 2, nil)
	seed := node.Target[len("florin://"):]
	dialer := new(net.Dialer)
	client, err := New(node.Target, Options{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address != seed {
			return nil, errors.New("behind a wall")
		}
		return dialer.DialContext(ctx, network, address)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for userID := range uint64(10) {
		check(t, client, userID)
	}
}

func TestGarbageEndsTheConnectionAndIsNamed(t *testing.T) {
	var node *fake.Node
	node = fake.Start(t, 1, func(request fake.Request) []byte {
		if request.Opcode == frame.GetBalance && request.UserID == 13 {
			return []byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		}
		return node.Answer(request)
	})
	client := dial(t, node.Target, Options{})
	if _, err := client.GetBalance(t.Context(), 13); !errors.Is(err, ErrProtocol) {
		t.Errorf("got %v", err)
	}
	eventually(t, "answers again", func() bool {
		_, err := client.GetBalance(t.Context(), 42)
		return err == nil
	})
}

func TestCloseEndsWhatIsUnderWay(t *testing.T) {
	arrived := make(chan struct{})
	var node *fake.Node
	node = fake.Start(t, 1, func(request fake.Request) []byte {
		if request.Opcode == frame.GetBalance {
			close(arrived)
			return nil
		}
		return node.Answer(request)
	})
	client := dial(t, node.Target, Options{})
	ended := make(chan error)
	go func() {
		_, err := client.GetBalance(t.Context(), 42)
		ended <- err
	}()
	<-arrived
	client.Close()
	if err := <-ended; !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	if _, err := client.GetBalance(t.Context(), 42); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	client.Close()
}

func TestARefusedHelloIsReportedAtOnce(t *testing.T) {
	node := fake.Start(t, 1, func(request fake.Request) []byte {
		return fake.Refuse(request, uint8(StatusUnauthenticated), "give a token")
	})
	client, err := New(node.Target, Options{Token: "wrong"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Ready(within(t, patience)); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("got %v", err)
	}
}

func TestTargetsThatNameNothingAreRefused(t *testing.T) {
	for _, target := range []string{"", "localhost:7400", "florin://", "florin://host", "florin://host:", "florin://a:1,", "florin://a:1,a:1", "unix://", "http://host:1"} {
		if client, err := New(target, Options{}); err == nil {
			client.Close()
			t.Errorf("%q was taken", target)
		}
	}
	if _, err := New("florin://host:1", Options{ConnectionsPerShard: -1}); err == nil {
		t.Error("-1 connections were taken")
	}
}

func TestAssetsAreTheirCodes(t *testing.T) {
	for _, code := range []string{"A", "COIN", "DIAMOND", "ABCDEFGH", "_0"} {
		var asset Asset
		for index := range len(code) {
			asset |= Asset(code[index]) << (8 * index)
		}
		same(t, asset.String(), code)
		same(t, asset.isLegal() && asset.Is(code) && !asset.Is(code[1:]), true)
	}
	for _, wrong := range []Asset{0, 'a', 'A' | 'B'<<16, 0xff} {
		same(t, wrong.isLegal(), false)
	}
	same(t, fmt.Sprint(Lifetime, Window(9), StatusStale, Status(77)), "lifetime Window(9) STALE Status(77)")
}

// BenchmarkGetBalance measures the caller's side, with a fake node in the same process.
func BenchmarkGetBalance(b *testing.B) {
	node := fake.Start(b, 1, nil)
	client, err := New(node.Target, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	if err := client.Ready(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := client.GetBalance(b.Context(), 42); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
