// Package ops is what operators see: metrics, health, profiles.
package ops

import (
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/florin-db/florin/bench/legacy/internal/reads"
	"github.com/florin-db/florin/bench/legacy/internal/view"
)

// Metrics counts requests. It implements api.Observer.
type Metrics struct {
	registry *prometheus.Registry
	routes   map[string]*routeMetrics
	began    time.Time
}

type routeMetrics struct {
	duration prometheus.Observer
	// codes are made in advance, for finding a labelled counter costs more than counting.
	codes map[int]prometheus.Counter
}

// Routes are the labels that requests are counted under.
var Routes = []string{"balance", "statistics", "batchGet", "transactions", "unknown", "framing"}

// codes are all that the API answers.
var codes = []int{200, 400, 401, 403, 404, 405, 409, 411, 412, 413, 415, 417, 429, 431, 500, 501, 503}

// NewMetrics makes the counters; those of the view are read from it where there is one.
func NewMetrics(source *view.View) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), routes: map[string]*routeMetrics{}, began: time.Now()}
	requests := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "legacy_requests_total", Help: "Requests answered.",
	}, []string{"route", "code"})
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "legacy_request_seconds", Help: "From a request's arrival to its answer.",
		Buckets: prometheus.ExponentialBuckets(1e-6, 2, 20),
	}, []string{"route"})
	m.registry.MustRegister(requests, durations, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, route := range Routes {
		metrics := &routeMetrics{duration: durations.WithLabelValues(route), codes: map[int]prometheus.Counter{}}
		for _, code := range codes {
			metrics.codes[code] = requests.WithLabelValues(route, strconv.Itoa(code))
		}
		m.routes[route] = metrics
	}
	if source != nil {
		m.registerView(source)
	}
	return m
}

func (m *Metrics) registerView(source *view.View) {
	gauge := func(name, help string, read func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "legacy_view_" + name, Help: help}, read))
	}
	counters := &source.Counters
	gauge("accounts", "Accounts held.", func() float64 { return float64(counters.Accounts.Load()) })
	gauge("applied", "Transactions applied.", func() float64 { return float64(counters.Applied.Load()) })
	gauge("duplicates", "Rows that were held already.", func() float64 { return float64(counters.Duplicates.Load()) })
	gauge("gaps", "Rows that came before an earlier one.", func() float64 { return float64(counters.Gaps.Load()) })
	gauge("quarantined", "Accounts whose history is known to be incomplete.",
		func() float64 { return float64(counters.Quarantined.Load()) })
	gauge("lag_seconds", "Age of the watermark.", func() float64 { return source.Lag().Seconds() })
}

// Now implements api.Observer: nanoseconds since the service began.
func (m *Metrics) Now() int64 { return int64(time.Since(m.began)) }

// Observe implements api.Observer.
func (m *Metrics) Observe(route string, code int, start int64) {
	metrics := m.routes[route]
	if counter, ok := metrics.codes[code]; ok {
		counter.Inc()
	}
	metrics.duration.Observe(float64(m.Now()-start) / 1e9)
}

// Paths are the paths that the handler answers; those that end in a slash, with everything below.
var Paths = []string{"/metrics", "/healthz", "/readyz", "/debug/pprof/"}

// Handler answers operators' requests.
func (m *Metrics) Handler(source reads.Source) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, nil) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) { answer(w, source.Ready(r.Context())) })
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

func answer(w http.ResponseWriter, failure error) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if failure != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(failure.Error() + "\n"))
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}
