package api

import (
	"errors"
	"strconv"

	"github.com/valyala/fasthttp"
)

// Headers that limitBody sets, because the library hides from handlers that a body came in chunks, or without a length.
const (
	chunkedMark = "X-Legacy-Chunked"
	unsizedMark = "X-Legacy-Unsized"
)

// limitBody is told of a request before its body is read.
func limitBody(header *fasthttp.RequestHeader) fasthttp.RequestConfig {
	var config fasthttp.RequestConfig
	switch length := header.ContentLength(); {
	case length == -1:
		header.Set(chunkedMark, "1")
	case length == -2 && header.IsPost():
		header.Set(unsizedMark, "1")
	case length > readBodyBytesMax:
		config.MaxRequestBodySize = bodyLimit(string(header.RequestURI()))
	}
	return config
}

// ServeFast is the fasthttp.RequestHandler.
func (a *API) ServeFast(ctx *fasthttp.RequestCtx) {
	reply := newReply()
	defer reply.free()
	if len(ctx.Request.Header.Peek(chunkedMark)) > 0 {
		a.refuseFraming(chunkedBody(), reply)
	} else {
		a.answer(ctx, newFastHead(ctx), ctx.Request.Body(), reply)
	}
	reply.respond(&ctx.Response)
	ctx.Response.SkipBody = ctx.IsHead()
}

// refuseFast answers requests that the library could not read; it closes their connections.
func (a *API) refuseFast(ctx *fasthttp.RequestCtx, err error) {
	reply := newReply()
	defer reply.free()
	var small *fasthttp.ErrSmallBuffer
	header := &ctx.Request.Header
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge) && header.ContentLength() == -1:
		a.refuseFraming(chunkedBody(), reply)
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		a.refuseFraming(bodyTooLong(bodyLimit(string(header.RequestURI())), header.ContentLength()), reply)
	case errors.As(err, &small):
		a.refuseFraming(bad(431, "headers: expected at most %d bytes with the request line", headerBytesMax), reply)
	default:
		a.refuseFraming(bad(400, "request: expected HTTP/1.1: %v", err), reply)
	}
	reply.respond(&ctx.Response)
}

func (r *Reply) respond(response *fasthttp.Response) {
	response.SetStatusCode(r.Code)
	header := &response.Header
	header.SetContentType(r.Type)
	header.Set("Florin-As-Of", r.Origin.AsOf)
	header.Set("Florin-Shard", strconv.Itoa(int(r.Origin.Shard)))
	if r.Version != nil {
		header.Set("Florin-Version", strconv.FormatUint(*r.Version, 10))
	}
	if r.Origin.Forwarded {
		header.Set("Florin-Forwarded", "true")
	}
	if r.Origin.Quarantined {
		header.Set("Florin-Quarantined", "true")
	}
	if r.Allow != "" {
		header.Set("Allow", r.Allow)
	}
	switch r.Code {
	case 401:
		header.Set("WWW-Authenticate", "Bearer")
	case 429, 503:
		header.Set("Retry-After", "1")
	}
	if r.Closes {
		response.SetConnectionClose()
	}
	response.SetBody(r.Body)
}

// fastHead reads from a request whose bytes are reused once it is answered, so what it returns is copied.
type fastHead struct {
	request *fasthttp.Request
	method  string
	target  string
}

func newFastHead(ctx *fasthttp.RequestCtx) fastHead {
	head := fastHead{request: &ctx.Request, target: string(ctx.Request.Header.RequestURI())}
	switch {
	case ctx.IsGet():
		head.method = "GET"
	case ctx.IsPost():
		head.method = "POST"
	default:
		head.method = string(ctx.Method())
	}
	return head
}

func (h fastHead) Method() string { return h.method }
func (h fastHead) Target() string { return h.target }

func (h fastHead) Header(name string) (string, bool) {
	if name == "Content-Length" && len(h.request.Header.Peek(unsizedMark)) > 0 {
		return "", false
	}
	// The library does not tell a header that is empty from one that is not there.
	value := h.request.Header.Peek(name)
	return string(value), len(value) > 0
}
