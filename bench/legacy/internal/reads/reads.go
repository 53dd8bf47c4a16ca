// Package reads holds what the three read endpoints ask and answer. The answers are laid out as their JSON is, so that
// whoever has them ready can hand them over as they are.
package reads

import (
	"context"

	"github.com/florin-db/florin/bench/legacy/internal/domain"
)

// Source answers reads: the view in memory, or a florin node.
type Source interface {
	Balance(ctx context.Context, userID uint64, freshness Freshness) (*Balance, Origin, error)
	// Statistics fills the answer, which the caller reuses.
	Statistics(ctx context.Context, userID uint64, windows domain.Windows, freshness Freshness, into *Statistics) (Origin, error)
	Balances(ctx context.Context, userIDs []uint64, freshness Freshness, into *Batch) (Origin, error)
	// Origin is what a refusal that asked nobody says of its origin.
	Origin() Origin
	// Ready returns why nothing can be answered yet, or nil.
	Ready(ctx context.Context) error
}

// Freshness is what a caller asks of an answer's age. The zero value asks nothing.
type Freshness struct {
	MinVersion uint64
	MaxAgeMS   uint32
	WaitMS     uint32
}

// WaitMSMax is what a longer wait is clamped to.
const WaitMSMax = 1_000

// Origin says where an answer comes from.
type Origin struct {
	// AsOf is the watermark, in RFC 3339.
	AsOf string
	// Shard is 0 where there is one view.
	Shard       uint16
	Forwarded   bool
	Quarantined bool
}

// Refusal is an answer without data.
type Refusal struct {
	Origin  Origin
	Status  Status
	Message string
}

func (r *Refusal) Error() string { return string(r.Status) + ": " + r.Message }

// Status says how a read ended.
type Status string

// The statuses that a read can end with.
const (
	OK               Status = "OK"
	NotFound         Status = "NOT_FOUND"
	InvalidRequest   Status = "INVALID_REQUEST"
	Stale            Status = "STALE"
	Unavailable      Status = "UNAVAILABLE"
	Overloaded       Status = "OVERLOADED"
	Unauthenticated  Status = "UNAUTHENTICATED"
	PermissionDenied Status = "PERMISSION_DENIED"
	Internal         Status = "INTERNAL"
)

// Balance is what a user holds.
type Balance struct {
	UserID    uint64         `json:"user_id,string"`
	Version   uint64         `json:"version,string"`
	UpdatedAt string         `json:"updated_at"`
	Balances  []AssetBalance `json:"balances"`
}

// AssetBalance is what a user holds of one asset, in minor units.
type AssetBalance struct {
	Asset     string `json:"asset"`
	Available int64  `json:"available,string"`
	Held      int64  `json:"held,string"`
}

// Statistics are sums over a user's transactions.
type Statistics struct {
	UserID     uint64            `json:"user_id,string"`
	Version    uint64            `json:"version,string"`
	Statistics []AssetStatistics `json:"statistics"`

	sums []Sums
}

// AssetStatistics are the sums of one asset.
type AssetStatistics struct {
	Asset              string  `json:"asset"`
	Windows            Windows `json:"windows"`
	FirstTransactionAt string  `json:"first_transaction_at"`
	LastTransactionAt  string  `json:"last_transaction_at"`
}

// Windows are the sums of the windows that were asked for; the others are nil.
type Windows struct {
	Hours24  *Sums `json:"24h,omitempty"`
	Days7    *Sums `json:"7d,omitempty"`
	Days30   *Sums `json:"30d,omitempty"`
	Lifetime *Sums `json:"lifetime,omitempty"`
}

// Sums are the sums of one asset over one window, in minor units.
type Sums struct {
	CreditCount  uint64 `json:"credit_count,string"`
	CreditSum    int64  `json:"credit_sum,string"`
	DebitCount   uint64 `json:"debit_count,string"`
	DebitSum     int64  `json:"debit_sum,string"`
	LargestDebit int64  `json:"largest_debit,string"`
}

// Reset makes room for so many assets, and returns all of their sums, four windows for each asset, at zero. Windows that
// are asked for point to theirs.
func (s *Statistics) Reset(assets int, windows domain.Windows) []Sums {
	if cap(s.Statistics) < assets {
		s.Statistics = make([]AssetStatistics, assets)
		s.sums = make([]Sums, domain.WindowCount*assets)
	}
	s.Statistics = s.Statistics[:assets]
	s.sums = s.sums[:domain.WindowCount*assets]
	clear(s.sums)
	for index := range s.Statistics {
		sums := s.sums[domain.WindowCount*index:]
		into := &s.Statistics[index].Windows
		for window, place := range [domain.WindowCount]**Sums{&into.Hours24, &into.Days7, &into.Days30, &into.Lifetime} {
			*place = nil
			if windows.Has(window) {
				*place = &sums[window]
			}
		}
	}
	return s.sums
}

// Batch are several users' balances.
type Batch struct {
	Balances []Entry `json:"balances"`
}

// Entry is one user of a batch; the balance is there where the status is OK.
type Entry struct {
	UserID uint64 `json:"user_id,string"`
	Status Status `json:"status"`
	// Quarantined: the account's history is known to be incomplete.
	Quarantined bool     `json:"quarantined,omitempty"`
	Balance     *Balance `json:"balance,omitempty"`
}
