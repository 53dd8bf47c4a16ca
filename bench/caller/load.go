package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// answerTimeout bounds one question.
const answerTimeout = 10 * time.Second

// result is what the command prints last.
type result struct {
	Event string `json:"event"`
	// Seconds of the measured window, and what was answered in it.
	Seconds float64 `json:"seconds"`
	Served  int64   `json:"served"`
	// Errors are questions that were not answered.
	Errors    int64  `json:"errors"`
	LastError string `json:"last_error"`
	// The process's own CPU time in the window.
	UserSeconds   float64 `json:"user_seconds"`
	SystemSeconds float64 `json:"system_seconds"`
	// Latencies of the questions that were due in the window, from when they were due (with a rate) or asked.
	P50NS  int64 `json:"p50_ns"`
	P90NS  int64 `json:"p90_ns"`
	P99NS  int64 `json:"p99_ns"`
	P999NS int64 `json:"p999_ns"`
	MaxNS  int64 `json:"max_ns"`
}

// errWrong is an answer that is not the question's: it ends the run, for nothing that such a server does is worth measuring.
var errWrong = errors.New("wrong answer")

// asker asks one thing at a time for a goroutine; it is shared by all.
type asker interface {
	// Ask asks about the users, and checks the answer.
	Ask(ctx context.Context, users []uint64) error
	Close()
}

// shared is what all goroutines share.
type shared struct {
	settings
	users      []uint64
	asker      asker
	start      time.Time
	served     atomic.Int64
	errors     atomic.Int64
	lastError  atomic.Value
	begin, end time.Time
	cancel     context.CancelCauseFunc
}

// load runs the goroutines, and calls note with "begin" and "end" around the window.
func load(s settings, users []uint64, asker asker, note func(string)) (*result, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	all := &shared{settings: s, users: users, asker: asker, start: time.Now(), cancel: cancel}
	all.begin = all.start.Add(s.warmup)
	all.end = all.begin.Add(s.duration)
	latencies := make([][]int64, s.goroutines)
	var group sync.WaitGroup
	for index := range s.goroutines {
		group.Go(func() { latencies[index] = all.goroutine(ctx, index) })
	}
	wait(ctx, all.begin)
	note("begin")
	before, servedBefore, begun := usage(), all.served.Load(), time.Now()
	wait(ctx, all.end)
	note("end")
	after, servedAfter, ended := usage(), all.served.Load(), time.Now()
	group.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return nil, cause
	}
	last, _ := all.lastError.Load().(string)
	result := &result{
		Event: "result", Seconds: ended.Sub(begun).Seconds(), Served: servedAfter - servedBefore,
		Errors: all.errors.Load(), LastError: last,
		UserSeconds:   seconds(after.Utime) - seconds(before.Utime),
		SystemSeconds: seconds(after.Stime) - seconds(before.Stime),
	}
	result.summarize(slices.Concat(latencies...))
	return result, nil
}

// goroutine asks until the window is over, and returns the latencies in it.
func (s *shared) goroutine(ctx context.Context, index int) []int64 {
	random := rand.New(rand.NewPCG(s.seed, uint64(index)))
	users := make([]uint64, s.kind.batch)
	var latencies []int64
	due := s.start
	for ctx.Err() == nil {
		if s.rate > 0 {
			// Independent callers: exponential gaps, and no answer is waited for before the next is due.
			gap := random.ExpFloat64() * float64(s.goroutines) / s.rate
			due = due.Add(time.Duration(gap * float64(time.Second)))
			if !due.Before(s.end) {
				return latencies
			}
			wait(ctx, due)
		} else if due = time.Now(); !due.Before(s.end) {
			return latencies
		}
		for place := range users {
			users[place] = s.users[random.IntN(len(s.users))]
		}
		err := s.ask(ctx, users)
		now := time.Now()
		inWindow := !due.Before(s.begin) && due.Before(s.end)
		switch {
		case errors.Is(err, errWrong):
			s.cancel(fmt.Errorf("asking about %v: %w", users, err))
		case err != nil:
			s.lastError.Store(err.Error())
			if inWindow {
				s.errors.Add(1)
			}
		default:
			s.served.Add(1)
			if inWindow {
				latencies = append(latencies, now.Sub(due).Nanoseconds())
			}
		}
	}
	return latencies
}

func (s *shared) ask(ctx context.Context, users []uint64) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return s.asker.Ask(ctx, users)
}

// wait returns at the time, or when ctx ends; at once where the time has passed.
func wait(ctx context.Context, until time.Time) {
	left := time.Until(until)
	if left <= 0 {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (r *result) summarize(latencies []int64) {
	if len(latencies) == 0 {
		return
	}
	slices.Sort(latencies)
	at := func(share float64) int64 { return latencies[int(share*float64(len(latencies)-1))] }
	r.P50NS, r.P90NS, r.P99NS, r.P999NS = at(0.5), at(0.9), at(0.99), at(0.999)
	r.MaxNS = latencies[len(latencies)-1]
}

func usage() syscall.Rusage {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(fmt.Sprintf("getrusage of the own process: %v", err))
	}
	return used
}

func seconds(value syscall.Timeval) float64 { return float64(value.Sec) + float64(value.Usec)/1e6 }
