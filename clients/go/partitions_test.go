package florin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/florin-db/florin/clients/go/internal/fake"
	"github.com/florin-db/florin/clients/go/internal/frame"
)

// The values are those of Kafka's own UtilsTest.
func TestThePartitionerIsKafkas(t *testing.T) {
	for key, hash := range map[string]int32{
		"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107,
	} {
		if got := int32(murmur2([]byte(key))); got != hash {
			t.Errorf("%s: got %d, want %d", key, got, hash)
		}
	}
	same(t, partitioners["crc32"]([]byte("123456789")), 0xCBF43926)
}

// divided are nodes that divide the users of 6 partitions among them.
type divided struct {
	t     *testing.T
	nodes []*fake.Node
	// ways lead to them, where they are asked by these.
	ways  []*fake.Path
	asked []atomic.Int64
	// named is how many of them a map names.
	named int

	mu sync.Mutex
	// maps are what each node knows.
	maps []*nodeMap
}

func divide(t *testing.T, nodes int) *divided {
	d := &divided{t: t, asked: make([]atomic.Int64, nodes), named: nodes, maps: make([]*nodeMap, nodes)}
	for index := range nodes {
		d.nodes = append(d.nodes, follower(t, uint64(index+1), func(request fake.Request) []byte {
			if request.Opcode == frame.Hello {
				return nil
			}
			return d.answer(index, request)
		}))
	}
	return d
}

// divideByWays is divide, of nodes that are asked by ways.
func divideByWays(t *testing.T, nodes int) *divided {
	d := divide(t, nodes)
	for _, node := range d.nodes {
		node.SetPorts()
		d.ways = append(d.ways, fake.Through(t, seedOf(node)))
	}
	return d
}

// leave cuts the way to a node, and lets nobody through any more.
func (d *divided) leave(index int) {
	d.ways[index].Lead(nowhere)
	d.ways[index].Cut()
}

// address is where a node is asked.
func (d *divided) address(index int) string {
	if d.ways == nil {
		return seedOf(d.nodes[index])
	}
	return d.ways[index].Address
}

func (d *divided) answer(index int, request fake.Request) []byte {
	d.asked[index].Add(1)
	users := []uint64{request.UserID}
	if request.Opcode == frame.GetBalances {
		users = request.UserIDs()
	}
	d.mu.Lock()
	known := d.maps[index]
	d.mu.Unlock()
	for _, userID := range users {
		if !slices.Contains(known.holdersOf(userID), uint16(index)) {
			return fake.Elsewhere(request, known.epoch)
		}
	}
	return d.nodes[index].Answer(request)
}

