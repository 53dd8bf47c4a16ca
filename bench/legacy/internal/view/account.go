package view

import (
	"slices"
	"strings"

	"github.com/florin-db/florin/bench/legacy/internal/domain"
	"github.com/florin-db/florin/bench/legacy/internal/reads"
)

// account is one user's. Once published it never changes: a transaction makes a new one, so that readers need no lock
// while they look at theirs.
type account struct {
	// balance is ready to be answered; its assets are in ascending order.
	balance reads.Balance
	// first and last are the earliest and the latest time of a transaction; their texts are made by seal.
	firstUS, lastUS int64
	firstText       string
	// lifetime holds a sum for each asset, in the balance's order.
	lifetime []reads.Sums
	// buckets are in the order of their hours: what happened during one hour, or one day.
	buckets []bucket

	// quarantined: its history is known to be incomplete. defective: it cannot be repaired by reading that again.
	quarantined, defective bool
	// asksReread: rows were skipped since its history was read.
	asksReread bool
}

// hasNoBeginning reports whether none of its transactions could be applied: there is nothing to show.
func (a *account) hasNoBeginning() bool { return a.quarantined && a.balance.Version == 0 }

// bucket is what happened to one asset in one direction during one hour or day.
type bucket struct {
	hour     domain.Hour
	asset    uint8
	counting domain.Counting
	count    uint32
	sum      int64
	// largest is 0 for credits.
	largest int64
}

func (b *bucket) compare(other *bucket) int {
	if b.hour != other.hour {
		return int(b.hour) - int(other.hour)
	}
	if b.asset != other.asset {
		return int(b.asset) - int(other.asset)
	}
	return int(b.counting) - int(other.counting)
}

func newAccount(userID uint64) *account {
	return &account{balance: reads.Balance{UserID: userID, Balances: []reads.AssetBalance{}}}
}

// clone returns a copy that may be changed.
func (a *account) clone() *account {
	other := *a
	other.balance.Balances = slices.Clone(a.balance.Balances)
	other.lifetime = slices.Clone(a.lifetime)
	other.buckets = slices.Clone(a.buckets)
	return &other
}

// seal makes the texts of an account that is about to be published.
func (a *account) seal() {
	a.balance.UpdatedAt = domain.FormatTime(a.lastUS)
	a.firstText = domain.FormatTime(a.firstUS)
}

// apply applies the row, whose version is the account's next, or leaves the account without it and returns why.
func (a *account) apply(row *domain.Transaction, horizon domain.Horizon) error {
	index, err := a.assetIndex(row.Asset)
	if err != nil {
		return err
	}
	held := &a.balance.Balances[index]
	available, reserved, err := row.Kind.Apply(held.Available, held.Held, row.Amount)
	if err != nil {
		return err
	}
	if err := a.count(index, row, horizon); err != nil {
		return err
	}
	held.Available, held.Held = available, reserved
	isFirst := row.Version == 1
	if isFirst || row.OccurredAtUS < a.firstUS {
		a.firstUS = row.OccurredAtUS
	}
	if isFirst || row.OccurredAtUS > a.lastUS {
		a.lastUS = row.OccurredAtUS
	}
	a.balance.Version = row.Version
	return nil
}

// assetIndex returns where the asset stands, and makes room for a new one.
func (a *account) assetIndex(code string) (int, error) {
	index, isHeld := slices.BinarySearchFunc(a.balance.Balances, code, func(held reads.AssetBalance, code string) int {
		return strings.Compare(held.Asset, code)
	})
	if isHeld {
		return index, nil
	}
	if len(a.balance.Balances) == domain.AssetsMax {
		return 0, errTooManyAssets
	}
	a.balance.Balances = slices.Insert(a.balance.Balances, index, reads.AssetBalance{Asset: intern(code)})
	a.lifetime = slices.Insert(a.lifetime, index, reads.Sums{})
	for at := range a.buckets {
		if int(a.buckets[at].asset) >= index {
			a.buckets[at].asset++
		}
	}
	return index, nil
}

