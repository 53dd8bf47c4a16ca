// Package domain is the arithmetic of accounts: what each kind of transaction does, and which hours each window holds.
// It knows neither the database nor HTTP.
package domain

import (
	"errors"
	"math"
	"math/bits"
	"strconv"
	"strings"
	"time"
)

// Bounds of the domain.
const (
	// UserIDMax is the largest user id.
	UserIDMax = math.MaxInt64
	// AssetsMax is how many assets one account may hold.
	AssetsMax = 16
	// OccurredAtMinUS and OccurredAtMaxUS are the years 0001 to 9999, in µs since 1970.
	OccurredAtMinUS = -62_135_596_800_000_000
	OccurredAtMaxUS = 253_402_300_799_999_999
)

// ErrOverflow: a sum leaves the range of a 64-bit integer, so there is no number to serve.
var ErrOverflow = errors.New("a sum leaves the range of a 64-bit integer")

// Kind is what a transaction does.
type Kind uint8

// The ten kinds, by the ledger's numbers.
const (
	Recharge Kind = iota + 1
	GiftReceived
	Refund
	AdjustmentCredit
	GiftSent
	Withdrawal
	AdjustmentDebit
	Hold
	Release
	Capture
)

var kindNames = [...]string{
	"", "recharge", "gift_received", "refund", "adjustment_credit", "gift_sent", "withdrawal", "adjustment_debit", "hold",
	"release", "capture",
}

// IsValid reports whether the kind is one of the ten.
func (k Kind) IsValid() bool { return Recharge <= k && k <= Capture }

// ParseKind reads a kind's name, or its number.
func ParseKind(text string) (Kind, bool) {
	for number, name := range kindNames {
		if number > 0 && name == text {
			return Kind(number), true
		}
	}
	number, err := strconv.ParseUint(text, 10, 8)
	return Kind(number), err == nil && Kind(number).IsValid()
}

// Counting is what a transaction adds to in its account's statistics.
type Counting uint8

// A transaction counts as one of these.
const (
	Neither Counting = iota
	Credit
	Debit
)

// Counting returns what the kind counts as.
func (k Kind) Counting() Counting {
	switch k {
	case Recharge, GiftReceived, Refund, AdjustmentCredit:
		return Credit
	case GiftSent, Withdrawal, AdjustmentDebit, Capture:
		return Debit
	default:
		return Neither
	}
}

// Apply returns available and held after a transaction of this kind.
func (k Kind) Apply(available, held, amount int64) (int64, int64, error) {
	var err error
	switch k {
	case Recharge, GiftReceived, Refund, AdjustmentCredit, Release:
		available, err = Add(available, amount)
	case GiftSent, Withdrawal, AdjustmentDebit, Hold:
		available, err = Add(available, -amount)
	}
	if err != nil {
		return 0, 0, err
	}
	switch k {
	case Hold:
		held, err = Add(held, amount)
	case Release, Capture:
		held, err = Add(held, -amount)
	}
	return available, held, err
}

// Add adds, or returns ErrOverflow.
func Add(a, b int64) (int64, error) {
	sum := a + b
	if (sum > a) != (b > 0) && b != 0 {
		return 0, ErrOverflow
	}
	return sum, nil
}

// Transaction is one row of the ledger, less its id.
type Transaction struct {
	UserID       uint64
	Version      uint64
	Asset        string
	Kind         Kind
	Amount       int64
	OccurredAtUS int64
}

// IsAsset reports whether the text is an asset's code.
func IsAsset(code string) bool {
	return 1 <= len(code) && len(code) <= 8 && strings.Trim(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

// Hour is an hour of UTC, counted from 1970.
type Hour int32

const (
	hourUS      = int64(time.Hour / time.Microsecond)
	hoursPerDay = 24
)

// HourOf returns the hour that holds a time in µs.
func HourOf(us int64) Hour {
	hour := us / hourUS
	if us%hourUS < 0 {
		hour--
	}
	return Hour(hour)
}

// Day returns the first hour of the hour's day.
func (h Hour) Day() Hour {
	ofDay := h % hoursPerDay
	if ofDay < 0 {
		ofDay += hoursPerDay
	}
	return h - ofDay
}

// Windows is a set of windows, one bit each, the shortest lowest.
type Windows uint8

// The windows, as indices; AllWindows is the set of them all.
const (
	Hours24 = iota
	Days7
	Days30
	Lifetime
	WindowCount

	AllWindows Windows = 1<<WindowCount - 1
)

// WindowNames are the windows' names in queries and answers.
var WindowNames = [WindowCount]string{"24h", "7d", "30d", "lifetime"}

// Has reports whether the set includes the window of this index.
func (w Windows) Has(window int) bool { return w&(1<<window) != 0 }

// Horizon is where the windows begin and end at one moment: whole UTC hours or days that include the current one.
type Horizon struct {
	thisHour, today Hour
}

// HorizonAt returns the horizon at a time in µs.
func HorizonAt(us int64) Horizon {
	hour := HourOf(us)
	return Horizon{thisHour: hour, today: hour.Day()}
}

// Edges returns the first and the last hour of the three windows that end.
func (h Horizon) Edges() [Lifetime][2]Hour {
	endOfToday := h.today + hoursPerDay - 1
	return [Lifetime][2]Hour{
		Hours24: {h.thisHour - 23, h.thisHour},
		Days7:   {h.today - 6*hoursPerDay, endOfToday},
		Days30:  {h.today - 29*hoursPerDay, endOfToday},
	}
}

// Bucket returns the bucket in which an hour has to be remembered from now on: itself while the 24 hours may reach it,
// its day while only windows of days do; false once none does.
func (h Horizon) Bucket(hour Hour) (Hour, bool) {
	switch {
	case hour >= h.thisHour-23:
		return hour, true
	case hour >= h.today-29*hoursPerDay:
		return hour.Day(), true
	default:
		return 0, false
	}
}

// Mix is the splitmix64 finaliser, which spreads user ids over the view's shards.
func Mix(userID uint64) uint64 {
	z := userID + 0x9E3779B97F4A7C15
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
	z = (z ^ (z >> 27)) * 0x94D049BB133111EB
	return z ^ (z >> 31)
}

// ShardOf returns which of so many shards holds the user.
func ShardOf(userID uint64, shards int) int {
	shard, _ := bits.Mul64(Mix(userID), uint64(shards))
	return int(shard)
}

// FormatTime returns µs since 1970 as RFC 3339 in UTC with microseconds.
func FormatTime(us int64) string {
	return string(AppendTime(make([]byte, 0, len("2006-01-02T15:04:05.000000Z")), us))
}

// AppendTime appends what FormatTime returns.
func AppendTime(out []byte, us int64) []byte {
	return time.UnixMicro(us).UTC().AppendFormat(out, "2006-01-02T15:04:05.000000Z07:00")
}

// ParseTime reads an RFC 3339 time into µs since 1970. What µs cannot hold is refused, not rounded.
func ParseTime(text string) (int64, bool) {
	upper := strings.ToUpper(text)
	parsed, err := time.Parse(time.RFC3339Nano, upper)
	if err != nil || parsed.Nanosecond()%1000 != 0 || strings.ContainsRune(upper, ',') {
		return 0, false
	}
	us := parsed.UnixMicro()
	return us, OccurredAtMinUS <= us && us <= OccurredAtMaxUS
}
