// Package view holds every account in memory, as the ledger has it, and answers from there.
//
//	ledger ── follow (one goroutine, every 5 ms) ──> shards of accounts <── any number of readers
//
// An account is copied before it is changed, so a reader holds its shard's lock only for the look-up.
package view

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/florin-db/florin/bench/legacy/internal/domain"
	"github.com/florin-db/florin/bench/legacy/internal/reads"
)

const (
	// shardCount keeps readers of different users, and the one that follows, apart.
	shardCount = 256
	// waitersMax is how many requests may wait for their freshness.
	waitersMax = 1_024
)

var errTooManyAssets = errors.New("an account has more assets than it can hold")

// Clock gives the wall clock in µs since 1970.
type Clock func() int64

// Fixed is a clock that stands still.
func Fixed(us int64) Clock { return func() int64 { return us } }

// System is the system's clock.
func System() int64 { return time.Now().UnixMicro() }

// View is the accounts of one ledger.
type View struct {
	clock        Clock
	maxStaleness time.Duration
	shards       [shardCount]shard
	mark         atomic.Pointer[watermark]
	isLoaded     bool
	Counters     Counters

	waiting atomic.Int32
	mu      sync.Mutex
	// moved is closed, and replaced, when something has changed that a request may wait for.
	moved chan struct{}
}

// Counters are what the view has seen.
type Counters struct {
	Accounts, Applied, Duplicates, Gaps, Quarantined atomic.Int64
}

type shard struct {
	mu       sync.RWMutex
	accounts map[uint64]*account
	// Shards do not share a cache line.
	_ [96]byte
}

// watermark says that the view holds every transaction that the ledger had committed by then.
type watermark struct {
	us    int64
	text  string
	taken time.Time
}

// New makes an empty view, which answers nothing until it follows a ledger. It refuses to answer once its watermark is
// older than maxStaleness.
func New(clock Clock, maxStaleness time.Duration) *View {
	v := &View{clock: clock, maxStaleness: maxStaleness, moved: make(chan struct{})}
	for index := range v.shards {
		v.shards[index].accounts = make(map[uint64]*account)
	}
	return v
}

func (v *View) shard(userID uint64) *shard { return &v.shards[domain.ShardOf(userID, shardCount)] }

// find returns the user's account, or nil.
func (v *View) find(userID uint64) *account {
	shard := v.shard(userID)
	shard.mu.RLock()
	account := shard.accounts[userID]
	shard.mu.RUnlock()
	return account
}

// publish gives the account to readers.
func (v *View) publish(account *account) {
	account.seal()
	shard := v.shard(account.balance.UserID)
	shard.mu.Lock()
	shard.accounts[account.balance.UserID] = account
	shard.mu.Unlock()
}

// Balance implements [reads.Source].
func (v *View) Balance(ctx context.Context, userID uint64, freshness reads.Freshness) (*reads.Balance, reads.Origin, error) {
	account, origin, err := v.account(ctx, userID, freshness)
	if err != nil {
		return nil, origin, err
	}
	return &account.balance, origin, nil
}

// Statistics implements [reads.Source].
func (v *View) Statistics(ctx context.Context, userID uint64, windows domain.Windows, freshness reads.Freshness, into *reads.Statistics) (reads.Origin, error) {
	account, origin, err := v.account(ctx, userID, freshness)
	if err != nil {
		return origin, err
	}
	account.statistics(windows, domain.HorizonAt(v.clock()), into)
	return origin, nil
}

// account finds an account that is fresh enough, or says why there is none.
func (v *View) account(ctx context.Context, userID uint64, freshness reads.Freshness) (*account, reads.Origin, error) {
	if freshness != (reads.Freshness{}) {
		if err := v.await(ctx, freshness, []uint64{userID}); err != nil {
			return nil, v.Origin(), err
		}
	}
	mark := v.mark.Load()
	if err := v.available(mark); err != nil {
		return nil, v.Origin(), err
	}
	origin := reads.Origin{AsOf: mark.text}
	account := v.find(userID)
	if freshness != (reads.Freshness{}) {
		if age := time.Since(mark.taken); !isYoungEnough(freshness, age) {
			return nil, origin, refuse(origin, reads.Stale, fmt.Sprintf(
				"max_age_ms %d was asked, and this view is %d ms old%s: allow more%s",
				freshness.MaxAgeMS, age.Milliseconds(), after(freshness), orWait(freshness)))
		}
		if held := version(account); held < freshness.MinVersion {
			return nil, origin, refuse(origin, reads.Stale, fmt.Sprintf(
				"min_version %d was asked, and the account is at %d here%s: ask again%s",
				freshness.MinVersion, held, after(freshness), orWait(freshness)))
		}
	}
	if account == nil {
		return nil, origin, refuse(origin, reads.NotFound, "the ledger has never named this user")
	}
	origin.Quarantined = account.quarantined
	if account.hasNoBeginning() {
		return nil, origin, refuse(origin, reads.Unavailable,
			"this account's history is not complete yet: the ledger names the user, but the account's first transaction is "+
				"missing or cannot be applied; ask again in a moment")
	}
	return account, origin, nil
}

