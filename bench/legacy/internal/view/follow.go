package view

import (
	"context"
	"log/slog"
	"time"

	"github.com/florin-db/florin/bench/legacy/internal/domain"
	"github.com/florin-db/florin/bench/legacy/internal/ledger"
)

// pageRows is how many rows one query fetches.
const pageRows = 4_096

// Rows is where the view's rows come from: a ledger.
type Rows interface {
	Next(ctx context.Context, limit int, visit func(*ledger.Row)) (int, error)
	Account(ctx context.Context, userID uint64, visit func(*ledger.Row)) error
}

// Follow loads the ledger, and then takes in what is added to it, until ctx ends: every interval, and whenever nudged.
// An error of the ledger's is logged and tried again; meanwhile the watermark ages.
func (v *View) Follow(ctx context.Context, rows Rows, interval time.Duration, nudge <-chan struct{}) {
	f := &follower{view: v, rows: rows}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		if err := f.catchUp(ctx); err != nil && ctx.Err() == nil {
			slog.Error("cannot read the ledger; trying again", "error", err)
		}
		select {
		case <-ticker.C:
		case <-nudge:
		case <-ctx.Done():
			return
		}
	}
}

// follower is the one that writes to a view.
type follower struct {
	view *View
	rows Rows
	// rereads are accounts with a gap, to be read again once the query that showed it is over.
	rereads []uint64
}

// catchUp takes in all rows that are there, and moves the watermark to the time before it looked.
func (f *follower) catchUp(ctx context.Context) error {
	for {
		mark := &watermark{us: f.view.clock(), taken: time.Now()}
		count, err := f.rows.Next(ctx, pageRows, f.take)
		if err != nil {
			return err
		}
		if err := f.reread(ctx); err != nil {
			return err
		}
		if count < pageRows {
			f.publish(mark)
			return nil
		}
	}
}

func (f *follower) publish(mark *watermark) {
	if !f.view.isLoaded {
		f.view.isLoaded = true
		for index := range f.view.shards {
			for _, account := range f.view.shards[index].accounts {
				account.seal()
			}
		}
	}
	if old := f.view.mark.Load(); old != nil && old.us == mark.us {
		mark.text = old.text
	} else {
		mark.text = domain.FormatTime(mark.us)
	}
	f.view.mark.Store(mark)
	f.view.wake()
}

// take applies one row.
func (f *follower) take(row *ledger.Row) {
	if row.Fault != nil {
		slog.Error("a row of the ledger is no transaction", "error", row.Fault)
		if row.UserKnown {
			account := f.open(row.UserID)
			f.quarantine(account)
			account.defective = true
			f.close(account)
		}
		return
	}
	account := f.open(row.UserID)
	f.apply(account, &row.Transaction)
	f.close(account)
}

// open returns the account to be changed. Before the view is loaded nobody reads it, so it need not be copied.
func (f *follower) open(userID uint64) *account {
	account := f.view.find(userID)
	switch {
	case account == nil:
		account = newAccount(userID)
		f.view.Counters.Accounts.Add(1)
	case f.view.isLoaded:
		account = account.clone()
	default:
		return account
	}
	return account
}

func (f *follower) close(account *account) {
	if f.view.isLoaded {
		f.view.publish(account)
		return
	}
	f.view.shard(account.balance.UserID).accounts[account.balance.UserID] = account
}

// apply applies the row to an account that may be changed, as schemas/domain.md says.
func (f *follower) apply(account *account, row *domain.Transaction) {
	counters := &f.view.Counters
	current := account.balance.Version
	switch {
	case account.defective:
	case row.Version <= current:
		counters.Duplicates.Add(1)
	case row.Version > current+1:
		counters.Gaps.Add(1)
		f.quarantine(account)
		f.askReread(account)
	default:
		if err := account.apply(row, domain.HorizonAt(f.view.clock())); err != nil {
			slog.Error("a transaction cannot be applied; its account follows no further",
				"user_id", row.UserID, "version", row.Version, "error", err)
			f.quarantine(account)
			account.defective = true
			return
		}
		counters.Applied.Add(1)
		if account.quarantined {
			// The missing row came by itself; what came after it was skipped.
			f.askReread(account)
		}
	}
}

func (f *follower) quarantine(account *account) {
	if !account.quarantined {
		account.quarantined = true
		f.view.Counters.Quarantined.Add(1)
	}
}

func (f *follower) askReread(account *account) {
	if !account.asksReread {
		account.asksReread = true
		f.rereads = append(f.rereads, account.balance.UserID)
	}
}

// reread builds the accounts that had a gap anew, from the whole of their histories.
func (f *follower) reread(ctx context.Context) error {
	for len(f.rereads) > 0 {
		userID := f.rereads[0]
		fresh := newAccount(userID)
		again := &follower{view: &View{clock: f.view.clock}}
		err := f.rows.Account(ctx, userID, func(row *ledger.Row) {
			if row.Fault != nil {
				fresh.quarantined, fresh.defective = true, true
				return
			}
			again.apply(fresh, &row.Transaction)
		})
		if err != nil {
			return err
		}
		f.rereads = f.rereads[1:]
		f.replace(fresh)
	}
	return nil
}

// replace puts the account in the old one's place, unless it holds less.
func (f *follower) replace(fresh *account) {
	old := f.open(fresh.balance.UserID)
	if fresh.balance.Version < old.balance.Version {
		// Rows have vanished from the ledger: what readers have seen stays, and stays quarantined.
		old.asksReread = false
		f.close(old)
		return
	}
	fresh.asksReread = false
	// Of an account without a row nothing is known: those that named it have vanished.
	fresh.quarantined = fresh.quarantined || fresh.balance.Version == 0
	if !fresh.quarantined {
		f.view.Counters.Quarantined.Add(-1)
	}
	f.close(fresh)
}
