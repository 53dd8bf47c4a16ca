package api

import (
	"errors"
	"io"
	"net/http"
	"strconv"
)

// Header values that do not change.
var (
	jsonValue      = []string{jsonType}
	problemValue   = []string{problemType}
	trueValue      = []string{"true"}
	closeValue     = []string{"close"}
	retryValue     = []string{"1"}
	challengeValue = []string{"Bearer"}
	shardZeroValue = []string{"0"}
)

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reply := newReply()
	defer reply.free()
	if body, problem := readBody(r, reply); problem != nil {
		a.refuseFraming(problem, reply)
	} else {
		a.answer(r.Context(), stdHead{r}, body, reply)
	}
	reply.headers(w.Header())
	w.WriteHeader(reply.Code)
	if r.Method != http.MethodHead {
		// A caller that has gone does not miss it.
		_, _ = w.Write(reply.Body)
	}
}

func readBody(r *http.Request, reply *Reply) ([]byte, *problem) {
	if len(r.TransferEncoding) > 0 {
		return nil, chunkedBody()
	}
	if limit := bodyLimit(r.RequestURI); r.ContentLength > int64(limit) {
		return nil, bodyTooLong(limit, int(r.ContentLength))
	}
	length := int(max(r.ContentLength, 0))
	if cap(reply.input) < length {
		reply.input = make([]byte, length)
	}
	reply.input = reply.input[:length]
	if _, err := io.ReadFull(r.Body, reply.input); err != nil && !errors.Is(err, io.EOF) {
		return nil, bad(400, "body: expected %d bytes: %v", length, err)
	}
	return reply.input, nil
}

// headers sets them in their canonical form, which spares the library to make it.
func (r *Reply) headers(header http.Header) {
	header["Content-Type"] = jsonValue
	if r.Type == problemType {
		header["Content-Type"] = problemValue
	}
	header["Content-Length"] = []string{strconv.Itoa(len(r.Body))}
	header["Florin-As-Of"] = []string{r.Origin.AsOf}
	header["Florin-Shard"] = shardZeroValue
	if r.Origin.Shard != 0 {
		header["Florin-Shard"] = []string{strconv.Itoa(int(r.Origin.Shard))}
	}
	if r.Version != nil {
		header["Florin-Version"] = []string{strconv.FormatUint(*r.Version, 10)}
	}
	if r.Origin.Forwarded {
		header["Florin-Forwarded"] = trueValue
	}
	if r.Origin.Quarantined {
		header["Florin-Quarantined"] = trueValue
	}
	if r.Allow != "" {
		header["Allow"] = []string{r.Allow}
	}
	switch r.Code {
	case 401:
		header["Www-Authenticate"] = challengeValue
	case 429, 503:
		header["Retry-After"] = retryValue
	}
	if r.Closes {
		header["Connection"] = closeValue
	}
}

type stdHead struct{ request *http.Request }

func (h stdHead) Method() string { return h.request.Method }
func (h stdHead) Target() string { return h.request.RequestURI }

func (h stdHead) Header(name string) (string, bool) {
	values := h.request.Header[name]
	if len(values) == 0 {
		return "", false
	}
	return values[len(values)-1], true
}
