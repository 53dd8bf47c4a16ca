package view

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/florin-db/florin/bench/legacy/internal/domain"
	"github.com/florin-db/florin/bench/legacy/internal/ledger"
	"github.com/florin-db/florin/bench/legacy/internal/reads"
)

const (
	hourUS = int64(time.Hour / time.Microsecond)
	// noon is 1994-03-31T12:30:00Z.
	noon = 765_117_000_000_000
)

// memory is a ledger in memory. A row that is withheld is there for whoever reads an account, and not for the feed.
type memory struct {
	mu       sync.Mutex
	rows     []ledger.Row
	withheld map[int64]bool
	failures int
	given    int
}

func (m *memory) add(rows ...ledger.Row) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, row := range rows {
		row.Seq, row.UserKnown = int64(len(m.rows)+1), true
		m.rows = append(m.rows, row)
	}
}

func (m *memory) Next(_ context.Context, limit int, visit func(*ledger.Row)) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failures > 0 {
		m.failures--
		return 0, errors.New("the disk is full")
	}
	count := 0
	for _, row := range m.rows[m.given:min(m.given+limit, len(m.rows))] {
		if !m.withheld[row.Seq] {
			visit(&row)
		}
		count++
	}
	m.given += count
	return count, nil
}

func (m *memory) Account(_ context.Context, userID uint64, visit func(*ledger.Row)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, row := range m.rows {
		if row.UserID == userID {
			visit(&row)
		}
	}
	return nil
}

func row(userID, version uint64, asset string, kind domain.Kind, amount, at int64) ledger.Row {
	return ledger.Row{Transaction: domain.Transaction{
		UserID: userID, Version: version, Asset: asset, Kind: kind, Amount: amount, OccurredAtUS: at,
	}}
}

// settled is a view that has caught up with the rows.
func settled(t *testing.T, clock Clock, rows Rows) (*View, *follower) {
	t.Helper()
	v := New(clock, time.Minute)
	f := &follower{view: v, rows: rows}
	if err := f.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	return v, f
}

// recompute answers from the rows alone, one by one.
func recompute(rows []ledger.Row, userID uint64, nowUS int64) (reads.Balance, reads.Statistics) {
	balance := reads.Balance{UserID: userID, Balances: []reads.AssetBalance{}}
	first, last := int64(math.MaxInt64), int64(math.MinInt64)
	var codes []string
	for _, row := range rows {
		if row.UserID == userID && !slices.Contains(codes, row.Asset) {
			codes = append(codes, row.Asset)
		}
	}
	slices.Sort(codes)
	var statistics reads.Statistics
	sums := statistics.Reset(len(codes), domain.AllWindows)
	for _, code := range codes {
		balance.Balances = append(balance.Balances, reads.AssetBalance{Asset: code})
	}
	for _, row := range rows {
		if row.UserID != userID {
			continue
		}
		index := slices.Index(codes, row.Asset)
		held := &balance.Balances[index]
		held.Available, held.Held, _ = row.Kind.Apply(held.Available, held.Held, row.Amount)
		balance.Version++
		first, last = min(first, row.OccurredAtUS), max(last, row.OccurredAtUS)
		hour, now := floor(row.OccurredAtUS, hourUS), floor(nowUS, hourUS)
		day, today := floor(row.OccurredAtUS, 24*hourUS), floor(nowUS, 24*hourUS)
		isIn := [domain.WindowCount]bool{
			now-23 <= hour && hour <= now, today-6 <= day && day <= today, today-29 <= day && day <= today, true,
		}
		for window, counts := range isIn {
			into := &sums[domain.WindowCount*index+window]
			switch {
			case !counts:
			case row.Kind.Counting() == domain.Credit:
				into.CreditCount++
				into.CreditSum += row.Amount
			case row.Kind.Counting() == domain.Debit:
				into.DebitCount++
				into.DebitSum += row.Amount
				into.LargestDebit = max(into.LargestDebit, row.Amount)
			}
		}
	}
	balance.UpdatedAt = domain.FormatTime(last)
	statistics.UserID, statistics.Version = userID, balance.Version
	for index, code := range codes {
		asset := &statistics.Statistics[index]
		asset.Asset, asset.FirstTransactionAt, asset.LastTransactionAt = code, domain.FormatTime(first), balance.UpdatedAt
	}
	return balance, statistics
}

func floor(value, by int64) int64 { return int64(math.Floor(float64(value) / float64(by))) }

