package ledger

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/florin-db/florin/bench/legacy/internal/domain"
	"github.com/florin-db/florin/bench/legacy/internal/pgtest"
)

// fresh makes an empty ledger of each kind, as florin makes them.
func fresh(t *testing.T) map[string]Ledger {
	t.Helper()
	florin := pgtest.Florin(t, "../../../..")
	addresses := map[string]string{
		"sqlite": "sqlite:" + filepath.Join(t.TempDir(), "ledger with a space?.db"), "postgres": pgtest.Start(t) + "?slot=x&table=bank.rows",
	}
	ledgers := map[string]Ledger{}
	for kind, address := range addresses {
		if output, err := exec.Command(florin, "ledger", "init", address).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, output)
		}
		ledgers[kind] = opened(t, address)
	}
	return ledgers
}

func opened(t *testing.T, address string) Ledger {
	t.Helper()
	l, err := Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// another opens the same ledger once more.
func another(t *testing.T, l Ledger) Ledger {
	t.Helper()
	switch l := l.(type) {
	case *sqliteLedger:
		return opened(t, "sqlite:"+l.path)
	case *postgresLedger:
		return opened(t, l.pool.Config().ConnString()+"&table=bank.rows")
	}
	panic("a ledger of a third kind")
}

func transaction(id int, userID uint64, asset string, amount int64) NewTransaction {
	return NewTransaction{
		ID: fmt.Sprintf("00000000-0000-0000-0000-%012d", id),
		Transaction: domain.Transaction{
			UserID: userID, Asset: asset, Kind: domain.Recharge, Amount: amount, OccurredAtUS: 765_117_000_000_000,
		},
	}
}

func TestWhatIsAppendedIsRead(t *testing.T) {
	for kind, l := range fresh(t) {
		appended, err := l.Append(t.Context(), []NewTransaction{
			transaction(1, 7, "COIN", 10), transaction(2, domain.UserIDMax, "COIN", 20), transaction(3, 7, "USD", 30),
			transaction(1, 7, "COIN", 10),
		})
		want := []Appended{{Version: 1}, {Version: 1}, {Version: 2}, {Version: 1, Duplicate: true}}
		if err != nil || !reflect.DeepEqual(appended, want) {
			t.Fatalf("%s: %+v, %v", kind, appended, err)
		}
		var got []string
		visit := func(row *Row) {
			got = append(got, fmt.Sprint(row.UserID, row.Version, row.Asset, row.Amount, row.OccurredAtUS, row.Fault))
		}
		if count, err := l.Next(t.Context(), 2, visit); err != nil || count != 2 {
			t.Fatalf("%s: %d rows, %v", kind, count, err)
		}
		for range 3 {
			if _, err := l.Next(t.Context(), 2, visit); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Account(t.Context(), 7, visit); err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		const at = "765117000000000 <nil>"
		first, second, third := "7 1COIN10 "+at, "7 2USD30 "+at, "9223372036854775807 1COIN20 "+at
		if want := []string{first, first, second, second, third}; !slices.Equal(got, want) {
			t.Errorf("%s: %q", kind, got)
		}
	}
}

func TestARefusedTransactionTakesItsRequestWithIt(t *testing.T) {
	for kind, l := range fresh(t) {
		var full []NewTransaction
		for index := range domain.AssetsMax {
			full = append(full, transaction(index, 1, fmt.Sprintf("A%d", index), 1))
		}
		if _, err := l.Append(t.Context(), full); err != nil {
			t.Fatal(err)
		}
		for want, wrong := range map[string]NewTransaction{
			"with another amount (version 4": transaction(3, 1, "A3", 2),
			"with another user_id":           transaction(3, 2, "A3", 1),
			"has 16 assets already":          transaction(99, 1, "B", 1),
		} {
			_, err := l.Append(t.Context(), []NewTransaction{transaction(50, 5, "COIN", 1), wrong})
			var rejection *Rejection
			if !errors.As(err, &rejection) || rejection.Index != 1 || !strings.Contains(rejection.Message, want) {
				t.Errorf("%s: %s: %v", kind, want, err)
			}
		}
		if count, err := l.Next(t.Context(), 100, func(*Row) {}); err != nil || count != domain.AssetsMax {
			t.Errorf("%s: %d rows were written, %v", kind, count, err)
		}
	}
}

func TestConcurrentWritersGetDenseVersions(t *testing.T) {
	for kind, l := range fresh(t) {
		var group sync.WaitGroup
		for index, writer := range []Ledger{l, another(t, l)} {
			group.Go(func() {
				for step := range 50 {
					rows := []NewTransaction{transaction(1000*index+step, 7, "COIN", 1), transaction(5000+step, uint64(index), "COIN", 1)}
					// Of the second row both writers have the same id, for another user: one of them is refused it.
					if _, err := writer.Append(t.Context(), rows[:1]); err != nil {
						t.Error(err)
					}
					var rejection *Rejection
					if _, err := writer.Append(t.Context(), rows[1:]); err != nil && !errors.As(err, &rejection) {
						t.Error(err)
					}
				}
			})
		}
		group.Wait()
		next := uint64(1)
		if err := l.Account(t.Context(), 7, func(row *Row) {
			if row.Version != next {
				t.Errorf("%s: version %d where %d was expected", kind, row.Version, next)
			}
			next++
		}); err != nil || next != 101 {
			t.Errorf("%s: up to %d, %v", kind, next, err)
		}
	}
}

func TestAFileThatIsNoLedgerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if _, err := Open(t.Context(), "sqlite:"+path); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte("no database, whatever its name says"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), "sqlite:"+path); err == nil {
		t.Error("a text was opened")
	}
}
