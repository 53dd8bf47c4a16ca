package florin

import (
	"fmt"
	"time"
)

// Metadata says where an answer comes from and how fresh it is.
type Metadata struct {
	// AsOf is the watermark of the shard that answered: the answer holds every transaction that the ledger had
	// committed by then. Of a batch it is the oldest among the shards that took part. Zero with ErrNotOwner, which says nothing of a
	// ledger.
	AsOf time.Time
	// Shard is the shard that answered; of a batch that was split, the one that answered the first part.
	Shard uint16
	// Forwarded is true where the request came to another shard first, which costs a hop.
	Forwarded bool
	// Quarantined is true where the account's history is known to be incomplete.
	Quarantined bool
	// Lasting is true where that stays so until the account's rows are in the ledger, as far as the server knows.
	Lasting bool
}

// Balance is what a user holds.
type Balance struct {
	Metadata
	UserID uint64
	// Version counts the transactions that the balance includes: dense, from 1.
	Version uint64
	// UpdatedAt is the latest time at which one of them occurred.
	UpdatedAt time.Time
	// Assets are in ascending order of their codes.
	Assets []AssetBalance
}

// AssetBalance is what a user holds of one asset, in the asset's minor units.
type AssetBalance struct {
	Asset Asset
	// Available is what the user can spend; negative where the ledger says so.
	Available int64
	// Held is reserved by holds, and cannot be spent.
	Held int64
}

// Asset returns the balance of one asset; false where the user never had any of it.
func (b *Balance) Asset(code string) (AssetBalance, bool) {
	for _, held := range b.Assets {
		if held.Asset.Is(code) {
			return held, true
		}
	}
	return AssetBalance{}, false
}

// Statistics are sums over a user's transactions.
type Statistics struct {
	Metadata
	UserID  uint64
	Version uint64
	// Windows are those that were asked for.
	Windows Windows
	// Assets are in ascending order of their codes.
	Assets []AssetStatistics
	// FirstTransactionAt and LastTransactionAt are the earliest and the latest time at which one occurred.
	FirstTransactionAt, LastTransactionAt time.Time
}

// AssetStatistics are the sums of one asset.
type AssetStatistics struct {
	Asset Asset
	// ByWindow is indexed by Window; all zero where Statistics.Windows does not include the window.
	ByWindow [4]WindowStatistics
}

// WindowStatistics are the sums of one asset over one window, in the asset's minor units.
type WindowStatistics struct {
	CreditCount uint64
	CreditSum   int64
	DebitCount  uint64
	// DebitSum is positive.
	DebitSum int64
	// LargestDebit is 0 where there is none.
	LargestDebit int64
}

// Batch is the answer to GetBalances.
type Batch struct {
	Metadata
	// Entries are in the order asked, one for each id, duplicates included.
	Entries []BatchEntry
}

// BatchEntry is one user of a batch.
type BatchEntry struct {
	UserID uint64
	// Status is the entry's own.
	Status Status
	// Quarantined: this account's history is known to be incomplete, and its balance may be older than the batch's AsOf.
	// A server older than this flag never sets it: its Metadata's Quarantined says only that some account's is.
	Quarantined bool
	// Balance is nil unless Status is StatusOK. Its metadata is that of the part of the batch that it came with.
	Balance *Balance
}

// Window is a span of time, in whole UTC hours or days, that ends with the current one.
type Window uint8

// The four windows.
const (
	// Hours24 is this hour and the 23 before it.
	Hours24 Window = iota
	// Days7 is today and the 6 days before it.
	Days7
	// Days30 is today and the 29 days before it.
	Days30
	// Lifetime is everything.
	Lifetime
)

var windowNames = [...]string{"24h", "7d", "30d", "lifetime"}

// String returns the window's name in queries and JSON answers.
func (w Window) String() string {
	if int(w) < len(windowNames) {
		return windowNames[w]
	}
	return fmt.Sprintf("Window(%d)", uint8(w))
}

// Windows is a set of windows.
type Windows uint8

// AllWindows are all four.
const AllWindows Windows = 1<<Hours24 | 1<<Days7 | 1<<Days30 | 1<<Lifetime

// Only returns the set of the given windows.
func Only(windows ...Window) Windows {
	var set Windows
	for _, window := range windows {
		set |= 1 << window
	}
	return set
}

// Has reports whether the set includes the window.
func (w Windows) Has(window Window) bool { return w&(1<<window) != 0 }

// Asset is an asset's code, 1 to 8 characters of A-Z, 0-9 and _, as the wire carries it: the first in the lowest byte,
// zero padded.
type Asset uint64

// String returns the code.
func (a Asset) String() string {
	var code [8]byte
	return string(a.Append(code[:0]))
}

// Append appends the code's characters.
func (a Asset) Append(out []byte) []byte {
	for ; a != 0; a >>= 8 {
		out = append(out, byte(a))
	}
	return out
}

// Is reports whether the code is this one; it does not allocate.
func (a Asset) Is(code string) bool {
	if len(code) == 0 || len(code) > 8 {
		return false
	}
	var wire Asset
	for index := len(code) - 1; index >= 0; index-- {
		wire = wire<<8 | Asset(code[index])
	}
	return wire == a
}

// isLegal reports whether the integer is a code: characters first, then nothing but padding.
func (a Asset) isLegal() bool {
	if a == 0 {
		return false
	}
	for ; a != 0; a >>= 8 {
		switch c := byte(a); {
		case 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_':
		default:
			return false
		}
	}
	return true
}
