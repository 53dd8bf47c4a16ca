package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
)

const (
	// headerBytesMax is the longest request line with its headers.
	headerBytesMax = 8 << 10
	// idleTimeout closes connections that have gone quiet in the middle of a request, or for long between two.
	readTimeout = 10 * time.Second
	idleTimeout = 2 * time.Minute
)

// Server serves until it is shut down.
type Server interface {
	Serve(listener net.Listener) error
	Shutdown(ctx context.Context) error
}

// Servers are the HTTP libraries by name. Each gives paths to ops, and everything else to the API.
var Servers = map[string]func(api *API, ops http.Handler, paths []string) Server{
	"std":      newStdServer,
	"fasthttp": newFastServer,
}

func isOps(target string, paths []string) bool {
	path, _, _ := strings.Cut(target, "?")
	for _, ops := range paths {
		if path == ops || strings.HasSuffix(ops, "/") && strings.HasPrefix(path, ops) {
			return true
		}
	}
	return false
}

type stdServer struct{ http.Server }

func newStdServer(api *API, ops http.Handler, paths []string) Server {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isOps(r.RequestURI, paths) {
			ops.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	})
	return &stdServer{http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    headerBytesMax,
	}}
}

func (s *stdServer) Serve(listener net.Listener) error {
	if err := s.Server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

type fastServer struct{ fasthttp.Server }

func newFastServer(api *API, ops http.Handler, paths []string) Server {
	adapted := fasthttpadaptor.NewFastHTTPHandler(ops)
	handler := func(ctx *fasthttp.RequestCtx) {
		if isOps(string(ctx.Request.Header.RequestURI()), paths) {
			adapted(ctx)
			return
		}
		api.ServeFast(ctx)
	}
	return &fastServer{fasthttp.Server{
		Handler:               handler,
		Name:                  "legacy",
		ReadBufferSize:        headerBytesMax,
		ReadTimeout:           readTimeout,
		IdleTimeout:           idleTimeout,
		MaxRequestBodySize:    readBodyBytesMax,
		NoDefaultServerHeader: true,
		NoDefaultContentType:  true,
		CloseOnShutdown:       true,
		HeaderReceived:        limitBody,
		ErrorHandler:          api.refuseFast,
	}}
}

func (s *fastServer) Shutdown(ctx context.Context) error { return s.ShutdownWithContext(ctx) }
