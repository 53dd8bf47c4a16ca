package florin

import (
	"context"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/florin-db/florin/clients/go/internal/fake"
)

// A node whose host had vanished kept its callers' connections, on which nothing was asked, for ever.
func TestANodeIsAskedWhetherItIsStillThere(t *testing.T) {
	server := fake.Start(t, 1, nil)
	sockets := make(chan *net.TCPConn, 16)
	dial(t, server.Target, Options{Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		// What a caller's own dialer leaves undone is done for it.
		socket, err := (&net.Dialer{KeepAlive: -1}).DialContext(ctx, network, address)
		if err == nil {
			sockets <- socket.(*net.TCPConn)
		}
		return socket, err
	}})
	raw, err := (<-sockets).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var asks, after int
	err = raw.Control(func(descriptor uintptr) {
		asks, _ = syscall.GetsockoptInt(int(descriptor), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
		after, _ = syscall.GetsockoptInt(int(descriptor), syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE)
	})
	if err != nil {
		t.Fatal(err)
	}
	same(t, asks, 1)
	same(t, time.Duration(after)*time.Second, keepAlive.Idle)
}
