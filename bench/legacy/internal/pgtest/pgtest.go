// Package pgtest gives tests a PostgreSQL of their own: in a folder that goes with it, on a free port, as another user than
// root, whom PostgreSQL refuses.
package pgtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a server may take to start.
const patience = 60 * time.Second

// Start starts a server that ends with the test, and returns the address of a database in it. Without a PostgreSQL the test
// is skipped.
func Start(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		t.Fatal(err)
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		found = append(found, path)
	}
	if len(found) == 0 {
		t.Skip("no PostgreSQL is installed: scripts/needs test-go")
	}
	programs := filepath.Dir(slices.Max(found))
	// Not TempDir, whose parents are for this user alone.
	folder, err := os.MkdirTemp("", "legacy-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	credential := owner(t, folder)
	command := func(program string, arguments ...string) *exec.Cmd {
		command := exec.Command(filepath.Join(programs, program), arguments...)
		command.Dir, command.Env = "/", append(os.Environ(), "LC_ALL=C.UTF-8")
		command.SysProcAttr = &syscall.SysProcAttr{Credential: credential, Setpgid: true}
		return command
	}
	data := filepath.Join(folder, "data")
	initdb := command("initdb", "--pgdata", data, "--username", "postgres", "--auth", "trust", "--encoding", "UTF8", "--no-sync")
	if output, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, output)
	}
	port := freePort(t)
	server := command("postgres", "-D", data, "-c", "listen_addresses=127.0.0.1", "-c", "port="+strconv.Itoa(port),
		"-c", "unix_socket_directories="+folder, "-c", "wal_level=logical", "-c", "fsync=off", "-c", "max_prepared_transactions=5")
	log, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Fast: who is connected is sent away.
		if err := server.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := server.Wait(); err != nil {
			t.Errorf("the server did not end well: %v", err)
		}
	})
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		// The last line says how it is.
		pid, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
		if lines := strings.Split(string(pid), "\n"); err == nil && len(lines) > 7 && strings.TrimSpace(lines[7]) == "ready" {
			return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/postgres", port)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) || time.Now().After(deadline) {
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("the server does not start: %v\n%s", err, said)
		}
	}
}

// owner is whom the server runs as, where this is root; the folder is his then.
func owner(t *testing.T, folder string) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	found, err := user.Lookup("postgres")
	if err != nil {
		found, err = user.Lookup("nobody")
	}
	if err != nil {
		t.Skip("PostgreSQL refuses to run as root, and there is no user postgres or nobody here")
	}
	id := func(text string) uint32 {
		number, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		return uint32(number)
	}
	credential := &syscall.Credential{Uid: id(found.Uid), Gid: id(found.Gid)}
	if err := os.Chown(folder, int(credential.Uid), int(credential.Gid)); err != nil {
		t.Fatal(err)
	}
	return credential
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// Florin is florin's binary: at FLORIN, or built in the target folder of the repository, which is root. Without one the test
// is skipped.
func Florin(t *testing.T, root string) string {
	t.Helper()
	candidates := []string{os.Getenv("FLORIN")}
	if candidates[0] == "" {
		candidates = []string{filepath.Join(root, "target/debug/florin"), filepath.Join(root, "target/release/florin")}
	}
	for _, candidate := range candidates {
		if path, err := filepath.Abs(candidate); err == nil {
			if _, err := os.Stat(path); err == nil || len(candidates) == 1 {
				return path
			}
		}
	}
	t.Skip("florin is not built: run make test-go")
	return ""
}