// tell gives the nodes at the given places a map: of each partition its holders, the owner first.
func (d *divided) tell(epoch uint64, holders [][]uint16, to ...int) {
	told := &fake.Map{Epoch: epoch, Partitioner: "murmur2", Each: 2}
	for index := range d.nodes[:d.named] {
		host, port, _ := net.SplitHostPort(d.address(index))
		number, _ := strconv.Atoi(port)
		told.Nodes = append(told.Nodes, fake.MapNode{ID: uint64(index + 1), Host: host, Port: uint16(number)})
	}
	for _, of := range holders {
		told.Holders = append(append(told.Holders, of...), slices.Repeat([]uint16{nobody}, 2-len(of))...)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, index := range to {
		d.maps[index] = &nodeMap{epoch: epoch, partitioner: partitioners["murmur2"], holders: told.Holders, holdersEach: 2}
		d.nodes[index].SetMap(told)
	}
}

func (d *divided) count() (sum int64) {
	for index := range d.asked {
		sum += d.asked[index].Load()
	}
	return sum
}

// client is given the first of the nodes, and knows all.
func (d *divided) client(options Options) *Client {
	d.t.Helper()
	client := dial(d.t, "florin://"+d.address(0), options)
	eventually(d.t, "the map is known", func() bool { return client.fleet.Load().divided != nil })
	connected(d.t, client)
	return client
}

const dividedUsers = 60

func (d *divided) readAll(client *Client) {
	d.t.Helper()
	for userID := range uint64(dividedUsers) {
		check(d.t, client, userID)
	}
}

func (d *divided) readBatch(client *Client) {
	d.t.Helper()
	var users []uint64
	for userID := range uint64(dividedUsers) {
		users = append(users, userID)
	}
	batch, err := client.GetBalances(d.t.Context(), users)
	if err != nil {
		d.t.Fatal(err)
	}
	for index, entry := range batch.Entries {
		if entry.UserID != users[index] || entry.Balance == nil || entry.Balance.UserID != users[index] {
			d.t.Errorf("%+v", entry)
		}
	}
}

func TestEachUserIsAskedOfItsOwnerAtTheFirstAttempt(t *testing.T) {
	d := divide(t, 3)
	d.tell(1, [][]uint16{{0, 1}, {1, 2}, {2, 0}, {0, 2}, {1, 0}, {2, 1}}, 0, 1, 2)
	client := d.client(Options{})
	d.readAll(client)
	known := client.fleet.Load().divided
	var owned [3]int64
	for userID := range uint64(dividedUsers) {
		owned[known.holdersOf(userID)[0]]++
	}
	for index := range owned {
		same(t, d.asked[index].Load(), owned[index])
	}
	// A request for each pair of owner and standby.
	d.readBatch(client)
	same(t, d.count(), dividedUsers+6)
	same(t, client.Counters().Retries, 0)
	var addresses []string
	for _, pool := range client.Pool() {
		addresses = append(addresses, pool.Address)
	}
	same(t, fmt.Sprint(addresses), fmt.Sprint([]string{seedOf(d.nodes[0]), seedOf(d.nodes[1]), seedOf(d.nodes[2])}))
}

// A NOT_OWNER has an epoch where other answers have their watermark: it was shown as a time, which epochs look like.
func TestWhoeverDoesNotHaveAUserSaysNothingOfALedger(t *testing.T) {
	d := divide(t, 2)
	d.tell(1_800_000_000_000_000, [][]uint16{{1}, {1}, {1}, {1}, {1}, {1}}, 0, 1)
	client := d.client(Options{FailFast: true})
	d.tell(1_800_000_000_000_001, [][]uint16{{0}, {0}, {0}, {0}, {0}, {0}}, 1)
	_, err := client.GetBalance(t.Context(), 1)
	var refusal *StatusError
	if !errors.As(err, &refusal) || !errors.Is(err, ErrNotOwner) || !refusal.AsOf.IsZero() {
		t.Errorf("%+v, %v", refusal, err)
	}
}

// What has moved is learned in one round trip from whoever says that it is another's; also by a batch, which is put together anew.
func TestANewMapIsLearnedFromWhoeverSaysThatAnotherHasTheUser(t *testing.T) {
	d := divide(t, 3)
	d.tell(1, [][]uint16{{0}, {0}, {0}, {1}, {1}, {1}}, 0, 1, 2)
	client := d.client(Options{})
	d.readAll(client)
	d.tell(2, [][]uint16{{2}, {0}, {0}, {2}, {1}, {1}}, 0, 1, 2)
	before := d.count()
	d.readAll(client)
	same(t, client.fleet.Load().epoch(), 2)
	// Only the first that had moved was asked of another.
	same(t, d.count()-before, dividedUsers+1)
	d.tell(3, [][]uint16{{1}, {1}, {1}, {0}, {0}, {0}}, 0, 1, 2)
	d.readBatch(client)
	same(t, client.fleet.Load().epoch(), 3)
}

// A node that is behind says so by its epoch, and neither is its map taken nor is it asked again before another.
func TestAMapIsNeverExchangedForAnEarlierOne(t *testing.T) {
	d := divide(t, 2)
	d.tell(7, [][]uint16{{0, 1}, {0, 1}, {0, 1}, {0, 1}, {0, 1}, {0, 1}}, 0)
	d.tell(6, [][]uint16{{1}, {1}, {1}, {1}, {1}, {1}}, 1)
	client := d.client(Options{})
	client.hear(&nodeMap{epoch: 6, holders: []uint16{1}, holdersEach: 1})
	same(t, client.fleet.Load().epoch(), 7)
	d.readAll(client)
	d.readBatch(client)
	same(t, d.asked[1].Load(), 0)
	// Node 0 says that node 1 has all, which does not know of it.
	d.tell(8, [][]uint16{{1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}, {1, 0}}, 0)
	d.tell(5, [][]uint16{{0}, {0}, {0}, {0}, {0}, {0}}, 1)
	client.hear(readTold(t, d.nodes[0]))
	same(t, client.fleet.Load().epoch(), 8)
	// Its owner by the map says that it is not, by an older map: the standby is asked.
	d.readAll(client)
	d.readBatch(client)
	same(t, client.fleet.Load().epoch(), 8)
	if d.asked[1].Load() == 0 {
		t.Error("the owner was not asked")
	}
}

// readTold is the map that the node's Hello tells.
func readTold(t *testing.T, node *fake.Node) *nodeMap {
	t.Helper()
	other := dial(t, node.Target, Options{})
	eventually(t, "the map is known", func() bool { return other.fleet.Load().divided != nil })
	return other.fleet.Load().divided
}

// An owner that is gone, or stands still, is not waited for, nor is a new map; nothing goes back in time meanwhile.
func TestAStandbyAnswersForAnOwnerThatIsGoneOrStandsStill(t *testing.T) {
	for _, isFrozen := range []bool{false, true} {
		t.Run(fmt.Sprintf("frozen %v", isFrozen), func(t *testing.T) {
			d := divide(t, 3)
			d.tell(1, [][]uint16{{0, 1}, {1, 2}, {2, 0}, {0, 2}, {1, 0}, {2, 1}}, 0, 1, 2)
			client := d.client(Options{StallAfter: 20 * time.Millisecond})
			d.readAll(client)
			if isFrozen {
				d.nodes[1].SetWriter(func(net.Conn, int, []byte) error { return nil })
			} else {
				d.nodes[1].Close()
			}
			d.readAll(client)
			d.readBatch(client)
			// Who has no standby is waited for, until the context ends.
			d.nodes[2].Close()
			known := client.fleet.Load().divided
			alone := uint64(0)
			for known.partitionOf(alone) != 5 {
				alone++
			}
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if _, err := client.GetBalance(ctx, alone); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Both holders stood still, and calls asked them over and over, and not the one that could tell who has the user by now.
func TestFromTheSecondRoundOnWhoIsHeardIsAskedBeforeHoldersThatAreSilent(t *testing.T) {
	d := divide(t, 3)
	d.tell(1, slices.Repeat([][]uint16{{0, 1}}, 6), 0, 1, 2)
	client := d.client(Options{StallAfter: 20 * time.Millisecond})
	d.readAll(client)
	for _, node := range d.nodes[:2] {
		node.SetWriter(func(net.Conn, int, []byte) error { return nil })
	}
	holders, _ := client.fleet.Load().holdersOf(1)
	eventually(t, "both are silent", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, _ = client.GetBalance(ctx, 1)
		return holders[0].find(1, standsGood) == nil && holders[1].find(1, standsGood) == nil
	})
	asked := func(tour tour) *node {
		node, _ := client.find(1, standsSilent, tour)
		return node
	}
	other := asked(tour{rounds: 1})
	if asked(tour{}) != holders[0] || other == holders[0] || other == holders[1] || asked(tour{isAstray: true}) != other {
		t.Errorf("asked %s, then %s", asked(tour{}).address, other.address)
	}
	same(t, asked(tour{rounds: 1, refused: places{}.with(other)}), holders[0])
}

// A standby had just been started when its owner stood still: a client that paused before it connected to the standby again had nobody to
// ask for the rest of its pause.
func TestAStandbyThatHasComeBackIsAskedWhereTheOwnerIsSilentOrGone(t *testing.T) {
	for _, isGone := range []bool{false, true} {
		t.Run(fmt.Sprintf("gone %v", isGone), func(t *testing.T) {
			d := divideByWays(t, 2)
			d.tell(1, slices.Repeat([][]uint16{{0, 1}}, 6), 0, 1)
			client := d.client(Options{StallAfter: 20 * time.Millisecond, pause: never})
			d.readAll(client)
			d.leave(1)
			eventually(t, "the standby is missed", func() bool { return client.Pool()[1].Good == 0 })
			if isGone {
				d.leave(0)
				eventually(t, "the owner is missed", func() bool { return client.Pool()[0].Good == 0 })
			} else {
				d.ways[0].Drop()
				d.ways[0].Lead(nowhere)
			}
			began, before := time.Now(), d.ways[1].Accepted()
			var callers sync.WaitGroup
			for userID := range uint64(20) {
				callers.Go(func() { check(t, client, userID) })
			}
			// However many wait for it, it is tried no more often than this.
			eventually(t, "it is tried", func() bool { return d.ways[1].Accepted() >= before+3 })
			if tried, most := d.ways[1].Accepted()-before, int(time.Since(began)/(wantedAfter/2))+1; tried > most {
				t.Errorf("%d attempts, expected %d at most", tried, most)
			}
			d.ways[1].Lead(seedOf(d.nodes[1]))
			callers.Wait()
		})
	}
}

// A node that was away is tried as soon as a later map names it.
func TestANodeThatALaterMapNamesIsTriedAtOnce(t *testing.T) {
	d := divideByWays(t, 3)
	d.tell(1, slices.Repeat([][]uint16{{0}}, 6), 0, 1, 2)
	client := d.client(Options{pause: never})
	d.leave(1)
	eventually(t, "it is missed", func() bool { return client.Pool()[1].Good == 0 })
	before := d.ways[1].Accepted()
	d.tell(2, slices.Repeat([][]uint16{{2}}, 6), 0, 1, 2)
	d.readAll(client)
	eventually(t, "it is tried", func() bool { return d.ways[1].Accepted() > before })
}

// The owner stands still, its standby is gone for good, and by a map that the client does not have yet another node has the users: a call
// waited for the owner, and asked nobody who could have told.
func TestWhoWaitsOnASilentOwnerHearsWhoHasTheUserByNow(t *testing.T) {
	d := divideByWays(t, 3)
	d.tell(1, slices.Repeat([][]uint16{{0, 1}}, 6), 0, 1, 2)
	client := d.client(Options{StallAfter: 20 * time.Millisecond, pause: never})
	d.readAll(client)
	d.leave(1)
	d.ways[0].Drop()
	d.ways[0].Lead(nowhere)
	d.tell(2, slices.Repeat([][]uint16{{2}}, 6), 2)
	before := client.Counters().Retries
	d.readAll(client)
	same(t, client.fleet.Load().epoch(), 2)
	// Who is silent was asked again and again, for there was another who was heard, whom nobody would ask.
	if retries := client.Counters().Retries - before; retries > dividedUsers {
		t.Errorf("%d retries", retries)
	}
}

// A batch failed as a whole where nobody was there for one of its users.
func TestABatchLacksOnlyThoseForWhomNobodyIsThere(t *testing.T) {
	d := divide(t, 2)
	d.tell(1, [][]uint16{{0}, {0}, {0}, {1}, {1}, {1}}, 0, 1)
	client := d.client(Options{})
	d.readAll(client)
	d.nodes[1].Close()
	known := client.fleet.Load().divided
	var users, gone []uint64
	for userID := range uint64(dividedUsers) {
		users = append(users, userID)
		if known.partitionOf(userID) >= 3 {
			gone = append(gone, userID)
		}
	}
	batch, err := client.GetBalances(within(t, 3*time.Second), users)
	if err != nil {
		t.Fatal(err)
	}
	for index, entry := range batch.Entries {
		expected := StatusOK
		if slices.Contains(gone, users[index]) {
			expected = StatusUnavailable
		}
		if entry.UserID != users[index] || entry.Status != expected || (entry.Balance != nil) != (expected == StatusOK) {
			t.Errorf("%+v, expected %v", entry, expected)
		}
	}
	if batch.AsOf.IsZero() {
		t.Error("nothing is said of those that were answered")
	}
	// Where nobody answers about any, there is no batch; nor where nobody wants one any more.
	if _, err := client.GetBalances(within(t, 20*time.Millisecond), gone); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// Some of it may have been answered before that is looked at.
	for range 200 {
		if _, err := client.GetBalances(ctx, users); !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
	}
}

// A standby that is behind what the owner has shown is asked for that version, and its older answer is none.
func TestNoStandbyShowsLessThanTheOwnerHas(t *testing.T) {
	d := divide(t, 2)
	d.tell(1, [][]uint16{{0, 1}, {0, 1}, {0, 1}, {0, 1}, {0, 1}, {0, 1}}, 0, 1)
	client := d.client(Options{})
	d.nodes[1].Version.Store(6)
	d.readAll(client)
	d.nodes[0].Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if balance, err := client.GetBalance(ctx, 1); err == nil {
		t.Errorf("went back: %+v", balance)
	}
	d.nodes[1].Version.Store(7)
	check(t, client, 1)
}

// Nodes that come are connected to, and those that leave are let go.
func TestTheClientFollowsNodesThatComeAndLeave(t *testing.T) {
	d := divide(t, 4)
	d.named = 2
	d.tell(1, [][]uint16{{0}, {1}, {0}, {1}, {0}, {1}}, 0, 1)
	client := d.client(Options{})
	d.readAll(client)
	same(t, len(client.Pool()), 2)
	d.named = 4
	d.tell(2, [][]uint16{{2}, {3}, {2}, {3}, {2}, {3}}, 0, 1, 2, 3)
	d.readAll(client)
	same(t, len(client.Pool()), 4)
	d.named = 2
	d.tell(3, [][]uint16{{0}, {1}, {0}, {1}, {0}, {1}}, 0, 1, 2, 3)
	d.readAll(client)
	same(t, len(client.Pool()), 2)
	eventually(t, "those that left are let go", func() bool { return client.tally.good.Load() == 4 })
}

// A client that has lost a connection asks for the map soon, also where its calls go to the owners.
func TestTheMapIsAskedForSoonOnceSomethingIsLost(t *testing.T) {
	var news news
	now := time.Now()
	for _, step := range []struct {
		after  time.Duration
		good   int64
		isWell bool
		isDue  bool
	}{
		{0, 3, true, true},
		{2 * time.Second, 3, true, false},
		{2 * time.Second, 3, false, true},
		{2010 * time.Millisecond, 4, true, false},
		{2050 * time.Millisecond, 3, true, false},
		{2150 * time.Millisecond, 3, true, true},
		{9 * time.Second, 3, true, false},
		{13 * time.Second, 3, true, true},
	} {
		same(t, news.isDue(now.Add(step.after), step.good, step.isWell), step.isDue)
	}
}

// A map's host ends in logs, and in names that are looked up.
func TestAHostIsOneOfANetwork(t *testing.T) {
	for _, host := range []string{"localhost", "10.0.0.1", "2001:db8::1", "a_b-c.example.com", strings.Repeat("x", 253)} {
		same(t, isHost([]byte(host)), true)
	}
	for _, host := range []string{"", "a b", "a\r\nb", "a/b", "a@b", "ä", "\x1b[31m", strings.Repeat("x", 254)} {
		same(t, isHost([]byte(host)), false)
	}
}
