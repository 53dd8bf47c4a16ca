package florin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// dialer connects as the net package does, but for names: each attempt resolves anew, for a node may have moved, and tries
// all addresses, those that take long beside each other.
type dialer struct {
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
}

func newDialer() *dialer {
	return &dialer{lookup: net.DefaultResolver.LookupNetIP, dial: new(net.Dialer).DialContext}
}

func (d *dialer) connect(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if _, notIP := netip.ParseAddr(host); network == "unix" || err != nil || notIP == nil {
		return d.dial(ctx, network, address)
	}
	found, err := d.lookup(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("resolving %s: expected an address, got none", host)
	}
	return d.first(ctx, network, found, port)
}

// attempt is how one ended.
type attempt struct {
	socket net.Conn
	err    error
}

// first returns the first connection that is made. The others are given up.
func (d *dialer) first(ctx context.Context, network string, addresses []netip.Addr, port string) (net.Conn, error) {
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	ended := make(chan attempt, len(addresses))
	var failures []error
	next := time.NewTimer(0)
	defer next.Stop()
	for begun := 0; len(failures) < len(addresses); {
		due := next.C
		if begun == len(addresses) {
			due = nil
		}
		select {
		case <-due:
			address := net.JoinHostPort(addresses[begun].Unmap().String(), port)
			go func() {
				socket, err := d.dial(ctx, network, address)
				ended <- attempt{socket, err}
			}()
			begun++
			next.Reset(attemptAfter)
		case one := <-ended:
			if one.err == nil {
				go closeLate(ended, begun-len(failures)-1)
				return one.socket, nil
			}
			failures = append(failures, one.err)
			next.Reset(0)
		}
	}
	return nil, errors.Join(failures...)
}

// closeLate closes what is connected although nobody needs it any more.
func closeLate(ended <-chan attempt, count int) {
	for range count {
		if one := <-ended; one.err == nil {
			_ = one.socket.Close()
		}
	}
}
