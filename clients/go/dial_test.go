package florin

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/florin-db/florin/clients/go/internal/fake"
	"github.com/florin-db/florin/clients/go/internal/frame"
)

func addresses(t *testing.T, texts ...string) []netip.Addr {
	t.Helper()
	var found []netip.Addr
	for _, text := range texts {
		found = append(found, netip.MustParseAddr(text))
	}
	return found
}

// A name's first address that swallowed packets took the whole time of an attempt, and those behind it were never tried.
func TestAllAddressesOfANameAreTried(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Addr().String())
	var mu sync.Mutex
	var tried []string
	d := newDialer()
	d.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		tried = append(tried, address)
		mu.Unlock()
		switch {
		case strings.HasPrefix(address, "192.0.2.1:"):
			<-ctx.Done()
			return nil, ctx.Err()
		case strings.HasPrefix(address, "192.0.2.2:"):
			return nil, errors.New("refused")
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	found := addresses(t, "192.0.2.1", "192.0.2.2", "127.0.0.1")
	d.lookup = func(context.Context, string, string) ([]netip.Addr, error) { return found, nil }
	socket, err := d.connect(within(t, patience), "tcp", net.JoinHostPort("florin.test", port))
	if err != nil {
		t.Fatal(err)
	}
	socket.Close()
	mu.Lock()
	same(t, len(tried), 3)
	mu.Unlock()

	// Where none answers, it is said of each; and of none, that there is none.
	found = addresses(t, "192.0.2.2", "192.0.2.1")
	tellsInTime(t, attemptAfter+50*time.Millisecond, func(ctx context.Context) error {
		_, err := d.connect(ctx, "tcp", "florin.test:1")
		return err
	}, func(err error) bool {
		return err != nil && strings.Contains(err.Error(), "refused") && errors.Is(err, context.DeadlineExceeded)
	})
	found = nil
	if _, err = d.connect(t.Context(), "tcp", "florin.test:1"); err == nil || !strings.Contains(err.Error(), "got none") {
		t.Errorf("got %v", err)
	}
}

// A node moves: its name has another address. Whoever has lost the old one asks for the name again, and goes to the shards'
// ports at the new one.
func TestANameIsAskedAgainAfterALoss(t *testing.T) {
	old := fake.Start(t, 1, nil)
	_, port, _ := net.SplitHostPort(seedOf(old))
	moved := fake.StartAtHost(t, "127.0.0.2", port, 1, nil)
	old.NodeID.Store(1)
	moved.NodeID.Store(2)
	var address atomic.Pointer[netip.Addr]
	here, there := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
	address.Store(&here)
	d := newDialer()
	d.lookup = func(_ context.Context, _, host string) ([]netip.Addr, error) {
		same(t, host, "florin.test")
		return []netip.Addr{*address.Load()}, nil
	}
	client := dial(t, "florin://florin.test:"+port, Options{dialer: d})
	check(t, client, 1)
	same(t, moved.Accepted(0), 0)
	address.Store(&there)
	old.Close()
	check(t, client, 2)
	eventually(t, "the shard's port is reached at the new address", func() bool { return moved.Accepted(0) > 0 })
	check(t, client, 3)
}

// A caller that begins without end was held in memory without end: nothing bounded the requests that a server had taken
// and not answered.
func TestCallersBeyondTheMostInFlightArePushedBack(t *testing.T) {
	var isHeld atomic.Bool
	node := &atomic.Pointer[fake.Node]{}
	started := fake.Start(t, 1, func(request fake.Request) []byte {
		if isHeld.Load() && request.Opcode != frame.Hello {
			return []byte{}
		}
		return node.Load().Answer(request)
	})
	node.Store(started)
	started.SetPorts()
	client := dial(t, started.Target, Options{InFlightMax: 50, FailFast: true, StallAfter: time.Minute, SilenceMax: 2 * time.Minute})
	check(t, client, 1)
	isHeld.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	var pushedBack, other atomic.Int32
	var callers sync.WaitGroup
	for userID := range uint64(10_000) {
		callers.Go(func() {
			_, err := client.GetBalance(ctx, userID)
			switch {
			case errors.Is(err, ErrQueueFull) && strings.Contains(err.Error(), "50 are unanswered, as many as InFlightMax allows"):
				pushedBack.Add(1)
			case !errors.Is(err, context.Canceled):
				other.Add(1)
			}
		})
	}
	// A connection for the address, and one for its only shard.
	eventually(t, "all others are told", func() bool { return pushedBack.Load() >= 10_000-100 })
	cancel()
	callers.Wait()
	same(t, other.Load(), 0)
	// Whoever has time waits for room, and is told so where there is none in the end.
	waits := dial(t, started.Target, Options{InFlightMax: 1, StallAfter: time.Minute, SilenceMax: 2 * time.Minute})
	ctx, cancel = context.WithCancel(t.Context())
	for userID := range uint64(4) {
		callers.Go(func() { _, _ = waits.GetBalance(ctx, userID) })
	}
	eventually(t, "there is no room", func() bool {
		_, err := waits.GetBalance(within(t, 20*time.Millisecond), 9)
		return errors.Is(err, ErrQueueFull) && errors.Is(err, context.DeadlineExceeded)
	})
	cancel()
	callers.Wait()
	isHeld.Store(false)
	check(t, waits, 7)
}