// count adds the row to the account's sums.
func (a *account) count(index int, row *domain.Transaction, horizon domain.Horizon) error {
	counting := row.Kind.Counting()
	if counting == domain.Neither {
		return nil
	}
	new := bucket{asset: uint8(index), counting: counting, count: 1, sum: row.Amount}
	if counting == domain.Debit {
		new.largest = row.Amount
	}
	// A window's sums are at most its lifetime's, so this is the only one that can overflow.
	lifetime := a.lifetime[index]
	if err := add(&lifetime, &new); err != nil {
		return err
	}
	a.lifetime[index] = lifetime
	hour, isReachable := horizon.Bucket(domain.HourOf(row.OccurredAtUS))
	if !isReachable {
		return nil
	}
	new.hour = hour
	at, isHeld := slices.BinarySearchFunc(a.buckets, &new, func(held bucket, new *bucket) int { return held.compare(new) })
	if isHeld {
		merge(&a.buckets[at], &new)
		return nil
	}
	if len(a.buckets) == cap(a.buckets) {
		a.roll(horizon)
		at, isHeld = slices.BinarySearchFunc(a.buckets, &new, func(held bucket, new *bucket) int { return held.compare(new) })
		if isHeld {
			merge(&a.buckets[at], &new)
			return nil
		}
	}
	a.buckets = slices.Insert(a.buckets, at, new)
	return nil
}

// roll makes each bucket as coarse as the horizon lets it be, and drops those that no window reaches.
func (a *account) roll(horizon domain.Horizon) {
	kept := a.buckets[:0]
	for _, bucket := range a.buckets {
		if hour, isReachable := horizon.Bucket(bucket.hour); isReachable {
			bucket.hour = hour
			kept = append(kept, bucket)
		}
	}
	slices.SortStableFunc(kept, func(a, b bucket) int { return a.compare(&b) })
	merged := kept[:0]
	for _, bucket := range kept {
		if last := len(merged) - 1; last >= 0 && merged[last].compare(&bucket) == 0 {
			merge(&merged[last], &bucket)
		} else {
			merged = append(merged, bucket)
		}
	}
	a.buckets = merged
}

// statistics fills the answer with the sums of the windows as of the horizon.
func (a *account) statistics(windows domain.Windows, horizon domain.Horizon, into *reads.Statistics) {
	into.UserID, into.Version = a.balance.UserID, a.balance.Version
	sums := into.Reset(len(a.balance.Balances), windows)
	for index := range into.Statistics {
		asset := &into.Statistics[index]
		asset.Asset = a.balance.Balances[index].Asset
		asset.FirstTransactionAt, asset.LastTransactionAt = a.firstText, a.balance.UpdatedAt
		sums[domain.WindowCount*index+domain.Lifetime] = a.lifetime[index]
	}
	edges := horizon.Edges()
	oldest := edges[domain.Days30][0]
	for at := len(a.buckets) - 1; at >= 0 && a.buckets[at].hour >= oldest; at-- {
		bucket := &a.buckets[at]
		for window, edge := range edges {
			if windows.Has(window) && edge[0] <= bucket.hour && bucket.hour <= edge[1] {
				// It cannot overflow: see count.
				_ = add(&sums[domain.WindowCount*int(bucket.asset)+window], bucket)
			}
		}
	}
}

func merge(into, other *bucket) {
	into.count += other.count
	into.sum += other.sum
	into.largest = max(into.largest, other.largest)
}

func add(sums *reads.Sums, bucket *bucket) error {
	if bucket.counting == domain.Credit {
		sum, err := domain.Add(sums.CreditSum, bucket.sum)
		if err != nil {
			return err
		}
		sums.CreditSum, sums.CreditCount = sum, sums.CreditCount+uint64(bucket.count)
		return nil
	}
	sum, err := domain.Add(sums.DebitSum, bucket.sum)
	if err != nil {
		return err
	}
	sums.DebitSum, sums.DebitCount = sum, sums.DebitCount+uint64(bucket.count)
	sums.LargestDebit = max(sums.LargestDebit, bucket.largest)
	return nil
}