func TestEveryAnswerIsWhatTheRowsSay(t *testing.T) {
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 0))
		var now atomic.Int64
		now.Store(noon)
		rows := &memory{}
		v, f := settled(t, now.Load, rows)
		versions := map[uint64]uint64{}
		for range 40 {
			for range random.IntN(30) {
				userID := random.Uint64N(5)
				versions[userID]++
				rows.add(row(userID, versions[userID], []string{"COIN", "DIAMOND", "A", "USD"}[random.IntN(4)],
					domain.Kind(1+random.IntN(10)), 1+random.Int64N(1000),
					now.Load()+random.Int64N(40*24*hourUS)-38*24*hourUS))
			}
			if err := f.catchUp(t.Context()); err != nil {
				t.Fatal(err)
			}
			now.Add(random.Int64N(12 * hourUS))
			for userID := range versions {
				wantBalance, wantStatistics := recompute(rows.rows, userID, now.Load())
				balance, _, err := v.Balance(t.Context(), userID, reads.Freshness{})
				if err != nil || !reflect.DeepEqual(*balance, wantBalance) {
					t.Fatalf("seed %d: balance of %d: %v\ngot  %+v\nwant %+v", seed, userID, err, balance, wantBalance)
				}
				var statistics reads.Statistics
				_, err = v.Statistics(t.Context(), userID, domain.AllWindows, reads.Freshness{}, &statistics)
				if got, want := describe(&statistics), describe(&wantStatistics); err != nil || got != want {
					t.Fatalf("seed %d: statistics of %d: %v\ngot  %s\nwant %s", seed, userID, err, got, want)
				}
			}
		}
	}
}

func describe(s *reads.Statistics) string {
	text := fmt.Sprint(s.UserID, s.Version)
	for _, asset := range s.Statistics {
		windows := asset.Windows
		text += fmt.Sprint("\n", asset.Asset, asset.FirstTransactionAt, asset.LastTransactionAt,
			*windows.Hours24, *windows.Days7, *windows.Days30, *windows.Lifetime)
	}
	return text
}

func TestAGapIsQuarantinedAndReadAgain(t *testing.T) {
	rows := &memory{withheld: map[int64]bool{2: true}}
	rows.add(row(1, 1, "COIN", domain.Recharge, 10, noon), row(1, 2, "COIN", domain.Recharge, 20, noon), row(1, 3, "COIN", domain.Recharge, 30, noon))
	v, f := settled(t, Fixed(noon), rows)
	balance, origin, err := v.Balance(t.Context(), 1, reads.Freshness{})
	if err != nil || balance.Version != 3 || balance.Balances[0].Available != 60 || origin.Quarantined {
		t.Errorf("%+v %+v %v", balance, origin, err)
	}
	if v.Counters.Gaps.Load() != 1 || v.Counters.Quarantined.Load() != 0 {
		t.Errorf("%d gaps, %d quarantined", v.Counters.Gaps.Load(), v.Counters.Quarantined.Load())
	}
	// A version that the ledger itself lacks cannot be repaired: the answer says so.
	rows.add(row(1, 5, "COIN", domain.Recharge, 50, noon))
	if err := f.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	balance, origin, err = v.Balance(t.Context(), 1, reads.Freshness{})
	if err != nil || balance.Version != 3 || !origin.Quarantined {
		t.Errorf("%+v %+v %v", balance, origin, err)
	}
	rows.add(row(1, 3, "COIN", domain.Recharge, 30, noon))
	if err := f.catchUp(t.Context()); err != nil || v.Counters.Duplicates.Load() != 1 {
		t.Errorf("%v, %d duplicates", err, v.Counters.Duplicates.Load())
	}
}