// after says how long a request had waited in vain.
func after(freshness reads.Freshness) string {
	if freshness.WaitMS == 0 {
		return ""
	}
	return fmt.Sprintf(" after %d ms", freshness.WaitMS)
}

// orWait says what else somebody might do who has not waited, or not for as long as one may.
func orWait(freshness reads.Freshness) string {
	switch {
	case freshness.WaitMS == 0:
		return ", or give a wait_ms"
	case freshness.WaitMS >= waitMSMax:
		return ""
	default:
		return fmt.Sprintf(", or wait longer: wait_ms may be %d", waitMSMax)
	}
}

// waitMSMax is the longest wait that is granted.
const waitMSMax = 1000

// Balances implements [reads.Source].
func (v *View) Balances(ctx context.Context, userIDs []uint64, freshness reads.Freshness, into *reads.Batch) (reads.Origin, error) {
	if freshness != (reads.Freshness{}) {
		if err := v.await(ctx, freshness, userIDs); err != nil {
			return v.Origin(), err
		}
	}
	mark := v.mark.Load()
	if err := v.available(mark); err != nil {
		return v.Origin(), err
	}
	origin := reads.Origin{AsOf: mark.text}
	youngEnough := freshness.MaxAgeMS == 0 || isYoungEnough(freshness, time.Since(mark.taken))
	into.Balances = into.Balances[:0]
	for _, userID := range userIDs {
		entry := reads.Entry{UserID: userID}
		account := v.find(userID)
		switch {
		case !youngEnough || version(account) < freshness.MinVersion:
			entry.Status = reads.Stale
		case account == nil:
			entry.Status = reads.NotFound
		case account.hasNoBeginning():
			entry.Status, entry.Quarantined = reads.Unavailable, true
		default:
			entry.Status, entry.Quarantined, entry.Balance = reads.OK, account.quarantined, &account.balance
		}
		origin.Quarantined = origin.Quarantined || entry.Quarantined
		into.Balances = append(into.Balances, entry)
	}
	return origin, nil
}

// Origin implements [reads.Source].
func (v *View) Origin() reads.Origin {
	if mark := v.mark.Load(); mark != nil {
		return reads.Origin{AsOf: mark.text}
	}
	return reads.Origin{AsOf: domain.FormatTime(0)}
}

// Ready implements [reads.Source].
func (v *View) Ready(context.Context) error { return v.available(v.mark.Load()) }

// Lag returns how old the view is.
func (v *View) Lag() time.Duration {
	if mark := v.mark.Load(); mark != nil {
		return time.Since(mark.taken)
	}
	return 0
}

func (v *View) available(mark *watermark) error {
	switch {
	case mark == nil:
		return refuse(v.Origin(), reads.Unavailable,
			"warming up: this shard has not loaded its ledger yet; ask again in a moment, or elsewhere")
	case time.Since(mark.taken) > v.maxStaleness:
		return refuse(v.Origin(), reads.Unavailable,
			"the feed has been down for longer than this server may answer without it; ask elsewhere")
	default:
		return nil
	}
}

func refuse(origin reads.Origin, status reads.Status, message string) error {
	return &reads.Refusal{Origin: origin, Status: status, Message: message}
}

func version(account *account) uint64 {
	if account == nil {
		return 0
	}
	return account.balance.Version
}

func isYoungEnough(freshness reads.Freshness, age time.Duration) bool {
	return freshness.MaxAgeMS == 0 || age <= time.Duration(freshness.MaxAgeMS)*time.Millisecond
}

// await waits until the freshness holds, or the time that it allows is up.
func (v *View) await(ctx context.Context, freshness reads.Freshness, userIDs []uint64) error {
	if freshness.WaitMS == 0 || v.holds(freshness, userIDs) {
		return nil
	}
	if v.waiting.Add(1) > waitersMax {
		v.waiting.Add(-1)
		return refuse(v.Origin(), reads.Overloaded,
			"too many requests wait for their freshness here: ask again later, or without wait_ms")
	}
	defer v.waiting.Add(-1)
	deadline := time.NewTimer(time.Duration(freshness.WaitMS) * time.Millisecond)
	defer deadline.Stop()
	for {
		v.mu.Lock()
		moved := v.moved
		v.mu.Unlock()
		if v.holds(freshness, userIDs) {
			return nil
		}
		select {
		case <-moved:
		case <-deadline.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (v *View) holds(freshness reads.Freshness, userIDs []uint64) bool {
	mark := v.mark.Load()
	// Before the first watermark the accounts belong to the one that loads them.
	if mark == nil {
		return false
	}
	if freshness.MaxAgeMS != 0 && (v.available(mark) != nil || !isYoungEnough(freshness, time.Since(mark.taken))) {
		return false
	}
	for _, userID := range userIDs {
		if freshness.MinVersion != 0 && version(v.find(userID)) < freshness.MinVersion {
			return false
		}
	}
	return true
}

// wake lets those that wait look again.
func (v *View) wake() {
	if v.waiting.Load() == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	close(v.moved)
	v.moved = make(chan struct{})
}

var assets sync.Map

// intern returns one string for all that are equal: a platform has few assets and many accounts.
func intern(code string) string {
	held, _ := assets.LoadOrStore(code, code)
	return held.(string)
}
