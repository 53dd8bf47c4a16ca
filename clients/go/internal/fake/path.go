package fake

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Path is a way to a server on which things go wrong as they do on a network.
type Path struct {
	// Address is where the way begins.
	Address string

	listener net.Listener
	mu       sync.Mutex
	to       string
	delay    time.Duration
	pairs    []*pair
	accepted int
	serving  sync.WaitGroup
}

// pair is a connection and its other half.
type pair struct {
	here, there net.Conn
	mu          sync.Mutex
	isDropping  bool
}

// Through begins a way to the address, which ends with the test.
func Through(t testing.TB, to string) *Path {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Path{Address: listener.Addr().String(), listener: listener, to: to}
	p.serving.Go(p.serve)
	t.Cleanup(func() {
		listener.Close()
		p.Cut()
		p.serving.Wait()
	})
	return p
}

// Mute begins to listen at the address that it returns, and takes connections on which it says nothing, until the test ends.
func Mute(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// The kernel takes them.
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String()
}

// Lead makes new connections lead to another address.
func (p *Path) Lead(to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = to
}

// Delay holds back for so long whatever comes from the server.
func (p *Path) Delay(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
}

// Drop loses, from now on, all that travels on the connections that there are, which nobody is told.
func (p *Path) Drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pair := range p.pairs {
		pair.mu.Lock()
		pair.isDropping = true
		pair.mu.Unlock()
	}
}

// Cut ends the connections that there are.
func (p *Path) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pair := range p.pairs {
		pair.here.Close()
		pair.there.Close()
	}
	p.pairs = nil
}

// Weather draws one of so many kinds of weather for the path: it drops what it is given, is cut, or is slow; all others are fair.
func (p *Path) Weather(random *rand.Rand, kinds int) {
	switch random.IntN(kinds) {
	case 0:
		p.Drop()
	case 1:
		p.Cut()
	case 2:
		p.Delay(time.Duration(random.IntN(60)) * time.Millisecond)
	default:
		p.Delay(0)
	}
}

// Accepted returns how many connections the way has had.
func (p *Path) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}

func (p *Path) serve() {
	for {
		here, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.accepted++
		there, err := net.Dial("tcp", p.to)
		if err != nil {
			here.Close()
			p.mu.Unlock()
			continue
		}
		pair := &pair{here: here, there: there}
		p.pairs = append(p.pairs, pair)
		p.mu.Unlock()
		p.serving.Go(func() { p.carry(pair, there, here) })
		p.serving.Go(func() { p.carry(pair, here, there) })
	}
}

// carry carries one direction.
func (p *Path) carry(pair *pair, to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		count, err := from.Read(buffer)
		if err != nil {
			return
		}
		p.mu.Lock()
		delay := p.delay
		p.mu.Unlock()
		if to == pair.here && delay > 0 {
			time.Sleep(delay)
		}
		pair.mu.Lock()
		isDropping := pair.isDropping
		pair.mu.Unlock()
		if isDropping {
			// The end of what was dropped is not told either.
			_, _ = io.Copy(io.Discard, from)
			return
		}
		if _, err := to.Write(buffer[:count]); err != nil {
			return
		}
	}
}
