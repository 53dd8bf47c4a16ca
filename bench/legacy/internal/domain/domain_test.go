package domain

import (
	"errors"
	"math"
	"testing"
)

func TestEachKindMovesWhatTheDomainSays(t *testing.T) {
	want := [][3]int64{
		{7, 0, int64(Credit)}, {7, 0, int64(Credit)}, {7, 0, int64(Credit)}, {7, 0, int64(Credit)},
		{-7, 0, int64(Debit)}, {-7, 0, int64(Debit)}, {-7, 0, int64(Debit)},
		{-7, 7, int64(Neither)}, {7, -7, int64(Neither)}, {0, -7, int64(Debit)},
	}
	for kind := Recharge; kind <= Capture; kind++ {
		available, held, err := kind.Apply(100, 30, 7)
		if got := [3]int64{available - 100, held - 30, int64(kind.Counting())}; err != nil || got != want[kind-1] {
			t.Errorf("kind %d: %v, want %v", kind, got, want[kind-1])
		}
		if read, ok := ParseKind(kindNames[kind]); !ok || read != kind {
			t.Errorf("%q was read as %d", kindNames[kind], read)
		}
	}
	for _, wrong := range []string{"", "0", "11", "gift", "-1"} {
		if _, ok := ParseKind(wrong); ok {
			t.Errorf("%q was read", wrong)
		}
	}
}

func TestSumsAreChecked(t *testing.T) {
	for _, c := range [][3]int64{{math.MaxInt64, 0, 1}, {math.MinInt64, 0, -1}, {math.MaxInt64, math.MaxInt64, 1}} {
		if _, err := Add(c[0], c[2]); !errors.Is(err, ErrOverflow) {
			t.Errorf("%d + %d: %v", c[0], c[2], err)
		}
	}
	for _, c := range [][3]int64{{1, 2, 3}, {math.MaxInt64, math.MinInt64, -1}, {5, 0, 5}, {math.MinInt64, 0, math.MinInt64}} {
		if sum, err := Add(c[0], c[1]); err != nil || sum != c[2] {
			t.Errorf("%d + %d = %d, %v", c[0], c[1], sum, err)
		}
	}
	if _, _, err := Hold.Apply(0, math.MaxInt64, 1); !errors.Is(err, ErrOverflow) {
		t.Error("a hold overflowed unseen")
	}
}

func TestTimesAreExact(t *testing.T) {
	for text, us := range map[string]int64{
		"1970-01-01T00:00:00Z":               0,
		"1969-12-31T23:59:59.999999z":        -1,
		"1993-01-01t03:30:20.00000100-04:30": 725_875_220_000_001,
		"0001-01-01T00:00:00Z":               OccurredAtMinUS,
		"9999-12-31T23:59:59.999999Z":        OccurredAtMaxUS,
	} {
		if got, ok := ParseTime(text); !ok || got != us {
			t.Errorf("%s: %d, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "1993-01-01", "1993-01-01T08:00:20", "1993-02-29T08:00:20Z", "1993-01-01T08:00:20.0000001Z",
		"1993-01-01T24:00:00Z", "2016-12-31T23:59:60Z", "0001-01-01T00:00:00+00:01", "1993-01-01T08:00:20,5Z"} {
		if us, ok := ParseTime(text); ok {
			t.Errorf("%q was read as %d", text, us)
		}
	}
	if text := FormatTime(-1); text != "1969-12-31T23:59:59.999999Z" {
		t.Error(text)
	}
	if HourOf(-1) != -1 || HourOf(-1).Day() != -24 || HourOf(3_600_000_000) != 1 {
		t.Error("hours before 1970 round down")
	}
}
