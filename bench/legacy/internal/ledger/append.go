package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/florin-db/florin/bench/legacy/internal/domain"
)

// NewTransaction is a transaction on its way into the ledger, which assigns its version.
type NewTransaction struct {
	// ID is a UUID in lower case.
	ID string
	domain.Transaction
}

// Appended is what became of a transaction.
type Appended struct {
	Version uint64
	// Duplicate says that the ledger held it already, so that nothing was written.
	Duplicate bool
}

// Rejection is why a transaction may not enter; then none of its request did.
type Rejection struct {
	// Index is its place in the request.
	Index int
	// Field is where to look first.
	Field string
	// ConflictVersion is the version of the transaction that has the id; 0 where that is not the reason.
	ConflictVersion uint64
	Message         string
}

func (r *Rejection) Error() string { return r.Message }

// writer is an open database transaction, which keeps others from the accounts that it asks about.
type writer interface {
	// existing is the transaction that has the id, or nil.
	existing(ctx context.Context, id string) (*NewTransaction, error)
	// assets is how many an account has, and how many of its rows have this one.
	assets(ctx context.Context, userID uint64, asset string) (count, same int64, err error)
	// last is an account's last version, or 0.
	last(ctx context.Context, userID uint64) (uint64, error)
	insert(ctx context.Context, row *NewTransaction) error
}

// appendAll judges the transactions one after the other, and inserts those that the ledger does not hold.
func appendAll(ctx context.Context, w writer, transactions []NewTransaction) ([]Appended, error) {
	appended := make([]Appended, len(transactions))
	for index := range transactions {
		var err error
		if appended[index], err = appendOne(ctx, w, transactions[index]); err != nil {
			var rejection *Rejection
			if errors.As(err, &rejection) {
				rejection.Index = index
				return nil, rejection
			}
			return nil, fmt.Errorf("cannot write to the ledger: %w", err)
		}
	}
	return appended, nil
}

func appendOne(ctx context.Context, w writer, row NewTransaction) (Appended, error) {
	found, err := w.existing(ctx, row.ID)
	if err != nil {
		return Appended{}, err
	}
	if found != nil {
		return compare(&row, found)
	}
	assets, same, err := w.assets(ctx, row.UserID, row.Asset)
	if err != nil {
		return Appended{}, err
	}
	if assets >= domain.AssetsMax && same == 0 {
		return Appended{}, &Rejection{Field: "asset", Message: fmt.Sprintf(
			"asset: user %d has %d assets already, the most an account can hold; %s would be one more",
			row.UserID, domain.AssetsMax, row.Asset)}
	}
	last, err := w.last(ctx, row.UserID)
	if err != nil {
		return Appended{}, err
	}
	row.Version = last + 1
	return Appended{Version: row.Version}, w.insert(ctx, &row)
}

// compare says whether the row that has the id already is this one.
func compare(row, found *NewTransaction) (Appended, error) {
	var field string
	switch {
	case row.UserID != found.UserID:
		field = "user_id"
	case row.Asset != found.Asset:
		field = "asset"
	case row.Kind != found.Kind:
		field = "kind"
	case row.Amount != found.Amount:
		field = "amount"
	case row.OccurredAtUS != found.OccurredAtUS:
		field = "occurred_at"
	default:
		return Appended{Version: found.Version, Duplicate: true}, nil
	}
	return Appended{}, &Rejection{Field: "transaction_id", ConflictVersion: found.Version, Message: fmt.Sprintf(
		"transaction_id: %s is in the ledger already, with another %s (version %d of its account); send the same content again, or a new id",
		row.ID, field, found.Version)}
}
