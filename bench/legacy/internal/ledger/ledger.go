// Package ledger reads and writes the ledger: an SQLite file with the table of schemas/ledger.sql, or a table in a PostgreSQL
// as `florin ledger init` makes it.
package ledger

import (
	"context"
	"fmt"
	"strings"

	"github.com/florin-db/florin/bench/legacy/internal/domain"
)

// Ledger is an open ledger.
type Ledger interface {
	// Next gives rows to visit that it has not given before: all that were committed before it was called, or as many as
	// limit of them and more that come next time; it returns how many. Of an account they come in the order of their
	// versions, as far as one call goes. It is for one caller, who follows.
	Next(ctx context.Context, limit int, visit func(*Row)) (int, error)
	// Account gives each of a user's rows to visit, in the order of their versions.
	Account(ctx context.Context, userID uint64, visit func(*Row)) error
	// Append appends all of them in one database transaction, in their order, and returns when they are durable. One that
	// the ledger holds already changes nothing, and gets the version that it has.
	Append(ctx context.Context, transactions []NewTransaction) ([]Appended, error)
	Close() error
}

// Row is a row with its place.
type Row struct {
	Seq int64
	domain.Transaction
	// Fault is why no transaction can be made of the row; its user is known then, if UserKnown says so.
	Fault     error
	UserKnown bool
}

// Expected is what an address looks like.
const Expected = "sqlite:PATH or postgres://USER@HOST:PORT/DATABASE"

// IsAddress says whether Open knows this kind of ledger.
func IsAddress(address string) bool {
	kind, rest, found := strings.Cut(address, ":")
	return found && rest != "" && (kind == "sqlite" || kind == "postgres" || kind == "postgresql")
}

// Open opens a ledger that exists.
func Open(ctx context.Context, address string) (Ledger, error) {
	if path, isSQLite := strings.CutPrefix(address, "sqlite:"); isSQLite {
		return openSQLite(path)
	}
	if !IsAddress(address) {
		return nil, fmt.Errorf("expected %s", Expected)
	}
	return openPostgres(ctx, address)
}

const columns = "seq, user_id, version, asset, kind, amount, occurred_at"

// cells are a row's values as they were read; those that are none are out of range.
type cells struct {
	seq, userID, version, kind, amount, occurredAt int64
	asset                                          string
}

// nothing stands for a value that is none: out of the range of each.
const nothing = -1 << 63

// into makes a row of the values.
func (c *cells) into(row *Row) {
	in := func(value, from, to int64) bool { return from <= value && value <= to }
	hasUser := in(c.userID, 0, domain.UserIDMax)
	isWhole := hasUser && in(c.version, 1, domain.UserIDMax) && domain.IsAsset(c.asset) &&
		in(c.kind, int64(domain.Recharge), int64(domain.Capture)) && in(c.amount, 1, domain.UserIDMax) &&
		in(c.occurredAt, domain.OccurredAtMinUS, domain.OccurredAtMaxUS)
	*row = Row{Seq: c.seq, UserKnown: hasUser}
	if hasUser {
		row.UserID = uint64(c.userID)
	}
	if !isWhole {
		row.Fault = fmt.Errorf("row %d is no transaction: %+v", c.seq, *c)
		return
	}
	row.Version, row.Asset, row.Kind = uint64(c.version), c.asset, domain.Kind(c.kind)
	row.Amount, row.OccurredAtUS = c.amount, c.occurredAt
}