func TestWhatCannotBeSummedIsNotServed(t *testing.T) {
	rows := &memory{}
	rows.add(row(1, 1, "COIN", domain.Recharge, math.MaxInt64, noon), row(1, 2, "COIN", domain.Recharge, 1, noon), row(1, 3, "COIN", domain.Withdrawal, 1, noon))
	for index := range uint64(domain.AssetsMax + 1) {
		rows.add(row(2, index+1, fmt.Sprintf("A%d", index), domain.Recharge, 1, noon))
	}
	broken := row(3, 1, "COIN", domain.Recharge, 1, noon)
	broken.Fault = errors.New("no transaction")
	rows.add(broken, row(3, 1, "COIN", domain.Recharge, 1, noon))
	v, _ := settled(t, Fixed(noon), rows)
	for userID, version := range map[uint64]uint64{1: 1, 2: domain.AssetsMax} {
		balance, origin, err := v.Balance(t.Context(), userID, reads.Freshness{})
		if err != nil || balance.Version != version || !origin.Quarantined {
			t.Errorf("user %d: %+v %+v %v", userID, balance, origin, err)
		}
	}
	// Of the third nothing could be applied: a zero would be a guess.
	var refusal *reads.Refusal
	if _, _, err := v.Balance(t.Context(), 3, reads.Freshness{}); !errors.As(err, &refusal) ||
		refusal.Status != reads.Unavailable || !refusal.Origin.Quarantined {
		t.Errorf("user 3: %v", err)
	}
	var batch reads.Batch
	if origin, err := v.Balances(t.Context(), []uint64{1, 3, 4}, reads.Freshness{}, &batch); err != nil || !origin.Quarantined {
		t.Errorf("%+v %v", origin, err)
	}
	for index, want := range []reads.Entry{
		{UserID: 1, Status: reads.OK, Quarantined: true},
		{UserID: 3, Status: reads.Unavailable, Quarantined: true},
		{UserID: 4, Status: reads.NotFound},
	} {
		got := batch.Balances[index]
		if (got.Balance != nil) != (want.Status == reads.OK) {
			t.Errorf("%+v", got)
		}
		if got.Balance = nil; got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestFreshnessIsKeptOrRefused(t *testing.T) {
	rows := &memory{}
	v := New(Fixed(noon), time.Minute)
	status := func(err error) reads.Status {
		var refusal *reads.Refusal
		if !errors.As(err, &refusal) {
			return reads.OK
		}
		return refusal.Status
	}
	if _, _, err := v.Balance(t.Context(), 1, reads.Freshness{}); status(err) != reads.Unavailable {
		t.Errorf("before it was loaded: %v", err)
	}
	rows.add(row(1, 1, "COIN", domain.Recharge, 10, noon))
	f := &follower{view: v, rows: rows}
	if err := f.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for want, freshness := range map[reads.Status]reads.Freshness{
		reads.OK:    {MinVersion: 1, MaxAgeMS: 60_000},
		reads.Stale: {MinVersion: 2, WaitMS: 1},
	} {
		if _, _, err := v.Balance(t.Context(), 1, freshness); status(err) != want {
			t.Errorf("%+v: %v", freshness, err)
		}
	}
	if _, _, err := v.Balance(t.Context(), 2, reads.Freshness{}); status(err) != reads.NotFound {
		t.Errorf("unknown user: %v", err)
	}
	ended := make(chan error)
	go func() {
		_, _, err := v.Balance(context.Background(), 1, reads.Freshness{MinVersion: 2, WaitMS: 60_000})
		ended <- err
	}()
	for v.waiting.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	rows.add(row(1, 2, "COIN", domain.Recharge, 10, noon))
	if err := f.catchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the waiting request: %v", err)
	}
	old := *v.mark.Load()
	old.taken = old.taken.Add(-time.Hour)
	v.mark.Store(&old)
	if _, _, err := v.Balance(t.Context(), 1, reads.Freshness{}); status(err) != reads.Unavailable {
		t.Errorf("an hour without the ledger: %v", err)
	}
}

func TestNoReaderSeesAVersionGoBack(t *testing.T) {
	rows := &memory{failures: 1}
	v := New(System, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	nudge := make(chan struct{}, 1)
	var following, reading sync.WaitGroup
	following.Go(func() { v.Follow(ctx, rows, time.Millisecond, nudge) })
	const last = 2_000
	for range 4 {
		reading.Go(func() {
			var statistics reads.Statistics
			for seen := uint64(0); seen < last; {
				balance, _, err := v.Balance(ctx, 7, reads.Freshness{})
				if err != nil {
					continue
				}
				if balance.Version < seen || balance.Balances[0].Available != int64(balance.Version) {
					t.Errorf("version %d after %d holds %d", balance.Version, seen, balance.Balances[0].Available)
					return
				}
				seen = balance.Version
				if _, err := v.Statistics(ctx, 7, domain.AllWindows, reads.Freshness{}, &statistics); err != nil {
					t.Error(err)
					return
				}
				if sums := statistics.Statistics[0].Windows.Lifetime; sums.CreditCount != statistics.Version {
					t.Errorf("version %d counts %d", statistics.Version, sums.CreditCount)
					return
				}
			}
		})
	}
	for version := uint64(1); version <= last; version++ {
		rows.add(row(7, version, "COIN", domain.Recharge, 1, System()))
		select {
		case nudge <- struct{}{}:
		default:
		}
	}
	reading.Wait()
	cancel()
	following.Wait()
}
