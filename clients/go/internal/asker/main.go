// Command asker asks what it is told to, by the client: so that a test that is no Go program has this client among its callers.
//
//	asker TARGET
//
// Of a line of input, "TAG USER MIN_VERSION MAX_AGE_MS" with 0 for what does not matter, it makes a question, and of its answer a line of
// output: "TAG VERSION ASSETS AVAILABLE", of so many assets the sum; or "TAG ? WHY". Questions do not wait for each other.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/florin-db/florin/clients/go"
)

// patience bounds one question, and wait is how long a node may hold it until it can be answered.
const (
	patience = 10 * time.Second
	wait     = time.Second
)

var errQuarantined = errors.New("the account's history is known to be incomplete")

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "asker: expected a target, as of florin://HOST:PORT")
		os.Exit(2)
	}
	client, err := florin.New(os.Args[1], florin.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, "asker:", err)
		os.Exit(1)
	}
	defer client.Close()
	var questions sync.WaitGroup
	defer questions.Wait()
	var out sync.Mutex
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		line := lines.Text()
		questions.Go(func() {
			answer := ask(client, line)
			out.Lock()
			defer out.Unlock()
			fmt.Println(answer)
		})
	}
}

func ask(client *florin.Client, line string) string {
	var tag, user, minVersion, maxAgeMS uint64
	if _, err := fmt.Sscan(line, &tag, &user, &minVersion, &maxAgeMS); err != nil {
		return "0 ? expected TAG USER MIN_VERSION MAX_AGE_MS: " + err.Error()
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var asked []florin.ReadOption
	if minVersion > 0 {
		asked = append(asked, florin.MinVersion(minVersion), florin.Wait(wait))
	}
	if maxAgeMS > 0 {
		asked = append(asked, florin.MaxAge(time.Duration(maxAgeMS)*time.Millisecond), florin.Wait(wait))
	}
	balance, err := client.GetBalance(ctx, user, asked...)
	if err == nil && balance.Quarantined {
		err = errQuarantined
	}
	if err != nil {
		return fmt.Sprintf("%d ? %s", tag, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	var available int64
	for _, held := range balance.Assets {
		available += held.Available
	}
	return fmt.Sprintf("%d %d %d %d", tag, balance.Version, len(balance.Assets), available)
}
