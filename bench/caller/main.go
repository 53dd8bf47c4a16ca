// Command caller is a Go service that asks: so many goroutines that read balances or statistics at a rate, over net/http
// with encoding/json or with florin's client, and what that costs the process that asks. florin-bench runs it.
//
// It prints one JSON object a line: {"event":"begin"} and {"event":"end"} around the measured window, then the result.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// settings are the command's flags.
type settings struct {
	target, users    string
	kind             kind
	goroutines       int
	rate             float64
	seed             uint64
	warmup, duration time.Duration
}

func parse(arguments []string) (settings, error) {
	var s settings
	var what string
	flags := flag.NewFlagSet("caller", flag.ContinueOnError)
	flags.StringVar(&s.target, "target", "", "whom to ask: `URL`, http://HOST:PORT or florin://HOST:PORT")
	flags.StringVar(&s.users, "users", "", "`FILE` of the user ids to ask about, one a line")
	flags.StringVar(&what, "ask", "balance", "balance, statistics or batch:`N`; or write, over HTTP, which adds to the ledger")
	flags.IntVar(&s.goroutines, "goroutines", 64, "how many ask, each one thing at a time")
	flags.Float64Var(&s.rate, "rate", 0, "requests a second of all together; 0: each asks again at once")
	flags.Uint64Var(&s.seed, "seed", 1, "the same seed asks about the same users in the same order")
	flags.DurationVar(&s.warmup, "warmup", time.Second, "before the measured window")
	flags.DurationVar(&s.duration, "duration", 5*time.Second, "the measured window")
	if err := flags.Parse(arguments); err != nil {
		return s, err
	}
	var err error
	switch s.kind, err = parseKind(what); {
	case err != nil:
		return s, err
	case flags.NArg() > 0:
		return s, fmt.Errorf("expected flags alone, got %q", flags.Arg(0))
	case s.users == "":
		return s, errors.New("give --users FILE: the ids to ask about, one a line")
	case s.goroutines < 1 || s.goroutines > 1<<16:
		return s, fmt.Errorf("--goroutines: expected 1 to 65536, got %d", s.goroutines)
	case !(s.rate >= 0 && s.rate < 1e9):
		return s, fmt.Errorf("--rate: expected 0 or more, got %v", s.rate)
	case s.warmup < 0 || s.duration <= 0:
		return s, errors.New("--warmup and --duration: expected a window")
	}
	return s, nil
}

// kind is what is asked.
type kind struct {
	name string
	// batch is how many users one question names.
	batch int
}

func parseKind(text string) (kind, error) {
	switch name, count, _ := strings.Cut(text, ":"); name {
	case "balance", "statistics", "write":
		if name == text {
			return kind{name: name, batch: 1}, nil
		}
	case "batch":
		if batch, err := strconv.Atoi(count); err == nil && batch >= 1 && batch <= 1024 {
			return kind{name: name, batch: batch}, nil
		}
	}
	return kind{}, fmt.Errorf("--ask: expected balance, statistics, batch:N with N from 1 to 1024, or write, got %q", text)
}

func readUsers(path string) ([]uint64, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var users []uint64
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		user, err := strconv.ParseUint(lines.Text(), 10, 63)
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: expected a user id, got %q", path, len(users)+1, lines.Text())
		}
		users = append(users, user)
	}
	if lines.Err() == nil && len(users) == 0 {
		return nil, fmt.Errorf("%s: expected at least one user id", path)
	}
	return users, lines.Err()
}

func main() {
	s, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "caller:", err)
		os.Exit(2)
	}
	if err := run(s); err != nil {
		fmt.Fprintln(os.Stderr, "caller:", err)
		os.Exit(1)
	}
}

func run(s settings) error {
	users, err := readUsers(s.users)
	if err != nil {
		return err
	}
	asker, err := newAsker(s)
	if err != nil {
		return err
	}
	defer asker.Close()
	out := json.NewEncoder(os.Stdout)
	result, err := load(s, users, asker, func(event string) { _ = out.Encode(map[string]string{"event": event}) })
	if err != nil {
		return err
	}
	return out.Encode(result)
}
