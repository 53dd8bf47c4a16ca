package ledger

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/florin-db/florin/bench/legacy/internal/domain"
)

// fresh makes an empty ledger of the project's own schema.
func fresh(t *testing.T) *Ledger {
	t.Helper()
	schema, err := os.ReadFile("../../../../schemas/ledger.sql")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ledger with a space?.db")
	// The driver reads what follows a question mark as its options.
	db, err := sql.Open("sqlite", "file:"+strings.ReplaceAll(strings.ReplaceAll(path, " ", "%20"), "?", "%3f"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("PRAGMA journal_mode = wal; " + string(schema)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
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
	l := fresh(t)
	appended, err := l.Append(t.Context(), []NewTransaction{
		transaction(1, 7, "COIN", 10), transaction(2, domain.UserIDMax, "COIN", 20), transaction(3, 7, "USD", 30),
		transaction(1, 7, "COIN", 10),
	})
	want := []Appended{{Version: 1}, {Version: 1}, {Version: 2}, {Version: 1, Duplicate: true}}
	if err != nil || !reflect.DeepEqual(appended, want) {
		t.Fatalf("%+v, %v", appended, err)
	}
	var rows []Row
	visit := func(row *Row) { rows = append(rows, *row) }
	if count, err := l.After(t.Context(), 1, 10, visit); err != nil || count != 2 {
		t.Fatalf("%d rows, %v", count, err)
	}
	if err := l.Account(t.Context(), 7, visit); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, row := range rows {
		got = append(got, fmt.Sprint(row.Seq, row.UserID, row.Version, row.Asset, row.Amount, row.Fault))
	}
	if text := strings.Join(got, "|"); text != "2 9223372036854775807 1COIN20 <nil>|3 7 2USD30 <nil>|1 7 1COIN10 <nil>|3 7 2USD30 <nil>" {
		t.Error(text)
	}
}

func TestARefusedTransactionTakesItsRequestWithIt(t *testing.T) {
	l := fresh(t)
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
			t.Errorf("%s: %v", want, err)
		}
	}
	if count, err := l.After(t.Context(), domain.AssetsMax, 10, func(*Row) {}); err != nil || count != 0 {
		t.Errorf("%d rows were written, %v", count, err)
	}
}

func TestConcurrentWritersGetDenseVersions(t *testing.T) {
	l := fresh(t)
	other, err := Open(l.path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	var group sync.WaitGroup
	for index, writer := range []*Ledger{l, other} {
		group.Go(func() {
			for step := range 50 {
				if _, err := writer.Append(t.Context(), []NewTransaction{transaction(1000*index+step, 7, "COIN", 1)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	next := uint64(1)
	if err := l.Account(t.Context(), 7, func(row *Row) {
		if row.Version != next {
			t.Errorf("version %d where %d was expected", row.Version, next)
		}
		next++
	}); err != nil || next != 101 {
		t.Errorf("up to %d, %v", next, err)
	}
}

func TestAFileThatIsNoLedgerIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if _, err := Open(path); err == nil || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte("no database, whatever its name says"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil {
		t.Error("a text was opened")
	}
}
